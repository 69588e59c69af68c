//! Loads and stores of NEON registers that need no more than the alignment of an element.
//!
//! The intrinsics are as good on a host. For bare metal, whose targets promise that no access is unaligned, the compiler makes sixteen loads of
//! a byte of each; `ld1` is allowed there too. Those that say `next` move the pointer on.
#![allow(unsafe_code)]

use core::arch::aarch64::*;
use core::arch::asm;

macro_rules! memory {
    ($($function:ident($element:ty, $register:ty, $arrangement:literal): $name:ident;)*) => {
        $(memory!(@ $function $element, $register, $arrangement, $name);)*
    };
    (@ load $element:ty, $register:ty, $arrangement:literal, $load:ident) => {
        /// # Safety
        ///
        /// As many bytes as the register has are readable.
        #[inline]
        #[target_feature(enable = "neon")]
        pub(super) unsafe fn $load(from: *const $element) -> $register {
            let loaded;
            // SAFETY: the caller's promise; nothing is written.
            unsafe {
                asm!(
                    concat!("ld1 {{{loaded:v}.", $arrangement, "}}, [{from}]"),
                    loaded = lateout(vreg) loaded, from = in(reg) from,
                    options(pure, readonly, nostack, preserves_flags),
                );
            }
            loaded
        }
    };
    (@ load_next $element:ty, $register:ty, $arrangement:literal, $load_next:ident) => {
        /// # Safety
        ///
        /// Sixteen bytes are readable.
        #[inline]
        #[target_feature(enable = "neon")]
        pub(super) unsafe fn $load_next(from: &mut *const $element) -> $register {
            let loaded;
            // SAFETY: the caller's promise; nothing is written.
            unsafe {
                asm!(
                    concat!("ld1 {{{loaded:v}.", $arrangement, "}}, [{from}], #16"),
                    loaded = out(vreg) loaded, from = inout(reg) *from,
                    options(pure, readonly, nostack, preserves_flags),
                );
            }
            loaded
        }
    };
    (@ store_next $element:ty, $register:ty, $arrangement:literal, $store_next:ident) => {
        /// # Safety
        ///
        /// Sixteen bytes are writable.
        #[inline]
        #[target_feature(enable = "neon")]
        pub(super) unsafe fn $store_next(to: &mut *mut $element, stored: $register) {
            // SAFETY: the caller's promise.
            unsafe {
                asm!(
                    concat!("st1 {{{stored:v}.", $arrangement, "}}, [{to}], #16"),
                    stored = in(vreg) stored, to = inout(reg) *to,
                    options(nostack, preserves_flags),
                );
            }
        }
    };
}

memory! {
    load(i8, int8x16_t, "16b"): load_i8;
    load_next(i8, int8x16_t, "16b"): load_next_i8;
    store_next(i8, int8x16_t, "16b"): store_next_i8;
    load(i8, int8x8_t, "8b"): load_half_i8;
    load(u8, uint8x16_t, "16b"): load_u8;
    store_next(u8, uint8x16_t, "16b"): store_next_u8;
    load(i16, int16x8_t, "8h"): load_i16;
    load_next(i16, int16x8_t, "8h"): load_next_i16;
    store_next(i16, int16x8_t, "8h"): store_next_i16;
    load(i32, int32x4_t, "4s"): load_i32;
    load_next(i32, int32x4_t, "4s"): load_next_i32;
    store_next(i32, int32x4_t, "4s"): store_next_i32;
}

macro_rules! load_pairs {
    ($($element:ty, $register:ty, $arrangement:literal: $load_next_pairs:ident;)*) => {$(
        /// The first elements of pairs, then the second ones.
        ///
        /// # Safety
        ///
        /// Thirty-two bytes are readable.
        #[inline]
        #[target_feature(enable = "neon")]
        pub(super) unsafe fn $load_next_pairs(from: &mut *const $element) -> [$register; 2] {
            let (first, second);
            // SAFETY: the caller's promise; nothing is written.
            unsafe {
                asm!(
                    concat!("ld2 {{v30.", $arrangement, ", v31.", $arrangement, "}}, [{from}], #32"),
                    from = inout(reg) *from, out("v30") first, out("v31") second,
                    options(pure, readonly, nostack, preserves_flags),
                );
            }
            [first, second]
        }
    )*};
}

load_pairs! {
    u8, uint8x16_t, "16b": load_next_pairs_u8;
    i32, int32x4_t, "4s": load_next_pairs_i32;
}

/// Four registers at once.
///
/// # Safety
///
/// Sixty-four bytes are readable.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn load_next_four(from: &mut *const i8) -> [int8x16_t; 4] {
    let (a, b, c, d);
    // SAFETY: the caller's promise; nothing is written.
    unsafe {
        asm!(
            "ld1 {{v28.16b-v31.16b}}, [{from}], #64",
            from = inout(reg) *from, out("v28") a, out("v29") b, out("v30") c, out("v31") d,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    [a, b, c, d]
}

/// The bytes of a quarter of a table of 256 at the indices that lie in it, from 0 on; elsewhere what was found before.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn look_up(
    [mut a, mut b]: [uint8x16_t; 2],
    quarter: &[u8; 64],
    indices: [uint8x16_t; 2],
) -> [uint8x16_t; 2] {
    // SAFETY: reads the quarter, and writes registers alone.
    unsafe {
        asm!(
            "ld1 {{v28.16b-v31.16b}}, [{quarter}]",
            "tbx {a:v}.16b, {{v28.16b-v31.16b}}, {index_a:v}.16b",
            "tbx {b:v}.16b, {{v28.16b-v31.16b}}, {index_b:v}.16b",
            quarter = in(reg) quarter, a = inout(vreg) a, b = inout(vreg) b,
            index_a = in(vreg) indices[0], index_b = in(vreg) indices[1],
            out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            options(pure, readonly, nostack, preserves_flags),
        );
    }
    [a, b]
}
