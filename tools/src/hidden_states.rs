//! Collects what a forward pass shows, as floats for people and files.

use mbert_runtime::model::Model;
use mbert_runtime::trace::{Observer, Site};

/// Hidden states of one sequence, and its next-sentence logits.
#[derive(Clone, Debug)]
pub struct HiddenStates {
    /// `[seq_len, hidden_size]` for each layer, 0 = embeddings.
    pub layers: Vec<Vec<f32>>,
    /// Real value of one step of each channel, for each layer.
    steps: Vec<Vec<f32>>,
}

impl HiddenStates {
    /// An empty collection for a model.
    pub fn new(model: &Model<&[u8]>) -> Self {
        const IN_MEMORY: &str = "a model in memory that was opened can be read";
        let config = model.config();
        let count = usize::from(config.num_hidden_layers) + 1;
        let mut multipliers = vec![0; usize::from(config.hidden_size)];
        let mut steps = |layer| -> Vec<f32> {
            let bits = model.hidden_fraction_bits(layer).expect(IN_MEMORY);
            model.hidden_multipliers(layer, &mut multipliers).expect(IN_MEMORY);
            multipliers.iter().map(|&multiplier| libm::ldexp(multiplier.into(), -bits) as f32).collect()
        };
        Self { layers: vec![Vec::new(); count], steps: (0..count).map(&mut steps).collect() }
    }
}

impl Observer for HiddenStates {
    fn row(&mut self, site: Site, row: &[i16]) {
        if let Site::Hidden { layer } = site {
            // Exact in the last layer, whose step is a power of two.
            self.layers[layer].extend(row.iter().zip(&self.steps[layer]).map(|(&value, step)| f32::from(value) * step));
        }
    }
}
