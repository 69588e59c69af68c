//! The signature section: who answers for a blob. Parse and emit side by side; the curve itself is not the runtime's business.
//!
//! | bytes   | what                                    |
//! |---------|-----------------------------------------|
//! | 0..32   | ed25519 public key of the signer        |
//! | 32..96  | ed25519 signature of header and table   |
//! | 96..128 | SHA-256 of bytes 0..96                  |
//!
//! All zero while the blob is unsigned. The hash finds damage without a key; it proves nothing.

use sha2::{Digest, Sha256};

/// Bytes of the section.
pub const SIGNATURE_BYTES: usize = 128;

/// Byte ranges of the fields.
mod field {
    use core::ops::Range;
    pub const PUBLIC_KEY: Range<usize> = 0..32;
    pub const SIGNATURE: Range<usize> = 32..96;
    pub const SHA256: Range<usize> = 96..128;
}

/// What a signed blob has in its signature section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Whose it is. To be compared with a key that one trusts, not to be trusted itself.
    pub public_key: [u8; 32],
    /// Signs the bytes of header and section table, and with the hashes in there all others.
    pub signature: [u8; 64],
}

/// A signature section that is neither all zero nor has the hash of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

impl Signature {
    /// Reads the section; `None` for a blob that is not signed.
    ///
    /// # Errors
    ///
    /// If its hash is wrong.
    pub fn parse(bytes: &[u8; SIGNATURE_BYTES]) -> Result<Option<Self>, Damaged> {
        if *bytes == [0; SIGNATURE_BYTES] {
            return Ok(None);
        }
        let (mut public_key, mut signature) = ([0; 32], [0; 64]);
        public_key.copy_from_slice(&bytes[field::PUBLIC_KEY]);
        signature.copy_from_slice(&bytes[field::SIGNATURE]);
        let this = Self { public_key, signature };
        if *bytes == this.emit() { Ok(Some(this)) } else { Err(Damaged) }
    }

    /// Writes the section that [`parse`](Self::parse) reads.
    pub fn emit(&self) -> [u8; SIGNATURE_BYTES] {
        let mut bytes = [0; SIGNATURE_BYTES];
        bytes[field::PUBLIC_KEY].copy_from_slice(&self.public_key);
        bytes[field::SIGNATURE].copy_from_slice(&self.signature);
        let hash = Sha256::digest(&bytes[..field::SHA256.start]);
        bytes[field::SHA256].copy_from_slice(&hash);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_found_signed_or_not() {
        let signed = Signature { public_key: [7; 32], signature: [9; 64] };
        assert_eq!(Signature::parse(&signed.emit()), Ok(Some(signed)));
        assert_eq!(Signature::parse(&[0; SIGNATURE_BYTES]), Ok(None));
        for whole in [signed.emit(), [0; SIGNATURE_BYTES]] {
            for bit in 0..8 * SIGNATURE_BYTES {
                let mut bytes = whole;
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Signature::parse(&bytes), Err(Damaged), "bit {bit}");
            }
        }
    }
}
