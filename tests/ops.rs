//! Integer operations against float64, over whatever rows proptest can think of.

use mbert_runtime::ops::fixed_point::{
    rounding_multiply_high, rounding_shift_right, saturate_i16, scale_by_power_of_two,
};
use mbert_runtime::ops::layer_norm::layer_norm_i16;
use mbert_runtime::ops::log_sum_exp::{LogSumExp, Ratio};
use mbert_runtime::ops::quantize::quantize_row;
use mbert_runtime::ops::softmax::{SoftmaxScale, softmax_row};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// `⌊value / 2^shift + ½⌋`, as the rounding rule says.
fn rounded(value: i128, shift: u32) -> i128 {
    if shift == 0 { value } else { (value + (1 << (shift - 1))) >> shift }
}

/// int32 of every size, the ends included.
fn any_int32() -> impl Strategy<Value = i32> {
    prop_oneof![
        4 => any::<i32>(),
        2 => (any::<i32>(), 0..32u32).prop_map(|(value, shift)| value >> shift),
        1 => select(vec![0, 1, -1, i32::MAX, -i32::MAX, i32::MIN]),
    ]
}

/// Rows of int16 as they occur and as they do not: noise of any size, around any mean, a spike, two values in turn.
fn any_row() -> impl Strategy<Value = Vec<i16>> {
    let noise = (vec(-1.0..1.0f64, 1..1000), 0..=15i32, -32767..=32767i32).prop_map(|(values, bits, mean)| {
        values.into_iter().map(|v| saturate_i16(mean + libm::round(libm::ldexp(v, bits)) as i32)).collect()
    });
    let spike = (2..4096usize, -32767..=32767i16, -32767..=32767i16, any::<prop::sample::Index>()).prop_map(
        |(h, level, spike, at)| {
            let mut row = vec![level; h];
            row[at.index(h)] = spike;
            row
        },
    );
    let in_turn = (2..4096usize, -32767..=32767i16, -32767..=32767i16)
        .prop_map(|(h, one, other)| (0..h).map(|i| if i % 2 == 0 { one } else { other }).collect());
    prop_oneof![3 => noise, 1 => spike, 1 => in_turn]
}

/// `−½ ≤ found − exact ≤ ½`, and a little.
fn is_near(found: f64, exact: f64, beyond_half: f64) -> Result<(), TestCaseError> {
    prop_assert!((found - exact).abs() <= 0.5 + beyond_half, "{found} instead of {exact}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rounding_rule_is_half_up_for_every_value(a in any_int32(), b in any_int32(), shift in 0..32u32) {
        prop_assert_eq!(i128::from(rounding_multiply_high(a, b)), rounded(i128::from(a) * i128::from(b), 32));
        prop_assert_eq!(i128::from(rounding_shift_right(a, shift)), rounded(a.into(), shift));
        let left = (i128::from(a) << shift).clamp(i32::MIN.into(), i32::MAX.into());
        // Shifts left by 31 saturate as those by 30 do, but for −1, 0 and 1.
        if shift < 31 {
            prop_assert_eq!(i128::from(scale_by_power_of_two(a, -(shift as i32))), left);
        }
        prop_assert_eq!(scale_by_power_of_two(a, shift as i32), rounding_shift_right(a, shift));
    }

    #[test]
    fn quantised_row_is_within_half_a_step_of_its_largest_value(values in vec(any_int32(), 1..300)) {
        let mut out = vec![0i8; values.len()];
        let largest = quantize_row(&mut out, |i| values[i]);
        let exact = values.iter().map(|value| f64::from(*value).abs()).fold(0.0, f64::max);
        prop_assert!((f64::from(largest) - exact).abs() <= 1.0, "{largest} is not the largest, {exact}");
        for (&q, &value) in out.iter().zip(&values) {
            prop_assert!(q != i8::MIN);
            let step = if largest == 0 { 0.0 } else { 127.0 / exact };
            is_near(q.into(), f64::from(value) * step, 1e-3)?;
        }
    }

    #[test]
    fn quantised_row_does_not_depend_on_its_unit(values in vec(-30_000..=30_000i32, 1..100), shift in 0..16u32) {
        let (mut plain, mut shifted) = (vec![0i8; values.len()], vec![0i8; values.len()]);
        let largest = quantize_row(&mut plain, |i| values[i]);
        prop_assert_eq!(quantize_row(&mut shifted, |i| values[i] << shift), largest << shift);
        prop_assert_eq!(plain, shifted);
    }

    #[test]
    fn softmax_is_within_one_and_a_half_steps_of_float(
        pairs in vec((-1_000_000..=1_000_000i32, (1 << 30)..=i32::MAX), 1..200),
        query in 1..=i32::MAX,
        key_shift in 0..20u32,
        peak in 0.01..60.0f64,
    ) {
        let head_dim = 64;
        // The largest score there can be is to count as `peak` before the exponential.
        let key = |key: i32| f64::from(key) / f64::from(1u32 << key_shift);
        let unit = peak / (1e6 * f64::from(query) * key(i32::MAX));
        let exact = 256.0 * std::f64::consts::LOG2_E * unit;
        let exponent = 30 - libm::floor(libm::log2(exact)) as i32;
        let multiplier = libm::round(libm::ldexp(exact, exponent)).min(f64::from(i32::MAX)) as i32;
        let row = SoftmaxScale { multiplier, exponent }.row(query, key_shift, head_dim);

        let (mut scores, keys): (Vec<i32>, Vec<i32>) = pairs.iter().copied().unzip();
        let logits: Vec<f64> =
            pairs.iter().map(|&(score, k)| f64::from(score) * f64::from(query) * key(k) * unit).collect();
        let largest = logits.iter().copied().fold(f64::MIN, f64::max);
        let mut out = vec![0; scores.len()];
        let sum = softmax_row(&mut scores, &keys, row, &mut out);
        prop_assert_eq!(sum, out.iter().map(|&p| u32::from(p)).sum::<u32>());
        prop_assert_eq!(out.iter().max(), Some(&255));
        for (&p, logit) in out.iter().zip(logits) {
            is_near(p.into(), 255.0 * libm::exp(logit - largest), 1.0)?;
        }
    }

    #[test]
    fn sum_of_powers_does_not_depend_on_order_or_pieces(
        (logits, shuffled) in vec(any_int32(), 1..200)
            .prop_flat_map(|logits| (Just(logits.clone()), Just(logits).prop_shuffle())),
        cut in any::<prop::sample::Index>(),
        probe in any_int32(),
    ) {
        let sum = |logits: &[i32]| {
            let mut sum = LogSumExp::default();
            logits.iter().for_each(|&logit| sum.add(logit));
            sum
        };
        let (whole, other) = (sum(&logits), sum(&shuffled));
        let (first, second) = shuffled.split_at(cut.index(shuffled.len()));
        let mut pieces = sum(first);
        pieces.merge(&sum(second));
        for probe in [probe, logits[0]] {
            prop_assert_eq!(whole.ratio(probe), other.ratio(probe));
            prop_assert_eq!(whole.ratio(probe), pieces.ratio(probe));
        }
    }

    #[test]
    fn probabilities_equal_float_softmax(logits in vec(-3_000_000..3_000_000i32, 1..300)) {
        let mut sum = LogSumExp::default();
        logits.iter().for_each(|&logit| sum.add(logit));
        let real = |logit: i32| f64::from(logit) / 65536.0;
        let largest = real(*logits.iter().max().unwrap());
        let exact: f64 = logits.iter().map(|&logit| libm::exp(real(logit) - largest)).sum();
        let mut total = 0.0;
        for &logit in &logits {
            let Ratio { numerator, denominator, shift } = sum.ratio(logit);
            let found = libm::ldexp(f64::from(numerator) / denominator as f64, -(shift as i32));
            let expected = libm::exp(real(logit) - largest) / exact;
            prop_assert!((found / expected - 1.0).abs() < 1e-4, "{} instead of {}", found, expected);
            total += found;
        }
        prop_assert!((total - 1.0).abs() < 1e-4, "the probabilities add up to {}", total);
    }

    #[test]
    fn layer_norm_equals_float_to_a_step(
        row in any_row(),
        gamma in -3.9..3.9f64,
        beta in -3.9..3.9f64,
        fraction_bits in 0..=8i32,
        epsilon in prop_oneof![Just(1u64), 1..1u64 << 40],
    ) {
        let parameters = (
            libm::round(libm::ldexp(gamma, fraction_bits + 2)) as i32,
            libm::round(libm::ldexp(beta, fraction_bits + 15)) as i32 + (1 << 14),
        );
        // What the rounded parameters stand for.
        let gamma = libm::ldexp(f64::from(parameters.0), -2);
        let beta = libm::ldexp(f64::from(parameters.1), -15) - 0.5;
        let h = row.len() as f64;
        let sum: i64 = row.iter().map(|&x| i64::from(x)).sum();
        let squares: i64 = row.iter().map(|&x| i64::from(x) * i64::from(x)).sum();
        let variance = ((row.len() as i64 * squares - sum * sum) as f64 + epsilon as f64).max(h * h / 16.0);
        let mut out = row.clone();
        layer_norm_i16(&mut out, std::iter::repeat(parameters), epsilon);
        for (&x, &found) in row.iter().zip(&out) {
            let normalized = (h * f64::from(x) - sum as f64) / libm::sqrt(variance);
            let exact = (normalized * gamma + beta).clamp(-32768.0, 32767.0);
            // Half a step of the output, and two of the normalised value.
            is_near(found.into(), exact, gamma.abs() / 4096.0 + 1e-3)?;
        }
    }
}
