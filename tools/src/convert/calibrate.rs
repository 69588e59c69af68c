//! Calibration: our own unsmoothed integer runtime reads text, and the largest magnitude of every channel is kept.
//!
//! Integers in, integers out: the statistics, and so the blob, are the same on every machine.

use mbert_runtime::encoder::{Forward, workspace::Workspace};
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::trace::{Observer, Site};
use rayon::prelude::*;

use super::residual::ResidualUnits;
use super::units::Units;

/// One sequence, as token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Token ids with their special tokens.
    pub input_ids: Vec<u32>,
    /// Token types.
    pub token_type_ids: Vec<u8>,
}

/// Largest magnitudes in one encoder layer, real values.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerStatistics {
    /// Of each residual channel that query, key and value read.
    pub hidden: Vec<f64>,
    /// Of each channel that `attention.output.dense` reads.
    pub context: Vec<f64>,
    /// Of each residual channel that `intermediate.dense` reads.
    pub attention_hidden: Vec<f64>,
    /// Of each channel that `output.dense` reads.
    pub activation: Vec<f64>,
    /// Of the sum before the attention layer norm.
    pub attention_sum: f64,
    /// Of the sum before the output layer norm.
    pub output_sum: f64,
}

/// Largest magnitudes in the whole model.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// Layer by layer.
    pub layers: Vec<LayerStatistics>,
    /// Of each channel of the last hidden state.
    pub last_hidden: Vec<f64>,
    /// Behind the activation of the masked-LM transform; 0 without that head.
    pub transform: f64,
    /// Tokens seen.
    pub tokens: usize,
}

/// Runs an unsmoothed model over the sequences, each cut to the model's positions, on all cores.
///
/// # Errors
///
/// A token id out of range.
pub fn calibrate(
    model: &Model<&[u8]>,
    (units, residual): (&Units, &[[ResidualUnits; 2]]),
    sequences: &[Sequence],
    progress: impl Fn() + Sync,
) -> anyhow::Result<Statistics> {
    let config = model.manifest().config;
    let kernels = Kernels::native();
    let seq_len = |sequence: &Sequence| sequence.input_ids.len().min(usize::from(config.max_position_embeddings));
    let see = |(mut observer, mut memory): (Maxima, Vec<u8>), sequence: &Sequence| -> anyhow::Result<_> {
        let seq_len = seq_len(sequence);
        if seq_len == 0 {
            return Ok((observer, memory));
        }
        memory.resize(Workspace::bytes(&config, seq_len), 0);
        let workspace = Workspace::new(&mut memory, &config, seq_len)?;
        let (ids, types) = (&sequence.input_ids[..seq_len], &sequence.token_type_ids[..seq_len]);
        let mut encoded = Forward::new(model, kernels, ids, types, workspace)?.finish(&mut observer)?;
        if model.manifest().heads.masked_lm {
            let positions: Vec<usize> = (0..seq_len).collect();
            encoded.start_masked_lm(&positions)?.finish_transform(&mut observer)?;
        }
        progress();
        Ok((observer, memory))
    };
    let seen = sequences.par_iter().try_fold(|| (Maxima::new(model), Vec::new()), see);
    let maxima = seen
        .map(|seen| seen.map(|(maxima, _)| maxima))
        .try_reduce(|| Maxima::new(model), |one, other| Ok(one.merge(&other)))?;
    Ok(maxima.into_statistics(units, residual, sequences.iter().map(seq_len).sum()))
}

/// Largest magnitudes of int16 values, per channel.
struct Maxima {
    layers: Vec<LayerMaxima>,
    last_hidden: Vec<u16>,
    transform: u16,
}

#[derive(Clone)]
struct LayerMaxima {
    hidden: Vec<u16>,
    context: Vec<u16>,
    attention_hidden: Vec<u16>,
    activation: Vec<u16>,
    attention_sum: u16,
    output_sum: u16,
}

impl Maxima {
    fn new(model: &Model<&[u8]>) -> Self {
        let config = model.manifest().config;
        let hidden = vec![0; usize::from(config.hidden_size)];
        let layer = LayerMaxima {
            hidden: hidden.clone(),
            context: hidden.clone(),
            attention_hidden: hidden.clone(),
            activation: vec![0; usize::from(config.intermediate_size)],
            attention_sum: 0,
            output_sum: 0,
        };
        Self { layers: vec![layer; usize::from(config.num_hidden_layers)], last_hidden: hidden, transform: 0 }
    }

    /// The larger of both, channel by channel.
    fn merge(mut self, other: &Self) -> Self {
        let channels = |ours: &mut [u16], others: &[u16]| {
            ours.iter_mut().zip(others).for_each(|(ours, &other)| *ours = (*ours).max(other));
        };
        for (ours, other) in self.layers.iter_mut().zip(&other.layers) {
            channels(&mut ours.hidden, &other.hidden);
            channels(&mut ours.context, &other.context);
            channels(&mut ours.attention_hidden, &other.attention_hidden);
            channels(&mut ours.activation, &other.activation);
            ours.attention_sum = ours.attention_sum.max(other.attention_sum);
            ours.output_sum = ours.output_sum.max(other.output_sum);
        }
        channels(&mut self.last_hidden, &other.last_hidden);
        self.transform = self.transform.max(other.transform);
        self
    }

    fn into_statistics(self, units: &Units, residual: &[[ResidualUnits; 2]], tokens: usize) -> Statistics {
        let real = |maxima: &[u16], unit: f64| maxima.iter().map(|&max| f64::from(max) * unit).collect();
        let smoothed = |maxima: &[u16], units: &ResidualUnits| {
            maxima.iter().zip(units.steps()).map(|(&max, step)| f64::from(max) * step).collect()
        };
        let of_layers = self.layers.iter().zip(&units.layers).zip(residual);
        let layers = of_layers.map(|((maxima, units), [attention, feed_forward])| LayerStatistics {
            hidden: smoothed(&maxima.hidden, attention),
            context: real(&maxima.context, units.context),
            attention_hidden: smoothed(&maxima.attention_hidden, feed_forward),
            activation: real(&maxima.activation, units.activation),
            attention_sum: f64::from(maxima.attention_sum) * attention.sum_step(),
            output_sum: f64::from(maxima.output_sum) * feed_forward.sum_step(),
        });
        Statistics {
            layers: layers.collect(),
            last_hidden: real(&self.last_hidden, units.last_hidden),
            transform: f64::from(self.transform) * units.transform,
            tokens,
        }
    }
}

impl Observer for Maxima {
    fn row(&mut self, site: Site, row: &[i16]) {
        let channels = |maxima: &mut [u16]| {
            for (max, value) in maxima.iter_mut().zip(row) {
                *max = (*max).max(value.unsigned_abs());
            }
        };
        let all = |max: &mut u16| *max = row.iter().map(|value| value.unsigned_abs()).fold(*max, u16::max);
        match site {
            Site::Hidden { layer } if layer == self.layers.len() => channels(&mut self.last_hidden),
            Site::Hidden { layer } => channels(&mut self.layers[layer].hidden),
            Site::Context { layer } => channels(&mut self.layers[layer].context),
            Site::AttentionSum { layer } => all(&mut self.layers[layer].attention_sum),
            Site::AttentionHidden { layer } => channels(&mut self.layers[layer].attention_hidden),
            Site::Activation { layer, channel } => channels(&mut self.layers[layer].activation[channel..]),
            Site::OutputSum { layer } => all(&mut self.layers[layer].output_sum),
            Site::Transform => all(&mut self.transform),
        }
    }
}
