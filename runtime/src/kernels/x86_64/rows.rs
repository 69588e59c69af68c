//! Everything but the matrix products, for any instruction set with sixteen int32 lanes: the steps of the references, which also do what
//! is left where a row is no multiple of sixteen.

/// The entries of a table, from the features and the file of lanes named.
macro_rules! rows {
    ($features:literal, $lanes:ident) => {
        $crate::kernels::x86_64::rows::entries! { $features:
            scale_rows(tile: &mut [i32], scales: &[i32], shift: u32);
            scale_accumulators(acc: &[i32], scales: &[i32], shift: u32, tile: &mut [i32]);
            requantize(tile: &mut [i32], shifts: &[u8], output_shift: i32, bias: &PerChannel, multiplier: &PerChannel);
            add_residual(tile: &[i32], channels: usize, shift: u32, residual: &mut [i16], stride: usize);
            activate_tile(
                delta: Option<&[i16; 257]>,
                tile: &[i32],
                channels: usize,
                multiplier: &PerChannel,
                out: &mut [i16],
                stride: usize
            );
            quantize_smoothed(row: &[i16], smoothing: &[i16], out: &mut [i8]) -> i32;
            quantize_i16(row: &[i16], out: &mut [i8]) -> i32;
            quantize_i32(row: &[i32], out: &mut [i8]) -> i32;
            softmax_row(scores: &mut [i32], keys: &[i32], scale: RowScale, out: &mut [u8]) -> u32;
            average_row(weighted: &[i32], divisor: Divisor, scales: &[i32], out: &mut [i16]);
            layer_norm_sums(row: &[i16]) -> (i32, i64);
            layer_norm(row: &mut [i16], parameters: &[[i32; 2]], normalizer: &Normalizer);
        }

        mod rows {
            use super::super::$lanes::*;
            use crate::kernels::PerChannel;
            use crate::ops::activation::{self, INPUT_LIMIT};
            use crate::ops::average::{self, Divisor};
            use crate::ops::layer_norm::{self, Normalizer};
            use crate::ops::quantize::{self, ROW_SHIFT, Steps};
            use crate::ops::requantize;
            use crate::ops::softmax::{self, RowScale};

            /// See [`rounding_shift_right`](crate::ops::fixed_point::rounding_shift_right).
            #[inline]
            #[target_feature(enable = $features)]
            fn rounding_shift_right(value: Lanes, shift: u32) -> Lanes {
                if shift == 0 {
                    return value;
                }
                // Halved upwards, in an order that does not overflow.
                let double = shift_right(value, shift.min(31) - 1);
                sub(double, shift_right(double, 1))
            }

            /// See [`scale_by_power_of_two`](crate::ops::fixed_point::scale_by_power_of_two) and
            /// [`rounding_multiply_high`](crate::ops::fixed_point::rounding_multiply_high): first the multiplication.
            #[inline]
            #[target_feature(enable = $features)]
            fn multiply_and_scale(value: Lanes, multiplier: Lanes, shift: i32) -> Lanes {
                match shift {
                    0..=30 => rounding_multiply_shift(value, multiplier, shift as u32),
                    _ => scale_by_power_of_two(rounding_multiply_high(value, multiplier), shift),
                }
            }

            /// See [`scale_by_power_of_two`](crate::ops::fixed_point::scale_by_power_of_two).
            #[inline]
            #[target_feature(enable = $features)]
            fn scale_by_power_of_two(value: Lanes, shift: i32) -> Lanes {
                if shift >= 0 {
                    rounding_shift_right(value, shift as u32)
                } else {
                    shift_left_saturating(value, shift.unsigned_abs().min(30))
                }
            }

            #[target_feature(enable = $features)]
            pub(super) fn scale_rows(tile: &mut [i32], scales: &[i32], shift: u32) {
                for (tile, &scale) in tile.as_chunks_mut().0.iter_mut().zip(scales) {
                    store(rounding_multiply_high(shift_left(load(tile), shift), splat(scale)), tile);
                }
            }

            #[target_feature(enable = $features)]
            pub(super) fn scale_accumulators(acc: &[i32], scales: &[i32], shift: u32, tile: &mut [i32]) {
                let rows = acc.as_chunks().0.iter().zip(tile.as_chunks_mut().0);
                for ((acc, tile), &scale) in rows.zip(scales) {
                    let scaled = rounding_multiply_high(shift_left(load(acc), shift), splat(scale));
                    store(add(load(tile), scaled), tile);
                }
            }

            #[target_feature(enable = $features)]
            pub(super) fn requantize(
                tile: &mut [i32],
                shifts: &[u8],
                output_shift: i32,
                bias: &PerChannel,
                multiplier: &PerChannel,
            ) {
                let (bias, multiplier) = (load(bias), load(multiplier));
                // Between these, a sum with the bias does not overflow.
                let least = sub(splat(i32::MIN), min(bias, splat(0)));
                let most = sub(splat(i32::MAX), max(bias, splat(0)));
                for (tile, &shift) in tile.as_chunks_mut().0.iter_mut().zip(shifts) {
                    let product = multiply_and_scale(load(tile), multiplier, i32::from(shift) - output_shift);
                    store(add(max(min(product, most), least), bias), tile);
                }
            }

            /// Rows of a tile whose sixteen channels all have a place in `out`: the first so many.
            fn whole_rows(tile: &[i32], channels: usize, out: usize, stride: usize) -> usize {
                if channels < 16 || stride < 16 || out < 16 {
                    0
                } else {
                    (tile.len() / 16).min((out - 16) / stride + 1)
                }
            }

            /// Sixteen elements from `first` on.
            fn first_chunk(slice: &mut [i16], first: usize) -> Option<&mut [i16; 16]> {
                slice.get_mut(first..)?.first_chunk_mut()
            }

            #[target_feature(enable = $features)]
            pub(super) fn add_residual(tile: &[i32], channels: usize, shift: u32, residual: &mut [i16], stride: usize) {
                let whole = whole_rows(tile, channels, residual.len(), stride);
                let (tile, tile_left) = tile.split_at(16 * whole);
                for (tile, row) in tile.as_chunks().0.iter().zip(0..whole) {
                    if let Some(residual) = first_chunk(residual, row * stride) {
                        let sum = add_saturating(load(tile), load_i16(residual));
                        store_i16(rounding_shift_right(sum, shift), residual);
                    }
                }
                let left = residual.get_mut(whole * stride..).unwrap_or_default();
                requantize::add_residual(tile_left, channels, shift, left, stride);
            }

            #[target_feature(enable = $features)]
            pub(super) fn activate_tile(
                delta: Option<&[i16; 257]>,
                tile: &[i32],
                channels: usize,
                multiplier: &PerChannel,
                out: &mut [i16],
                stride: usize,
            ) {
                // Two rows at a time.
                let whole = whole_rows(tile, channels, out.len(), stride) & !1;
                let (tile, tile_left) = tile.split_at(16 * whole);
                let (multipliers, deltas) = (load(multiplier), delta.map(|entries| table(entries)));
                for ([tile_a, tile_b], row) in tile.as_chunks().0.as_chunks().0.iter().zip((0..whole).step_by(2)) {
                    let [a, b] = [load(tile_a), load(tile_b)];
                    let deltas = match &deltas {
                        Some(table) => interpolate(table, [magnitude(a), magnitude(b)]),
                        None => [splat(0); 2],
                    };
                    for (x, delta, row) in [(a, deltas[0], row), (b, deltas[1], row + 1)] {
                        if let Some(out) = first_chunk(out, row * stride) {
                            let positive = max(min(x, splat(INPUT_LIMIT)), splat(0));
                            let activated = sub(shift_left(positive, 4), delta);
                            store_i16(rounding_multiply_high(shift_left(activated, 8), multipliers), out);
                        }
                    }
                }
                let left = out.get_mut(whole * stride..).unwrap_or_default();
                activation::activate_tile(delta, tile_left, channels, multiplier, left, stride);
            }

            /// See [`quantize_row`](quantize::quantize_row): sixteen values at a time, then one. The largest magnitude is known.
            #[inline]
            #[target_feature(enable = $features)]
            fn quantize_row(
                out: &mut [i8],
                largest: u32,
                values: impl Fn(usize) -> Lanes,
                value: impl Fn(usize) -> i32,
            ) -> i32 {
                let largest = largest.min(i32::MAX as u32) as i32;
                if largest == 0 {
                    out.fill(0);
                    return 0;
                }
                let steps = Steps::new(largest);
                let reciprocal = splat(steps.reciprocal);
                let (out, tail) = out.as_chunks_mut();
                let whole = 16 * out.len();
                for (i, out) in out.iter_mut().enumerate() {
                    let value = shift_left(values(i), steps.shift);
                    store_i8(rounding_multiply_shift(value, reciprocal, Steps::FRACTION_BITS), out);
                }
                for (i, out) in tail.iter_mut().enumerate() {
                    *out = steps.quantize(value(whole + i));
                }
                largest
            }

            #[target_feature(enable = $features)]
            pub(super) fn quantize_smoothed(row: &[i16], smoothing: &[i16], out: &mut [i8]) -> i32 {
                if row.len() != out.len() || smoothing.len() != out.len() {
                    return quantize::quantize_smoothed(row, smoothing, out);
                }
                let product = |(&row, &smoothing): (&i16, &i16)| i32::from(row) * i32::from(smoothing);
                let largest = row.iter().zip(smoothing).map(product).fold(0, |most: u32, x| most.max(x.unsigned_abs()));
                let (rows, smoothings) = (row.as_chunks().0, smoothing.as_chunks().0);
                quantize_row(
                    out,
                    largest,
                    |i| multiply(load_i16(&rows[i]), load_i16(&smoothings[i])),
                    |i| product((&row[i], &smoothing[i])),
                )
            }

            #[target_feature(enable = $features)]
            pub(super) fn quantize_i16(row: &[i16], out: &mut [i8]) -> i32 {
                if row.len() != out.len() {
                    return quantize::quantize_i16(row, out);
                }
                let largest = row.iter().fold(0, |most: u16, x| most.max(x.unsigned_abs()));
                let (largest, rows) = (u32::from(largest) << ROW_SHIFT, row.as_chunks().0);
                let value = |i: usize| i32::from(row[i]) << ROW_SHIFT;
                quantize_row(out, largest, |i| shift_left(load_i16(&rows[i]), ROW_SHIFT), value)
            }

            #[target_feature(enable = $features)]
            pub(super) fn quantize_i32(row: &[i32], out: &mut [i8]) -> i32 {
                if row.len() != out.len() {
                    return quantize::quantize_i32(row, out);
                }
                let largest = row.iter().fold(0, |most: u32, x| most.max(x.unsigned_abs()));
                let rows = row.as_chunks().0;
                quantize_row(out, largest, |i| load(&rows[i]), |i| row[i])
            }

            /// Scores in the unit of their row, in place; returns the larger of `most` and these.
            #[inline]
            #[target_feature(enable = $features)]
            fn softmax_scores(scores: &mut [i32; 32], keys: &[i32; 32], scale: RowScale, mut most: Lanes) -> Lanes {
                for (scores, keys) in scores.as_chunks_mut().0.iter_mut().zip(keys.as_chunks().0) {
                    let score = rounding_multiply_high(shift_left(load(scores), scale.accumulator_shift), load(keys));
                    most = max(most, score);
                    store(score, scores);
                }
                most
            }

            /// Probabilities of scores.
            #[inline]
            #[target_feature(enable = $features)]
            fn softmax_probabilities(scores: &[i32; 32], scale: RowScale, most: Lanes) -> Bytes {
                let mut z = [splat(0); 2];
                for (z, scores) in z.iter_mut().zip(scores.as_chunks().0) {
                    let distance = sub(most, load(scores));
                    *z = if scale.shift >= 0 {
                        multiply_and_scale(distance, splat(scale.multiplier), scale.shift)
                    } else {
                        rounding_multiply_high(scale_by_power_of_two(distance, scale.shift), splat(scale.multiplier))
                    };
                }
                exp2_u8(z)
            }

            #[target_feature(enable = $features)]
            pub(super) fn softmax_row(scores: &mut [i32], keys: &[i32], scale: RowScale, out: &mut [u8]) -> u32 {
                if scores.is_empty() || keys.len() != scores.len() || out.len() != scores.len() {
                    return softmax::softmax_row(scores, keys, scale, out);
                }
                let (scores, scores_left) = scores.as_chunks_mut();
                let (keys, keys_left) = keys.as_chunks();
                let (out, out_left) = out.as_chunks_mut();
                let left = scores_left.len();
                let mut most = splat(i32::MIN);
                for (scores, keys) in scores.iter_mut().zip(keys) {
                    most = softmax_scores(scores, keys, scale, most);
                }
                // What is left, with copies of its first score behind it: these are not the largest where that is not.
                let mut last_scores = [scores_left.first().copied().unwrap_or(0); 32];
                let mut last_keys = [keys_left.first().copied().unwrap_or(0); 32];
                if left > 0 {
                    last_scores[..left].copy_from_slice(scores_left);
                    last_keys[..left].copy_from_slice(keys_left);
                    most = softmax_scores(&mut last_scores, &last_keys, scale, most);
                }
                let most = largest(most);
                let mut sums = load_bytes(&[0; 32]);
                for (scores, out) in scores.iter().zip(out) {
                    let probabilities = softmax_probabilities(scores, scale, most);
                    sums = add_bytes(sums, probabilities);
                    store_bytes(probabilities, out);
                }
                if left > 0 {
                    let mut last = [0; 32];
                    store_bytes(softmax_probabilities(&last_scores, scale, most), &mut last);
                    last[left..].fill(0);
                    out_left.copy_from_slice(&last[..left]);
                    sums = add_bytes(sums, load_bytes(&last));
                }
                total(sums)
            }

            #[target_feature(enable = $features)]
            pub(super) fn average_row(weighted: &[i32], divisor: Divisor, scales: &[i32], out: &mut [i16]) {
                let reciprocal = splat(divisor.reciprocal);
                let rows = weighted.as_chunks().0.iter().zip(scales.as_chunks().0).zip(out.as_chunks_mut().0);
                let whole = 16 * rows.len();
                for ((weighted, scales), out) in rows {
                    let quotient = rounding_multiply_high(shift_left(load(weighted), divisor.shift), reciprocal);
                    store_i16(rounding_multiply_high(shift_left(quotient, 2), load(scales)), out);
                }
                average::average_row(&weighted[whole..], divisor, &scales[whole..], &mut out[whole..]);
            }

            #[target_feature(enable = $features)]
            pub(super) fn layer_norm_sums(row: &[i16]) -> (i32, i64) {
                // What the compiler makes of it is as good.
                layer_norm::sums(row)
            }

            #[target_feature(enable = $features)]
            pub(super) fn layer_norm(row: &mut [i16], parameters: &[[i32; 2]], normalizer: &Normalizer) {
                let inverse = splat(normalizer.inverse);
                let rows = row.as_chunks_mut().0.iter_mut().zip(parameters.as_chunks().0);
                let whole = 16 * rows.len();
                for (row, parameters) in rows {
                    let [gamma, beta] = load_pairs(parameters);
                    let deviation = multiply_add_i16(load_i16(row), normalizer.width, -normalizer.sum);
                    let deviation = scale_by_power_of_two(deviation, normalizer.deviation_shift);
                    let normalized = rounding_multiply_high(deviation, inverse);
                    let scaled = add(beta, rounding_multiply_high(normalized, gamma));
                    store_i16(rounding_shift_right(scaled, normalizer.shift), row);
                }
                layer_norm::normalize(&mut row[whole..], &parameters[whole..], normalizer);
            }
        }
    };
}

/// Entries that call their namesakes in `rows`, which have the features named.
macro_rules! entries {
    ($features:literal: $($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {$(
        fn $name($($argument: $type),*) $(-> $result)? {
            // SAFETY: this table is handed out only after the CPU reported these features.
            unsafe { rows::$name($($argument),*) }
        }
    )*};
}

pub(super) use {entries, rows};
