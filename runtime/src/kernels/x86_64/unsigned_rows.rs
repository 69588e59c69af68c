//! Inputs as `vpdpbusd` multiplies them: u8, and rows at a constant distance.
#![allow(unsafe_code)]

use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use crate::kernels::MatmulShape;

/// Rows and inputs that are held at a time: a layer of mBERT is read once, and nearly all of the first-level cache is theirs.
pub(super) const ROWS: usize = 32;
pub(super) const INPUTS: usize = 768;

/// Some inputs of some rows, where they are signed with 128 added: `a · w = (a + 128) · w − 128 · w`. Done here once, it is not done
/// between products, where it would take the place of every fourth.
pub(super) struct UnsignedRows {
    bytes: [[MaybeUninit<__m256i>; INPUTS / 32]; ROWS],
    /// The first row and the first input held.
    held: Option<(usize, usize)>,
}

impl UnsignedRows {
    pub(super) const EMPTY: Self = Self { bytes: [[MaybeUninit::uninit(); INPUTS / 32]; ROWS], held: None };

    /// Where a row begins; the next one begins [`INPUTS`] bytes on.
    #[inline]
    pub(super) fn row(&self, row: usize) -> *const u8 {
        self.bytes.as_ptr().wrapping_add(row).cast()
    }

    /// Holds these rows and inputs, if they are not held yet.
    ///
    /// # Safety
    ///
    /// The CPU has AVX2. `rows` is at most [`ROWS`], `inputs` at most [`INPUTS`]; so many rows, an input stride of the shape apart, have so
    /// many readable elements from `input` on.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn hold<const SIGNED: bool>(
        &mut self,
        shape: &MatmulShape,
        input: *const u8,
        (first_row, rows): (usize, usize),
        (first_input, inputs): (usize, usize),
    ) {
        if self.held == Some((first_row, first_input)) {
            return;
        }
        self.held = Some((first_row, first_input));
        let flip = _mm256_set1_epi8(if SIGNED { i8::MIN } else { 0 });
        for (row, held) in self.bytes.iter_mut().enumerate().take(rows) {
            for (from, held) in (0..inputs).step_by(32).zip(held) {
                // SAFETY: the elements from `from` on are readable, as the caller has shown; loads are unaligned.
                let bytes = unsafe {
                    let at = input.add(row * shape.input_stride + from);
                    if from + 32 <= inputs {
                        _mm256_loadu_si256(at.cast())
                    } else {
                        let mut last = [0; 32];
                        at.copy_to_nonoverlapping(last.as_mut_ptr(), inputs - from);
                        _mm256_loadu_si256(last.as_ptr().cast())
                    }
                };
                held.write(_mm256_xor_si256(bytes, flip));
            }
        }
    }
}
