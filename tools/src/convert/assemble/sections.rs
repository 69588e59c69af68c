//! The sections of each part of the model: its tensors quantised, and what the fixed-point numbers of an answer need beside them.

use anyhow::Result;
use mbert_runtime::encoder::embeddings::EMBEDDING_FRACTION_BITS;
use mbert_runtime::format::constants::LayerConstants as RuntimeLayerConstants;
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::format::section::SectionKind;
use mbert_runtime::heads::pooler::POOLED_FRACTION_BITS;
use mbert_runtime::ops::activation::{ACTIVATION_INPUT_FRACTION_BITS, ACTIVATION_OUTPUT_FRACTION_BITS};
use mbert_runtime::ops::linear::LinearShifts;
use mbert_runtime::ops::log_sum_exp::LOGIT_FRACTION_BITS;
use mbert_runtime::ops::quantize::ROW_SHIFT;
use mbert_runtime::ops::requantize::SUM_FRACTION_BITS;
use mbert_runtime::ops::softmax::SoftmaxScale;

use super::{Assembly, TensorNoise};
use crate::convert::blob::BlobBuilder;
use crate::convert::checkpoint::{Checkpoint, Module};
use crate::convert::quantize::{
    InputSmoothing, LinearInput, LinearSource, Noise, QuantizedLinear, QuantizedMatrix, int16_input,
    largest_accumulator_shift, layer_norm_section, mantissa_and_exponent, multiplier, quantize_linear, quantize_matrix,
};
use crate::convert::residual::{NormParameters, ResidualUnits};
use crate::convert::units::{LayerUnits, RESIDUAL_LIMIT, Units, layer_norm_fraction_bits};

/// Largest int32.
const LARGEST_MULTIPLIER: f64 = 2147483647.0;
/// How much finer the outputs of query, key and value are than one step of a sum over an input row of full range.
const QKV_EXTRA_BITS: i32 = 2;
/// Largest bias of query, key and value in steps of their outputs.
const QKV_BIAS_LIMIT: f64 = 67108864.0;

/// Bytes of `bias, multiplier[, second multiplier]` per channel.
fn interleave<const N: usize>(columns: [&[i32]; N]) -> Vec<i32> {
    (0..columns[0].len()).flat_map(|channel| columns.map(|column| column[channel])).collect()
}

/// What the decoder and the constants need to know of the word embeddings.
pub(super) struct Words {
    pub(super) largest_scale: f64,
    pub(super) multiplier: i32,
    pub(super) decoder_shift: u32,
}

/// A blob at work.
pub(super) struct Builder<'a, P> {
    assembly: &'a Assembly<'a>,
    checkpoint: &'a Checkpoint,
    pub(super) blob: BlobBuilder,
    pub(super) noise: Vec<TensorNoise>,
    progress: &'a P,
    units: Units,
    /// Before the attention and before the feed-forward block of each layer.
    pub(super) residual: Vec<[ResidualUnits; 2]>,
    h: usize,
}

impl<'a, P: Fn(u64)> Builder<'a, P> {
    /// A blob without sections, for these real steps.
    pub(super) fn new(
        assembly: &'a Assembly<'a>,
        units: Units,
        residual: Vec<[ResidualUnits; 2]>,
        progress: &'a P,
    ) -> Self {
        Self {
            assembly,
            checkpoint: assembly.checkpoint,
            blob: BlobBuilder::new(assembly.alignment_bytes),
            noise: Vec::new(),
            progress,
            units,
            residual,
            h: usize::from(assembly.checkpoint.config.hidden_size),
        }
    }

    fn done(&mut self, module: Module, layer: Option<usize>, matrix: &QuantizedMatrix) {
        (self.progress)(matrix.values.len() as u64);
        self.noise.push(TensorNoise { name: module.weight(), layer, noise: Noise::sum(&matrix.noise) });
    }

    /// All embeddings.
    pub(super) fn embeddings(&mut self) -> Result<Words> {
        use SectionKind::*;
        let tensor = self.checkpoint.tensor(&Module::WordEmbeddings.weight())?;
        let matrix = quantize_matrix(tensor.rows(), self.h, |row, out| tensor.row(row, out), None);
        self.done(Module::WordEmbeddings, None, &matrix);
        let largest_scale = matrix.scales.iter().copied().fold(f64::MIN_POSITIVE, f64::max);

        let others =
            [(PositionEmbeddings, Module::PositionEmbeddings), (TokenTypeEmbeddings, Module::TokenTypeEmbeddings)];
        let [positions, types] = others.map(|(_, module)| self.checkpoint.tensor(&module.weight()));
        let tables = [positions?.to_vec(), types?.to_vec()];
        let largest = |table: &Vec<f32>| table.iter().fold(0.0, |largest, value| f64::max(largest, value.abs().into()));
        // No sum of three rows can exceed it.
        let unit = (largest_scale * 127.0 + tables.iter().map(largest).sum::<f64>()) / RESIDUAL_LIMIT;
        let words = Words {
            largest_scale,
            multiplier: multiplier(
                libm::ldexp(largest_scale / unit, EMBEDDING_FRACTION_BITS as i32) / LARGEST_MULTIPLIER,
                Module::WordEmbeddings,
            )?,
            decoder_shift: largest_accumulator_shift(&matrix.values, self.h),
        };
        let scale = |scale: &f64| (scale / largest_scale * LARGEST_MULTIPLIER).round_ties_even() as i32;
        let scales: Vec<i32> = matrix.scales.iter().map(scale).collect();
        let fixed = |bias: &f32| libm::ldexp(f64::from(*bias), LOGIT_FRACTION_BITS as i32).round_ties_even() as i32;
        let bias: Vec<i32> = match self.assembly.manifest.heads.masked_lm {
            true => self.checkpoint.tensor(&Module::Decoder.bias())?.to_vec().iter().map(fixed).collect(),
            false => vec![0; scales.len()],
        };
        let parameters = interleave([&bias, &scales]);
        self.blob.tiles(WordEmbeddings, 0, scales.len(), &matrix.values, &parameters, WeightLayout::RowMajor);
        for ((kind, module), table) in others.into_iter().zip(tables) {
            let mut noise = Noise::default();
            let fixed = table.iter().map(|&value| {
                let value = f64::from(value);
                let steps = (value / unit).round_ties_even();
                let error = value - steps * unit;
                noise.add(Noise { signal: value * value, noise: error * error });
                steps as i16
            });
            let fixed: Vec<i16> = fixed.collect();
            self.noise.push(TensorNoise { name: module.weight(), layer: None, noise });
            (self.progress)(fixed.len() as u64);
            self.blob.i16s(kind, 0, self.h, &fixed);
        }
        self.norm_into_layer(EmbeddingsLayerNorm, 0, Module::EmbeddingsLayerNorm, unit)?;
        Ok(words)
    }

    /// A layer norm whose output has these units, or one that is a power of two. Returns the number of fraction bits.
    fn layer_norm(
        &mut self,
        (kind, layer): (SectionKind, usize),
        module: Module,
        input_unit: f64,
        output: Option<&ResidualUnits>,
    ) -> Result<i32> {
        let gamma = self.checkpoint.tensor(&module.weight())?.to_vec();
        let beta = self.checkpoint.tensor(&module.bias())?.to_vec();
        let norm = NormParameters { gamma: &gamma, beta: &beta };
        let bits = output.map_or_else(|| layer_norm_fraction_bits(norm), ResidualUnits::fraction_bits);
        let steps = match output {
            Some(units) => units.steps().collect(),
            None => vec![libm::ldexp(1.0, -bits); gamma.len()],
        };
        let epsilon = self.checkpoint.layer_norm_eps;
        self.blob.bytes(kind, layer, layer_norm_section(norm, epsilon, input_unit, steps.into_iter(), bits));
        Ok(bits)
    }

    /// The layer norm before a layer of the encoder, or behind the last one.
    fn norm_into_layer(&mut self, kind: SectionKind, next: usize, module: Module, input_unit: f64) -> Result<()> {
        let output = self.residual.get(next).map(|[attention, _]| attention.clone());
        let layer = next.saturating_sub(1);
        self.layer_norm((kind, layer), module, input_unit, output.as_ref()).map(|_| ())
    }

    /// Quantises one linear layer; returns its bias too.
    fn linear(
        &mut self,
        module: Module,
        layer: Option<usize>,
        input: LinearInput<'_>,
    ) -> Result<(QuantizedLinear, Vec<f32>)> {
        let weight = self.checkpoint.tensor(&module.weight())?;
        let row = |row, out: &mut [f32]| weight.row(row, out);
        let linear = quantize_linear(&LinearSource { n: weight.rows(), row, input });
        self.done(module, layer, &linear.weight);
        Ok((linear, self.checkpoint.tensor(&module.bias())?.to_vec()))
    }

    /// Quantises and adds a linear layer whose outputs all have one unit.
    fn plain_linear(
        &mut self,
        kind: SectionKind,
        module: Module,
        layer: Option<usize>,
        input: LinearInput<'_>,
        output_unit: f64,
    ) -> Result<LinearShifts> {
        let (linear, bias) = self.linear(module, layer, input)?;
        let scale = linear.scale_to(&bias, |_| output_unit, module)?;
        let layer = layer.unwrap_or(0);
        let (parameters, rows) = (interleave([&scale.bias, &scale.multipliers]), scale.bias.len());
        self.blob.tiles(kind, layer, rows, &linear.weight.values, &parameters, self.assembly.layout);
        Ok(scale.shifts)
    }

    /// Quantises and adds a linear layer whose outputs are added to the residual stream.
    fn residual_linear(
        &mut self,
        kind: SectionKind,
        module: Module,
        layer: usize,
        input: LinearInput<'_>,
        residual: &ResidualUnits,
    ) -> Result<LinearShifts> {
        let (linear, bias) = self.linear(module, Some(layer), input)?;
        let mut scale = linear.scale_to(&bias, |_| libm::ldexp(1.0, -residual.fraction_bits()), module)?;
        // Half a step of the sum rounds.
        scale.bias.iter_mut().for_each(|bias| *bias += 1 << (SUM_FRACTION_BITS - 1));
        let parameters = interleave([&scale.bias, &scale.multipliers, &residual.multipliers]);
        self.blob.tiles(kind, layer, scale.bias.len(), &linear.weight.values, &parameters, self.assembly.layout);
        Ok(scale.shifts)
    }

    /// Quantises and adds a linear layer with activation, whose outputs are divided by `output_factors`; returns what they
    /// were divided by exactly.
    fn activated_linear(
        &mut self,
        kind: SectionKind,
        module: Module,
        layer: Option<usize>,
        input: LinearInput<'_>,
        output_factors: &[f64],
        output_unit: f64,
    ) -> Result<(LinearShifts, Vec<f64>)> {
        let (linear, bias) = self.linear(module, layer, input)?;
        let into_activation = libm::ldexp(1.0, -(ACTIVATION_INPUT_FRACTION_BITS as i32));
        let scale = linear.scale_to(&bias, |_| into_activation, module)?;
        // The activation's output is shifted left by 8 before it is multiplied.
        let step = libm::ldexp(1.0, -(ACTIVATION_OUTPUT_FRACTION_BITS as i32) - 8);
        // A multiplier that is cut is a channel divided by another factor, which its reader makes up for.
        let cut = |factor: &f64| {
            libm::ldexp(step / (factor * output_unit), 32).round_ties_even().clamp(1.0, LARGEST_MULTIPLIER) as i32
        };
        let out_of_activation: Vec<i32> = output_factors.iter().map(cut).collect();
        let exact = |multiplier: &i32| libm::ldexp(step, 32) / (f64::from(*multiplier) * output_unit);
        let factors = out_of_activation.iter().map(exact).collect();
        let layer = layer.unwrap_or(0);
        let parameters = interleave([&scale.bias, &scale.multipliers, &out_of_activation]);
        self.blob.tiles(kind, layer, scale.bias.len(), &linear.weight.values, &parameters, self.assembly.layout);
        Ok((scale.shifts, factors))
    }

    /// A layer of the encoder.
    pub(super) fn layer(&mut self, layer: usize) -> Result<()> {
        use SectionKind::*;
        let units = self.units.layers[layer].clone();
        let (context_factors, activation_factors) = self.assembly.block_smoothing(layer)?;
        let [before_attention, before_feed_forward] = self.residual[layer].clone();
        self.blob.i32s(LayerConstants, layer, 1, &[0; RuntimeLayerConstants::COUNT]);

        let qkv = self.qkv(layer, before_attention.input(), &units, &context_factors)?;
        let attention_output = self.residual_linear(
            AttentionOutput,
            Module::AttentionOutput(layer),
            layer,
            int16_input(&context_factors, units.context),
            &before_attention,
        )?;
        let (module, sum_step) = (Module::AttentionLayerNorm(layer), before_attention.sum_step());
        self.layer_norm((AttentionLayerNorm, layer), module, sum_step, Some(&before_feed_forward))?;

        let (intermediate, activation_factors) = self.activated_linear(
            Intermediate,
            Module::Intermediate(layer),
            Some(layer),
            before_feed_forward.input(),
            &activation_factors,
            units.activation,
        )?;
        let output = self.residual_linear(
            Output,
            Module::Output(layer),
            layer,
            int16_input(&activation_factors, units.activation),
            &before_feed_forward,
        )?;
        let (module, sum_step) = (Module::OutputLayerNorm(layer), before_feed_forward.sum_step());
        self.norm_into_layer(OutputLayerNorm, layer + 1, module, sum_step)?;
        let constants = RuntimeLayerConstants {
            softmax: qkv.softmax,
            value_multiplier: qkv.value.0,
            value_exponent: qkv.value.1,
            qkv: qkv.shifts,
            attention_output,
            intermediate,
            output,
        };
        self.blob.replace_i32s(LayerConstants, layer, &constants.emit());
        Ok(())
    }

    /// Query, key and value as one linear layer, its rows head by head.
    fn qkv(
        &mut self,
        layer: usize,
        input: LinearInput<'_>,
        units: &LayerUnits,
        context_factors: &[f64],
    ) -> Result<Projections> {
        use SectionKind::Qkv;
        let modules = [Module::Query(layer), Module::Key(layer), Module::Value(layer)];
        let [query, key, value] = modules.map(|module| self.checkpoint.tensor(&module.weight()));
        let tensors = [query?, key?, value?];
        let head_dim = self.checkpoint.config.head_dim();
        // Which of the three an output row belongs to, and its row there.
        let part = |row: usize| {
            let (head, within) = (row / (3 * head_dim), row % (3 * head_dim));
            (within / head_dim, head * head_dim + within % head_dim)
        };
        let [query, key, value] = modules.map(|module| self.checkpoint.tensor(&module.bias()));
        let biases = [query?.to_vec(), key?.to_vec(), value?.to_vec()];
        let bias: Vec<f32> = (0..3 * self.h).map(part).map(|(part, row)| biases[part][row]).collect();
        let row = |index, out: &mut [f32]| {
            let (part, row) = part(index);
            tensors[part].row(row, out);
        };
        let linear = quantize_linear(&LinearSource { n: 3 * self.h, row, input });
        (self.progress)(linear.weight.values.len() as u64);
        for (number, module) in modules.into_iter().enumerate() {
            let of_part = (0..3 * self.h).filter(|&row| part(row).0 == number).map(|row| &linear.weight.noise[row]);
            self.noise.push(TensorNoise { name: module.weight(), layer: Some(layer), noise: Noise::sum(of_part) });
        }

        // Query, key and value each have one unit, in which typical outputs have some 16 bits. That of values is smoothed, as the context.
        let channel_unit = |row: usize| match part(row) {
            (2, channel) => linear.units[row] / context_factors[channel],
            _ => linear.units[row],
        };
        // Not so fine that a bias could not be expressed, which matters where all weights are zero.
        let finest = |row: usize| match part(row) {
            (2, channel) => f64::from(bias[row].abs()) / context_factors[channel] / QKV_BIAS_LIMIT,
            _ => f64::from(bias[row].abs()) / QKV_BIAS_LIMIT,
        };
        let unit_of = |number: usize| {
            let rows = (0..3 * self.h).filter(|&row| part(row).0 == number);
            rows.map(|row| libm::ldexp(channel_unit(row), -QKV_EXTRA_BITS).max(finest(row)))
                .fold(f64::MIN_POSITIVE, f64::max)
        };
        let common = [unit_of(0), unit_of(1), unit_of(2)];
        let output_unit = |row: usize| match part(row) {
            (2, channel) => common[2] * context_factors[channel],
            (part, _) => common[part],
        };
        let scale = linear.scale_to(&bias, output_unit, Module::Query(layer))?;
        let score = 256.0 * core::f64::consts::LOG2_E / libm::sqrt(head_dim as f64) * common[0] * common[1];
        let (multiplier, exponent) = mantissa_and_exponent(score / (127.0 * 127.0));
        // A channel's largest value becomes 2⁸ steps of the context per 127 of its int8: see `attention`.
        let value = mantissa_and_exponent(libm::ldexp(common[2] / (127.0 * units.context), 8));

        let parameters = interleave([&scale.bias, &scale.multipliers]);
        self.blob.tiles(Qkv, layer, head_dim, &linear.weight.values, &parameters, self.assembly.layout);
        Ok(Projections { shifts: scale.shifts, value, softmax: SoftmaxScale { multiplier, exponent } })
    }

    /// Smoothing of a head's first linear layer, which reads the last hidden state.
    fn last_hidden_smoothing(&self, module: Module) -> Result<InputSmoothing> {
        let maxima = self.assembly.statistics.map(|statistics| &statistics.last_hidden[..]);
        let factors = self.assembly.input_factors(maxima, &[module])?;
        Ok(InputSmoothing::new(&factors, self.units.last_hidden))
    }

    /// Pooler and next-sentence head: their shifts.
    pub(super) fn pooler(&mut self) -> Result<[LinearShifts; 2]> {
        use SectionKind::*;
        let smoothing = self.last_hidden_smoothing(Module::Pooler)?;
        self.blob.i16s(PoolerInput, 0, 1, &smoothing.multipliers);
        let activation_unit = libm::ldexp(1.0, -(ACTIVATION_INPUT_FRACTION_BITS as i32));
        let pooler = self.plain_linear(Pooler, Module::Pooler, None, smoothing.input(), activation_unit)?;
        let seq_relationship = if self.assembly.manifest.heads.next_sentence {
            self.plain_linear(
                SeqRelationship,
                Module::SeqRelationship,
                None,
                int16_input(&vec![1.0; self.h], libm::ldexp(1.0, -POOLED_FRACTION_BITS)),
                libm::ldexp(1.0, -(LOGIT_FRACTION_BITS as i32)),
            )?
        } else {
            LinearShifts::default()
        };
        Ok([pooler, seq_relationship])
    }

    /// Masked-LM head: the shifts of its transform, and the decoder's multiplier and exponent.
    pub(super) fn masked_lm(&mut self, largest_word_scale: f64) -> Result<(LinearShifts, (i32, i32))> {
        use SectionKind::*;
        let unit = self.units.transform;
        let smoothing = self.last_hidden_smoothing(Module::TransformDense)?;
        self.blob.i16s(TransformInput, 0, 1, &smoothing.multipliers);
        let (shifts, _) = self.activated_linear(
            Transform,
            Module::TransformDense,
            None,
            smoothing.input(),
            &vec![1.0; self.h],
            unit,
        )?;
        let bits = self.layer_norm((TransformLayerNorm, 0), Module::TransformLayerNorm, unit, None)?;
        let step = libm::ldexp(1.0, -bits);
        let logit = step * largest_word_scale / (127.0 * LARGEST_MULTIPLIER);
        Ok((shifts, mantissa_and_exponent(libm::ldexp(logit, LOGIT_FRACTION_BITS as i32 - ROW_SHIFT as i32))))
    }
}

/// What the rest of a layer needs to know of query, key and value.
struct Projections {
    shifts: LinearShifts,
    value: (i32, i32),
    softmax: SoftmaxScale,
}
