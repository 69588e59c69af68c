//! Quantises every tensor of a checkpoint and lays the sections out in the order in which an answer reads them.

mod sections;

use anyhow::Result;
use mbert_runtime::format::constants::Constants as RuntimeConstants;
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::format::manifest::{Manifest, Provenance};
use mbert_runtime::format::section::SectionKind;
use mbert_runtime::format::signature::SIGNATURE_BYTES;

use self::sections::Builder;
use super::blob::BlobBuilder;
use super::calibrate::Statistics;
use super::checkpoint::{Checkpoint, Module};
use super::quantize::Noise;
use super::residual::{NormParameters, ResidualUnits};
use super::smooth::factors;
use super::units::{LayerUnits, Units, layer_norm_fraction_bits};

/// Quantisation error of one tensor.
#[derive(Clone, Debug)]
pub struct TensorNoise {
    /// The checkpoint's name of it.
    pub name: String,
    /// Encoder layer, `None` outside the encoder.
    pub layer: Option<usize>,
    /// Signal and noise.
    pub noise: Noise,
}

/// What a blob is assembled from.
pub struct Assembly<'a> {
    /// The float model.
    pub checkpoint: &'a Checkpoint,
    /// Calibration, or `None` for an unsmoothed model.
    pub statistics: Option<&'a Statistics>,
    /// The real steps of the unsmoothed model.
    pub wide_units: &'a Units,
    /// The searchable vocabulary.
    pub vocabulary: &'a [u8],
    /// What the model is.
    pub manifest: &'a Manifest,
    /// Where it comes from.
    pub provenance: &'a Provenance<'a>,
    /// Order of the weights.
    pub layout: WeightLayout,
    /// Every section begins on a multiple of it.
    pub alignment_bytes: usize,
}

/// A blob without its self-test, and what is known of it.
pub struct Assembled {
    /// The sections.
    pub blob: BlobBuilder,
    /// Quantisation error of every tensor.
    pub noise: Vec<TensorNoise>,
    /// Units of the residual stream before the attention and before the feed-forward block of each layer.
    pub residual: Vec<[ResidualUnits; 2]>,
}

/// Weights that a conversion quantises, for its progress.
pub fn weights(checkpoint: &Checkpoint) -> u64 {
    let modules = Module::all(&checkpoint.config, &checkpoint.heads);
    let shapes = modules.iter().flat_map(|module| module.tensors(&checkpoint.config)).map(|(_, shape)| shape);
    shapes.filter(|shape| shape.len() == 2).map(|shape| shape.iter().product::<usize>() as u64).sum()
}

/// The real steps of the unsmoothed model: from γ, β and bounds of the values alone.
///
/// # Errors
///
/// A tensor that cannot be read.
pub fn wide_units(checkpoint: &Checkpoint) -> Result<Units> {
    let config = &checkpoint.config;
    let bits = |module: Module| -> Result<(i32, f64)> {
        let gamma = checkpoint.tensor(&module.weight())?.to_vec();
        let beta = checkpoint.tensor(&module.bias())?.to_vec();
        // How long a row of the residual stream is, were its channels independent: |x̂|² is H.
        let length = gamma.iter().zip(&beta).map(|(&g, &b)| f64::from(g * g + b * b)).sum::<f64>();
        Ok((layer_norm_fraction_bits(NormParameters { gamma: &gamma, beta: &beta }), libm::sqrt(length)))
    };
    let (mut input, mut length) = bits(Module::EmbeddingsLayerNorm)?;
    let mut layers = Vec::new();
    for layer in 0..usize::from(config.num_hidden_layers) {
        let value = checkpoint.tensor(&Module::Value(layer).weight())?;
        let bias = checkpoint.tensor(&Module::Value(layer).bias())?.to_vec();
        let mut row = vec![0.0; value.row_len()];
        let mut bound = f64::MIN_POSITIVE;
        for (channel, bias) in bias.iter().enumerate() {
            value.row(channel, &mut row);
            let norm = libm::sqrt(row.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>());
            bound = f64::max(bound, norm * length + f64::from(bias.abs()));
        }
        let (attention_hidden, _) = bits(Module::AttentionLayerNorm(layer))?;
        layers.push(LayerUnits::wide(input, attention_hidden, bound));
        (input, length) = bits(Module::OutputLayerNorm(layer))?;
    }
    Ok(Units { layers, last_hidden: libm::ldexp(1.0, -input), transform: Units::WIDE_TRANSFORM })
}

impl Assembly<'_> {
    /// Builds all sections. `progress` is told the weights quantised so far.
    ///
    /// # Errors
    ///
    /// A tensor that cannot be read, or whose values do not fit the fixed-point form.
    pub fn build(&self, progress: impl Fn(u64)) -> Result<Assembled> {
        let units = self.units()?;
        let residual = self.residual_units(&units)?;
        let mut builder = Builder::new(self, units, residual, &progress);
        let mut manifest = postcard::to_stdvec(self.manifest)?;
        manifest.extend(postcard::to_stdvec(self.provenance)?);
        builder.blob.bytes(SectionKind::Manifest, 0, manifest);
        builder.blob.bytes(SectionKind::SelfTest, 0, vec![0]);
        builder.blob.bytes(SectionKind::Signature, 0, vec![0; SIGNATURE_BYTES]);
        builder.blob.bytes(SectionKind::Vocabulary, 0, self.vocabulary.to_vec());
        builder.blob.i32s(SectionKind::Constants, 0, 1, &[0; RuntimeConstants::COUNT]);
        let words = builder.embeddings()?;
        for layer in 0..usize::from(self.checkpoint.config.num_hidden_layers) {
            builder.layer(layer)?;
        }
        let [pooler, seq_relationship] = match self.manifest.heads.pooler {
            true => builder.pooler()?,
            false => Default::default(),
        };
        let (transform, (decoder_multiplier, decoder_exponent)) = match self.manifest.heads.masked_lm {
            true => builder.masked_lm(words.largest_scale)?,
            false => Default::default(),
        };
        let constants = RuntimeConstants {
            embedding_multiplier: words.multiplier,
            decoder_multiplier,
            decoder_exponent,
            decoder_shift: words.decoder_shift,
            pooler,
            seq_relationship,
            transform,
        };
        builder.blob.replace_i32s(SectionKind::Constants, 0, &constants.emit());
        Ok(Assembled { blob: builder.blob, noise: builder.noise, residual: builder.residual })
    }

    /// The real steps of the model to be built.
    fn units(&self) -> Result<Units> {
        let Some(statistics) = self.statistics else { return Ok(self.wide_units.clone()) };
        let smoothing =
            (0..statistics.layers.len()).map(|layer| self.block_smoothing(layer)).collect::<Result<Vec<_>>>()?;
        Ok(self.wide_units.clone().calibrated(statistics, |layer| smoothing[layer].clone()))
    }

    /// Factors of the inputs of `attention.output.dense` and `output.dense`.
    fn block_smoothing(&self, layer: usize) -> Result<(Vec<f64>, Vec<f64>)> {
        let config = self.checkpoint.config;
        let (h, f) = (usize::from(config.hidden_size), usize::from(config.intermediate_size));
        let Some(statistics) = self.statistics else { return Ok((vec![1.0; h], vec![1.0; f])) };
        let statistics = &statistics.layers[layer];
        Ok((
            factors(&statistics.context, &self.column_maxima(&[Module::AttentionOutput(layer)])?),
            factors(&statistics.activation, &self.column_maxima(&[Module::Output(layer)])?),
        ))
    }

    /// Largest magnitude of each input channel over the weights of some linear layers.
    fn column_maxima(&self, modules: &[Module]) -> Result<Vec<f64>> {
        let mut maxima = Vec::new();
        for module in modules {
            let weight = self.checkpoint.tensor(&module.weight())?;
            let mut row = vec![0.0; weight.row_len()];
            maxima.resize(row.len(), 0.0f32);
            for index in 0..weight.rows() {
                weight.row(index, &mut row);
                maxima.iter_mut().zip(&row).for_each(|(max, value)| *max = max.max(value.abs()));
            }
        }
        Ok(maxima.into_iter().map(f64::from).collect())
    }

    /// What the inputs of linear layers are divided by, from the largest magnitudes of these.
    fn input_factors(&self, maxima: Option<&[f64]>, modules: &[Module]) -> Result<Vec<f64>> {
        Ok(match maxima {
            Some(maxima) => factors(maxima, &self.column_maxima(modules)?),
            None => vec![1.0; self.checkpoint.config.hidden_size.into()],
        })
    }

    /// The residual stream that enters the attention of each layer, and that which enters the feed-forward block.
    fn residual_units(&self, units: &Units) -> Result<Vec<[ResidualUnits; 2]>> {
        let between = |norm: Module, factors: &[f64], sum_bits: i32| -> Result<ResidualUnits> {
            let gamma = self.checkpoint.tensor(&norm.weight())?.to_vec();
            let beta = self.checkpoint.tensor(&norm.bias())?.to_vec();
            Ok(ResidualUnits::new(NormParameters { gamma: &gamma, beta: &beta }, factors, sum_bits))
        };
        let of_layer = |(layer, units): (usize, &LayerUnits)| {
            let statistics = self.statistics.map(|statistics| &statistics.layers[layer]);
            let readers = [Module::Query(layer), Module::Key(layer), Module::Value(layer)];
            let attention = self.input_factors(statistics.map(|of| &of.hidden[..]), &readers)?;
            let readers = [Module::Intermediate(layer)];
            let feed_forward = self.input_factors(statistics.map(|of| &of.attention_hidden[..]), &readers)?;
            let norm = layer.checked_sub(1).map_or(Module::EmbeddingsLayerNorm, Module::OutputLayerNorm);
            Ok([
                between(norm, &attention, units.attention_sum_bits)?,
                between(Module::AttentionLayerNorm(layer), &feed_forward, units.output_sum_bits)?,
            ])
        };
        units.layers.iter().enumerate().map(of_layer).collect()
    }
}
