//! The loops of the matrix products: pairs of rows by panels, one row by four channels, and how panels are made.

use core::arch::naked_asm;

use crate::format::layout::{HELIUM_PART, TILE_CHANNELS};

/// Channels of a panel.
pub(super) const CHANNELS: usize = 4;
/// Inputs that [`panel`] multiplies without a branch: of a row, of which it takes 32 at a time.
pub(super) const UNIT: usize = 32;
/// Units that it has unrolled.
pub(super) const UNITS: usize = 8;
/// See [`panel`].
pub(super) type Multiply<T> = unsafe extern "C" fn(Panel<T>);
/// See [`dot`].
pub(super) type Dot<T, W> = unsafe extern "C" fn(*const T, W, usize, &mut [i32; CHANNELS]);

/// What [`panel`] multiplies; handed over by value, the first four words in registers.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Panel<T> {
    pub(super) weight: *const i8,
    /// Times through what is unrolled, the first time from `entry` on.
    pub(super) iterations: usize,
    /// In bytes of code.
    pub(super) entry: usize,
    /// Two rows, and their sums.
    pub(super) input: [*const T; 2],
    pub(super) out: [*mut i32; 2],
    /// From behind a row to the next but one; in bytes, like those of the sums.
    pub(super) input_step: usize,
    pub(super) out_step: usize,
    /// The sums of the row behind the last pair.
    pub(super) out_end: *mut i32,
}

impl<T: Copy> Panel<T> {
    /// Multiplies with all panels of a part of a tile, which is `width` inputs wide.
    ///
    /// # Safety
    ///
    /// This is the first of them.
    #[inline(always)]
    pub(super) unsafe fn of_tile(mut self, multiply: Multiply<T>, width: usize) {
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
            pub(super) fn $name(panel: Panel<$element>) {
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
pub(super) const UNIT_CODE: usize = 20 * 4;
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
            pub(super) fn $name(rows: *const i8, stride: usize, units: usize, panel: *mut i8) {
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
    pub(super) fn raise(panel: *const i8, units: usize, out: *mut i8) {
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
            pub(super) fn $name(row: *const $element, weights: $weights, count: usize, sums: &mut [i32; CHANNELS]) {
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
