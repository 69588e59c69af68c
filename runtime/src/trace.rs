//! Watching a forward pass: for calibration, for hidden states, and for the hash that every target must agree on.

use sha2::{Digest, Sha256};

/// A place in the forward pass where a row of int16 values is shown to an [`Observer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// The residual stream after a layer (0 = embeddings), row by row in ascending order.
    Hidden {
        /// The layer.
        layer: usize,
    },
    /// Attention output before the linear layer that mixes the heads, in its smoothed unit.
    Context {
        /// The layer, from 0.
        layer: usize,
    },
    /// Sum of residual and attention output, before its layer norm.
    AttentionSum {
        /// The layer, from 0.
        layer: usize,
    },
    /// The residual stream after the attention layer norm.
    AttentionHidden {
        /// The layer, from 0.
        layer: usize,
    },
    /// Some channels behind the feed-forward activation, in their smoothed unit.
    Activation {
        /// The layer, from 0.
        layer: usize,
        /// Channel of the row's first value.
        channel: usize,
    },
    /// Sum of residual and feed-forward output, before its layer norm.
    OutputSum {
        /// The layer, from 0.
        layer: usize,
    },
    /// Behind the activation of the masked-LM transform.
    Transform,
}

/// Sees the values of a forward pass. Every method does nothing unless overridden, and costs nothing then.
pub trait Observer {
    /// Whether it sees anything. Where it does not, nothing is kept for it.
    const WATCHES: bool = true;
    /// A row of values.
    fn row(&mut self, _site: Site, _row: &[i16]) {}
    /// A masked-LM logit (16 fraction bits): token after token, and for each the answered positions in ascending order.
    fn prediction_logit(&mut self, _logit: i32) {}
    /// A next-sentence logit (16 fraction bits), first "is next", then "is not next".
    fn seq_relationship_logit(&mut self, _logit: i32) {}
}

impl Observer for () {
    const WATCHES: bool = false;
}

impl<O: Observer> Observer for &mut O {
    const WATCHES: bool = O::WATCHES;
    fn row(&mut self, site: Site, row: &[i16]) {
        (**self).row(site, row);
    }
    fn prediction_logit(&mut self, logit: i32) {
        (**self).prediction_logit(logit);
    }
    fn seq_relationship_logit(&mut self, logit: i32) {
        (**self).seq_relationship_logit(logit);
    }
}

impl<A: Observer, B: Observer> Observer for (A, B) {
    const WATCHES: bool = A::WATCHES || B::WATCHES;
    fn row(&mut self, site: Site, row: &[i16]) {
        self.0.row(site, row);
        self.1.row(site, row);
    }
    fn prediction_logit(&mut self, logit: i32) {
        self.0.prediction_logit(logit);
        self.1.prediction_logit(logit);
    }
    fn seq_relationship_logit(&mut self, logit: i32) {
        self.0.seq_relationship_logit(logit);
        self.1.seq_relationship_logit(logit);
    }
}

/// The number that every target must agree on: SHA-256 over the int16 residual of hidden 0 … L, little-endian, row by row,
/// then the int32 masked-LM logits of the answered positions in vocabulary order (positions of one token together),
/// then the next-sentence logits.
#[derive(Clone, Debug, Default)]
pub struct TraceHash(Sha256);

impl TraceHash {
    /// The hash of everything seen.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

impl Observer for TraceHash {
    fn row(&mut self, site: Site, row: &[i16]) {
        if let Site::Hidden { .. } = site {
            for value in row {
                self.0.update(value.to_le_bytes());
            }
        }
    }
    fn prediction_logit(&mut self, logit: i32) {
        self.0.update(logit.to_le_bytes());
    }
    fn seq_relationship_logit(&mut self, logit: i32) {
        self.0.update(logit.to_le_bytes());
    }
}
