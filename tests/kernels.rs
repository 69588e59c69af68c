//! Every table of kernels that this CPU can run, against the plain formula and the reference, over shapes, lengths and values that proptest
//! thinks of: the ends of each type more often than others. The suite of the runtime runs fixed cases on every board.

use mbert_runtime::format::layout::{TILE_CHANNELS, WeightLayout};
use mbert_runtime::kernels::scalar::SCALAR;
use mbert_runtime::kernels::{Kernels, MatmulI8, MatmulShape, MatmulU8, available};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// int8 as activations may be.
fn any_i8() -> impl Strategy<Value = i8> {
    prop_oneof![1 => any::<i8>(), 1 => select(vec![i8::MIN, -127, -1, 0, 1, i8::MAX])]
}

/// int8 as weights may be.
fn any_weight() -> impl Strategy<Value = i8> {
    any_i8().prop_map(|value| value.max(-127))
}

fn any_u8() -> impl Strategy<Value = u8> {
    prop_oneof![1 => any::<u8>(), 1 => select(vec![0, 1, 127, 128, 255])]
}

/// int16 of every size, the ends included, in rows of every length up to some vectors.
fn any_row() -> impl Strategy<Value = Vec<i16>> {
    let value = prop_oneof![
        2 => (any::<i16>(), 0..16u32).prop_map(|(value, shift)| value.max(-32767) >> shift),
        1 => select(vec![-32767, -1, 0, 1, 32767]),
    ];
    vec(value, 1..200)
}

/// `[m, k]` by `[n, k]`.
fn product<T: Copy + Into<i32>>(input: &[T], weight: &[i8], k: usize) -> Vec<i32> {
    let sum = |row: &[T], weights: &[i8]| row.iter().zip(weights).map(|(&x, &w)| x.into() * i32::from(w)).sum();
    input.chunks(k).flat_map(|row| weight.chunks(k).map(move |weights| sum(row, weights))).collect()
}

/// Rows and weights of a shape `m`, `n`, `k`, all of them of the same values in turn where the shape is larger than `values`.
fn filled<T: Copy>(values: &[T], count: usize) -> Vec<T> {
    values.iter().copied().cycle().take(count).collect()
}

fn row_major(m: usize, n: usize, k: usize) -> MatmulShape {
    MatmulShape { m, n, k, input_stride: k, weight_stride: k, out_stride: n, out_tile_stride: 0 }
}

/// What packed kernels make of row-major weights: tiles side by side in each row.
fn packed<T>(
    matmul: fn(&MatmulShape, &[T], &[i8], &mut [i32]),
    layout: WeightLayout,
    (m, n, k): (usize, usize, usize),
    input: &[T],
    weight: &[i8],
) -> Vec<i32> {
    let mut in_tiles = vec![0; n * k];
    for (row, weights) in weight.chunks(k).enumerate() {
        layout.pack_row(row, weights, &mut in_tiles, k);
    }
    let shape = MatmulShape { weight_stride: TILE_CHANNELS * k, out_tile_stride: TILE_CHANNELS, ..row_major(m, n, k) };
    let mut out = vec![i32::MIN; m * n];
    matmul(&shape, input, &in_tiles, &mut out);
    out
}

/// Tables with a layout of their own, and what K must be a multiple of there.
fn packing() -> impl Iterator<Item = (&'static Kernels, usize)> {
    available().filter_map(|kernels| Some((kernels, kernels.weight_layout.group()?)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn row_major_products_are_exact(
        (m, n, k) in (1..9usize, 1..21usize, 1..300usize),
        input in vec(any_i8(), 1..600),
        probabilities in vec(any_u8(), 1..600),
        weight in vec(any_weight(), 1..600),
    ) {
        let weight = filled(&weight, n * k);
        let (input, probabilities) = (filled(&input, m * k), filled(&probabilities, m * k));
        for kernels in available() {
            let (i8_product, u8_product): (MatmulI8, MatmulU8) = (kernels.matmul_i8, kernels.matmul_u8_i8);
            let mut out = vec![i32::MIN; m * n];
            i8_product(&row_major(m, n, k), &input, &weight, &mut out);
            prop_assert_eq!(&out, &product(&input, &weight, k), "{}", kernels.name);
            u8_product(&row_major(m, n, k), &probabilities, &weight, &mut out);
            prop_assert_eq!(&out, &product(&probabilities, &weight, k), "{}", kernels.name);
        }
    }

    #[test]
    fn packed_products_are_exact(
        (m, tiles, groups) in (1..40usize, 1..6usize, 1..100usize),
        input in vec(any_i8(), 1..600),
        probabilities in vec(any_u8(), 1..600),
        weight in vec(any_weight(), 1..600),
    ) {
        for (kernels, group) in packing() {
            let (n, k) = (tiles * TILE_CHANNELS, groups * group);
            let weight = filled(&weight, n * k);
            let (input, probabilities) = (filled(&input, m * k), filled(&probabilities, m * k));
            let layout = kernels.weight_layout;
            let out = packed(kernels.matmul_packed_i8, layout, (m, n, k), &input, &weight);
            prop_assert_eq!(out, product(&input, &weight, k), "{}", kernels.name);
            let out = packed(kernels.matmul_packed_u8_i8, layout, (m, n, k), &probabilities, &weight);
            prop_assert_eq!(out, product(&probabilities, &weight, k), "{}", kernels.name);
        }
    }

    #[test]
    fn rows_of_every_length_are_quantised_as_the_reference_does(row in any_row(), shift in 0..16u32) {
        let wide: Vec<i32> = row.iter().map(|&value| i32::from(value) << shift).collect();
        let all = |kernels: &Kernels| {
            let mut out = [0, 1].map(|_| vec![0; row.len()]);
            let [from_i16, from_i32] = &mut out;
            let largest = (kernels.largest_i16)(&row);
            let magnitudes = [(kernels.quantize_i16)(&row, largest, from_i16), (kernels.quantize_i32)(&wide, from_i32)];
            (out, largest, magnitudes, (kernels.layer_norm_sums)(&row))
        };
        for kernels in available() {
            prop_assert_eq!(all(kernels), all(&SCALAR), "{}", kernels.name);
        }
    }
}
