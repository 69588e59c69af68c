//! Collects what a forward pass shows, as floats for people and files.

use mbert_runtime::model::Model;
use mbert_runtime::trace::{Observer, Site};

/// Hidden states of one sequence, and its next-sentence logits.
#[derive(Clone, Debug)]
pub struct HiddenStates {
    /// `[seq_len, hidden_size]` for each layer, 0 = embeddings.
    pub layers: Vec<Vec<f32>>,
    steps: Vec<f32>,
}

impl HiddenStates {
    /// An empty collection for a model.
    pub fn new(model: &Model<&[u8]>) -> Self {
        let count = usize::from(model.manifest().config.num_hidden_layers) + 1;
        let bits = |layer| model.hidden_fraction_bits(layer).expect("a model in memory that was opened can be read");
        let step = |layer| libm::ldexp(1.0, -bits(layer)) as f32;
        Self { layers: vec![Vec::new(); count], steps: (0..count).map(step).collect() }
    }
}

impl Observer for HiddenStates {
    fn row(&mut self, site: Site, row: &[i16]) {
        if let Site::Hidden { layer } = site {
            // A power of two times int16: exact.
            self.layers[layer].extend(row.iter().map(|&value| f32::from(value) * self.steps[layer]));
        }
    }
}
