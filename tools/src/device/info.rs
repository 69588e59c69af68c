//! `mbert device info`: who is there.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use mbert_device::protocol::frame::PROTOCOL_VERSION;
use mbert_device::protocol::messages::Hello;
use mbert_runtime::format::layout::WeightLayout;
use serde_json::Value;

use super::client::Client;
use crate::inspect::{grouped, hex};

/// Runs the command.
///
/// # Errors
///
/// If the board has said something else than who it is.
pub fn run(client: &Client, as_json: bool, out: &mut impl Write) -> Result<ExitCode> {
    let hello = client.hello()?;
    if as_json {
        writeln!(out, "{}", serde_json::to_string_pretty(&to_json(&hello)?)?)?;
    } else {
        print(&hello, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The names of the layouts that the board reads.
pub fn layouts(hello: &Hello<'_>) -> Vec<&'static str> {
    hello.layouts.iter().map(|&code| WeightLayout::from_code(code).map_or("unknown", WeightLayout::name)).collect()
}

fn to_json(hello: &Hello<'_>) -> Result<Value> {
    let mut object = serde_json::to_value(hello)?;
    object["layouts"] = layouts(hello).into();
    object["protocol_version"] = PROTOCOL_VERSION.into();
    object["store"]["public_key"] = hello.store.public_key.map(|key| hex(&key)).into();
    if let Some(model) = &hello.model {
        object["model"]["header_sha256"] = hex(&model.header_sha256).into();
    }
    Ok(object)
}

fn print(hello: &Hello<'_>, out: &mut impl Write) -> Result<()> {
    writeln!(out, "board       {}, firmware {}, protocol {PROTOCOL_VERSION}", hello.board, hello.firmware)?;
    writeln!(out, "kernels     {}, weights {}", hello.kernels, layouts(hello).join(" or "))?;
    let workspace = grouped(hello.workspace_bytes.into());
    let request = grouped(hello.max_request_bytes.into());
    writeln!(
        out,
        "limits      workspace {workspace} bytes, requests of {request} bytes, format {}",
        hello.format_version
    )?;
    match &hello.model {
        None => writeln!(out, "model       none that is usable")?,
        Some(model) => {
            let config = &model.config;
            writeln!(
                out,
                "model       {}: {} layers × {}, vocabulary {}, {} bytes, {}",
                model.name,
                config.num_hidden_layers,
                config.hidden_size,
                grouped(config.vocab_size.into()),
                grouped(model.bytes.into()),
                hex(&model.header_sha256[..8])
            )?;
            writeln!(out, "            texts of up to {} tokens; licence {}", model.max_tokens, model.licence)?;
        }
    }
    let store = &hello.store;
    if store.slots == 0 {
        writeln!(out, "slots       none: the model cannot be replaced over this line")?;
        return Ok(());
    }
    let active = store.active.map_or("none".into(), |slot| slot.to_string());
    writeln!(out, "slots       {} of {} bytes, in use {active}", store.slots, grouped(store.slot_bytes.into()))?;
    let signature = match store.public_key {
        Some(key) => format!("models signed by {}", hex(&key)),
        None => "unsigned models too".into(),
    };
    writeln!(out, "            {signature}, rollback counter {} or higher", store.min_rollback_counter)?;
    if let Some((bytes, total)) = store.upload {
        writeln!(out, "            an upload stopped at {} of {} bytes", grouped(bytes.into()), grouped(total.into()))?;
    }
    Ok(())
}
