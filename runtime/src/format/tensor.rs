//! Numbers in a blob, read in place. Access is byte by byte in little-endian order, so neither the alignment of the
//! blob in memory nor the CPU's byte order matters.

use super::layout::WeightLayout;
use super::{u16_at, u32_at};

/// A vector of int16.
#[derive(Clone, Copy, Debug)]
pub struct I16s<'a>(pub &'a [u8]);

impl I16s<'_> {
    /// Element `index`.
    ///
    /// # Panics
    ///
    /// If it is past the end.
    #[inline(always)]
    pub fn get(&self, index: usize) -> i16 {
        u16_at(self.0, index * 2) as i16
    }
}

/// A vector of int32.
#[derive(Clone, Copy, Debug)]
pub struct I32s<'a>(pub &'a [u8]);

impl I32s<'_> {
    /// Element `index`.
    ///
    /// # Panics
    ///
    /// If it is past the end.
    #[inline(always)]
    pub fn get(&self, index: usize) -> i32 {
        u32_at(self.0, index * 4) as i32
    }
}

/// An int8 matrix `[rows, columns]`.
#[derive(Clone, Copy, Debug)]
pub struct I8Matrix<'a> {
    /// Its elements, in the order of `layout`.
    pub values: &'a [i8],
    /// Elements of a row.
    pub columns: usize,
    /// Order of the elements.
    pub layout: WeightLayout,
}

impl<'a> I8Matrix<'a> {
    /// One row of a row-major matrix.
    ///
    /// # Panics
    ///
    /// If it is past the end.
    pub fn row(&self, row: usize) -> &'a [i8] {
        &self.values[row * self.columns..][..self.columns]
    }
}
