//! The activation of a linear layer's outputs, on tiles whose rows are requantised as in [`tiles`](super::tiles).
#![allow(unsafe_code)]

use core::arch::naked_asm;

use super::tiles::{CHANNELS, Rows, for_rows, in_turn, is_safe, row_of, whole_rows};
use crate::kernels::PerChannel;
use crate::kernels::registers::GELU;
use crate::ops::activation;
use crate::ops::requantize::Requantizer;
use crate::ops::tables::GELU_DELTA;

/// GELU of a register through the table around r11, 24 fraction bits; changes r8 to r10.
macro_rules! gelu_of {
    ($x:literal) => {
        concat!(
            "ssat r8, #9, ",
            $x,
            ", asr #7\n",
            "ssat r10, #20, ",
            $x,
            "\n",
            "add r8, r11, r8, lsl #3\n",
            "ldrd r8, r9, [r8]\n",
            "mla ",
            $x,
            ", r9, r10, r8\n",
            "bic ",
            $x,
            ", ",
            $x,
            ", #255\n",
        )
    };
}

/// Stores the low halves of r4 to r7.
#[cfg(kernel_dsp)]
macro_rules! store_halves {
    () => {
        "pkhbt r4, r4, r5, lsl #16\npkhbt r6, r6, r7, lsl #16\nstr r4, [r2], #4\nstr r6, [r2], #4"
    };
}
#[cfg(kernel_thumb2)]
macro_rules! store_halves {
    () => {
        "strh r4, [r2], #2\nstrh r5, [r2], #2\nstrh r6, [r2], #2\nstrh r7, [r2], #2"
    };
}

/// GELU of four values, in the unit of what reads them.
macro_rules! activate {
    () => {
        concat!(
            "ldr r11, [sp, #56]\n",
            gelu_of!("r4"),
            gelu_of!("r5"),
            gelu_of!("r6"),
            gelu_of!("r7"),
            "ldmia r1!, {{r8-r11}}\n",
            multiply_four_high!(),
            "\n",
            "ssat r4, #16, r4\nssat r5, #16, r5\nssat r6, #16, r6\nssat r7, #16, r7\n",
            store_halves!(),
        )
    };
}

of_rows!(gelu_rows, "3", scaled, activate);

/// See [`activate_tile`](activation::activate_tile).
pub(super) fn activate_tile(
    delta: Option<&[i16; 257]>,
    tile: &mut [i32],
    requantizer: &Requantizer<'_>,
    channels: usize,
    multiplier: &PerChannel,
    out: &mut [i16],
    stride: usize,
) {
    let is_gelu = delta.is_some_and(|delta| core::ptr::eq(delta, &GELU_DELTA));
    // GELU's least value, −0.17, stays above −32767 with these.
    let is_small = multiplier.iter().all(|multiplier| (0..=1 << 25).contains(multiplier));
    let is_usual = is_gelu && is_small && requantizer.scales.is_some() && is_safe(requantizer.bias);
    let rows = whole_rows(requantizer, tile, channels, out.len(), stride).filter(|_| is_usual);
    let Some(rows) = rows else {
        return activation::activate_tile(delta, tile, requantizer, channels, multiplier, out, stride);
    };
    let parameters = in_turn([requantizer.multiplier, requantizer.bias, multiplier]);
    let parameters = parameters.as_flattened().as_flattened();
    // That of 0.
    let table = GELU.as_ptr_range().start.wrapping_add(GELU.len() / 2);
    let (first, out) = (tile.as_mut_ptr(), out.as_mut_ptr());
    // SAFETY: so many rows are there.
    unsafe {
        let of_rows = (requantizer, rows, table.expose_provenance() as u32);
        for_rows(gelu_rows, first, parameters, (out.cast(), stride, 2), of_rows, |row| {
            let (sums, out) = row_of(first, out, row, stride);
            let requantizer = requantizer.from_row(row);
            activation::activate_tile(delta, sums, &requantizer, CHANNELS, multiplier, out, CHANNELS);
        });
    }
}
