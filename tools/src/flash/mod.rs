//! `mbert flash`: writes a model to the place where a board reads it.
//!
//! The plan decides first: what cannot run is not written. Each way of writing is a `Flasher`; `firmware/boards.toml` says which is a
//! board's.

mod image;
mod uf2;
mod espflash;
mod probe;
mod sd_card;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

use crate::boards::{Board, Boards};
use crate::cli::boards::FlashArgs;
use crate::inspect::grouped;
use crate::model_file::ModelFile;
use crate::plan::Subject;
use crate::plan::fit::{Request, fit};

/// How a board gets its model.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Way {
    /// A machine in QEMU, whose flash is a file.
    Image {
        /// Length of the file.
        file_bytes: u64,
        /// Where the flash begins in it.
        #[serde(default)]
        offset: u64,
        /// Length of the flash.
        flash_bytes: u64,
    },
    /// The image of an SD card.
    SdCard,
    /// A file for the drive that the board's boot ROM shows.
    Uf2 {
        /// Where the core reads the model.
        address: u32,
        /// Which chips are to take it.
        family: u32,
        /// The firmware's log.
        log: Log,
    },
    /// The program espflash.
    Espflash {
        /// Its name of the chip.
        chip: String,
        /// Where the model begins in the flash.
        offset: u32,
        /// The firmware's log.
        log: Log,
    },
    /// A debugger.
    Probe {
        /// probe-rs's name of the chip.
        chip: String,
        /// Where the core reads the model.
        address: u64,
        /// The firmware's log.
        log: Log,
    },
}

/// Where a firmware with two slots for models writes down which of them is in use: behind both. It is erased with every model that is
/// written to the first, or the board would go on with what was uploaded to the second.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// From the beginning of the first slot.
    pub offset: u32,
    /// Its length.
    pub bytes: u32,
}

impl Log {
    /// What is written there.
    fn erased(self) -> Vec<u8> {
        vec![0xff; self.bytes as usize]
    }
}

/// A way to write a model to one board.
trait Flasher {
    /// Where the model goes, for people.
    fn place(&self) -> String;

    /// Writes it, and tells `progress` how many bytes are written.
    fn write(&mut self, model: &[u8], progress: &dyn Fn(u64)) -> Result<()>;

    /// Makes sure that it is there; says how.
    fn verify(&mut self, model: &[u8]) -> Result<&'static str>;
}

/// Runs the command.
///
/// # Errors
///
/// If there is no such board, the model cannot be read or cannot run there, or it cannot be written.
pub fn run(args: &FlashArgs, out: &mut impl Write) -> Result<ExitCode> {
    let boards = Boards::known()?;
    let (board, core) = boards.find(&args.board)?;
    let name = args.model.clone().unwrap_or_default();
    let subject = Subject::read(name.clone())?;
    fit(&subject, board, core, Request::default())
        .with_context(|| format!("{} does not fit {}", subject.name, board.name))?;
    let file = ModelFile::named(&name, core.layout).context("only a converted model can be flashed")?;
    let mut flasher = flasher(board, args)?;
    flash(flasher.as_mut(), file.bytes(), out)?;
    Ok(ExitCode::SUCCESS)
}

/// The way of a board, with what the arguments say of it.
fn flasher(board: &Board, args: &FlashArgs) -> Result<Box<dyn Flasher>> {
    let Some(way) = board.flash.clone() else {
        bail!("nothing is known of how {} gets its model: add `flash` to it in firmware/boards.toml", board.name)
    };
    let unused = match &way {
        Way::Espflash { .. } => args.output.as_ref().map(|_| "--output"),
        Way::Probe { .. } => args.output.as_ref().map(|_| "--output").or(args.port.as_ref().map(|_| "--port")),
        _ => args.port.as_ref().map(|_| "--port"),
    };
    if let Some(argument) = unused {
        bail!("{} is not written to with {argument}", board.name);
    }
    let output = || args.output.clone().with_context(|| format!("name the file for {} with --output", board.name));
    Ok(match way {
        Way::Image { file_bytes, offset, flash_bytes } => {
            Box::new(image::Image { path: output()?, file_bytes, offset, flash_bytes })
        }
        Way::SdCard => Box::new(sd_card::SdCard { path: output()? }),
        Way::Uf2 { address, family, log } => Box::new(uf2::Uf2 { path: output()?, address, family, log }),
        Way::Espflash { chip, offset, log } => {
            Box::new(espflash::Espflash { chip, offset, log, port: args.port.clone() })
        }
        Way::Probe { chip, address, log } => Box::new(probe::Probe { chip, address, log }),
    })
}

/// Writes and verifies, with a bar on standard error.
fn flash(flasher: &mut dyn Flasher, model: &[u8], out: &mut impl Write) -> Result<()> {
    ensure!(!model.is_empty(), "there is nothing to be written");
    let style =
        ProgressStyle::with_template("{wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}")
            .expect("the template is well formed");
    let bar = ProgressBar::new(model.len() as u64).with_style(style);
    let place = flasher.place();
    let written = flasher.write(model, &|bytes| bar.set_position(bytes));
    bar.finish_and_clear();
    written.with_context(|| format!("the model was not written to {place}"))?;
    let how = flasher.verify(model)?;
    writeln!(out, "{place}: {} bytes, {how}", grouped(model.len() as u64))?;
    Ok(())
}

/// What is there must be the model.
fn compare(found: &[u8], model: &[u8]) -> Result<&'static str> {
    let differs = found.iter().zip(model).position(|(found, byte)| found != byte);
    let first = differs.or((found.len() != model.len()).then_some(found.len()));
    match first {
        None => Ok("read back and compared"),
        Some(offset) => bail!("byte {offset} was read back differently: write it again, or replace the flash"),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// A flash that can fail in every way.
    #[derive(Default)]
    struct Fake {
        flash: Vec<u8>,
        told: RefCell<Vec<u64>>,
        broken: bool,
        worn: Option<usize>,
    }

    impl Flasher for Fake {
        fn place(&self) -> String {
            "a fake".to_owned()
        }

        fn write(&mut self, model: &[u8], progress: &dyn Fn(u64)) -> Result<()> {
            for piece in model.chunks(100) {
                ensure!(!self.broken || self.flash.len() < 200, "no probe answers");
                self.flash.extend_from_slice(piece);
                progress(self.flash.len() as u64);
                self.told.borrow_mut().push(self.flash.len() as u64);
            }
            if let Some(byte) = self.worn {
                self.flash[byte] ^= 1;
            }
            Ok(())
        }

        fn verify(&mut self, model: &[u8]) -> Result<&'static str> {
            compare(&self.flash, model)
        }
    }

    const MODEL: [u8; 250] = [7; 250];

    #[test]
    fn what_is_written_is_verified_and_told() {
        let (mut fake, mut out) = (Fake::default(), Vec::new());
        flash(&mut fake, &MODEL, &mut out).unwrap();
        assert_eq!(fake.flash, MODEL);
        assert_eq!(fake.told.take(), [100, 200, 250]);
        assert_eq!(String::from_utf8(out).unwrap(), "a fake: 250 bytes, read back and compared\n");
    }

    #[test]
    fn a_flash_that_does_not_hold_what_was_written_is_an_error() {
        for byte in [0, 100, 249] {
            let mut fake = Fake { worn: Some(byte), ..Fake::default() };
            let error = flash(&mut fake, &MODEL, &mut Vec::new()).unwrap_err();
            assert!(error.to_string().starts_with(&format!("byte {byte} was read back differently")), "{error}");
        }
    }

    #[test]
    fn an_interruption_says_where_the_model_is_not() {
        let mut fake = Fake { broken: true, ..Fake::default() };
        let error = format!("{:#}", flash(&mut fake, &MODEL, &mut Vec::new()).unwrap_err());
        assert_eq!(error, "the model was not written to a fake: no probe answers");
    }

    #[test]
    fn the_log_lies_behind_two_slots() {
        for board in Boards::known().unwrap().board {
            if let Some(Way::Uf2 { log, .. } | Way::Espflash { log, .. } | Way::Probe { log, .. }) = board.flash {
                assert_eq!(Some(u64::from(log.offset)), board.model.bytes.map(|slot| 2 * slot), "{}", board.name);
            }
        }
    }

    #[test]
    fn a_shorter_or_longer_flash_is_not_the_model() {
        assert!(compare(&MODEL[1..], &MODEL).is_err());
        assert!(compare(&MODEL, &MODEL[1..]).is_err());
        assert!(compare(&MODEL, &MODEL).is_ok());
    }
}
