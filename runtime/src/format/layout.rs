//! How the int8 weights of a linear layer lie in the blob: row-major, or packed for one kind of CPU.
//!
//! | layout      | order of bytes                                                                        |
//! |-------------|---------------------------------------------------------------------------------------|
//! | `RowMajor`  | `[N][K]`                                                                              |
//! | `Vnni16x4`  | `[N / 16][K / 4][16][4]`: 16 output channels × 4 inputs fill one 512-bit register     |
//! | `I8mm16x8`  | `[N / 16][K / 8][16][8]`: 2 output channels × 8 inputs fill one 128-bit register      |
//! | `Helium4x16`| `[N / 16][K / 256][4][16][4][16]`: 4 output channels × 16 inputs fill four 128-bit registers; of the last K mod 256 inputs there are fewer |
//!
//! Packed, N is a multiple of 16, and K of 4, 8 or 32; a tensor where they are not stays row-major.

/// Output channels that are computed together; a packed layout keeps that many in one block.
pub const TILE_CHANNELS: usize = 16;

/// Inputs of a part of a tile in `Helium4x16`.
pub(crate) const HELIUM_PART: usize = 256;

/// The order of a weight tensor's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum WeightLayout {
    /// As PyTorch stores it. Every kernel reads it.
    #[default]
    RowMajor,
    /// For x86-64 with AVX-512 VNNI, and for AArch64 with dot products.
    Vnni16x4,
    /// For AArch64 with int8 matrix products.
    I8mm16x8,
    /// For Arm's microcontrollers with Helium.
    Helium4x16,
}

impl WeightLayout {
    /// Every layout there is.
    pub const ALL: [Self; 4] = [Self::RowMajor, Self::Vnni16x4, Self::I8mm16x8, Self::Helium4x16];

    /// The code in a section entry.
    pub const fn code(self) -> u8 {
        match self {
            Self::RowMajor => 0,
            Self::Vnni16x4 => 1,
            Self::I8mm16x8 => 2,
            Self::Helium4x16 => 3,
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
            Self::I8mm16x8 => "i8mm16x8",
            Self::Helium4x16 => "helium4x16",
        }
    }

    /// What K is a multiple of.
    pub const fn group(self) -> Option<usize> {
        match self {
            Self::RowMajor => None,
            Self::Vnni16x4 => Some(4),
            Self::I8mm16x8 => Some(8),
            Self::Helium4x16 => Some(32),
        }
    }

    /// Inputs of a part of a tile, of all its output channels: from any multiple of it on it can be read, up to another or the end.
    pub const fn part(self) -> usize {
        match self {
            Self::RowMajor => 1,
            Self::Vnni16x4 => 4,
            Self::I8mm16x8 => 8,
            Self::Helium4x16 => HELIUM_PART,
        }
    }

    /// Whether an `[n, k]` tensor can have this layout.
    pub const fn fits(self, n: usize, k: usize) -> bool {
        match self.group() {
            None => true,
            Some(group) => n.is_multiple_of(TILE_CHANNELS) && k.is_multiple_of(group),
        }
    }

    /// Writes one row of a tensor with `k` columns to where it belongs; columns behind the row's end become 0. `out` is the whole tensor.
    pub fn pack_row(self, row: usize, values: &[i8], out: &mut [i8], k: usize) {
        match self {
            Self::RowMajor => {
                let out = out.iter_mut().skip(row * k).take(k);
                out.zip(values.iter().chain(core::iter::repeat(&0))).for_each(|(out, &value)| *out = value);
            }
            Self::Vnni16x4 => pack_row_in_groups::<4>(row, values, out, k),
            Self::I8mm16x8 => pack_row_in_groups::<8>(row, values, out, k),
            Self::Helium4x16 => pack_row_in_parts(row, values, out, k),
        }
    }

    /// Where element `[row, column]` of a tensor with `k` columns lies.
    pub const fn index(self, row: usize, column: usize, k: usize) -> usize {
        let (tile, row_of_tile) = (row / TILE_CHANNELS * TILE_CHANNELS * k, row % TILE_CHANNELS);
        match self {
            Self::RowMajor => row * k + column,
            Self::Vnni16x4 => tile + (column / 4) * 64 + row_of_tile * 4 + column % 4,
            Self::I8mm16x8 => tile + (column / 8) * 128 + row_of_tile * 8 + column % 8,
            Self::Helium4x16 => {
                let (part, column) = (column / HELIUM_PART * HELIUM_PART, column % HELIUM_PART);
                let width = if k - part < HELIUM_PART { k - part } else { HELIUM_PART };
                let begin = tile + part * 16 + (row_of_tile / 4) * 4 * width;
                begin + (column / 16) * 64 + (row % 4) * 16 + column % 16
            }
        }
    }
}

/// [`WeightLayout::pack_row`] of a layout in which G inputs lie side by side.
fn pack_row_in_groups<const G: usize>(row: usize, values: &[i8], out: &mut [i8], k: usize) {
    let tile = out.get_mut(row / TILE_CHANNELS * TILE_CHANNELS * k..).unwrap_or_default();
    let (groups, rest) = values.as_chunks::<G>();
    let last = core::array::from_fn(|index| rest.get(index).copied().unwrap_or(0));
    let groups = groups.iter().copied().chain(core::iter::once(last)).chain(core::iter::repeat([0; G]));
    for (out, group) in tile.chunks_exact_mut(TILE_CHANNELS * G).zip(groups).take(k / G) {
        let out = out.as_chunks_mut::<G>().0.iter_mut().skip(row % TILE_CHANNELS).take(1);
        out.for_each(|out| *out = group);
    }
}

/// [`WeightLayout::pack_row`] of `Helium4x16`: 16 inputs of four rows lie side by side.
fn pack_row_in_parts(row: usize, mut values: &[i8], out: &mut [i8], k: usize) {
    let tile = out.get_mut(row / TILE_CHANNELS * TILE_CHANNELS * k..).unwrap_or_default();
    let tile = tile.get_mut(..TILE_CHANNELS * k).unwrap_or_default();
    for part in tile.chunks_mut(TILE_CHANNELS * HELIUM_PART) {
        let (of_part, behind) = values.split_at_checked(HELIUM_PART).unwrap_or((values, &[]));
        values = behind;
        let (whole, rest) = of_part.as_chunks::<16>();
        let width = part.len() / TILE_CHANNELS;
        let panel = part.get_mut(row % TILE_CHANNELS / 4 * 4 * width..).unwrap_or_default();
        let blocks = panel.get_mut(..4 * width).unwrap_or_default().as_chunks_mut::<{ 4 * 16 }>().0;
        let mut out = blocks.iter_mut().filter_map(|block| block.as_chunks_mut::<16>().0.get_mut(row % 4));
        // The values first: where they end, no chunk of the output has been taken.
        whole.iter().zip(out.by_ref()).for_each(|(values, out)| *out = *values);
        let mut rest = rest.iter().copied();
        out.flatten().for_each(|out| *out = rest.next().unwrap_or(0));
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
        const K: usize = 320;
        let input: [i8; 32 * K] = core::array::from_fn(|i| (i * 7 + i / K) as i8);
        for (layout, second_row) in
            [(WeightLayout::Vnni16x4, 4..8), (WeightLayout::I8mm16x8, 8..16), (WeightLayout::Helium4x16, 16..32)]
        {
            let (mut packed, mut back) = ([0i8; 32 * K], [0i8; 32 * K]);
            repack(WeightLayout::RowMajor, &input, layout, &mut packed, K);
            repack(layout, &packed, WeightLayout::RowMajor, &mut back, K);
            assert_eq!(input, back);
            assert_ne!(input, packed);
            assert_eq!(packed[second_row.clone()], input[K..K + second_row.len()]);
        }
    }

    #[test]
    fn a_row_is_packed_to_where_its_elements_belong() {
        for layout in WeightLayout::ALL {
            let mut out = [99i8; 32 * 64];
            layout.pack_row(17, &[1, 2, 3, 4, 5], &mut out, 64);
            for column in 0..64 {
                let expected = if column < 5 { column as i8 + 1 } else { 0 };
                assert_eq!(out[layout.index(17, column, 64)], expected, "{layout:?}");
            }
            assert_eq!(out.iter().filter(|&&value| value == 99).count(), 31 * 64);
        }
    }

    #[test]
    fn every_layout_has_its_own_code() {
        for layout in WeightLayout::ALL {
            assert_eq!(WeightLayout::from_code(layout.code()), Some(layout));
        }
        assert_eq!(WeightLayout::from_code(200), None);
    }
}
