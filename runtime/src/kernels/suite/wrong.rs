//! That the suite finds what is wrong: at least one table for each entry.

extern crate std;
use super::*;
use crate::config::HiddenAct;
use crate::kernels::MatmulShape;
use crate::ops::activation::delta_table;
use crate::ops::layer_norm::Normalizer;
use crate::ops::requantize::Requantizer;
use std::vec;
use std::vec::Vec;

/// The entry that is found wrong.
fn found(wrong: Kernels) -> &'static str {
    match run(&wrong, &mut vec![0; BYTES]) {
        Err(SuiteError::Different(difference)) => difference.entry,
        other => panic!("{} gave {other:?}", wrong.name),
    }
}

/// Activates what becomes of the values.
#[allow(clippy::too_many_arguments)] // The entry's.
fn activate(
    delta: Option<&[i16; 257]>,
    tile: &mut [i32],
    requantizer: &Requantizer<'_>,
    channels: usize,
    multiplier: &PerChannel,
    out: &mut [i16],
    stride: usize,
    change: impl Fn(i32) -> i32,
) {
    let mut tile = tile.to_vec();
    (SCALAR.requantize)(&mut tile, requantizer);
    // As they are: four times as large, by a quarter.
    tile.iter_mut().for_each(|t| *t = change(*t).clamp(-1 << 28, (1 << 28) - 1) << 2);
    let (rows, multipliers) = (requantizer.rows(&tile), [1 << 30; 16]);
    let as_they_are = Requantizer {
        scales: None,
        shifts: &[0; 33][..rows],
        output_shift: 0,
        bias: &[0; 16],
        multiplier: &multipliers,
        ..*requantizer
    };
    (SCALAR.activate_tile)(delta, &mut tile, &as_they_are, channels, multiplier, out, stride)
}

/// Normalises with so much added to a first product, and with what makes a sum of x̂, γ and β.
fn normalize(
    row: &mut [i16],
    parameters: &[[i32; 2]],
    &Normalizer { inverse, offset }: &Normalizer,
    half: i64,
    scale: impl Fn(i32, i32, i32) -> i32,
) -> u32 {
    let mut largest = 0;
    for (x, &[gamma, beta]) in row.iter_mut().zip(parameters) {
        let product = i64::from(*x) * i64::from(inverse) + half;
        let scaled = scale(((product >> 16) as i32).wrapping_add(offset), gamma, beta);
        *x = (scaled >> 15).clamp(-32768, 32767) as i16;
        largest = largest.max(u32::from(x.unsigned_abs()));
    }
    largest
}

/// `scalar`, but for one entry that is wrong in the way told.
macro_rules! wrong {
    ($name:literal, $entry:ident: $kernel:expr) => {
        (stringify!($entry), Kernels { name: $name, $entry: $kernel, ..SCALAR })
    };
}

#[test]
fn a_wrong_kernel_is_found_in_every_entry() {
    let tables: Vec<(&str, Kernels)> = vec![
        wrong!("forgets the tail", matmul_i8: |shape, input, weight, out| {
            (SCALAR.matmul_i8)(&MatmulShape { k: shape.k & !15, ..*shape }, input, weight, out)
        }),
        wrong!("forgets the last row of 17", matmul_i8: |shape, input, weight, out| {
            (SCALAR.matmul_i8)(&MatmulShape { m: shape.m.min(16), ..*shape }, input, weight, out)
        }),
        wrong!("forgets the last four", matmul_packed_i8: |shape, input, weight, out| {
            (SCALAR.matmul_i8)(&MatmulShape { k: shape.k & !7, ..*shape }, input, weight, out)
        }),
        wrong!("saturates pairs of products", matmul_packed_i8: |shape, input, weight, out| {
            for m in 0..shape.m {
                for n in 0..shape.n {
                    let x = &input[m * shape.input_stride..][..shape.k];
                    let w = &weight[n * shape.weight_stride..][..shape.k];
                    let pair = |(x, w): (&[i8], &[i8])| -> i32 {
                        let sum: i32 = x.iter().zip(w).map(|(&x, &w)| i32::from(x) * i32::from(w)).sum();
                        sum.clamp(-32768, 32767 - 512)
                    };
                    out[m * shape.out_stride + n] = x.chunks(2).zip(w.chunks(2)).map(pair).sum();
                }
            }
        }),
        wrong!("takes u8 for int8", matmul_packed_u8_i8: |shape, input, weight, out| {
            (SCALAR.matmul_i8)(shape, bytemuck::cast_slice(input), weight, out)
        }),
        wrong!("takes u8 for int8", matmul_u8_i8: |shape, input, weight, out| {
            (SCALAR.matmul_i8)(shape, bytemuck::cast_slice(input), weight, out)
        }),
        wrong!("writes behind the last column", matmul_u8_i8: |shape, input, weight, out| {
            (SCALAR.matmul_u8_i8)(shape, input, weight, out);
            if shape.m > 0 && shape.n < shape.out_stride && (shape.m - 1) * shape.out_stride + shape.n < out.len() {
                out[(shape.m - 1) * shape.out_stride + shape.n] = 0;
            }
        }),
        wrong!("saturates", scale_accumulators: |acc, scales, shift, tile| {
            let before = tile.to_vec();
            (SCALAR.scale_accumulators)(acc, scales, shift, tile);
            for ((t, before), (i, &acc)) in tile.iter_mut().zip(before).zip(acc.iter().enumerate()) {
                let product = i64::from(acc.wrapping_shl(shift)) * i64::from(scales[i / 16]);
                *t = before.saturating_add(((product + (1 << 31)) >> 32) as i32);
            }
        }),
        wrong!("rounds down", scale_accumulators: |acc, scales, shift, tile| {
            for ((t, &acc), i) in tile.iter_mut().zip(acc).zip(0..) {
                let product = i64::from(acc.wrapping_shl(shift)) * i64::from(scales[i / 16]);
                *t = t.wrapping_add((product >> 32) as i32);
            }
        }),
        wrong!("saturates when it scales", requantize: |tile, requantizer| {
            let shift = requantizer.accumulator_shift;
            if requantizer.scales.is_some() {
                tile.iter_mut().for_each(|t| *t = t.saturating_mul(1 << shift.min(30)) >> shift);
            }
            (SCALAR.requantize)(tile, requantizer);
        }),
        wrong!("scales what has been scaled", requantize: |tile, requantizer| {
            let scales = requantizer.scales.unwrap_or(&[1 << 30; 33]);
            (SCALAR.requantize)(tile, &Requantizer { scales: Some(scales), ..*requantizer });
        }),
        wrong!("wraps", requantize: |tile, requantizer| {
            (SCALAR.requantize)(tile, &Requantizer { bias: &[0; 16], ..*requantizer });
            let rows = 16 * requantizer.rows(tile);
            let channels = tile[..rows].iter_mut().zip(requantizer.bias.iter().cycle());
            channels.for_each(|(t, &bias)| *t = t.wrapping_add(bias));
        }),
        wrong!("does not shift left by 30", requantize: |tile, requantizer| {
            let output_shift = requantizer.output_shift.min(29);
            (SCALAR.requantize)(tile, &Requantizer { output_shift, ..*requantizer })
        }),
        wrong!("does not shift right by 31", requantize: |tile, requantizer| {
            let output_shift = requantizer.output_shift.max(-30);
            (SCALAR.requantize)(tile, &Requantizer { output_shift, ..*requantizer })
        }),
        wrong!("wraps", add_residual: |tile, requantizer, channels, multiplier, residual, stride| {
            let mut tile = tile.to_vec();
            (SCALAR.requantize)(&mut tile, requantizer);
            for (tile, residual) in tile.as_chunks::<16>().0.iter().zip(residual.chunks_mut(stride.max(1))) {
                for ((residual, &t), &by) in residual.iter_mut().zip(tile).zip(multiplier).take(channels) {
                    let sum = t.wrapping_add(i32::from(*residual).wrapping_mul(by));
                    *residual = (sum >> 8).clamp(-32768, 32767) as i16;
                }
            }
        }),
        wrong!("does not requantise", add_residual: |tile, requantizer, channels, multiplier, residual, stride| {
            let requantizer =
                Requantizer { scales: None, output_shift: 2, shifts: &[0; 33], bias: &[0; 16], ..*requantizer };
            (SCALAR.add_residual)(tile, &requantizer, channels, multiplier, residual, stride)
        }),
        wrong!("saturates to -32767", add_residual: |tile, requantizer, channels, multiplier, residual, stride| {
            (SCALAR.add_residual)(tile, requantizer, channels, multiplier, residual, stride);
            residual.iter_mut().for_each(|r| *r = (*r).max(-32767));
        }),
        wrong!("takes multipliers of int16", add_residual: |tile, requantizer, channels, multiplier, residual, stride| {
            let multiplier = multiplier.map(|multiplier| i32::from(multiplier as i16));
            (SCALAR.add_residual)(tile, requantizer, channels, &multiplier, residual, stride)
        }),
        wrong!("has one table", activate_tile: |delta, tile, requantizer, channels, multiplier, out, stride| {
            let delta = delta.and(delta_table(HiddenAct::Gelu));
            (SCALAR.activate_tile)(delta, tile, requantizer, channels, multiplier, out, stride)
        }),
        wrong!("cuts inputs at 127", activate_tile: |delta, tile, requantizer, channels, multiplier, out, stride| {
            activate(delta, tile, requantizer, channels, multiplier, out, stride, |t| t.min(127 << 12))
        }),
        wrong!("does not interpolate in one step", activate_tile: |delta, tile, requantizer, channels, multiplier, out, stride| {
            let cut = |t: i32| if t.wrapping_abs() >> 7 == 100 { t - t % 128 } else { t };
            activate(delta, tile, requantizer, channels, multiplier, out, stride, cut)
        }),
        wrong!("forgets the last value", largest_i16: |row| {
            (SCALAR.largest_i16)(&row[..row.len().saturating_sub(1)])
        }),
        wrong!("takes the most negative value as it is", largest_i16: |row| (SCALAR.largest_i16)(row).min(32767)),
        wrong!("has a scale that is one too large", quantize_i16: |row, largest, out| {
            (SCALAR.quantize_i16)(row, largest, out).wrapping_add(1)
        }),
        wrong!("takes the most negative value as it is", quantize_i32: |row, out| {
            let largest = (SCALAR.quantize_i32)(row, out);
            if largest == i32::MAX { i32::MIN } else { largest }
        }),
        wrong!("rounds once", quantize_i32: |row, out| {
            let largest = (SCALAR.quantize_i32)(row, out);
            if largest == i32::MAX {
                for (out, &x) in out.iter_mut().zip(row) {
                    *out = ((i64::from(x) * 127 + (1 << 30)) >> 31) as i8;
                }
            }
            largest
        }),
        wrong!("rounds half down", quantize_i16: |row, largest, out| {
            let magnitude = (SCALAR.quantize_i16)(row, largest, out);
            if largest == 254 {
                out.iter_mut().zip(row).for_each(|(out, &x)| *out = (x >> 1) as i8);
            }
            magnitude
        }),
        wrong!("has multipliers of int16", quantize_i16: |row, largest, out| {
            let magnitude = (SCALAR.quantize_i16)(row, largest, out);
            let multiplier = (127 << 16) / largest.max(1);
            if multiplier > 32767 {
                out.iter_mut().zip(row).for_each(|(out, &x)| {
                    *out = ((i32::from(x) * i32::from(multiplier as i16) + (1 << 15)) >> 16) as i8;
                });
            }
            magnitude
        }),
        wrong!("sums in u8", softmax_row: |scores, keys, scale, out| {
            u32::from((SCALAR.softmax_row)(scores, keys, scale, out) as u8)
        }),
        wrong!("never reaches 1", softmax_row: |scores, keys, scale, out| {
            let sum = (SCALAR.softmax_row)(scores, keys, scale, out);
            out.iter_mut().for_each(|p| if *p == 1 { *p = 0 });
            sum
        }),
        wrong!("does not saturate", average_row: |weighted, divisor, scales, out| {
            (SCALAR.average_row)(weighted, divisor, scales, out);
            out.iter_mut().for_each(|a| if *a == -32767 { *a = -32768 });
        }),
        wrong!("writes beyond its scales", average_row: |weighted, divisor, scales, out| {
            (SCALAR.average_row)(weighted, divisor, scales, out);
            if let Some(last) = out.get_mut(weighted.len()) { *last = 0 }
        }),
        wrong!("sums squares in int32", layer_norm_sums: |row| {
            let (sum, squares) = (SCALAR.layer_norm_sums)(row);
            (sum, i64::from(squares as i32))
        }),
        wrong!("sums in int16", layer_norm_sums: |row| {
            let (sum, squares) = (SCALAR.layer_norm_sums)(row);
            (i32::from(sum as i16), squares)
        }),
        wrong!("saturates the sum with beta", layer_norm: |row, parameters, normalizer| {
            normalize(row, parameters, normalizer, 0, |normalized, gamma, beta| {
                normalized.wrapping_mul(gamma).saturating_add(beta)
            })
        }),
        wrong!("rounds x̂", layer_norm: |row, parameters, normalizer| {
            normalize(row, parameters, normalizer, 1 << 15, |normalized, gamma, beta| {
                normalized.wrapping_mul(gamma).wrapping_add(beta)
            })
        }),
        wrong!("has a magnitude of int16", layer_norm: |row, parameters, normalizer| {
            (SCALAR.layer_norm)(row, parameters, normalizer).min(32767)
        }),
    ];
    for (entry, table) in &tables {
        assert_eq!(found(*table), *entry, "{}", table.name);
    }
    // One at least for each entry there is.
    let Kernels {
        name: _,
        weight_layout: _,
        matmul_i8: _,
        matmul_packed_i8: _,
        matmul_u8_i8: _,
        matmul_packed_u8_i8: _,
        scale_accumulators: _,
        requantize: _,
        add_residual: _,
        activate_tile: _,
        largest_i16: _,
        quantize_i16: _,
        quantize_i32: _,
        softmax_row: _,
        average_row: _,
        layer_norm_sums: _,
        layer_norm: _,
    } = SCALAR;
    let mut entries: Vec<&str> = tables.iter().map(|(entry, _)| *entry).collect();
    entries.sort_unstable();
    entries.dedup();
    assert_eq!(entries.len(), 15);
}
