//! Boards with a debugger, through probe-rs, which has the flash algorithms of the chips' makers.

use anyhow::Result;

use super::{Flasher, Log};

/// A chip behind the first debugger that is connected.
pub struct Probe {
    /// probe-rs's name of the chip.
    pub chip: String,
    /// Where the core reads the model.
    pub address: u64,
    /// The firmware's log.
    #[cfg_attr(not(feature = "probe"), expect(dead_code))]
    pub log: Log,
}

impl Flasher for Probe {
    fn place(&self) -> String {
        format!("{:#x} of the {}", self.address, self.chip)
    }

    #[cfg(feature = "probe")]
    fn write(&mut self, model: &[u8], progress: &dyn Fn(u64)) -> Result<()> {
        use anyhow::Context;
        use probe_rs::config::Registry;
        use probe_rs::flashing::{DownloadOptions, FlashProgress, ProgressEvent, ProgressOperation};
        use probe_rs::{Session, SessionConfig};

        // Before anything is connected: flash beside the chip is another one on every board.
        let target = Registry::from_builtin_families()
            .get_target_by_name(&self.chip)
            .with_context(|| format!("probe-rs does not know {}", self.chip))?;
        let mut loader = target.flash_loader();
        for (at, bytes) in [(self.address, model), (self.address + u64::from(self.log.offset), &self.log.erased())] {
            loader.add_data(at, bytes).with_context(|| no_algorithm(at, &self.chip))?;
        }

        let mut session = Session::auto_attach(target, SessionConfig::default()).context("no debugger answers")?;
        let mut written = 0;
        let mut options = DownloadOptions::default();
        options.verify = true;
        options.progress = FlashProgress::new(|event| {
            if let ProgressEvent::Progress { operation: ProgressOperation::Program, size, .. } = event {
                written += size;
                progress(written);
            }
        });
        Ok(loader.commit(&mut session, options)?)
    }

    #[cfg(not(feature = "probe"))]
    fn write(&mut self, _model: &[u8], _progress: &dyn Fn(u64)) -> Result<()> {
        anyhow::bail!(
            "this program was built without debuggers: cargo install --path tools --features probe; or, once the firmware runs, write \
             the model with `mbert device upload`"
        )
    }

    fn verify(&mut self, _model: &[u8]) -> Result<&'static str> {
        Ok("read back by the debugger and compared")
    }
}

/// Why there is no way through the debugger, and what to do.
#[cfg(feature = "probe")]
fn no_algorithm(address: u64, chip: &str) -> String {
    format!(
        "probe-rs has no flash algorithm for {address:#x} of the {chip}, which is a flash beside the chip: flash the firmware, then write \
         the model with `mbert device upload`"
    )
}

#[cfg(all(test, feature = "probe"))]
mod tests {
    use super::*;

    const LOG: Log = Log { offset: 8 << 20, bytes: 8192 };

    #[test]
    fn flash_without_an_algorithm_is_refused_before_anything_is_connected() {
        let mut probe = Probe { chip: "nRF5340_xxAA".to_owned(), address: 0x1000_0000, log: LOG };
        let error = format!("{:#}", probe.write(&[0; 64], &|_| {}).unwrap_err());
        assert!(error.contains("no flash algorithm") && error.contains("mbert device upload"), "{error}");
        let mut probe = Probe { chip: "no such chip".to_owned(), address: 0, log: LOG };
        assert!(format!("{:#}", probe.write(&[0; 64], &|_| {}).unwrap_err()).contains("does not know"));
    }
}
