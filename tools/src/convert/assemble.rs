//! Quantises every tensor of a checkpoint and lays the sections out in the order in which an answer reads them.

use anyhow::Result;
use mbert_runtime::encoder::embeddings::EMBEDDING_FRACTION_BITS;
use mbert_runtime::format::layout::{TILE_CHANNELS, WeightLayout};
use mbert_runtime::format::manifest::Manifest;
use mbert_runtime::format::section::SectionKind;
use mbert_runtime::heads::pooler::POOLED_FRACTION_BITS;
use mbert_runtime::model::GROUP_SIZE;
use mbert_runtime::ops::activation::{ACTIVATION_INPUT_FRACTION_BITS, ACTIVATION_OUTPUT_FRACTION_BITS};
use mbert_runtime::ops::log_sum_exp::LOGIT_FRACTION_BITS;
use mbert_runtime::ops::quantize::ROW_SHIFT;

use super::blob::{BlobBuilder, SIGNATURE_BYTES};
use super::calibrate::Statistics;
use super::checkpoint::{Checkpoint, Module};
use super::quantize::{
    InputSmoothing, LinearSource, Noise, QuantizedLinear, QuantizedMatrix, common_unit, layer_norm_section, mantissa_and_exponent,
    multiplier, quantize_linear, quantize_matrix,
};
use super::smooth::factors;
use super::units::{LayerUnits, RESIDUAL_LIMIT, Units, layer_norm_fraction_bits};

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
    /// The manifest.
    pub manifest: &'a Manifest<'a>,
    /// Order of the weights.
    pub layout: WeightLayout,
}

/// Bytes of `bias, multiplier[, second multiplier]` per channel.
fn interleave<const N: usize>(columns: [&[i32]; N]) -> Vec<i32> {
    (0..columns[0].len()).flat_map(|channel| columns.map(|column| column[channel])).collect()
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
    let step = |module: Module| -> Result<(f64, f64)> {
        let gamma = checkpoint.tensor(&module.weight())?.to_vec();
        let beta = checkpoint.tensor(&module.bias())?.to_vec();
        // How long a row of the residual stream is, were its channels independent: |x̂|² is H.
        let length = gamma.iter().zip(&beta).map(|(&g, &b)| f64::from(g * g + b * b)).sum::<f64>();
        Ok((libm::ldexp(1.0, -layer_norm_fraction_bits(&gamma, &beta)), libm::sqrt(length)))
    };
    let (mut input, mut length) = step(Module::EmbeddingsLayerNorm)?;
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
        let (attention_hidden, _) = step(Module::AttentionLayerNorm(layer))?;
        layers.push(LayerUnits::wide(input, attention_hidden, bound));
        (input, length) = step(Module::OutputLayerNorm(layer))?;
    }
    Ok(Units { layers, last_hidden: input, transform: Units::WIDE_TRANSFORM })
}

impl Assembly<'_> {
    /// Builds all sections. `progress` is told the weights quantised so far.
    ///
    /// # Errors
    ///
    /// A tensor that cannot be read, or whose values do not fit the fixed-point form.
    pub fn build(&self, progress: impl Fn(u64)) -> Result<(BlobBuilder, Vec<TensorNoise>)> {
        let mut builder = Builder {
            assembly: self,
            checkpoint: self.checkpoint,
            blob: BlobBuilder::default(),
            noise: Vec::new(),
            progress: &progress,
            units: self.units()?,
            h: usize::from(self.checkpoint.config.hidden_size),
        };
        builder.blob.bytes(SectionKind::Manifest, 0, postcard::to_stdvec(self.manifest)?);
        builder.blob.bytes(SectionKind::SelfTest, 0, vec![0]);
        builder.blob.bytes(SectionKind::Signature, 0, vec![0; SIGNATURE_BYTES]);
        builder.blob.bytes(SectionKind::Vocabulary, 0, self.vocabulary.to_vec());
        let largest_word_scale = builder.embeddings()?;
        for layer in 0..usize::from(self.checkpoint.config.num_hidden_layers) {
            builder.layer(layer)?;
        }
        if self.manifest.heads.pooler {
            builder.pooler()?;
        }
        if self.manifest.heads.masked_lm {
            let (multiplier, exponent) = builder.masked_lm(largest_word_scale)?;
            builder.blob.patch_i32s(SectionKind::Constants, &[(1, multiplier), (2, exponent)]);
        }
        Ok((builder.blob, builder.noise))
    }

    /// The real steps of the model to be built.
    fn units(&self) -> Result<Units> {
        let Some(statistics) = self.statistics else { return Ok(self.wide_units.clone()) };
        let smoothing = (0..statistics.layers.len()).map(|layer| self.block_smoothing(layer)).collect::<Result<Vec<_>>>()?;
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

    /// Smoothing of linear layers that read the residual stream, from the largest magnitudes of its channels.
    fn residual_smoothing(&self, maxima: Option<&[f64]>, modules: &[Module], unit: f64) -> Result<InputSmoothing> {
        Ok(match maxima {
            Some(maxima) => InputSmoothing::new(&factors(maxima, &self.column_maxima(modules)?), unit),
            None => InputSmoothing::new(&vec![1.0; usize::from(self.checkpoint.config.hidden_size)], unit),
        })
    }
}

/// A blob at work.
struct Builder<'a, P> {
    assembly: &'a Assembly<'a>,
    checkpoint: &'a Checkpoint,
    blob: BlobBuilder,
    noise: Vec<TensorNoise>,
    progress: &'a P,
    units: Units,
    h: usize,
}

impl<P: Fn(u64)> Builder<'_, P> {
    fn done(&mut self, module: Module, layer: Option<usize>, matrix: &QuantizedMatrix) {
        (self.progress)(matrix.values.len() as u64);
        self.noise.push(TensorNoise { name: module.weight(), layer, noise: matrix.noise });
    }

    /// All embeddings; returns the largest scale of a word.
    fn embeddings(&mut self) -> Result<f64> {
        use SectionKind::*;
        let mut tables = Vec::new();
        for module in [Module::WordEmbeddings, Module::PositionEmbeddings, Module::TokenTypeEmbeddings] {
            let tensor = self.checkpoint.tensor(&module.weight())?;
            let matrix = quantize_matrix(tensor.rows(), self.h, |row, out| tensor.row(row, out), None, |_| 0.0);
            self.done(module, None, &matrix);
            tables.push(matrix);
        }
        let largest = |matrix: &QuantizedMatrix| matrix.scales.iter().copied().fold(0.0, f64::max);
        // No sum of three rows can exceed it.
        let unit = tables.iter().map(|matrix| largest(matrix) * 127.0).sum::<f64>() / RESIDUAL_LIMIT;
        let largest_word_scale = largest(&tables[0]);
        let relative = |scale: f64| libm::ldexp(scale / unit, EMBEDDING_FRACTION_BITS as i32).floor() as i32;
        let embedding_multiplier =
            multiplier(libm::ldexp(largest_word_scale / unit, EMBEDDING_FRACTION_BITS as i32) / 2147483647.0, Module::WordEmbeddings)?;
        self.blob.i32s(Constants, 0, 1, &[embedding_multiplier, 0, 0, 0]);
        let kinds = [
            (WordEmbeddings, WordScales),
            (PositionEmbeddings, PositionScales),
            (TokenTypeEmbeddings, TokenTypeScales),
        ];
        for (matrix, (rows, scales)) in tables.into_iter().zip(kinds) {
            let fixed: Vec<i32> = match rows {
                WordEmbeddings => {
                    matrix.scales.iter().map(|s| (s / largest_word_scale * 2147483647.0).round_ties_even() as i32).collect()
                }
                _ => matrix.scales.iter().map(|&s| relative(s)).collect(),
            };
            self.blob.matrix(rows, 0, self.h, matrix.values, WeightLayout::RowMajor);
            self.blob.i32s(scales, 0, 1, &fixed);
        }
        self.layer_norm(EmbeddingsLayerNorm, 0, Module::EmbeddingsLayerNorm, unit)?;
        Ok(largest_word_scale)
    }

    /// Returns the real step of its output.
    fn layer_norm(&mut self, kind: SectionKind, layer: usize, module: Module, input_unit: f64) -> Result<f64> {
        let gamma = self.checkpoint.tensor(&module.weight())?.to_vec();
        let beta = self.checkpoint.tensor(&module.bias())?.to_vec();
        let (section, unit) = layer_norm_section(&gamma, &beta, self.checkpoint.layer_norm_eps, input_unit);
        self.blob.bytes(kind, layer, section);
        Ok(unit)
    }

    /// One linear layer.
    fn linear(
        &mut self,
        module: Module,
        layer: Option<usize>,
        group_size: usize,
        input_factors: &[f64],
        input_unit: f64,
    ) -> Result<QuantizedLinear> {
        let weight = self.checkpoint.tensor(&module.weight())?;
        let bias = self.checkpoint.tensor(&module.bias())?.to_vec();
        let linear = quantize_linear(&LinearSource {
            n: weight.rows(),
            k: weight.row_len(),
            group_size,
            row: |row, out: &mut [f32]| weight.row(row, out),
            bias: &bias,
            input_factors,
            input_unit,
        });
        self.done(module, layer, &linear.weight);
        Ok(linear)
    }

    /// A linear layer whose outputs all have one unit; the caller states it.
    #[allow(clippy::too_many_arguments)] // Where it goes, where it comes from, and its two units.
    fn plain_linear(
        &mut self,
        (parameters, weight): (SectionKind, SectionKind),
        layer: usize,
        module: Module,
        in_encoder: bool,
        group_size: usize,
        input_factors: &[f64],
        input_unit: f64,
        output_unit: f64,
    ) -> Result<()> {
        let linear = self.linear(module, in_encoder.then_some(layer), group_size, input_factors, input_unit)?;
        let multipliers = to_unit(&linear, output_unit, module)?;
        self.blob.i32s(parameters, layer, 2, &interleave([&linear.bias, &multipliers]));
        self.blob.matrix(weight, layer, input_factors.len(), linear.weight.values, self.assembly.layout);
        Ok(())
    }

    /// A linear layer with activation; returns what each output channel was divided by, exactly.
    #[allow(clippy::too_many_arguments)] // Where it goes, where it comes from, and what follows.
    fn activated_linear(
        &mut self,
        (parameters, weight): (SectionKind, SectionKind),
        layer: usize,
        module: Module,
        in_encoder: bool,
        smoothing: &InputSmoothing,
        output_factors: &[f64],
        output_unit: f64,
    ) -> Result<Vec<f64>> {
        let linear = self.linear(module, in_encoder.then_some(layer), self.h, &smoothing.factors, smoothing.unit)?;
        let into_activation = to_unit(&linear, libm::ldexp(1.0, -(ACTIVATION_INPUT_FRACTION_BITS as i32)), module)?;
        // The activation's output is shifted left by 8 before it is multiplied.
        let step = libm::ldexp(1.0, -(ACTIVATION_OUTPUT_FRACTION_BITS as i32) - 8);
        let out_of_activation = output_factors
            .iter()
            .map(|factor| multiplier(step / (factor * output_unit), module).map(|multiplier| multiplier.max(1)))
            .collect::<Result<Vec<_>>>()?;
        let exact = |multiplier: &i32| libm::ldexp(step, 32) / (f64::from(*multiplier) * output_unit);
        let factors = out_of_activation.iter().map(exact).collect();
        self.blob.i32s(parameters, layer, 3, &interleave([&linear.bias, &into_activation, &out_of_activation]));
        self.blob.matrix(weight, layer, self.h, linear.weight.values, self.assembly.layout);
        Ok(factors)
    }

    fn layer(&mut self, layer: usize) -> Result<()> {
        use SectionKind::*;
        let units = self.units.layers[layer].clone();
        let (context_factors, activation_factors) = self.assembly.block_smoothing(layer)?;
        let statistics = self.assembly.statistics.map(|statistics| &statistics.layers[layer]);
        let qkv = [Module::Query(layer), Module::Key(layer), Module::Value(layer)];
        let smoothing =
            self.assembly.residual_smoothing(statistics.map(|statistics| &statistics.hidden[..]), &qkv, units.input)?;
        let [query, key, value] =
            qkv.map(|module| self.linear(module, Some(layer), self.h, &smoothing.factors, smoothing.unit));
        let parts = [query?, key?, value?];
        let row_units = [common_unit(&parts[0].units), common_unit(&parts[1].units)];
        // A value's step is taken as 2⁻⁸ of a step of the context, per 127 of its int8.
        let value_multipliers = parts[2].units.iter().zip(&context_factors).map(|(unit, factor)| {
            multiplier(libm::ldexp(unit / (127.0 * factor * units.context), 8), qkv[2])
        });
        let multipliers = [
            to_unit(&parts[0], row_units[0], qkv[0])?,
            to_unit(&parts[1], row_units[1], qkv[1])?,
            value_multipliers.collect::<Result<Vec<_>>>()?,
        ];
        let head_dim = self.checkpoint.config.head_dim();
        let score = 256.0 * core::f64::consts::LOG2_E / libm::sqrt(head_dim as f64) * row_units[0] * row_units[1];
        let (softmax_multiplier, softmax_exponent) = mantissa_and_exponent(score / (127.0 * 127.0));
        let sums = [units.attention_sum_shift as i32, units.output_sum_shift as i32];
        self.blob.i32s(LayerConstants, layer, 1, &[softmax_multiplier, softmax_exponent, sums[0], sums[1]]);

        self.blob.i16s(QkvInput, layer, &smoothing.multipliers);
        // Head by head: query, key, value.
        let rows = || {
            (0..self.h).step_by(head_dim).flat_map(|first| (0..3).flat_map(move |part| (first..first + head_dim).map(move |row| (part, row))))
        };
        let parameters: Vec<i32> =
            rows().flat_map(|(part, row)| [parts[part].bias[row], multipliers[part][row]]).collect();
        let weight = rows().flat_map(|(part, row)| &parts[part].weight.values[row * self.h..][..self.h]).copied().collect();
        self.blob.i32s(QkvParameters, layer, 2, &parameters);
        let whole_tiles = head_dim.is_multiple_of(TILE_CHANNELS);
        let layout = if whole_tiles { self.assembly.layout } else { WeightLayout::RowMajor };
        self.blob.matrix(QkvWeight, layer, self.h, weight, layout);

        self.plain_linear(
            (AttentionOutputParameters, AttentionOutputWeight),
            layer,
            Module::AttentionOutput(layer),
            true,
            self.h,
            &context_factors,
            libm::ldexp(units.context, -(ROW_SHIFT as i32)),
            units.input,
        )?;
        self.layer_norm(AttentionLayerNorm, layer, Module::AttentionLayerNorm(layer), units.attention_sum())?;

        let smoothing = self.assembly.residual_smoothing(
            statistics.map(|statistics| &statistics.attention_hidden[..]),
            &[Module::Intermediate(layer)],
            units.attention_hidden,
        )?;
        self.blob.i16s(IntermediateInput, layer, &smoothing.multipliers);
        let activation_factors = self.activated_linear(
            (IntermediateParameters, IntermediateWeight),
            layer,
            Module::Intermediate(layer),
            true,
            &smoothing,
            &activation_factors,
            units.activation,
        )?;
        self.plain_linear(
            (OutputParameters, OutputWeight),
            layer,
            Module::Output(layer),
            true,
            GROUP_SIZE,
            &activation_factors,
            libm::ldexp(units.activation, -(ROW_SHIFT as i32)),
            units.attention_hidden,
        )?;
        self.layer_norm(OutputLayerNorm, layer, Module::OutputLayerNorm(layer), units.output_sum())?;
        Ok(())
    }

    fn last_hidden_smoothing(&self, module: Module) -> Result<InputSmoothing> {
        let maxima = self.assembly.statistics.map(|statistics| &statistics.last_hidden[..]);
        self.assembly.residual_smoothing(maxima, &[module], self.assembly.wide_units.last_hidden)
    }

    fn pooler(&mut self) -> Result<()> {
        use SectionKind::*;
        let smoothing = self.last_hidden_smoothing(Module::Pooler)?;
        self.blob.i16s(PoolerInput, 0, &smoothing.multipliers);
        self.plain_linear(
            (PoolerParameters, PoolerWeight),
            0,
            Module::Pooler,
            false,
            self.h,
            &smoothing.factors,
            smoothing.unit,
            libm::ldexp(1.0, -(ACTIVATION_INPUT_FRACTION_BITS as i32)),
        )?;
        if self.assembly.manifest.heads.next_sentence {
            self.plain_linear(
                (SeqRelationshipParameters, SeqRelationshipWeight),
                0,
                Module::SeqRelationship,
                false,
                self.h,
                &vec![1.0; self.h],
                libm::ldexp(1.0, -POOLED_FRACTION_BITS - ROW_SHIFT as i32),
                libm::ldexp(1.0, -(LOGIT_FRACTION_BITS as i32)),
            )?;
        }
        Ok(())
    }

    /// Returns the decoder's constants.
    fn masked_lm(&mut self, largest_word_scale: f64) -> Result<(i32, i32)> {
        use SectionKind::*;
        let module = Module::TransformDense;
        let unit = self.units.transform;
        let smoothing = self.last_hidden_smoothing(module)?;
        self.blob.i16s(TransformInput, 0, &smoothing.multipliers);
        let one = vec![1.0; self.h];
        self.activated_linear((TransformParameters, TransformWeight), 0, module, false, &smoothing, &one, unit)?;
        let step = self.layer_norm(TransformLayerNorm, 0, Module::TransformLayerNorm, unit)?;
        let fixed = |bias: &f32| libm::ldexp(f64::from(*bias), LOGIT_FRACTION_BITS as i32).round_ties_even() as i32;
        let bias: Vec<i32> = self.checkpoint.tensor(&Module::Decoder.bias())?.to_vec().iter().map(fixed).collect();
        self.blob.i32s(DecoderBias, 0, 1, &bias);
        let logit = libm::ldexp(step * largest_word_scale / (127.0 * 2147483647.0), LOGIT_FRACTION_BITS as i32 - ROW_SHIFT as i32);
        Ok(mantissa_and_exponent(logit))
    }
}

/// The multiplier of every channel to a common unit.
fn to_unit(linear: &QuantizedLinear, unit: f64, module: Module) -> Result<Vec<i32>> {
    linear.units.iter().map(|channel| multiplier(channel / unit, module)).collect()
}
