//! The loops of the matrix products: pairs of rows by panels, one row by four channels, and how panels are made.

use crate::format::layout::{HELIUM_PART, TILE_CHANNELS};

/// Channels of a panel.
pub(super) const CHANNELS: usize = 4;
/// Inputs that [`panel`] multiplies without a branch: of a row, of which it takes 32 at a time.
pub(super) const UNIT: usize = 32;
/// Units that it has unrolled.
pub(super) const UNITS: usize = 8;
/// See [`panel`].
pub(super) type Multiply<T> = unsafe extern "C" fn(&Panel<T>);
/// See [`tile`].
pub(super) type MultiplyHalves<T> = unsafe extern "C" fn(&Halves<T>);
/// See [`dot`].
pub(super) type Dot<T, W> = unsafe extern "C" fn(*const T, W, usize, &mut [i32; CHANNELS]);

/// What [`panel`] multiplies.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Panel<T> {
    pub(super) weight: *const i8,
    /// Times through what is unrolled, the first time from `entry` on.
    pub(super) iterations: usize,
    /// In bytes of code.
    pub(super) entry: usize,
    /// From behind a row to the next but one; in bytes, like those of the sums.
    pub(super) input_step: usize,
    pub(super) out_step: usize,
    /// The sums of the row behind the last pair.
    pub(super) out_end: *mut i32,
    /// Two rows, and their sums.
    pub(super) input: [*const T; 2],
    pub(super) out: [*mut i32; 2],
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
            unsafe { multiply(&self) };
            self.weight = self.weight.wrapping_add(CHANNELS * width);
            self.out = self.out.map(|sums| sums.wrapping_add(CHANNELS));
            self.out_end = self.out_end.wrapping_add(CHANNELS);
        }
    }
}

/// The assembler's macros that multiply two rows by a panel: `products`, of 16 inputs, and `unit`, of 32, which it loads from r3, r5 and r1 on. The sums
/// are in r0, r2, r4 and r6, and in r8, r10, r12 and lr.
macro_rules! begin_macros {
    () => {
        ".macro products type, row_0, row_1
        vmladava.\\type r0, q0, \\row_0
        vmladava.\\type r2, q1, \\row_0
        vmladava.\\type r4, q2, \\row_0
        vmladava.\\type r6, q3, \\row_0
        vmladava.\\type r8, q0, \\row_1
        vmladava.\\type r10, q1, \\row_1
        vmladava.\\type r12, q2, \\row_1
        vmladava.\\type lr, q3, \\row_1
        .endm
        .macro unit type
        vldmia r1!, {{d0-d7}}
        vldmia r3!, {{d8-d11}}
        vldmia r5!, {{d12-d15}}
        products \\type, q4, q6
        vldmia r1!, {{d0-d7}}
        products \\type, q5, q7
        .endm"
    };
}
macro_rules! end_macros {
    () => {
        ".purgem unit
        .purgem products"
    };
}

/// The products of pairs of rows with a panel. `$type` is that of the factors, `$begin` how the sums begin.
macro_rules! panel {
    ($name:ident, $element:ty, $type:literal, [$($begin:literal),*]) => {
        assembly! {
            /// See [`panel`].
            ///
            /// # Safety
            ///
            /// All rows, sums and weights that `panel` tells of are there, at multiples of 4.
            pub(super) fn $name(panel: &Panel<$element>) {
                "push {{r4-r11, lr}}",
                "vpush {{d8-d15}}",
                "ldrd r3, r5, [r0, #24]",
                "ldrd r9, r11, [r0, #32]",
                "ldm r0, {{r1, r2, r4, r6, r7, r8}}",
                "adr.w r12, 2f",
                "add r4, r12",
                "adds r4, #1",
                "push {{r1, r2, r4, r6, r7, r8}}",
                begin_macros!(),
                // Two rows.
                "1:",
                $($begin,)*
                // The panel, and to the code where as many units are left as there are.
                "ldmia.w sp, {{r1, r7, pc}}",
                ".p2align 2",
                "2:",
                ".rept 8",
                concat!("unit ", $type),
                ".endr",
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
                end_macros!(),
            }
        }
    };
}

panel!(panel_i8, i8, "s8", ["clrm {{r0, r2, r4, r6, r8, r10, r12, lr}}"]);
panel!(add_panel_i8, i8, "s8", ["ldm r9, {{r0, r2, r4, r6}}", "ldm r11, {{r8, r10, r12, lr}}"]);
panel!(add_panel_u8, u8, "u8", ["ldm r9, {{r0, r2, r4, r6}}", "ldm r11, {{r8, r10, r12, lr}}"]);

/// What [`tile`] multiplies: rows that lie side by side, as do their sums. A row goes together with one of the other half of them, so that where both
/// end, the next two begin.
#[repr(C)]
pub(super) struct Halves<T> {
    pub(super) weight: *const i8,
    /// The first row of each half.
    pub(super) input: [*const T; 2],
    /// Behind the tile.
    pub(super) weight_end: *const i8,
    /// The sums of the first row of each half.
    pub(super) out: [*mut i32; 2],
}

/// The products of halves of rows with all panels of a tile, part by part; `$next` leads from one part to the next.
macro_rules! tile {
    ($name:ident, [$($next:literal),*]) => {
        assembly! {
            /// See [`tile`].
            ///
            /// # Safety
            ///
            /// All rows, sums and weights that `halves` tells of are there, at multiples of 4; each half has a row, and the rows are whole parts.
            pub(super) fn $name(halves: &Halves<i8>) {
                "push {{r4-r11, lr}}",
                "vpush {{d8-d15}}",
                "ldm r0, {{r1, r3, r5, r7, r9, r11}}",
                // Where the sums of the first half end, those of the second begin; what brings rows and sums back; behind the last panel.
                "mov r2, r11",
                "subs r4, r5, r3",
                "sub r6, r11, r9",
                "subs r6, #16",
                "add r8, r1, #4096",
                "push {{r1, r2, r4, r6, r8}}",
                begin_macros!(),
                // Two rows.
                "1:",
                "clrm {{r0, r2, r4, r6, r8, r10, r12, lr}}",
                // A part.
                "2:",
                ".rept 8",
                "unit s8",
                ".endr",
                $($next,)*
                "stm r9, {{r0, r2, r4, r6}}",
                "stm r11, {{r8, r10, r12, lr}}",
                "ldrd r1, r0, [sp]",
                "add r9, r9, #64",
                "add r11, r11, #64",
                "cmp r9, r0",
                "bne.w 1b",
                // The next panel.
                "add r1, r1, #1024",
                "add r7, r7, #1024",
                "adds r0, #16",
                "strd r1, r0, [sp]",
                "ldrd r2, r4, [sp, #8]",
                "ldr r6, [sp, #16]",
                "subs r3, r3, r2",
                "subs r5, r5, r2",
                "sub r9, r9, r4",
                "sub r11, r11, r4",
                "cmp r1, r6",
                "bne.w 1b",
                "add sp, #20",
                "vpop {{d8-d15}}",
                "pop {{r4-r11, pc}}",
                end_macros!(),
            }
        }
    };
}

tile!(tile_of_part, []);
tile!(tile_of_parts, ["add.w r1, r1, #3072", "cmp r1, r7", "bne.w 2b"]);

/// Bytes of code of a unit.
pub(super) const UNIT_CODE: usize = 20 * 4;
const _: () = assert!(UNITS * UNIT == HELIUM_PART && CHANNELS * HELIUM_PART == 1024 && TILE_CHANNELS == 4 * CHANNELS);

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
