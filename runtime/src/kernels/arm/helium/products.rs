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

use core::arch::naked_asm;
use core::mem::MaybeUninit;

use crate::format::layout::{HELIUM_PART, TILE_CHANNELS};
use crate::kernels::MatmulShape;

/// Channels of a panel.
const CHANNELS: usize = 4;
/// Inputs that [`panel`] multiplies without a branch: of a row, of which it takes 32 at a time.
const UNIT: usize = 32;
/// Units that it has unrolled.
const UNITS: usize = 8;
/// Inputs that are packed in scratch memory at a time, at most.
const CHUNK: usize = 768;

/// What [`panel`] multiplies; handed over by value, the first four words in registers.
#[derive(Clone, Copy)]
#[repr(C)]
struct Panel<T> {
    weight: *const i8,
    /// Times through what is unrolled, the first time from `entry` on.
    iterations: usize,
    /// In bytes of code.
    entry: usize,
    /// Two rows, and their sums.
    input: [*const T; 2],
    out: [*mut i32; 2],
    /// From behind a row to the next but one; in bytes, like those of the sums.
    input_step: usize,
    out_step: usize,
    /// The sums of the row behind the last pair.
    out_end: *mut i32,
}

impl<T: Element> Panel<T> {
    /// Multiplies with all panels of a part of a tile, which is `width` inputs wide.
    ///
    /// # Safety
    ///
    /// This is the first of them.
    #[inline(always)]
    unsafe fn of_tile(mut self, multiply: Multiply<T>, width: usize) {
        for _ in 0..TILE_CHANNELS / CHANNELS {
            // SAFETY: the caller's promise.
            unsafe { multiply(self) };
            self.weight = self.weight.wrapping_add(CHANNELS * width);
            self.out = self.out.map(|sums| sums.wrapping_add(CHANNELS));
            self.out_end = self.out_end.wrapping_add(CHANNELS);
        }
    }
}

/// The products of pairs of rows with a panel. `$type` is that of the factors, `$begin` how the sums begin, `$skip` what leads from one part of a
/// tile to the next.
macro_rules! panel {
    ($name:ident, $element:ty, $type:literal, [$($begin:literal),*], $skip:literal) => {
        assembly! {
            /// See [`panel`].
            ///
            /// # Safety
            ///
            /// All rows, sums and weights that `panel` tells of are there, at multiples of 4.
            fn $name(panel: Panel<$element>) {
                "push {{r4-r11, lr}}",
                "vpush {{d8-d15}}",
                "ldr r5, [sp, #100]",
                "ldr r9, [sp, #104]",
                "ldr r11, [sp, #108]",
                "ldrd r4, r6, [sp, #112]",
                "ldr r8, [sp, #120]",
                "adr.w r12, 2f",
                "add r2, r12",
                "adds r2, #1",
                "push {{r0, r1, r2, r4, r6, r8}}",
                ".macro products row_0, row_1",
                concat!("vmladava.", $type, " r0, q0, \\row_0"),
                concat!("vmladava.", $type, " r2, q1, \\row_0"),
                concat!("vmladava.", $type, " r4, q2, \\row_0"),
                concat!("vmladava.", $type, " r6, q3, \\row_0"),
                concat!("vmladava.", $type, " r8, q0, \\row_1"),
                concat!("vmladava.", $type, " r10, q1, \\row_1"),
                concat!("vmladava.", $type, " r12, q2, \\row_1"),
                concat!("vmladava.", $type, " lr, q3, \\row_1"),
                ".endm",
                ".macro unit",
                "vldmia r1!, {{d0-d7}}",
                "vldmia r3!, {{d8-d11}}",
                "vldmia r5!, {{d12-d15}}",
                "products q4, q6",
                "vldmia r1!, {{d0-d7}}",
                "products q5, q7",
                ".endm",
                // Two rows.
                "1:",
                $($begin,)*
                // The panel, and to the code where as many units are left as there are.
                "ldmia.w sp, {{r1, r7, pc}}",
                ".p2align 2",
                "2:",
                ".rept 8",
                "unit",
                ".endr",
                $skip,
                "subs r7, #1",
                "bne.w 2b",
                "stm r9, {{r0, r2, r4, r6}}",
                "stm r11, {{r8, r10, r12, lr}}",
                "ldrd r0, r2, [sp, #12]",
                "ldr r4, [sp, #20]",
                "add r3, r0",
                "add r5, r0",
                "add r9, r2",
                "add r11, r2",
                "cmp r9, r4",
                "bne.w 1b",
                "add sp, #24",
                "vpop {{d8-d15}}",
                "pop {{r4-r11, pc}}",
                ".purgem unit",
                ".purgem products",
            }
        }
    };
}

panel!(panel_i8, i8, "s8", ["clrm {{r0, r2, r4, r6, r8, r10, r12, lr}}"], "");
panel!(panel_of_tile, i8, "s8", ["clrm {{r0, r2, r4, r6, r8, r10, r12, lr}}"], "add.w r1, r1, #3072");
panel!(add_panel_i8, i8, "s8", ["ldm r9, {{r0, r2, r4, r6}}", "ldm r11, {{r8, r10, r12, lr}}"], "");
panel!(add_panel_u8, u8, "u8", ["ldm r9, {{r0, r2, r4, r6}}", "ldm r11, {{r8, r10, r12, lr}}"], "");

/// Bytes of code of a unit.
const UNIT_CODE: usize = 20 * 4;
const _: () = assert!(UNITS * UNIT == HELIUM_PART && 3 * CHANNELS * HELIUM_PART == 3072);

/// Makes a panel of rows that lie `stride` apart: `units · 32` inputs, each with `$offset` added.
macro_rules! pack {
    ($name:ident, $($offset:literal),*) => {
        assembly! {
            /// See [`panel`].
            ///
            /// # Safety
            ///
            /// Four rows have so many inputs, and the panel has room for them; all lie at multiples of 4.
            fn $name(rows: *const i8, stride: usize, units: usize, panel: *mut i8) {
                "push {{r4-r6, lr}}",
                "vpush {{d8-d15}}",
                "adds r4, r0, r1",
                "adds r5, r4, r1",
                "adds r6, r5, r1",
                "movs r1, #128",
                "wls lr, r2, 2f",
                "1:",
                "vldmia r0!, {{d0-d3}}",
                "vldmia r4!, {{d4-d7}}",
                "vldmia r5!, {{d8-d11}}",
                "vldmia r6!, {{d12-d15}}",
                $($offset,)*
                "vstrw.32 q0, [r3], #16",
                "vstrw.32 q2, [r3], #16",
                "vstrw.32 q4, [r3], #16",
                "vstrw.32 q6, [r3], #16",
                "vstrw.32 q1, [r3], #16",
                "vstrw.32 q3, [r3], #16",
                "vstrw.32 q5, [r3], #16",
                "vstrw.32 q7, [r3], #16",
                "le lr, 1b",
                "2:",
                "vpop {{d8-d15}}",
                "pop {{r4-r6, pc}}",
            }
        }
    };
}

pack!(pack_i8, "");
pack!(
    pack_u8,
    "vadd.i8 q0, q0, r1",
    "vadd.i8 q1, q1, r1",
    "vadd.i8 q2, q2, r1",
    "vadd.i8 q3, q3, r1",
    "vadd.i8 q4, q4, r1",
    "vadd.i8 q5, q5, r1",
    "vadd.i8 q6, q6, r1",
    "vadd.i8 q7, q7, r1"
);

assembly! {
    /// Copies a panel of `units · 32` inputs with 128 added to each weight.
    ///
    /// # Safety
    ///
    /// There are so many, and there is room for them; both lie at multiples of 4.
    fn raise(panel: *const i8, units: usize, out: *mut i8) {
        "push {{r4, lr}}",
        "vpush {{d8-d15}}",
        "movs r4, #128",
        "wls lr, r1, 2f",
        "1:",
        "vldmia r0!, {{d0-d15}}",
        "vadd.i8 q0, q0, r4",
        "vadd.i8 q1, q1, r4",
        "vadd.i8 q2, q2, r4",
        "vadd.i8 q3, q3, r4",
        "vadd.i8 q4, q4, r4",
        "vadd.i8 q5, q5, r4",
        "vadd.i8 q6, q6, r4",
        "vadd.i8 q7, q7, r4",
        "vstmia r2!, {{d0-d15}}",
        "le lr, 1b",
        "2:",
        "vpop {{d8-d15}}",
        "pop {{r4, pc}}",
    }
}

/// The products of one row with four channels. `$places` finds their weights from r1, which lie at `$w0` to `$w3`; `$begin` and `$end` are those of the
/// loop.
macro_rules! dot {
    (
        $name:ident, $element:ty, $type:literal, $weights:ty,
        [$($place:literal),*], $begin:literal, [$w0:literal, $w1:literal, $w2:literal, $w3:literal], [$($end:literal),*],
        $row:literal, $raise:literal, [$($lower:literal),*]
    ) => {
        assembly! {
            /// See [`dot`].
            ///
            /// # Safety
            ///
            /// The row has `count` elements, or blocks of them, and so has each channel.
            fn $name(row: *const $element, weights: $weights, count: usize, sums: &mut [i32; CHANNELS]) {
                "push {{r4-r11, lr}}",
                $($place,)*
                "clrm {{r4, r6, r8, r10, r12}}",
                "movs.w r11, #128",
                $begin,
                "1:",
                "vldrb.8 q0, [r0], #16",
                $row,
                concat!("vldrb.8 q1, [", $w0, "], #16"),
                $raise,
                concat!("vmladava.", $type, " r4, q0, q1"),
                concat!("vldrb.8 q1, [", $w1, "], #16"),
                $raise,
                concat!("vmladava.", $type, " r6, q0, q1"),
                concat!("vldrb.8 q1, [", $w2, "], #16"),
                $raise,
                concat!("vmladava.", $type, " r8, q0, q1"),
                concat!("vldrb.8 q1, [", $w3, "], #16"),
                $raise,
                concat!("vmladava.", $type, " r10, q0, q1"),
                $($end,)*
                "2:",
                $($lower,)*
                "stm r3, {{r4, r6, r8, r10}}",
                "pop {{r4-r11, pc}}",
            }
        }
    };
}

/// [`dot`] for int8 and for u8.
macro_rules! dots {
    ($i8:ident, $u8:ident, $($weights:tt)*) => {
        dot!($i8, i8, "s8", $($weights)*, "", "", []);
        dot!(
            $u8,
            u8,
            "u8",
            $($weights)*,
            "vaddva.u8 r12, q0",
            "vadd.i8 q1, q1, r11",
            [
                "sub.w r4, r4, r12, lsl #7",
                "sub.w r6, r6, r12, lsl #7",
                "sub.w r8, r8, r12, lsl #7",
                "sub.w r10, r10, r12, lsl #7"
            ]
        );
    };
}

// Rows of weights that lie anywhere, and any count of elements.
dots!(
    dot_i8,
    dot_u8,
    &[*const i8; CHANNELS],
    ["ldrd r5, r7, [r1, #4]", "ldr r9, [r1, #12]", "ldr r1, [r1]"],
    "wlstp.8 lr, r2, 2f",
    ["r1", "r5", "r7", "r9"],
    ["letp lr, 1b"]
);
// A panel, and a count of vectors.
dots!(dot_of_panel_i8, dot_of_panel_u8, *const i8, [], "wls lr, r2, 2f", ["r1", "r1", "r1", "r1"], ["le lr, 1b"]);

type Multiply<T> = unsafe extern "C" fn(Panel<T>);
type Dot<T, W> = unsafe extern "C" fn(*const T, W, usize, &mut [i32; CHANNELS]);

/// int8 or u8, and what multiplies it.
trait Element: Copy {
    /// The products with panels of a tile, in whole parts; `None` where weights have to be raised first.
    const OF_TILE: Option<Multiply<Self>>;
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
    const OF_TILE: Option<Multiply<i8>> = Some(panel_of_tile);
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
    const OF_TILE: Option<Multiply<u8>> = None;
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
            input: [row, row.wrapping_add(input_stride)],
            out: [sums, sums.wrapping_add(out_stride)],
            input_step: (2 * input_stride).wrapping_sub(k),
            out_step: size_of::<i32>() * 2 * out_stride,
            out_end: sums.wrapping_add(self.whole[0] * out_stride),
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
                    multiply(panel);
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
            (Weights::Tiles(first, stride), Some(multiply)) => unsafe {
                let last = whole % HELIUM_PART;
                let parts = whole - last;
                for channel in (0..channels).step_by(TILE_CHANNELS) {
                    let (weight, sums) = (first.add(channel / TILE_CHANNELS * stride), self.sums(out, channel));
                    if parts > 0 {
                        self.panel(weight, sums, 0, parts).of_tile(multiply, HELIUM_PART);
                    }
                    if last > 0 {
                        let multiply = if parts == 0 { T::FIRST } else { T::NEXT };
                        let weight = weight.add(parts * TILE_CHANNELS);
                        self.panel(weight, sums, parts, last).of_tile(multiply, last);
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
