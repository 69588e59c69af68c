//! The real value of one step of every int16 tensor: what calibration decides, beside smoothing.
//!
//! The residual stream never saturates: its step follows from γ and β alone. The other tensors get the step that their
//! calibrated range asks for, with headroom, or a wide one where there was no calibration.

use super::calibrate::Statistics;

/// Largest int16 value used.
pub const RESIDUAL_LIMIT: f64 = 32767.0;
/// How much larger than in calibration a value may become before it saturates: inside a block, and in the residual sum.
const HEADROOM: f64 = 2.0;
const SUM_HEADROOM: f64 = 1.5;
/// Without calibration: power of two between residual and sum, and range behind an activation.
const WIDE_SUM_SHIFT: u32 = 3;
const WIDE_ACTIVATION: f64 = 128.0;

/// Steps of one encoder layer.
#[derive(Clone, Debug)]
pub struct LayerUnits {
    /// Residual stream that enters the layer: `2^−fraction_bits`.
    pub input: f64,
    /// Residual stream between the blocks.
    pub attention_hidden: f64,
    /// Attention context, smoothed.
    pub context: f64,
    /// Behind the activation, smoothed.
    pub activation: f64,
    /// Power of two between `input` and the sum before the attention layer norm.
    pub attention_sum_shift: u32,
    /// Power of two between `attention_hidden` and the sum before the output layer norm.
    pub output_sum_shift: u32,
}

impl LayerUnits {
    /// Step of the sum before the attention layer norm.
    pub fn attention_sum(&self) -> f64 {
        self.input * f64::from(1u32 << self.attention_sum_shift)
    }

    /// Step of the sum before the output layer norm.
    pub fn output_sum(&self) -> f64 {
        self.attention_hidden * f64::from(1u32 << self.output_sum_shift)
    }
}

/// Steps of the whole model.
#[derive(Clone, Debug)]
pub struct Units {
    /// Layer by layer.
    pub layers: Vec<LayerUnits>,
    /// Last hidden state.
    pub last_hidden: f64,
    /// Behind the activation of the masked-LM transform.
    pub transform: f64,
}

/// Fraction bits of a layer norm's output with which it never saturates: `|x̂| ≤ √(H − 1)`.
pub fn layer_norm_fraction_bits(gamma: &[f32], beta: &[f32]) -> i32 {
    let root = libm::sqrt(gamma.len() as f64 - 1.0);
    let bound =
        gamma.iter().zip(beta).map(|(&g, &b)| f64::from(g.abs()) * root + f64::from(b.abs())).fold(0.0, f64::max);
    if bound == 0.0 { 24 } else { (libm::floor(libm::log2(RESIDUAL_LIMIT / bound)) as i32).clamp(-24, 24) }
}

impl LayerUnits {
    /// Steps without calibration. `value_bound` is a bound of the attention's values.
    pub fn wide(input: f64, attention_hidden: f64, value_bound: f64) -> Self {
        Self {
            input,
            attention_hidden,
            context: value_bound / RESIDUAL_LIMIT,
            activation: WIDE_ACTIVATION / RESIDUAL_LIMIT,
            attention_sum_shift: WIDE_SUM_SHIFT,
            output_sum_shift: WIDE_SUM_SHIFT,
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
        let shift = |range: f64, unit: f64| {
            (0..16)
                .find(|&shift| range * SUM_HEADROOM <= RESIDUAL_LIMIT * unit * f64::from(1u32 << shift))
                .unwrap_or(16)
        };
        for (index, (layer, statistics)) in self.layers.iter_mut().zip(&statistics.layers).enumerate() {
            let (context, activation) = smoothing(index);
            layer.context = step(&statistics.context, &context, layer.context);
            layer.activation = step(&statistics.activation, &activation, layer.activation);
            layer.attention_sum_shift = shift(statistics.attention_sum, layer.input);
            layer.output_sum_shift = shift(statistics.output_sum, layer.attention_hidden);
        }
        self.transform = step(&[statistics.transform], &[1.0], self.transform);
        self
    }
}
