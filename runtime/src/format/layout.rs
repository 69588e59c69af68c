//! How the int8 weights of a linear layer lie in the blob: row-major, or packed for one kind of CPU.
//!
//! | layout      | order of bytes                                                                        |
//! |-------------|---------------------------------------------------------------------------------------|
//! | `RowMajor`  | `[N][K]`                                                                              |
//! | `Vnni16x4`  | `[N / 16][K / 4][16][4]`: 16 output channels × 4 inputs fill one 512-bit register     |
//!
//! `Vnni16x4` needs N to be a multiple of 16 and K of 4; a tensor that is not stays row-major.

/// Output channels that are computed together; a packed layout keeps that many in one block.
pub const TILE_CHANNELS: usize = 16;

/// The order of a weight tensor's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum WeightLayout {
    /// As PyTorch stores it. Every kernel reads it.
    #[default]
    RowMajor,
    /// For x86-64 with AVX-512 VNNI.
    Vnni16x4,
}

impl WeightLayout {
    /// Every layout there is.
    pub const ALL: [Self; 2] = [Self::RowMajor, Self::Vnni16x4];

    /// The code in a section entry.
    pub const fn code(self) -> u8 {
        match self {
            Self::RowMajor => 0,
            Self::Vnni16x4 => 1,
        }
    }

    /// The layout of a code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|layout| layout.code() == code)
    }

    /// Its name, as `convert` and `inspect` show it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RowMajor => "row-major",
            Self::Vnni16x4 => "vnni16x4",
        }
    }

    /// Whether an `[n, k]` tensor can have this layout.
    pub const fn fits(self, n: usize, k: usize) -> bool {
        match self {
            Self::RowMajor => true,
            Self::Vnni16x4 => n.is_multiple_of(16) && k.is_multiple_of(4),
        }
    }

    /// Where element `[row, column]` of a tensor with `k` columns lies.
    pub const fn index(self, row: usize, column: usize, k: usize) -> usize {
        match self {
            Self::RowMajor => row * k + column,
            Self::Vnni16x4 => (row / 16) * 16 * k + (column / 4) * 64 + (row % 16) * 4 + column % 4,
        }
    }
}

/// Reorders an `[n, k]` tensor.
///
/// # Panics
///
/// If the slices are not `n · k` long, or a layout does not fit the shape.
pub fn repack(from: WeightLayout, input: &[i8], to: WeightLayout, out: &mut [i8], k: usize) {
    let n = input.len() / k;
    assert!(input.len() == n * k && out.len() == input.len(), "tensor is not [n, {k}]");
    assert!(from.fits(n, k) && to.fits(n, k), "layout does not fit [{n}, {k}]");
    for row in 0..n {
        for column in 0..k {
            out[to.index(row, column, k)] = input[from.index(row, column, k)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_undone_by_unpacking() {
        let input: [i8; 32 * 8] = core::array::from_fn(|i| (i * 7) as i8);
        let (mut packed, mut back) = ([0i8; 256], [0i8; 256]);
        repack(WeightLayout::RowMajor, &input, WeightLayout::Vnni16x4, &mut packed, 8);
        repack(WeightLayout::Vnni16x4, &packed, WeightLayout::RowMajor, &mut back, 8);
        assert_eq!(input, back);
        assert_ne!(input, packed);
        assert_eq!(packed[4..8], input[8..12]);
    }

    #[test]
    fn every_layout_has_its_own_code() {
        for layout in WeightLayout::ALL {
            assert_eq!(WeightLayout::from_code(layout.code()), Some(layout));
        }
        assert_eq!(WeightLayout::from_code(200), None);
    }
}
