//! The real value of one step of every int16 tensor: what calibration decides, beside smoothing.
//!
//! The residual stream behind a layer norm never saturates: see [`residual`](super::residual). The other tensors get the step that their
//! calibrated range asks for, with headroom, or a wide one where there was no calibration.

use super::calibrate::Statistics;
use super::residual::NormParameters;

/// Largest int16 value used.
pub const RESIDUAL_LIMIT: f64 = 32767.0;
/// How much larger than in calibration a value may become before it saturates: inside a block, and in the residual sum.
const HEADROOM: f64 = 2.0;
const SUM_HEADROOM: f64 = 1.5;
/// Without calibration: power of two between residual and sum, and range behind an activation.
const WIDE_SUM_SHIFT: i32 = 3;
const WIDE_ACTIVATION: f64 = 128.0;

/// Steps of one encoder layer.
#[derive(Clone, Debug)]
pub struct LayerUnits {
    /// Attention context, smoothed.
    pub context: f64,
    /// Behind the activation, smoothed.
    pub activation: f64,
    /// Fraction bits of the sum before the attention layer norm.
    pub attention_sum_bits: i32,
    /// Fraction bits of the sum before the output layer norm.
    pub output_sum_bits: i32,
}

/// Steps of the whole model.
#[derive(Clone, Debug)]
pub struct Units {
    /// Layer by layer.
    pub layers: Vec<LayerUnits>,
    /// Last hidden state: `2^−fraction_bits`.
    pub last_hidden: f64,
    /// Behind the activation of the masked-LM transform.
    pub transform: f64,
}

/// Fraction bits of a layer norm's output with which it never saturates: `|x̂| ≤ √(H − 1)`.
pub fn layer_norm_fraction_bits(norm: NormParameters<'_>) -> i32 {
    fraction_bits(norm.bounds().fold(0.0, f64::max))
}

/// Fraction bits with which values up to `bound` do not saturate.
fn fraction_bits(bound: f64) -> i32 {
    if bound == 0.0 { 24 } else { (libm::floor(libm::log2(RESIDUAL_LIMIT / bound)) as i32).clamp(-24, 24) }
}

impl LayerUnits {
    /// Steps without calibration, for layer norms before and between both blocks whose outputs have so many fraction bits. `value_bound` is a
    /// bound of the attention's values.
    pub fn wide(input_bits: i32, attention_hidden_bits: i32, value_bound: f64) -> Self {
        Self {
            context: value_bound / RESIDUAL_LIMIT,
            activation: WIDE_ACTIVATION / RESIDUAL_LIMIT,
            attention_sum_bits: input_bits - WIDE_SUM_SHIFT,
            output_sum_bits: attention_hidden_bits - WIDE_SUM_SHIFT,
        }
    }
}

impl Units {
    /// Steps without calibration behind the activation of the masked-LM transform.
    pub const WIDE_TRANSFORM: f64 = WIDE_ACTIVATION / RESIDUAL_LIMIT;

    /// Replaces the wide steps by those that the calibrated ranges ask for. `context_smoothing` and `activation_smoothing` give each
    /// layer's factors, by which those tensors are divided.
    pub fn calibrated(mut self, statistics: &Statistics, smoothing: impl Fn(usize) -> (Vec<f64>, Vec<f64>)) -> Self {
        let step = |maxima: &[f64], factors: &[f64], wide: f64| {
            let range = maxima.iter().zip(factors).map(|(max, factor)| max / factor).fold(0.0, f64::max);
            if range == 0.0 { wide } else { range * HEADROOM / RESIDUAL_LIMIT }
        };
        for (index, (layer, statistics)) in self.layers.iter_mut().zip(&statistics.layers).enumerate() {
            let (context, activation) = smoothing(index);
            layer.context = step(&statistics.context, &context, layer.context);
            layer.activation = step(&statistics.activation, &activation, layer.activation);
            layer.attention_sum_bits = fraction_bits(statistics.attention_sum * SUM_HEADROOM);
            layer.output_sum_bits = fraction_bits(statistics.output_sum * SUM_HEADROOM);
        }
        self.transform = step(&[statistics.transform], &[1.0], self.transform);
        self
    }
}
