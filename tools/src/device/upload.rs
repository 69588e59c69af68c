//! `mbert device upload`: replaces the board's model, and waits until the new one has passed its self-test.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use mbert_device::protocol::link::host::LinkError;
use mbert_device::protocol::messages::{Answer, DeviceError, Hello, Request};
use mbert_device::signature;
use mbert_device::store::{Offer, StoreError, Verdict};
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::format::section::SectionKind;
use mbert_runtime::format::self_test::cases;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::max_tokens;
use serde_json::json;

use super::client::Client;
use super::info::layouts;
use crate::inspect::{grouped, hex};
use crate::model_file::{ModelFile, ModelName};

/// Bytes of a chunk, where the board takes requests as long as that: a multiple of every page and block of flash.
const CHUNK_BYTES: usize = 4096;
/// What else is in the message of a chunk, at most.
const CHUNK_HEAD_BYTES: usize = 16;
/// What the slowest board verifies in a second.
const HASHED_BYTES_PER_SECOND: u32 = 200_000;
/// How often an upload is taken up again by itself after the board has been started anew.
const MAX_STARTS: usize = 5;

/// Runs the command.
///
/// # Errors
///
/// A model that the board cannot use, which is said before anything is erased; what the board says; or that the new model has failed its
/// self-test.
pub fn run(client: &mut Client, name: &ModelName, as_json: bool, out: &mut impl Write) -> Result<ExitCode> {
    let hello = client.hello()?;
    let layout = hello.layouts.first().and_then(|&code| WeightLayout::from_code(code)).unwrap_or_default();
    let file = ModelFile::named(name, layout)?;
    let model = file.model()?;
    let offer = Offer::of(&model)?;
    check(&hello, &offer, &model)?;

    client.show_progress(false);
    let resumed_at = send(client, &offer, file.bytes())?;
    // It hashes the whole model now, and once more when it starts.
    client.be_patient(Duration::from_secs(u64::from(offer.total_bytes / HASHED_BYTES_PER_SECOND)));
    let verdict = client.ask_for(&Request::UploadFinish, |answer| match *answer {
        Answer::Verdict(verdict) => Some(verdict),
        _ => None,
    })?;
    if let Verdict::Switched { .. } = verdict {
        restart(client)?;
    }
    let hello = client.hello()?;
    let in_use = hello.model.map(|model| model.header_sha256);
    ensure!(
        in_use == Some(offer.header_sha256),
        "the board has fallen back to its old model: the new one did not pass its self-test there"
    );
    let slot = hello.store.active;
    if as_json {
        let sha256 = hex(&offer.header_sha256);
        let object = json!({
            "bytes": offer.total_bytes, "resumed_at": resumed_at, "header_sha256": sha256, "slot": slot,
            "already_in_use": verdict == Verdict::AlreadyInUse,
        });
        writeln!(out, "{}", serde_json::to_string_pretty(&object)?)?;
    } else {
        let bytes = grouped(offer.total_bytes.into());
        let slot = slot.map_or(String::new(), |slot| format!(" in slot {slot}"));
        match verdict {
            Verdict::Switched { .. } => writeln!(out, "{bytes} bytes{slot}: verified, self-test passed, in use")?,
            Verdict::AlreadyInUse => writeln!(out, "this model is in use already{slot}")?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses what the board could not use, before anything is erased.
fn check(hello: &Hello<'_>, offer: &Offer, model: &Model<&[u8]>) -> Result<()> {
    let store = &hello.store;
    ensure!(store.slots > 0, "the model of this board cannot be replaced over the line: flash it");
    ensure!(
        offer.format_version == hello.format_version,
        "the board reads format version {}, but the model is of version {}: update the firmware or convert with its release",
        hello.format_version,
        offer.format_version
    );
    ensure!(
        hello.layouts.contains(&offer.layout),
        "the board's kernels read weights packed as {}, not as this model's: convert for its target",
        layouts(hello).join(" or ")
    );
    ensure!(
        offer.total_bytes <= store.slot_bytes,
        "the model has {} bytes, but a slot of the board has {}: take a smaller model",
        grouped(offer.total_bytes.into()),
        grouped(store.slot_bytes.into())
    );
    ensure!(
        offer.rollback_counter >= store.min_rollback_counter,
        "the model's rollback counter is {}, but the board takes no lower than {}: convert it with a higher --rollback-counter",
        offer.rollback_counter,
        store.min_rollback_counter
    );
    if let Some(key) = &store.public_key {
        signature::check(model, key).with_context(|| format!("the board takes models signed by {} only", hex(key)))?;
    }
    let fits = max_tokens(model.config(), hello.workspace_bytes as usize);
    let needed = longest_case(model)?;
    ensure!(
        fits >= needed,
        "the board's workspace of {} bytes has room for {fits} tokens of this model, but its self-test has {needed}: take a smaller model",
        grouped(hello.workspace_bytes.into())
    );
    Ok(())
}

/// Tokens of the longest case of a model's self-test.
fn longest_case(model: &Model<&[u8]>) -> Result<usize> {
    let section = model.sections().find(|section| section.kind == SectionKind::SelfTest);
    let section = section.context("the model has no self-test: convert it again")?;
    let mut longest = 0;
    for case in cases(model.section_bytes(&section))? {
        longest = longest.max(case?.ids().len());
    }
    Ok(longest)
}

/// Sends what the board does not have yet; where it went on.
fn send(client: &mut Client, offer: &Offer, bytes: &[u8]) -> Result<u32> {
    let bar = ProgressBar::new(bytes.len() as u64);
    let template = "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is well formed"));
    let mut resumed_at = None;
    for _ in 0..MAX_STARTS {
        let begun = begin(client, offer)?;
        resumed_at.get_or_insert(begun);
        match send_from(client, begun, bytes, &bar) {
            Err(error) if error.downcast_ref() == Some(&LinkError::Restarted) => client.reopen()?,
            result => {
                bar.finish_and_clear();
                return result.map(|()| resumed_at.unwrap_or(0));
            }
        }
    }
    bail!("the board starts anew again and again: its supply or its flash may be weak")
}

fn begin(client: &mut Client, offer: &Offer) -> Result<u32> {
    client.ask_for(&Request::UploadBegin(*offer), |answer| match answer {
        Answer::Resume(resume) => Some(resume.next_offset),
        _ => None,
    })
}

fn send_from(client: &mut Client, begun: u32, bytes: &[u8], bar: &ProgressBar) -> Result<()> {
    let room = usize::from(client.hello()?.max_request_bytes).saturating_sub(CHUNK_HEAD_BYTES);
    let chunk_bytes = CHUNK_BYTES.min(room).max(1);
    let mut offset = begun as usize;
    bar.set_position(begun.into());
    while offset < bytes.len() {
        let chunk = &bytes[offset..bytes.len().min(offset + chunk_bytes)];
        let request = Request::UploadChunk { offset: offset as u32, bytes: chunk };
        let taken = client.ask_for(&request, |answer| (*answer == Answer::Taken).then_some(()));
        match taken {
            Ok(()) => offset += chunk.len(),
            // Only where the board says so, the place is another one.
            Err(error) => match error.downcast_ref() {
                Some(DeviceError::Store(StoreError::WrongOffset { expected, .. }))
                    if *expected as usize <= bytes.len() =>
                {
                    offset = *expected as usize;
                }
                _ => return Err(error),
            },
        }
        bar.set_position(offset as u64);
    }
    Ok(())
}

/// Lets the board start with the new model.
fn restart(client: &mut Client) -> Result<()> {
    let restarting = client.ask_for(&Request::Restart, |answer| (*answer == Answer::Restarting).then_some(()));
    match restarting {
        // It was so quick that its answer was not heard.
        Err(error) if error.downcast_ref() == Some(&LinkError::Restarted) => {}
        other => other?,
    }
    client.reopen().context("the board does not come back after the upload")
}
