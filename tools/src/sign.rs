//! `mbert keygen` and `mbert sign`: whose models a device takes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{SigningKey, VerifyingKey};
use mbert_device::signature;
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::format::section::SectionKind;
use mbert_runtime::model::Model;

use crate::atomic_file::{write_atomically, write_secret};
use crate::cli::{KeygenArgs, SignArgs};
use crate::inspect::hex;
use crate::model_file::{ModelFile, ModelName};

/// Runs `mbert keygen`.
///
/// # Errors
///
/// If a file of one of the two names is there already, or cannot be written.
pub fn keygen(args: &KeygenArgs, out: &mut impl Write) -> Result<ExitCode> {
    let (private, public) = (&args.output, public_path(&args.output));
    for path in [private, &public] {
        ensure!(!path.exists(), "{} exists: a key is never overwritten; choose another name", path.display());
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow!("the system gives no random numbers: {error}"))?;
    let key = SigningKey::from_bytes(&seed);
    let pem = key.to_pkcs8_pem(LineEnding::LF).context("the key cannot be encoded")?;
    write_secret(private, |file| file.write_all(pem.as_bytes()))?;
    let pem = key.verifying_key().to_public_key_pem(LineEnding::LF).context("the key cannot be encoded")?;
    // Both, or neither: half a pair would be in the way of the next.
    write_atomically(&public, |file| file.write_all(pem.as_bytes()))
        .inspect_err(|_| drop(std::fs::remove_file(private)))?;
    writeln!(out, "private key  {}: keep it where models are signed, and nowhere else", private.display())?;
    writeln!(out, "public key   {}: build it into the firmware", public.display())?;
    writeln!(out, "fingerprint  {}", hex(key.verifying_key().as_bytes()))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `mbert sign`.
///
/// # Errors
///
/// If model or key cannot be read, or the signed model cannot be written.
pub fn sign(args: &SignArgs, out: &mut impl Write) -> Result<ExitCode> {
    let output = match (&args.output, &args.model) {
        (Some(output), _) => output,
        (None, ModelName::File(path)) => path,
        (None, ModelName::BuiltIn(_)) => {
            return Err(anyhow!("a built-in model has no file to be written back to: say where with --output"));
        }
    };
    let key = SigningKey::from_pkcs8_pem(&read_pem(&args.key)?).map_err(|_| {
        anyhow!("{} is no private ed25519 key in PEM form: take what mbert keygen has written", args.key.display())
    })?;
    let file = ModelFile::named(&args.model, WeightLayout::RowMajor)?;
    let signed = signed(file.bytes(), &key)?;
    let counter = file.model()?.provenance()?.rollback_counter;
    drop(file);
    write_atomically(output, |file| file.write_all(&signed))?;
    writeln!(
        out,
        "{}: signed by {}, rollback counter {counter}",
        output.display(),
        hex(key.verifying_key().as_bytes())
    )?;
    Ok(ExitCode::SUCCESS)
}

/// A model with its signature, in the place of one that it may have had.
///
/// # Errors
///
/// If it is no model.
pub fn signed(blob: &[u8], key: &SigningKey) -> Result<Vec<u8>> {
    let model = Model::open(blob)?;
    let section = model.sections().find(|section| section.kind == SectionKind::Signature);
    let section = section.context("the model has no room for a signature: convert it again")?;
    let mut signed = blob.to_vec();
    let place = section.offset_bytes as usize..(section.offset_bytes + section.length_bytes) as usize;
    signed[place].copy_from_slice(&signature::sign(&model, key).emit());
    Ok(signed)
}

/// A public key as `mbert keygen` writes it.
///
/// # Errors
///
/// If it cannot be read, or is no such key.
pub fn read_public_key(path: &Path) -> Result<[u8; 32]> {
    let key = VerifyingKey::from_public_key_pem(&read_pem(path)?).map_err(|_| {
        anyhow!("{} is no public ed25519 key in PEM form: take the .pub of mbert keygen", path.display())
    })?;
    Ok(key.to_bytes())
}

/// What may be a key in PEM form. Bytes that are no text are none, but that is for who looks for the key to tell.
fn read_pem(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the key {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Where the public key of a private one is written.
fn public_path(private: &Path) -> PathBuf {
    let mut path = private.as_os_str().to_owned();
    path.push(".pub");
    path.into()
}
