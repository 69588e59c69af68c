//! Everything but the matrix products, for any instruction set, sixteen int32 at a time: the steps of the references, which also do what
//! is left where a row is no multiple of sixteen. What an instruction set does in its own way is in its file of lanes.

/// The entries of a table, from the features and the file of lanes named.
macro_rules! rows {
    ($features:literal, $lanes:ident) => {
        $crate::kernels::rows::entries! { $features:
            scale_accumulators(acc: &[i32], scales: &[i32], shift: u32, tile: &mut [i32]);
            requantize(tile: &mut [i32], requantizer: &$crate::ops::requantize::Requantizer<'_>);
            add_residual(
                tile: &mut [i32],
                requantizer: &$crate::ops::requantize::Requantizer<'_>,
                channels: usize,
                multiplier: &PerChannel,
                residual: &mut [i16],
                stride: usize
            );
            activate_tile(
                delta: Option<&[i16; 257]>,
                tile: &mut [i32],
                requantizer: &$crate::ops::requantize::Requantizer<'_>,
                channels: usize,
                multiplier: &PerChannel,
                out: &mut [i16],
                stride: usize
            );
            largest_i16(row: &[i16]) -> u32;
            quantize_i16(row: &[i16], largest: u32, out: &mut [i8]) -> i32;
            quantize_i32(row: &[i32], out: &mut [i8]) -> i32;
            softmax_row(scores: &mut [i32], keys: &[i32], scale: RowScale, out: &mut [u8]) -> u32;
            average_row(weighted: &[i32], divisor: Divisor, scales: &[i32], out: &mut [i16]);
            layer_norm_sums(row: &[i16]) -> (i32, i64);
            layer_norm(row: &mut [i16], parameters: &[[i32; 2]], normalizer: &Normalizer) -> u32;
        }

        mod rows {
            use super::super::$lanes::*;
            use crate::kernels::PerChannel;
            use crate::ops::activation::{self, INPUT_LIMIT};
            use crate::ops::average::{self, Divisor};
            use crate::ops::layer_norm::{self, Normalizer, SCALED_FRACTION_BITS};
            use crate::ops::quantize::{self, Reciprocal, Steps};
            use crate::ops::requantize::{self, Requantizer, SUM_FRACTION_BITS};
            use crate::ops::softmax::{self, RowScale};

            #[target_feature(enable = $features)]
            pub(super) fn scale_accumulators(acc: &[i32], scales: &[i32], shift: u32, tile: &mut [i32]) {
                let rows = acc.as_chunks().0.iter().zip(tile.as_chunks_mut().0);
                for ((acc, tile), &scale) in rows.zip(scales) {
                    let scaled = shifted_multiply_high(load(acc), shift, splat(scale));
                    store(add(load(tile), scaled), tile);
                }
            }

            /// The same for every row of a tile.
            #[derive(Clone, Copy)]
            struct Channels {
                bias: Bias,
                multiplier: Lanes,
            }

            impl Channels {
                #[inline]
                #[target_feature(enable = $features)]
                fn new(requantizer: &Requantizer<'_>) -> Self {
                    Self { bias: bias(requantizer.bias), multiplier: load(requantizer.multiplier) }
                }

                /// The values of a row.
                #[inline]
                #[target_feature(enable = $features)]
                fn values(self, sums: &[i32; 16], requantizer: &Requantizer<'_>, row: usize) -> Lanes {
                    let Requantizer { scales, accumulator_shift, shifts, output_shift, .. } = *requantizer;
                    let mut values = load(sums);
                    if let Some(&scale) = scales.and_then(|scales| scales.get(row)) {
                        values = shifted_multiply_high(values, accumulator_shift, splat(scale));
                    }
                    let shift = shifts.get(row).map_or(0, |&shift| i32::from(shift)) - output_shift;
                    add_bias(multiply_and_scale(values, self.multiplier, shift), self.bias)
                }
            }

            #[target_feature(enable = $features)]
            pub(super) fn requantize(tile: &mut [i32], requantizer: &Requantizer<'_>) {
                let (channels, rows) = (Channels::new(requantizer), requantizer.rows(tile));
                for (row, tile) in tile.as_chunks_mut().0.iter_mut().enumerate().take(rows) {
                    store(channels.values(tile, requantizer, row), tile);
                }
            }

            /// Of so many rows of a tile those whose sixteen channels all have a place in `out`: the first so many.
            fn whole_rows(rows: usize, channels: usize, out: usize, stride: usize) -> usize {
                if channels < 16 || stride < 16 || out < 16 { 0 } else { rows.min((out - 16) / stride + 1) }
            }

            /// Sixteen elements from `first` on.
            fn first_chunk(slice: &mut [i16], first: usize) -> Option<&mut [i16; 16]> {
                slice.get_mut(first..)?.first_chunk_mut()
            }

            #[target_feature(enable = $features)]
            pub(super) fn add_residual(
                tile: &mut [i32],
                requantizer: &Requantizer<'_>,
                channels: usize,
                multiplier: &PerChannel,
                residual: &mut [i16],
                stride: usize,
            ) {
                let multipliers = load(multiplier);
                let whole = whole_rows(requantizer.rows(tile), channels, residual.len(), stride);
                let (tile, tile_left) = tile.split_at_mut(16 * whole);
                let of_channels = Channels::new(requantizer);
                for (tile, row) in tile.as_chunks().0.iter().zip(0..whole) {
                    if let Some(residual) = first_chunk(residual, row * stride) {
                        let of_residual = multiply(load_i16(residual), multipliers);
                        let sum = add_saturating(of_channels.values(tile, requantizer, row), of_residual);
                        store_saturated_i16(shift_right(sum, SUM_FRACTION_BITS), residual);
                    }
                }
                let left = residual.get_mut(whole * stride..).unwrap_or_default();
                requantize::add_residual(tile_left, &requantizer.from_row(whole), channels, multiplier, left, stride);
            }

            #[target_feature(enable = $features)]
            pub(super) fn activate_tile(
                delta: Option<&[i16; 257]>,
                tile: &mut [i32],
                requantizer: &Requantizer<'_>,
                channels: usize,
                multiplier: &PerChannel,
                out: &mut [i16],
                stride: usize,
            ) {
                // Two rows at a time.
                let whole = whole_rows(requantizer.rows(tile), channels, out.len(), stride) & !1;
                let (tile, tile_left) = tile.split_at_mut(16 * whole);
                let (of_channels, multipliers) = (Channels::new(requantizer), load(multiplier));
                // A table is large: it stays where it is made.
                let table_of_delta;
                let deltas = match delta {
                    Some(entries) => {
                        table_of_delta = table(entries);
                        Some(&table_of_delta)
                    }
                    None => None,
                };
                for ([tile_a, tile_b], row) in tile.as_chunks().0.as_chunks().0.iter().zip((0..whole).step_by(2)) {
                    let a = of_channels.values(tile_a, requantizer, row);
                    let b = of_channels.values(tile_b, requantizer, row + 1);
                    let deltas = match deltas {
                        Some(table) => interpolate(table, [magnitude(a), magnitude(b)]),
                        None => [splat(0); 2],
                    };
                    for (x, delta, row) in [(a, deltas[0], row), (b, deltas[1], row + 1)] {
                        if let Some(out) = first_chunk(out, row * stride) {
                            let positive = max(min(x, splat(INPUT_LIMIT)), splat(0));
                            let activated = sub(shift_left(positive, 4), delta);
                            store_i16(shifted_multiply_high(activated, 8, multipliers), out);
                        }
                    }
                }
                let left = out.get_mut(whole * stride..).unwrap_or_default();
                let requantizer = requantizer.from_row(whole);
                activation::activate_tile(delta, tile_left, &requantizer, channels, multiplier, left, stride);
            }

            #[target_feature(enable = $features)]
            pub(super) fn largest_i16(row: &[i16]) -> u32 {
                magnitude_i16(row).into()
            }

            #[target_feature(enable = $features)]
            pub(super) fn quantize_i16(row: &[i16], largest: u32, out: &mut [i8]) -> i32 {
                if row.len() != out.len() || largest == 0 {
                    return quantize::quantize_i16(row, largest, out);
                }
                let reciprocal = Reciprocal::new(largest);
                let (multiplier, half) = (splat(reciprocal.multiplier), splat(Reciprocal::HALF));
                let ((row, row_left), (out, out_left)) = (row.as_chunks(), out.as_chunks_mut());
                for (row, out) in row.iter().zip(out) {
                    store_i8(shift_right(add(multiply(load_i16(row), multiplier), half), 16), out);
                }
                quantize::quantize_i16(row_left, largest, out_left);
                reciprocal.magnitude()
            }

            #[target_feature(enable = $features)]
            pub(super) fn quantize_i32(row: &[i32], out: &mut [i8]) -> i32 {
                if row.len() != out.len() {
                    return quantize::quantize_i32(row, out);
                }
                let largest = magnitude_i32(row).min(i32::MAX as u32) as i32;
                if largest == 0 {
                    out.fill(0);
                    return 0;
                }
                let steps = Steps::new(largest);
                let reciprocal = splat(steps.reciprocal);
                let ((row, row_left), (out, out_left)) = (row.as_chunks(), out.as_chunks_mut());
                for (row, out) in row.iter().zip(out) {
                    store_i8(shifted_multiply_shift(load(row), steps.shift, reciprocal, Steps::FRACTION_BITS), out);
                }
                for (out, &value) in out_left.iter_mut().zip(row_left) {
                    *out = steps.quantize(value);
                }
                largest
            }

            /// Scores in the unit of their row, in place; returns the larger of `most` and these.
            #[inline]
            #[target_feature(enable = $features)]
            fn softmax_scores(scores: &mut [i32; 32], keys: &[i32; 32], scale: RowScale, mut most: Lanes) -> Lanes {
                for (scores, keys) in scores.as_chunks_mut().0.iter_mut().zip(keys.as_chunks().0) {
                    let score = shifted_multiply_high(load(scores), scale.accumulator_shift, load(keys));
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
                // What is left, with copies of its first score behind it: these are not the largest where that is not.
                let mut last_scores = [scores_left.first().copied().unwrap_or(0); 32];
                let mut last_keys = [keys_left.first().copied().unwrap_or(0); 32];
                last_scores.iter_mut().zip(&*scores_left).for_each(|(last, &score)| *last = score);
                last_keys.iter_mut().zip(keys_left).for_each(|(last, &key)| *last = key);
                let is_left = !scores_left.is_empty();
                let mut most = splat(i32::MIN);
                let last = is_left.then_some((&mut last_scores, &last_keys));
                for (scores, keys) in scores.iter_mut().zip(keys).chain(last) {
                    most = softmax_scores(scores, keys, scale, most);
                }
                let most = largest(most);
                let (mut sums, mut last_out) = (load_bytes(&[0; 32]), [0; 32]);
                let last = is_left.then_some((&last_scores, &mut last_out));
                for (scores, out) in (&*scores).iter().zip(out).chain(last) {
                    let probabilities = softmax_probabilities(scores, scale, most);
                    sums = add_bytes(sums, probabilities);
                    store_bytes(probabilities, out);
                }
                // What is behind the last score does not count.
                for (last, out) in last_out.iter_mut().zip(out_left) {
                    *out = core::mem::take(last);
                }
                total(sums) - total(add_bytes(load_bytes(&[0; 32]), load_bytes(&last_out)))
            }

            #[target_feature(enable = $features)]
            pub(super) fn average_row(weighted: &[i32], divisor: Divisor, scales: &[i32], out: &mut [i16]) {
                let reciprocal = splat(divisor.reciprocal);
                if scales.len() != weighted.len() || out.len() != weighted.len() {
                    return average::average_row(weighted, divisor, scales, out);
                }
                let ((weighted, weighted_left), (scales, scales_left)) = (weighted.as_chunks(), scales.as_chunks());
                let (out, out_left) = out.as_chunks_mut();
                for ((weighted, scales), out) in weighted.iter().zip(scales).zip(out) {
                    let quotient = shifted_multiply_high(load(weighted), divisor.shift, reciprocal);
                    store_i16(shifted_multiply_high(quotient, 2, load(scales)), out);
                }
                average::average_row(weighted_left, divisor, scales_left, out_left);
            }

            #[target_feature(enable = $features)]
            pub(super) fn layer_norm_sums(row: &[i16]) -> (i32, i64) {
                sums(row)
            }

            #[target_feature(enable = $features)]
            pub(super) fn layer_norm(row: &mut [i16], parameters: &[[i32; 2]], normalizer: &Normalizer) -> u32 {
                if parameters.len() != row.len() {
                    return layer_norm::normalize(row, parameters, normalizer);
                }
                // x times a word, less 16 bits, as two products that fit one.
                let Normalizer { inverse, offset } = *normalizer;
                let (high, low, offset) = (splat(inverse >> 16), splat(inverse & 0xffff), splat(offset));
                let (least, most) = (splat(i16::MIN.into()), splat(i16::MAX.into()));
                let ((row, row_left), (parameters, parameters_left)) = (row.as_chunks_mut(), parameters.as_chunks());
                let mut magnitudes = splat(0);
                for (row, parameters) in row.iter_mut().zip(parameters) {
                    let [gamma, beta] = load_pairs(parameters);
                    let x = load_i16(row);
                    let normalized = add(add(multiply(x, high), offset), shift_right(multiply(x, low), 16));
                    let scaled = shift_right(add(multiply(normalized, gamma), beta), SCALED_FRACTION_BITS);
                    let saturated = max(min(scaled, most), least);
                    magnitudes = max(magnitudes, magnitude(saturated));
                    store_saturated_i16(saturated, row);
                }
                let mut of_lanes = [0; 16];
                store(magnitudes, &mut of_lanes);
                let of_left = layer_norm::normalize(row_left, parameters_left, normalizer);
                of_lanes.into_iter().fold(of_left, |largest, magnitude| largest.max(magnitude as u32))
            }
        }
    };
}

/// Entries that call their namesakes in `rows`, which have the features named.
macro_rules! entries {
    ($features:literal: $($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {$(
        #[allow(unused_unsafe)] // WebAssembly's features need no promise.
        fn $name($($argument: $type),*) $(-> $result)? {
            // SAFETY: this table is handed out only after the CPU reported these features.
            unsafe { rows::$name($($argument),*) }
        }
    )*};
}

pub(super) use {entries, rows};
