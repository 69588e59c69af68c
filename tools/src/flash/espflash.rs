//! Espressif's chips, through the program `espflash`: it speaks with the boot ROM, and compares a hash of what it wrote.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};

use super::{Flasher, Log};

/// A chip on a serial port.
pub struct Espflash {
    /// espflash's name of the chip.
    pub chip: String,
    /// Where the model begins in the flash.
    pub offset: u32,
    /// The firmware's log.
    pub log: Log,
    /// The serial port; where none is named, espflash looks for one.
    pub port: Option<OsString>,
}

impl Espflash {
    /// Writes bytes to a place in the flash.
    fn write_at(&self, offset: u32, bytes: &[u8]) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(bytes)?;
        file.flush()?;
        let mut command = Command::new("espflash");
        command.args(["write-bin", "--chip", &self.chip]);
        if let Some(port) = &self.port {
            command.arg("--port").arg(port);
        }
        let status =
            command.arg(format!("{offset:#x}")).arg(file.path()).status().map_err(|error| match error.kind() {
                ErrorKind::NotFound => anyhow!("there is no program espflash: cargo install espflash"),
                _ => error.into(),
            });
        let status = status.context("espflash could not be started")?;
        ensure!(status.success(), "espflash failed ({status}): what it printed says why");
        Ok(())
    }
}

impl Flasher for Espflash {
    fn place(&self) -> String {
        format!("the flash of the {}, from {:#x} on", self.chip, self.offset)
    }

    fn write(&mut self, model: &[u8], progress: &dyn Fn(u64)) -> Result<()> {
        self.write_at(self.offset, model)?;
        self.write_at(self.offset + self.log.offset, &self.log.erased())?;
        progress(model.len() as u64);
        Ok(())
    }

    fn verify(&mut self, _model: &[u8]) -> Result<&'static str> {
        Ok("verified by espflash")
    }
}
