//! How the inner loops run on each CPU. Every entry is defined to the bit by its reference in [`ops`](crate::ops), which [`scalar`]
//! calls, so every table of kernels gives the same bits; above this seam, everything is portable.

use crate::format::layout::{TILE_CHANNELS, WeightLayout};
use crate::ops::average::Divisor;
use crate::ops::layer_norm::Normalizer;
use crate::ops::requantize::Requantizer;
use crate::ops::softmax::RowScale;

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
pub mod aarch64;
#[cfg(any(kernel_dsp, kernel_helium, kernel_thumb2))]
pub mod arm;
#[cfg(any(kernel_helium, all(target_arch = "riscv32", target_feature = "m")))]
mod assembly;
#[cfg(any(
    all(target_arch = "aarch64", target_feature = "neon"),
    kernel_dsp,
    kernel_thumb2,
    all(target_arch = "riscv32", target_feature = "m"),
    target_feature = "simd128"
))]
mod four;
#[cfg(any(target_arch = "x86_64", target_feature = "simd128"))]
mod lanes_default;
#[cfg(any(kernel_dsp, kernel_thumb2, all(target_arch = "riscv32", target_feature = "m")))]
mod registers;
#[cfg(all(target_arch = "riscv32", target_feature = "m"))]
pub mod riscv;
#[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_feature = "neon"), target_feature = "simd128"))]
mod rows;
pub mod scalar;
#[cfg(any(test, feature = "kernel-suite"))]
pub mod suite;
#[cfg(target_arch = "x86_64")]
pub mod x86_64;
#[cfg(target_feature = "simd128")]
pub mod wasm32;

/// The shape of a matrix product `out[m][n] = Σₖ input[m][k] · weight[n][k]`, and the strides of its rows in elements.
///
/// A packed weight is tiles of 16 of its rows, and so is the output that belongs to it; each tile may lie anywhere behind the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct MatmulShape {
    /// Rows of input and output.
    pub m: usize,
    /// Rows of the weight, columns of the output.
    pub n: usize,
    /// The reduction; at most 16384, so that no sum leaves int32.
    pub k: usize,
    /// From one input row to the next.
    pub input_stride: usize,
    /// From one weight row to the next; of a packed weight, from one tile to the next.
    pub weight_stride: usize,
    /// From one output row to the next.
    pub out_stride: usize,
    /// From one output tile to the next: 16 where tiles lie side by side; unused for a row-major weight.
    pub out_tile_stride: usize,
}

impl MatmulShape {
    /// Whether every row lies inside its slice: what the instruction-set files rely on, which do nothing otherwise. It is a mistake
    /// inside the crate, found by debug builds, if one does not.
    fn fits(&self, input_len: usize, weight_len: usize, out_len: usize) -> bool {
        let fits = end(self.m, self.input_stride, self.k) <= input_len
            && end(self.n, self.weight_stride, self.k) <= weight_len
            && end(self.m, self.out_stride, self.n) <= out_len;
        debug_assert!(fits, "a slice is shorter than {self:?}");
        fits
    }

    /// The same for a packed weight, whose tiles are whole, and whose inputs are whole groups of 4.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", kernel_helium))]
    fn fits_packed(&self, input_len: usize, weight_len: usize, out_len: usize) -> bool {
        let tiles = self.n / TILE_CHANNELS;
        let tile = end(self.m, self.out_stride, TILE_CHANNELS);
        let fits = self.n.is_multiple_of(TILE_CHANNELS)
            && self.k.is_multiple_of(4)
            && end(self.m, self.input_stride, self.k) <= input_len
            && end(tiles, self.weight_stride, TILE_CHANNELS.saturating_mul(self.k)) <= weight_len
            && end(tiles, self.out_tile_stride, tile) <= out_len;
        debug_assert!(fits, "a slice is shorter than {self:?}, or it cannot be packed");
        fits
    }

    /// How far on a layer's next weights lie, of which `tiles` tiles are read at a time: the next tiles, or where the inputs are a part of
    /// the tiles', their next inputs.
    #[cfg(target_arch = "x86_64")]
    const fn bytes_to_next_weights(&self, tiles: usize) -> usize {
        let bytes = TILE_CHANNELS * self.k;
        if 2 * bytes > self.weight_stride { tiles * self.weight_stride } else { bytes }
    }
}

/// Where the last of some rows ends.
const fn end(rows: usize, stride: usize, columns: usize) -> usize {
    if rows == 0 { 0 } else { (rows - 1).saturating_mul(stride).saturating_add(columns) }
}

/// int8 (−128..=127) × int8 (−127..=127) → exact int32. Arguments: shape, input, weight, output.
pub type MatmulI8 = fn(&MatmulShape, &[i8], &[i8], &mut [i32]);
/// u8 × int8 (−127..=127) → exact int32.
pub type MatmulU8 = fn(&MatmulShape, &[u8], &[i8], &mut [i32]);

/// See [`add_residual`](crate::ops::requantize::add_residual): tile, of which nothing is left, requantizer, channels, multiplier, residual, stride.
pub type AddResidual = fn(&mut [i32], &Requantizer<'_>, usize, &PerChannel, &mut [i16], usize);
/// See [`activate_tile`](crate::ops::activation::activate_tile): table, tile, of which nothing is left, requantizer, channels, multiplier, output,
/// stride.
pub type ActivateTile = fn(Option<&[i16; 257]>, &mut [i32], &Requantizer<'_>, usize, &PerChannel, &mut [i16], usize);

/// Whether any kernels of this target read packed weights; where none do, the code for them is left out.
pub(crate) const PACKS: bool = cfg!(any(
    target_arch = "x86_64",
    all(target_arch = "aarch64", any(feature = "std", target_feature = "dotprod")),
    kernel_helium
));

/// Tiles that those take at a time, with which a row is loaded once for all.
pub(crate) const TILES_AT_ONCE: usize = if cfg!(target_arch = "x86_64") {
    16
} else if cfg!(kernel_helium) {
    1
} else {
    2
};

/// Rows of the sums that a target keeps on its stack rather than in the workspace, which has room for as many of one tile: those of
/// `TILES_AT_ONCE` tiles. Only a host has such a stack.
pub(crate) const ROWS_ON_STACK: usize = if cfg!(target_arch = "x86_64") { 32 } else { 0 };

/// One value for each channel of a tile.
pub type PerChannel = [i32; TILE_CHANNELS];

/// The inner loops of one instruction set. Holding one proves that this CPU can run it.
///
/// A *tile* is `[rows][16]` int32: what a block of 16 output channels gives for some rows. A tile of fewer channels has the same
/// rows of 16, of which the last few mean nothing.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    /// Shown in logs and test failures, for example `"avx512vnni"`.
    pub name: &'static str,
    /// The packing that `matmul_packed_i8` reads; row-major is always read too.
    pub weight_layout: WeightLayout,
    /// Row-major weights.
    pub matmul_i8: MatmulI8,
    /// Row-major values, for attention probabilities.
    pub matmul_u8_i8: MatmulU8,
    /// Tiles of 16 output channels packed as `weight_layout`, from any multiple of its [`part`](WeightLayout::part) on.
    pub matmul_packed_i8: MatmulI8,
    /// The same for attention probabilities and packed values.
    pub matmul_packed_u8_i8: MatmulU8,
    /// See [`scale_accumulators`](crate::ops::requantize::scale_accumulators).
    pub scale_accumulators: fn(acc: &[i32], scales: &[i32], shift: u32, tile: &mut [i32]),
    /// See [`requantize`](crate::ops::requantize::requantize).
    pub requantize: fn(tile: &mut [i32], requantizer: &Requantizer<'_>),
    /// See [`add_residual`](crate::ops::requantize::add_residual).
    pub add_residual: AddResidual,
    /// See [`activate_tile`](crate::ops::activation::activate_tile).
    pub activate_tile: ActivateTile,
    /// See [`largest_i16`](crate::ops::quantize::largest_i16).
    pub largest_i16: fn(row: &[i16]) -> u32,
    /// See [`quantize_i16`](crate::ops::quantize::quantize_i16).
    pub quantize_i16: fn(row: &[i16], largest: u32, out: &mut [i8]) -> i32,
    /// See [`quantize_i32`](crate::ops::quantize::quantize_i32).
    pub quantize_i32: fn(row: &[i32], out: &mut [i8]) -> i32,
    /// See [`softmax_row`](crate::ops::softmax::softmax_row).
    pub softmax_row: fn(scores: &mut [i32], keys: &[i32], scale: RowScale, out: &mut [u8]) -> u32,
    /// See [`average_row`](crate::ops::average::average_row).
    pub average_row: fn(weighted: &[i32], divisor: Divisor, scales: &[i32], out: &mut [i16]),
    /// See [`sums`](crate::ops::layer_norm::sums).
    pub layer_norm_sums: fn(row: &[i16]) -> (i32, i64),
    /// See [`normalize`](crate::ops::layer_norm::normalize).
    pub layer_norm: fn(row: &mut [i16], parameters: &[[i32; 2]], normalizer: &Normalizer) -> u32,
}

impl Kernels {
    /// Multiplies by one tile of weights in the given layout: row-major, or this table's own, of which
    /// [`check_layout`](crate::model::Model::check_layout) has made sure.
    pub fn matmul(&self, layout: WeightLayout, shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
        debug_assert!(self.reads(layout), "packed for other kernels");
        let matmul = if layout == WeightLayout::RowMajor { self.matmul_i8 } else { self.matmul_packed_i8 };
        matmul(shape, input, weight, out);
    }

    /// Whether these kernels read weights in this layout.
    pub fn reads(&self, layout: WeightLayout) -> bool {
        layout == WeightLayout::RowMajor || layout == self.weight_layout
    }

    /// The best table this CPU can run.
    pub fn native() -> &'static Kernels {
        available().next().unwrap_or(&scalar::SCALAR)
    }

    /// The table of that name, if this CPU can run it.
    pub fn named(name: &str) -> Option<&'static Kernels> {
        available().find(|kernels| kernels.name == name)
    }
}

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
use aarch64 as of_target;
#[cfg(any(kernel_dsp, kernel_helium, kernel_thumb2))]
use arm as of_target;
#[cfg(all(target_arch = "riscv32", target_feature = "m"))]
use riscv as of_target;
#[cfg(target_feature = "simd128")]
use wasm32 as of_target;
#[cfg(target_arch = "x86_64")]
use x86_64 as of_target;

/// A target without tables of its own.
#[cfg(not(any(
    all(target_arch = "aarch64", target_feature = "neon"),
    kernel_dsp,
    kernel_helium,
    kernel_thumb2,
    all(target_arch = "riscv32", target_feature = "m"),
    target_feature = "simd128",
    target_arch = "x86_64"
)))]
mod of_target {
    pub(super) const COMPILED: &[&str] = &["scalar"];

    pub(super) fn available() -> impl Iterator<Item = &'static super::Kernels> {
        core::iter::empty()
    }
}

/// Every table this CPU can run, the best first, `scalar` last.
pub fn available() -> impl Iterator<Item = &'static Kernels> {
    of_target::available().chain(core::iter::once(&scalar::SCALAR))
}

/// Names of the tables that are compiled in, whether or not this CPU can run them.
pub const COMPILED: &[&str] = of_target::COMPILED;
