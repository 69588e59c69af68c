//! GELU and its kin, and tanh, in fixed point through tables with linear interpolation.
//!
//! Every supported activation is `max(x, 0) − δ(|x|)` with a small even δ that vanishes for large |x|:
//! `δ(a) = a · Φ(−a)` for GELU. So no range is lost: only δ is a table, of 256 steps of 1/32 over |x| < 8.
//! Worst error against float64 below 2⁻¹³ (GELU) and 2⁻¹² (tanh), checked in the tests below.

use super::fixed_point::{rounding_multiply_high, saturate_i16};
use super::requantize::{Requantizer, requantize};
use super::tables::{GELU_DELTA, GELU_TANH_DELTA, TANH};
use crate::config::HiddenAct;
use crate::kernels::PerChannel;

/// Fraction bits of what goes into an activation.
pub const ACTIVATION_INPUT_FRACTION_BITS: u32 = 12;
/// Fraction bits of what comes out of [`activate`].
pub const ACTIVATION_OUTPUT_FRACTION_BITS: u32 = 16;
/// Inputs are cut to ±128, far outside what a trained BERT reaches.
pub(crate) const INPUT_LIMIT: i32 = (128 << ACTIVATION_INPUT_FRACTION_BITS) - 1;

/// The δ of an activation, `None` where it is 0 throughout (ReLU). In each table neighbours differ by less than 2¹⁵, and the last step is
/// flat: kernels rely on both.
pub const fn delta_table(hidden_act: HiddenAct) -> Option<&'static [i16; 257]> {
    match hidden_act {
        HiddenAct::Gelu => Some(&GELU_DELTA),
        HiddenAct::GeluNew | HiddenAct::GeluPytorchTanh => Some(&GELU_TANH_DELTA),
        HiddenAct::Relu => None,
    }
}

/// Interpolates a table of 256 steps of 1/32 at a magnitude with 12 fraction bits; beyond the table, its last entry.
#[inline(always)]
fn interpolate(table: &[i16; 257], magnitude: i32) -> i32 {
    let step = (magnitude >> 7) as usize;
    if step >= 256 {
        return i32::from(table[256]);
    }
    let (low, high) = (i32::from(table[step]), i32::from(table[step + 1]));
    low + (((high - low) * (magnitude & 127) + 64) >> 7)
}

/// `max(x, 0) − δ(|x|)`: 12 fraction bits in, 16 out, |out| < 2²³.
#[inline(always)]
pub fn activate(delta: Option<&[i16; 257]>, x: i32) -> i32 {
    let x = x.clamp(-INPUT_LIMIT, INPUT_LIMIT);
    let positive = x.max(0) << (ACTIVATION_OUTPUT_FRACTION_BITS - ACTIVATION_INPUT_FRACTION_BITS);
    match delta {
        Some(table) => positive - interpolate(table, x.abs()),
        None => positive,
    }
}

/// A tile `[rows][16]` through the activation, to the int16 unit of what reads it:
/// `out[r · stride + c] = rmh(activate(value[r][c]) · 2⁸, multiplier[c])`, saturated, where the values are what
/// [`requantize`] makes of the tile, for the first `channels` channels of every row that `out` begins.
/// What the tile is then means nothing.
pub fn activate_tile(
    delta: Option<&[i16; 257]>,
    tile: &mut [i32],
    requantizer: &Requantizer<'_>,
    channels: usize,
    multiplier: &PerChannel,
    out: &mut [i16],
    stride: usize,
) {
    requantize(tile, requantizer);
    let rows = tile.as_chunks::<16>().0.iter().take(requantizer.rows(tile));
    for (values, out) in rows.zip(out.chunks_mut(stride.max(1))) {
        for ((out, &value), &multiplier) in out.iter_mut().zip(values).zip(multiplier).take(channels) {
            *out = saturate_i16(rounding_multiply_high(activate(delta, value) << 8, multiplier));
        }
    }
}

/// Hyperbolic tangent: 12 fraction bits in, 15 out.
pub fn tanh(x: i32) -> i16 {
    let magnitude = interpolate(&TANH, x.saturating_abs().min(INPUT_LIMIT)) as i16;
    if x < 0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worst error of an activation over −16..16, at every input there is.
    fn worst_error(ours: impl Fn(i32) -> f64, exact: impl Fn(f64) -> f64) -> f64 {
        let error = |x: i32| (ours(x) - exact(f64::from(x) / 4096.0)).abs();
        (-16 << 12..16 << 12).map(error).fold(0.0, f64::max)
    }

    fn activated(hidden_act: HiddenAct) -> impl Fn(i32) -> f64 {
        move |x| f64::from(activate(delta_table(hidden_act), x)) / 65536.0
    }

    #[test]
    fn gelu_is_good_to_13_bits() {
        let exact = |x: f64| x * 0.5 * libm::erfc(-x * core::f64::consts::FRAC_1_SQRT_2);
        assert!(worst_error(activated(HiddenAct::Gelu), exact) < 1.0 / 8192.0);
    }

    #[test]
    fn both_names_of_the_tanh_form_are_good_to_13_bits() {
        let exact = |x: f64| {
            x * 0.5 * (1.0 + libm::tanh(libm::sqrt(core::f64::consts::FRAC_2_PI) * (x + 0.044715 * x * x * x)))
        };
        for hidden_act in [HiddenAct::GeluNew, HiddenAct::GeluPytorchTanh] {
            assert!(worst_error(activated(hidden_act), exact) < 1.0 / 8192.0);
        }
    }

    #[test]
    fn tables_are_as_kernels_rely_on() {
        for hidden_act in [HiddenAct::Gelu, HiddenAct::GeluNew] {
            let table = delta_table(hidden_act).unwrap();
            assert!(table.windows(2).all(|pair| pair[1].checked_sub(pair[0]).is_some()));
            assert_eq!(table[255], table[256]);
        }
    }

    #[test]
    fn relu_is_exact() {
        assert_eq!(worst_error(activated(HiddenAct::Relu), |x| x.max(0.0)), 0.0);
    }

    #[test]
    fn tanh_is_good_to_12_bits_and_odd() {
        assert!(worst_error(|x| f64::from(tanh(x)) / 32768.0, libm::tanh) < 1.0 / 4096.0);
        assert_eq!(tanh(-5000), -tanh(5000));
    }

    #[test]
    fn far_inputs_are_cut_not_wrapped() {
        let table = delta_table(HiddenAct::Gelu);
        assert_eq!(activate(table, i32::MAX), INPUT_LIMIT << 4);
        assert_eq!(activate(table, i32::MIN), 0);
        assert_eq!((tanh(i32::MAX), tanh(i32::MIN)), (32767, -32767));
    }
}
