//! Which model a device uses: the trial of a new one, and what happens where that fails.

use mbert_runtime::model::Model;

use super::Slots;
use super::state::{State, Trial};
use crate::flash::MappedFlash;
use crate::store::StoreError;

/// The model in use, verified. Its bytes stay as they are until the next [`start`](Slots::start).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Active {
    /// The slot that it lies in.
    pub slot: u8,
    /// Its first byte, from the beginning of the flash.
    pub offset: u32,
    /// Its length.
    pub bytes: u32,
}

impl<F: MappedFlash> Slots<F> {
    /// Chooses the model, when the device starts or an upload has ended: a pending one if it passes `self_test`, else the one that was used
    /// before. `None` where no slot has a usable model.
    ///
    /// A self-test that never comes to an end is to be ended by a watchdog: the start after it goes back to the old model.
    ///
    /// # Errors
    ///
    /// If the flash fails.
    pub fn start(&mut self, mut self_test: impl FnMut(&Model<&[u8]>) -> bool) -> Result<Option<Active>, StoreError> {
        self.transfer.end();
        self.in_use = None;
        match self.state.trial {
            Some(Trial::Pending) => {
                self.store(State { trial: Some(Trial::Begun), ..self.state })?;
                if let Some(active) = self.adopt(self.idle(), &mut self_test)? {
                    return Ok(Some(active));
                }
                self.leave_trial()?;
            }
            Some(Trial::Begun) => self.leave_trial()?,
            None => {}
        }
        let verified = |slot| self.verified(slot).ok().map(|(model, _)| self.active(slot, &model));
        if let Some(active) = self.state.active.and_then(verified) {
            self.in_use = Some(active.slot);
            return Ok(Some(active));
        }
        // A new device, or a flash that has lost what was there.
        for slot in [self.idle(), 1 - self.idle()] {
            if let Some(active) = self.adopt(slot, &mut self_test)? {
                return Ok(Some(active));
            }
        }
        Ok(None)
    }

    /// Makes the model in a slot the active one, if it is usable and passes.
    fn adopt(
        &mut self,
        slot: u8,
        self_test: &mut impl FnMut(&Model<&[u8]>) -> bool,
    ) -> Result<Option<Active>, StoreError> {
        let Ok((model, counter)) = self.verified(slot) else { return Ok(None) };
        if !self_test(&model) {
            return Ok(None);
        }
        let active = self.active(slot, &model);
        let min_rollback_counter = self.state.min_rollback_counter.max(counter);
        self.store(State { active: Some(slot), min_rollback_counter, ..State::default() })?;
        self.in_use = Some(slot);
        Ok(Some(active))
    }

    /// The bytes of the model in use, where they lie.
    pub fn model(&self, active: Active) -> &[u8] {
        self.flash.mapped(active.offset, active.bytes)
    }

    fn active(&self, slot: u8, model: &Model<&[u8]>) -> Active {
        Active { slot, offset: self.offset(slot), bytes: model.header().total_bytes as u32 }
    }

    fn leave_trial(&mut self) -> Result<(), StoreError> {
        self.store(State { trial: None, upload: None, ..self.state })
    }
}
