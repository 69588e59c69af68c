//! Matrix products of Helium: `VMLADAVA` adds 16 products of bytes to a register of the core, exactly.
//!
//! There are eight such registers (the even ones) and eight vectors, so a block is 2 rows × 4 channels. Of 4 channels the weights of
//! 16 inputs lie side by side (a *panel*), so that one `VLDM` loads them, and another loads 32 inputs of a row: 20 instructions for 16
//! `VMLADAVA`. Loaded one by one, the vectors would take 28. A load brings 8 bytes a cycle either way; what `VLDM` gives up is that the end of a
//! load and the beginning of a product may share a cycle. Weights that `convert` has packed are panels already ([`Helium4x16`]); others are
//! packed in scratch memory, for all rows of a call at once.
//!
//! Both factors of `VMLADAVA` are signed or both are not. So u8 meets weights that are 128 larger, and 128 times the sum of the row is
//! taken from every sum.
//!
//! [`Helium4x16`]: crate::format::layout::WeightLayout::Helium4x16

use core::mem::MaybeUninit;

use super::panels::{
    CHANNELS, Dot, Halves, Multiply, MultiplyHalves, Panel, UNIT, UNIT_CODE, UNITS, add_panel_i8, add_panel_u8, dot_i8,
    dot_of_panel_i8, dot_of_panel_u8, dot_u8, pack_i8, pack_u8, panel_i8, raise, tile_of_part, tile_of_parts,
};
use crate::format::layout::{HELIUM_PART, TILE_CHANNELS};
use crate::kernels::MatmulShape;

/// Inputs that are packed in scratch memory at a time, at most.
const CHUNK: usize = 768;

/// int8 or u8, and what multiplies it.
trait Element: Copy {
    /// The products with tiles of one part, and of any number; `None` where weights have to be raised first.
    const OF_TILE: Option<[MultiplyHalves<Self>; 2]>;
    /// Makes a panel of four rows of weights, raised where that has to be.
    const PACK: unsafe extern "C" fn(*const i8, usize, usize, *mut i8);
    /// The products with a panel; those of the next panel are added.
    const FIRST: Multiply<Self>;
    const NEXT: Multiply<Self>;
    /// The products of one row with rows, or with a panel.
    const DOT: for<'a> unsafe extern "C" fn(*const Self, &'a [*const i8; CHANNELS], usize, &mut [i32; CHANNELS]);
    const DOT_OF_PANEL: Dot<Self, *const i8>;

    /// What the products of a row with a raised panel are too large by.
    fn excess(row: &[Self]) -> i32;
}

impl Element for i8 {
    const OF_TILE: Option<[MultiplyHalves<i8>; 2]> = Some([tile_of_part, tile_of_parts]);
    const PACK: unsafe extern "C" fn(*const i8, usize, usize, *mut i8) = pack_i8;
    const FIRST: Multiply<i8> = panel_i8;
    const NEXT: Multiply<i8> = add_panel_i8;
    const DOT: for<'a> unsafe extern "C" fn(*const i8, &'a [*const i8; CHANNELS], usize, &mut [i32; CHANNELS]) = dot_i8;
    const DOT_OF_PANEL: Dot<i8, *const i8> = dot_of_panel_i8;

    fn excess(_: &[i8]) -> i32 {
        0
    }
}

impl Element for u8 {
    const OF_TILE: Option<[MultiplyHalves<u8>; 2]> = None;
    const PACK: unsafe extern "C" fn(*const i8, usize, usize, *mut i8) = pack_u8;
    const FIRST: Multiply<u8> = add_panel_u8;
    const NEXT: Multiply<u8> = add_panel_u8;
    const DOT: for<'a> unsafe extern "C" fn(*const u8, &'a [*const i8; CHANNELS], usize, &mut [i32; CHANNELS]) = dot_u8;
    const DOT_OF_PANEL: Dot<u8, *const i8> = dot_of_panel_u8;

    fn excess(row: &[u8]) -> i32 {
        128 * row.iter().map(|&value| i32::from(value)).sum::<i32>()
    }
}

/// Where weights lie.
#[derive(Clone, Copy)]
enum Weights {
    /// Rows, so far from each other.
    Rows(*const i8, usize),
    /// Tiles, so far from each other.
    Tiles(*const i8, usize),
}

/// The parts of a tile's inputs from `begin` to `end`: where each begins, and how many inputs it has.
fn parts(begin: usize, end: usize) -> impl Iterator<Item = (usize, usize)> {
    (begin..end).step_by(HELIUM_PART).map(move |part| (part, HELIUM_PART.min(end - part)))
}

/// Where a panel of a tile begins.
fn panel_of_tile_at(tiles: *const i8, stride: usize, channel: usize, (part, width): (usize, usize)) -> *const i8 {
    let tile = tiles.wrapping_add(channel / TILE_CHANNELS * stride);
    tile.wrapping_add(part * TILE_CHANNELS + channel % TILE_CHANNELS * width)
}

impl Weights {
    /// Makes a panel in scratch memory: `k` inputs of four channels from `begin` on.
    ///
    /// # Safety
    ///
    /// There are so many weights and so much memory, at multiples of 4; `k` is a multiple of a unit. Of tiles these are whole parts, but
    /// for the last.
    unsafe fn pack<T: Element>(self, channel: usize, begin: usize, k: usize, scratch: *mut i8) {
        match self {
            // SAFETY: the caller's promise.
            Self::Rows(first, stride) => unsafe {
                (T::PACK)(first.add(channel * stride + begin), stride, k / UNIT, scratch);
            },
            Self::Tiles(first, stride) => {
                for (part, width) in parts(begin, begin + k) {
                    let panel = panel_of_tile_at(first, stride, channel, (part, width));
                    // SAFETY: the caller's promise.
                    unsafe { raise(panel, width / UNIT, scratch.add((part - begin) * CHANNELS)) };
                }
            }
        }
    }

    /// The products of one row, from an input on, with four channels; those behind the last channel mean nothing.
    ///
    /// # Safety
    ///
    /// The row and `last + 1` channels have `begin + k` elements. Of tiles these are all.
    unsafe fn dot<T: Element>(
        self,
        row: *const T,
        [channel, last]: [usize; 2],
        begin: usize,
        k: usize,
    ) -> [i32; CHANNELS] {
        let mut sums = [0; CHANNELS];
        match self {
            // SAFETY: the caller's promise.
            Self::Rows(first, stride) => unsafe {
                let rows = [0, 1, 2, 3].map(|row| first.add((channel + row).min(last) * stride + begin));
                (T::DOT)(row.add(begin), &rows, k, &mut sums);
            },
            Self::Tiles(first, stride) => {
                for (part, width) in parts(begin, begin + k) {
                    let mut products = [0; CHANNELS];
                    let panel = panel_of_tile_at(first, stride, channel, (part, width));
                    // SAFETY: the caller's promise.
                    unsafe { (T::DOT_OF_PANEL)(row.add(part), panel, width / 16, &mut products) };
                    sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
                }
            }
        }
        sums
    }
}

/// A product, whose slices have been found long enough.
struct Product<T> {
    shape: MatmulShape,
    input: *const T,
    weights: Weights,
    /// Rows, channels and inputs that panels multiply; what is left is multiplied row by row.
    whole: [usize; 3],
}

impl<T: Element> Product<T> {
    fn new(shape: &MatmulShape, input: &[T], weights: Weights) -> Self {
        let MatmulShape { m, n, k, input_stride, .. } = *shape;
        let (Weights::Rows(first, stride) | Weights::Tiles(first, stride)) = weights;
        let is_aligned = (input.as_ptr().addr() | input_stride | first.addr() | stride).is_multiple_of(4);
        let whole = [m & !1, n & !(CHANNELS - 1), k & !(UNIT - 1)];
        let whole = if is_aligned && !whole.contains(&0) { whole } else { [0; 3] };
        Self { shape: *shape, input: input.as_ptr(), weights, whole }
    }

    /// Where the first sum of a channel is.
    fn sums(&self, out: *mut i32, channel: usize) -> *mut i32 {
        match self.weights {
            Weights::Rows(..) => out.wrapping_add(channel),
            Weights::Tiles(..) => {
                let tile = channel / TILE_CHANNELS;
                out.wrapping_add(tile * self.shape.out_tile_stride + channel % TILE_CHANNELS)
            }
        }
    }

    /// The pairs of rows with a panel of `k` inputs from `begin` on, and their sums.
    fn panel(&self, weight: *const i8, sums: *mut i32, begin: usize, k: usize) -> Panel<T> {
        let MatmulShape { input_stride, out_stride, .. } = self.shape;
        let units = k / UNIT;
        let iterations = units.div_ceil(UNITS);
        let row = self.input.wrapping_add(begin);
        Panel {
            weight,
            iterations,
            entry: (iterations * UNITS - units) * UNIT_CODE,
            input_step: (2 * input_stride).wrapping_sub(k),
            out_step: size_of::<i32>() * 2 * out_stride,
            out_end: sums.wrapping_add(self.whole[0] * out_stride),
            input: [row, row.wrapping_add(input_stride)],
            out: [sums, sums.wrapping_add(out_stride)],
        }
    }

    /// The pairs of rows with a tile, where they lie side by side, as do their sums.
    fn halves(&self, weight: *const i8, sums: *mut i32) -> Halves<T> {
        let (rows, k) = (self.whole[0] / 2, self.shape.k);
        Halves {
            weight,
            input: [self.input, self.input.wrapping_add(rows * k)],
            weight_end: weight.wrapping_add(TILE_CHANNELS * k),
            out: [sums, sums.wrapping_add(rows * TILE_CHANNELS)],
        }
    }

    /// All panels, which are packed first.
    ///
    /// # Safety
    ///
    /// See [`multiply`](Self::multiply).
    #[inline(never)]
    unsafe fn pack_and_multiply(&self, out: *mut i32) {
        let [_, channels, k] = self.whole;
        let mut scratch = [const { MaybeUninit::<[u64; 8]>::uninit() }; CHANNELS * CHUNK / 64];
        let scratch = scratch.as_mut_ptr().cast::<i8>();
        for begin in (0..k).step_by(CHUNK) {
            let k = CHUNK.min(k - begin);
            let multiply = if begin == 0 { T::FIRST } else { T::NEXT };
            for channel in (0..channels).step_by(CHANNELS) {
                let panel = self.panel(scratch, self.sums(out, channel), begin, k);
                // SAFETY: the caller's promise; the scratch memory is large enough and aligned.
                unsafe {
                    self.weights.pack::<T>(channel, begin, k, scratch);
                    multiply(&panel);
                }
            }
        }
    }

    /// Begins the sums to which products with raised panels are added.
    ///
    /// # Safety
    ///
    /// See [`multiply`](Self::multiply).
    unsafe fn begin(&self, out: *mut i32) {
        let [rows, channels, k] = self.whole;
        for row in 0..rows {
            // SAFETY: the caller's promise.
            unsafe {
                let begin = -T::excess(core::slice::from_raw_parts(self.input.add(row * self.shape.input_stride), k));
                let mut sums = out.add(row * self.shape.out_stride);
                match self.weights {
                    Weights::Rows(..) => {
                        for quad in 0..channels / CHANNELS {
                            sums.cast::<[i32; CHANNELS]>().add(quad).write([begin; CHANNELS]);
                        }
                    }
                    Weights::Tiles(..) => {
                        for _ in 0..channels / TILE_CHANNELS {
                            sums.cast::<[i32; TILE_CHANNELS]>().write([begin; TILE_CHANNELS]);
                            sums = sums.wrapping_add(self.shape.out_tile_stride);
                        }
                    }
                }
            }
        }
    }

    /// All sums of products.
    ///
    /// # Safety
    ///
    /// The slices that `new` was told of are as long as its shape says, and so is `out`.
    unsafe fn multiply(&self, out: *mut i32) {
        let [rows, channels, whole] = self.whole;
        let MatmulShape { m, n, k, input_stride, out_stride, .. } = self.shape;
        match (self.weights, T::OF_TILE) {
            // SAFETY: the caller's promise, and `new` has looked at the alignment.
            (Weights::Tiles(first, stride), Some(of_tile)) => unsafe {
                let is_dense = k.is_multiple_of(HELIUM_PART) && input_stride == k && out_stride == TILE_CHANNELS;
                for channel in (0..channels).step_by(TILE_CHANNELS) {
                    let (weight, sums) = (first.add(channel / TILE_CHANNELS * stride), self.sums(out, channel));
                    if is_dense {
                        let [of_part, of_parts] = of_tile;
                        let multiply = if k == HELIUM_PART { of_part } else { of_parts };
                        multiply(&self.halves(weight, sums));
                        continue;
                    }
                    let (mut part, mut multiply) = (0, T::FIRST);
                    while part < whole {
                        let width = HELIUM_PART.min(whole - part);
                        self.panel(weight.add(part * TILE_CHANNELS), sums, part, width).of_tile(multiply, width);
                        (part, multiply) = (part + width, T::NEXT);
                    }
                }
            },
            // SAFETY: the caller's promise.
            (_, of_tile) => unsafe {
                if of_tile.is_none() {
                    self.begin(out);
                }
                self.pack_and_multiply(out);
            },
        }
        if self.whole == [m, n, k] {
            return;
        }
        for row in 0..m {
            for channel in (0..n).step_by(CHANNELS) {
                let is_begun = row < rows && channel < channels;
                let begin = if is_begun { whole } else { 0 };
                if is_begun && begin == k {
                    continue;
                }
                // SAFETY: the caller's promise.
                unsafe {
                    let input = self.input.add(row * input_stride);
                    let products = self.weights.dot(input, [channel, n - 1], begin, k - begin);
                    let sums = self.sums(out, channel).add(row * out_stride);
                    for (index, product) in products.into_iter().enumerate().take(n - channel) {
                        let sum = sums.add(index);
                        sum.write(if is_begun { sum.read().wrapping_add(product) } else { product });
                    }
                }
            }
        }
    }
}

fn matmul<T: Element>(shape: &MatmulShape, input: &[T], weight: &[i8], out: &mut [i32]) {
    if shape.m == 0 || shape.n == 0 || !shape.fits(input.len(), weight.len(), out.len()) {
        return;
    }
    let product = Product::new(shape, input, Weights::Rows(weight.as_ptr(), shape.weight_stride));
    // SAFETY: `fits` has looked.
    unsafe { product.multiply(out.as_mut_ptr()) };
}

fn matmul_packed<T: Element>(shape: &MatmulShape, input: &[T], weight: &[i8], out: &mut [i32]) {
    let is_whole = shape.k.is_multiple_of(UNIT);
    debug_assert!(is_whole, "{shape:?} has no whole units");
    if shape.m == 0 || shape.n == 0 || !is_whole || !shape.fits_packed(input.len(), weight.len(), out.len()) {
        return;
    }
    let product = Product::new(shape, input, Weights::Tiles(weight.as_ptr(), shape.weight_stride));
    // SAFETY: `fits_packed` has looked.
    unsafe { product.multiply(out.as_mut_ptr()) };
}

pub(super) fn matmul_i8(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
    matmul(shape, input, weight, out);
}

pub(super) fn matmul_u8_i8(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
    matmul(shape, input, weight, out);
}

pub(super) fn matmul_packed_i8(shape: &MatmulShape, input: &[i8], weight: &[i8], out: &mut [i32]) {
    matmul_packed(shape, input, weight, out);
}

pub(super) fn matmul_packed_u8_i8(shape: &MatmulShape, input: &[u8], weight: &[i8], out: &mut [i32]) {
    matmul_packed(shape, input, weight, out);
}
