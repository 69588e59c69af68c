//! Float tensors to int8 with fixed-point parameters, in float64, which rounds alike on every machine.

use anyhow::{Result, ensure};
use mbert_runtime::ops::fixed_point::normalizing_shift;
use mbert_runtime::ops::layer_norm::{NORMALIZED_FRACTION_BITS, SCALED_FRACTION_BITS};
use mbert_runtime::ops::linear::LinearShifts;
use mbert_runtime::ops::quantize::ROW_SHIFT;

use super::checkpoint::Module;
use super::residual::NormParameters;

const TWO_POW_31: f64 = 2147483648.0;
/// Biases are kept below it.
const BIAS_LIMIT: f64 = 1073741824.0;
const SMALLEST_SCALE: f64 = 1e-30;
const THREADS: usize = 2;

/// Energy of a tensor and of its quantisation error.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Noise {
    /// Sum of squares of the values.
    pub signal: f64,
    /// Sum of squares of the errors.
    pub noise: f64,
}

impl Noise {
    /// Signal to noise ratio in dB; infinite without noise.
    pub fn decibels(&self) -> f64 {
        if self.noise == 0.0 { f64::INFINITY } else { 10.0 * libm::log10(self.signal / self.noise) }
    }

    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        self.signal += other.signal;
        self.noise += other.noise;
    }

    /// The sum of many.
    pub fn sum<'n>(noise: impl IntoIterator<Item = &'n Self>) -> Self {
        let mut sum = Self::default();
        noise.into_iter().for_each(|noise| sum.add(*noise));
        sum
    }
}

/// int8 rows, each with the real value of its step.
#[derive(Clone, Debug)]
pub struct QuantizedMatrix {
    /// `[rows, columns]`.
    pub values: Vec<i8>,
    /// `[rows]`.
    pub scales: Vec<f64>,
    /// `[rows]`: what rounding cost.
    pub noise: Vec<Noise>,
}

/// Quantises every row of a matrix to −127..=127 with a scale of its own.
///
/// `row(index, out)` writes the float values of a row, which are multiplied with the factors of their columns. Rows are independent, so threads do not
/// change the result.
pub fn quantize_matrix(
    rows: usize,
    columns: usize,
    row: impl Fn(usize, &mut [f32]) + Sync,
    column_factor: Option<&[f64]>,
) -> QuantizedMatrix {
    let mut values = vec![0i8; rows * columns];
    let mut scales = vec![(0.0, Noise::default()); rows];
    let rows_per_thread = rows.div_ceil(THREADS).max(1);
    std::thread::scope(|scope| {
        let parts = values.chunks_mut(rows_per_thread * columns).zip(scales.chunks_mut(rows_per_thread));
        for (part, (values, scales)) in parts.enumerate() {
            let row = &row;
            scope.spawn(move || {
                let mut float = vec![0.0f32; columns];
                let mut scaled = vec![0.0f64; columns];
                for (i, (values, scale)) in values.chunks_mut(columns).zip(scales).enumerate() {
                    let index = part * rows_per_thread + i;
                    row(index, &mut float);
                    match column_factor {
                        Some(factors) => {
                            for ((scaled, &value), &factor) in scaled.iter_mut().zip(&float).zip(factors) {
                                *scaled = f64::from(value) * factor;
                            }
                        }
                        None => scaled.iter_mut().zip(&float).for_each(|(scaled, &value)| *scaled = f64::from(value)),
                    }
                    *scale = quantize_row(&scaled, values);
                }
            });
        }
    });
    let (scales, noise) = scales.into_iter().unzip();
    QuantizedMatrix { values, scales, noise }
}

/// `round_ties_even` of a value within ±2⁵¹, which is a call for each value where the CPU may lack the instruction.
///
/// At 1.5 · 2⁵² the step of a float64 is 1, so the sum is rounded, ties to even, as every sum is.
fn round_ties_even(value: f64) -> f64 {
    const STEP_OF_ONE: f64 = 6755399441055744.0;
    value + STEP_OF_ONE - STEP_OF_ONE
}

fn quantize_row(row: &[f64], out: &mut [i8]) -> (f64, Noise) {
    let largest = row.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    let scale = (largest / 127.0).max(SMALLEST_SCALE);
    let mut noise = Noise::default();
    for (out, value) in out.iter_mut().zip(row) {
        let rounded = round_ties_even(value / scale);
        *out = rounded as i8;
        noise.signal += value * value;
        noise.noise += (value - rounded * scale) * (value - rounded * scale);
    }
    (scale, noise)
}

/// A linear layer with int8 weights.
#[derive(Clone, Debug)]
pub struct QuantizedLinear {
    /// int8 `[N, K]`, row-major.
    pub weight: QuantizedMatrix,
    /// Real value of one step of `t` in each channel, for a row whose scales were not shifted: see `mbert_runtime::ops::linear`.
    pub units: Vec<f64>,
    /// Accumulator shift.
    pub accumulator_shift: u32,
}

/// What becomes of the sums of a linear layer.
#[derive(Clone, Debug)]
pub struct OutputScale {
    /// Bias of each channel, in the unit of the output.
    pub bias: Vec<i32>,
    /// Multiplier of each channel.
    pub multipliers: Vec<i32>,
    /// Accumulator and output shift.
    pub shifts: LinearShifts,
}

impl QuantizedLinear {
    /// Bias and multiplier of each channel to an output of which one step is `output_unit(channel)`.
    ///
    /// # Errors
    ///
    /// A bias that cannot be expressed in that unit.
    pub fn scale_to(&self, bias: &[f32], output_unit: impl Fn(usize) -> f64, module: Module) -> Result<OutputScale> {
        let ratios: Vec<f64> = self.units.iter().enumerate().map(|(n, unit)| unit / output_unit(n)).collect();
        let largest = ratios.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        // The largest multiplier gets 31 bits.
        let output = libm::ilogb(largest) + 2;
        let multipliers =
            ratios.iter().map(|ratio| multiplier(libm::ldexp(*ratio, -output), module)).collect::<Result<_>>()?;
        let bias = bias.iter().enumerate().map(|(n, bias)| {
            let bias = (f64::from(*bias) / output_unit(n)).round_ties_even();
            ensure!(bias.abs() < BIAS_LIMIT, "{}: bias {n} is out of range for fixed point", module.bias());
            Ok(bias as i32)
        });
        let shifts = LinearShifts { accumulator: self.accumulator_shift, output };
        Ok(OutputScale { bias: bias.collect::<Result<_>>()?, multipliers, shifts })
    }
}

/// A linear layer's float tensors and what it reads.
pub struct LinearSource<'a, F> {
    /// Output channels.
    pub n: usize,
    /// Writes a row of the weight.
    pub row: F,
    /// What it reads.
    pub input: LinearInput<'a>,
}

/// What a linear layer reads.
#[derive(Clone, Copy, Debug)]
pub struct LinearInput<'a> {
    /// What each input channel was divided by.
    pub factors: &'a [f64],
    /// Real value of one step of the values from which rows are quantised.
    pub unit: f64,
}

/// The largest accumulator shift with which no input can overflow a sum over these rows: `127 · Σ |w| · 2^shift < 2³¹`.
pub fn largest_accumulator_shift(weight: &[i8], columns: usize) -> u32 {
    let sums = weight.chunks_exact(columns).map(|row| row.iter().map(|w| i32::from(w.unsigned_abs())).sum::<i32>());
    normalizing_shift(sums.max().unwrap_or(0).max(1) * 127)
}

/// Quantises the weights of a linear layer.
pub fn quantize_linear<F: Fn(usize, &mut [f32]) + Sync>(source: &LinearSource<'_, F>) -> QuantizedLinear {
    let k = source.input.factors.len();
    let weight = quantize_matrix(source.n, k, &source.row, Some(source.input.factors));
    let accumulator_shift = largest_accumulator_shift(&weight.values, k);
    let unit = libm::ldexp(source.input.unit / 127.0, 32 - accumulator_shift as i32);
    let units = weight.scales.iter().map(|scale| scale * unit).collect();
    QuantizedLinear { weight, units, accumulator_shift }
}

/// The multiplier for `rounding_multiply_high` that stands for `factor`: `factor · 2³²`.
///
/// # Errors
///
/// If it does not fit.
pub fn multiplier(factor: f64, module: Module) -> Result<i32> {
    let multiplier = libm::ldexp(factor, 32).round_ties_even();
    ensure!(
        (0.0..TWO_POW_31).contains(&multiplier),
        "{}: a multiplier of {multiplier:e} is out of range for fixed point; are the weights those of a trained model?",
        module.weight()
    );
    Ok(multiplier as i32)
}

/// `value` as `mantissa · 2^−exponent`, mantissa in `2³⁰..2³¹`; `(0, 0)` for 0.
pub fn mantissa_and_exponent(value: f64) -> (i32, i32) {
    if value <= 0.0 {
        return (0, 0);
    }
    let exponent = 30 - libm::ilogb(value);
    let mantissa = libm::ldexp(value, exponent).round_ties_even();
    if mantissa >= TWO_POW_31 { (1 << 30, exponent - 1) } else { (mantissa as i32, exponent) }
}

/// Smoothing of a linear layer that reads the last hidden states: int16 multipliers, and what they amount to.
#[derive(Clone, Debug)]
pub struct InputSmoothing {
    /// Multiplier of each channel, 1..=32767.
    pub multipliers: Vec<i16>,
    /// What each channel is divided by, exactly.
    pub factors: Vec<f64>,
    /// Real value of one step of `value · multiplier`, after the division.
    pub unit: f64,
}

impl InputSmoothing {
    /// Expresses factors in int16 multipliers. `unit` is the real value of one step of the hidden states.
    pub fn new(factors: &[f64], unit: f64) -> Self {
        let smallest = factors.iter().copied().fold(f64::INFINITY, f64::min);
        let multipliers: Vec<i16> =
            factors.iter().map(|factor| (32767.0 * smallest / factor).round_ties_even().max(1.0) as i16).collect();
        let unit_out = unit / smallest / 32767.0;
        let factors = multipliers.iter().map(|&multiplier| unit / (f64::from(multiplier) * unit_out)).collect();
        Self { multipliers, factors, unit: unit_out }
    }

    /// As a linear layer reads it.
    pub fn input(&self) -> LinearInput<'_> {
        LinearInput { factors: &self.factors, unit: self.unit }
    }
}

/// int16 values as a linear layer reads them.
pub fn int16_input(factors: &[f64], unit: f64) -> LinearInput<'_> {
    LinearInput { factors, unit: libm::ldexp(unit, -(ROW_SHIFT as i32)) }
}

/// A layer norm section: see `mbert_runtime::format`. `steps` are the real values of one step of its channels, in which no output saturates; with a
/// multiplier, of so many fraction bits.
pub fn layer_norm_section(
    norm: NormParameters<'_>,
    epsilon: f64,
    input_unit: f64,
    steps: impl Iterator<Item = f64>,
    fraction_bits: i32,
) -> Vec<u8> {
    const GAMMA_BITS: i32 = SCALED_FRACTION_BITS as i32 - NORMALIZED_FRACTION_BITS as i32;
    // Half a step rounds.
    const HALF: f64 = (1 << (SCALED_FRACTION_BITS - 1)) as f64;
    let h = norm.gamma.len() as f64;
    let epsilon =
        (epsilon * h * h / (input_unit * input_unit)).round_ties_even().clamp(1.0, libm::ldexp(1.0, 59)) as u64;
    let mut section = Vec::with_capacity(16 + 8 * norm.gamma.len());
    section.extend(epsilon.to_le_bytes());
    section.extend(fraction_bits.to_le_bytes());
    section.extend([0; 4]);
    for ((&gamma, &beta), step) in norm.gamma.iter().zip(norm.beta).zip(steps) {
        let gamma = libm::ldexp(f64::from(gamma) / step, GAMMA_BITS).round_ties_even();
        let beta = libm::ldexp(f64::from(beta) / step, SCALED_FRACTION_BITS as i32).round_ties_even() + HALF;
        section.extend((gamma as i32).to_le_bytes());
        section.extend((beta as i32).to_le_bytes());
    }
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_is_within_half_a_step() {
        let row = |index: usize, out: &mut [f32]| {
            out.iter_mut().enumerate().for_each(|(i, x)| *x = (i as f32 - 3.3) * (index as f32 + 0.1));
        };
        let matrix = quantize_matrix(5, 9, row, None);
        let mut float = [0.0; 9];
        for index in 0..5 {
            row(index, &mut float);
            for (q, x) in matrix.values[index * 9..][..9].iter().zip(float) {
                assert!((f64::from(*q) * matrix.scales[index] - f64::from(x)).abs() <= matrix.scales[index] * 0.5001);
            }
        }
    }

    #[test]
    fn row_of_zeros_keeps_its_bias() {
        let row = |_, out: &mut [f32]| out.fill(0.0);
        let linear =
            quantize_linear(&LinearSource { n: 1, row, input: LinearInput { factors: &[1.0; 4], unit: 1e-6 } });
        let scale = linear.scale_to(&[2.5], |_| 1.0 / 1024.0, Module::Pooler).unwrap();
        assert_eq!((linear.weight.values, scale.bias), (vec![0; 4], vec![2560]));
    }

    #[test]
    fn multipliers_and_output_shift_give_the_units_back() {
        let row = |index: usize, out: &mut [f32]| out.fill(0.5 + index as f32);
        let linear =
            quantize_linear(&LinearSource { n: 3, row, input: LinearInput { factors: &[1.0; 4], unit: 1e-6 } });
        let scale = linear.scale_to(&[0.0; 3], |_| 1.0 / 1024.0, Module::Pooler).unwrap();
        for (multiplier, unit) in scale.multipliers.iter().zip(&linear.units) {
            let factor = libm::ldexp(f64::from(*multiplier), scale.shifts.output - 32);
            assert!((factor / (unit * 1024.0) - 1.0).abs() < 1e-6);
        }
        assert!(*scale.multipliers.iter().max().unwrap() >= 1 << 30);
    }

    #[test]
    fn mantissa_and_exponent_give_the_value_back() {
        for value in [1.0, 0.75, 3.0e-7, 12345.678, 1.999_999_999_9] {
            let (mantissa, exponent) = mantissa_and_exponent(value);
            assert!(mantissa >= 1 << 30);
            assert!((libm::ldexp(f64::from(mantissa), -exponent) / value - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn smoothing_multipliers_amount_to_the_factors_they_state() {
        let smoothing = InputSmoothing::new(&[0.5, 1.0, 7.0], 1.0 / 1024.0);
        assert_eq!(smoothing.multipliers[0], 32767);
        for (multiplier, factor) in smoothing.multipliers.iter().zip(&smoothing.factors) {
            let smoothed = f64::from(*multiplier) * smoothing.unit * 1024.0;
            assert!((smoothed * factor - 1.0).abs() < 1e-12);
        }
        assert!((smoothing.factors[2] / 7.0 - 1.0).abs() < 1e-3);
    }
}
