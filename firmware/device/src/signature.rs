//! Who a model is from: ed25519 over header and section table, whose hashes cover all other bytes.
//!
//! The firmware holds a public key, the private key stays with who trains: `mbert keygen` makes both, `mbert sign` signs.

use core::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use mbert_runtime::format::signature::Signature;
use mbert_runtime::model::Model;

/// Why a model is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// It is not signed.
    Unsigned,
    /// It is signed by another key, or changed since.
    Wrong,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned => write!(f, "the model is not signed: sign it with mbert sign"),
            Self::Wrong => write!(f, "the signature is not by this key, or the model was changed since: sign it again"),
        }
    }
}

impl core::error::Error for Distrust {}

/// Checks that a model is signed with the private key of `public_key`. With [`Model::verify`] that holds for every byte of it.
///
/// # Errors
///
/// If it is not; also if `public_key` is no key at all.
pub fn check(model: &Model<&[u8]>, public_key: &[u8; 32]) -> Result<(), Distrust> {
    let found = model.signature().map_err(|_| Distrust::Wrong)?.ok_or(Distrust::Unsigned)?;
    if found.public_key != *public_key {
        return Err(Distrust::Wrong);
    }
    let signature = ed25519_dalek::Signature::from_bytes(&found.signature);
    let key = VerifyingKey::from_bytes(public_key).map_err(|_| Distrust::Wrong)?;
    // Strict: no signature but the signer's own is right, so no byte of it can be changed either.
    key.verify_strict(model.signed_bytes(), &signature).map_err(|_| Distrust::Wrong)
}

/// The signature section for a model.
pub fn sign(model: &Model<&[u8]>, key: &SigningKey) -> Signature {
    Signature { public_key: key.verifying_key().to_bytes(), signature: key.sign(model.signed_bytes()).to_bytes() }
}
