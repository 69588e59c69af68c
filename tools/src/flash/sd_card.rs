//! The image of an SD card, as `mbert sd-image` writes it.

use std::path::PathBuf;

use anyhow::Result;

use super::Flasher;
use crate::sd_image;

/// A card in a file.
pub struct SdCard {
    /// The file.
    pub path: PathBuf,
}

impl Flasher for SdCard {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn write(&mut self, model: &[u8], progress: &dyn Fn(u64)) -> Result<()> {
        sd_image::write(&self.path, model)?;
        progress(model.len() as u64);
        Ok(())
    }

    fn verify(&mut self, model: &[u8]) -> Result<&'static str> {
        super::compare(&sd_image::read(&self.path)?, model)
    }
}
