//! Units of the residual stream. A layer norm leaves each channel in the unit in which the next linear layer reads it, smoothing included,
//! and the sum with what that layer's block makes of it has one unit for all channels again. What brings a channel from the one to the
//! other is a whole number: these numbers are chosen first, and the units follow from them, so that nothing is rounded.

use mbert_runtime::ops::requantize::SUM_FRACTION_BITS;

use super::quantize::{LinearInput, int16_input};
use super::units::RESIDUAL_LIMIT;

/// Largest multiplier: what kernels take in 16 bits.
const LARGEST_MULTIPLIER: f64 = 32767.0;

/// Fewest fraction bits of a sum: what would need fewer belongs to no trained model, and saturates.
const SMALLEST_SUM_BITS: i32 = -48;

/// What a layer norm's output is made of.
#[derive(Clone, Copy, Debug)]
pub struct NormParameters<'a> {
    /// γ of each channel.
    pub gamma: &'a [f32],
    /// β of each channel.
    pub beta: &'a [f32],
}

impl NormParameters<'_> {
    /// The largest magnitude of each channel that any row leads to: `|x̂| ≤ √(H − 1)`.
    pub fn bounds(&self) -> impl Iterator<Item = f64> {
        let root = libm::sqrt(self.gamma.len() as f64 - 1.0);
        self.gamma.iter().zip(self.beta).map(move |(&g, &b)| f64::from(g.abs()) * root + f64::from(b.abs()))
    }
}

/// The units of the channels between a layer norm and the sum before the next.
#[derive(Clone, Debug)]
pub struct ResidualUnits {
    /// What each channel is multiplied with, 1..=32767.
    pub multipliers: Vec<i32>,
    /// Fraction bits of the sum.
    pub sum_bits: i32,
    factors: Vec<f64>,
}

impl ResidualUnits {
    /// The finest units in the proportion of `factors` in which no output of the layer norm saturates, for a sum of so many fraction bits; of
    /// fewer, where a multiplier would be too large.
    pub fn new(norm: NormParameters<'_>, factors: &[f64], sum_bits: i32) -> Self {
        let unit =
            norm.bounds().zip(factors).map(|(bound, factor)| bound / factor).fold(0.0, f64::max) / RESIDUAL_LIMIT;
        let largest = unit * factors.iter().copied().fold(0.0, f64::max);
        let fits = |bits: &i32| libm::ldexp(largest, bits + SUM_FRACTION_BITS as i32) <= LARGEST_MULTIPLIER;
        let sum_bits = (SMALLEST_SUM_BITS..=sum_bits).rev().find(fits).unwrap_or(SMALLEST_SUM_BITS);
        // Rounded up: a unit must not be finer than that which does not saturate.
        let rounded = |factor: &f64| {
            libm::ceil(libm::ldexp(unit * factor, sum_bits + SUM_FRACTION_BITS as i32)).clamp(1.0, LARGEST_MULTIPLIER)
        };
        let factors: Vec<f64> = factors.iter().map(rounded).collect();
        Self { multipliers: factors.iter().map(|&factor| factor as i32).collect(), sum_bits, factors }
    }

    /// Fraction bits of a channel that has been multiplied with its multiplier.
    pub fn fraction_bits(&self) -> i32 {
        self.sum_bits + SUM_FRACTION_BITS as i32
    }

    /// Real value of one step of each channel.
    pub fn steps(&self) -> impl Iterator<Item = f64> {
        self.factors.iter().map(|&factor| libm::ldexp(factor, -self.fraction_bits()))
    }

    /// Real value of one step of the sum.
    pub fn sum_step(&self) -> f64 {
        libm::ldexp(1.0, -self.sum_bits)
    }

    /// As a linear layer reads it.
    pub fn input(&self) -> LinearInput<'_> {
        int16_input(&self.factors, libm::ldexp(1.0, -self.fraction_bits()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_weights_have_units_too() {
        for gamma in [f32::MAX, f32::MIN_POSITIVE, 0.0] {
            let units =
                ResidualUnits::new(NormParameters { gamma: &[gamma; 3], beta: &[gamma; 3] }, &[1.0, 1e6, 1e-6], 24);
            assert!(units.multipliers.iter().all(|multiplier| (1..=32767).contains(multiplier)));
            assert!((-64..64).contains(&units.fraction_bits()));
        }
    }

    #[test]
    fn no_channel_saturates_and_one_nearly_does() {
        let (gamma, beta) = ([1.0, -8.0, 0.1, 0.0], [0.5, 1.0, -0.25, 0.0]);
        let norm = NormParameters { gamma: &gamma, beta: &beta };
        for factors in [[1.0; 4], [0.5, 4.0, 0.1, 0.1]] {
            for sum_bits in [-3, 8, 13, 24] {
                let units = ResidualUnits::new(norm, &factors, sum_bits);
                let most = norm.bounds().zip(units.steps()).map(|(bound, step)| bound / step).fold(0.0, f64::max);
                assert!(most <= RESIDUAL_LIMIT, "{most}");
                assert!(most > 0.9 * RESIDUAL_LIMIT || units.multipliers.contains(&1), "{most}");
                assert!(units.multipliers.iter().all(|multiplier| (1..=32767).contains(multiplier)));
            }
        }
    }
}
