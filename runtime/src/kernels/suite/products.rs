//! Matrix products, row-major and packed.

use super::{Case, Difference, Suite, Values, lengths, take};
use crate::format::layout::{TILE_CHANNELS, WeightLayout, repack};
use crate::kernels::MatmulShape;

/// A product with one of two kinds of weights, for an input that it knows.
type Product<'a> = dyn Fn(&MatmulShape, &[i8], &mut [i32]) + 'a;

impl Suite<'_> {
    pub(super) fn products(&mut self, memory: &mut [u8]) -> Result<(), Difference> {
        // Every length of the reduction, with blocks of a few rows and columns.
        for values in [Values::Min, Values::Max, Values::Alternating, Values::Random] {
            for k in lengths() {
                for (m, n) in [(1, 1), (2, 4), (5, 3), (4, 16), (1, 32)] {
                    if n * k <= 16 * 768 {
                        self.product(memory, values, (m, n, k))?;
                    }
                }
            }
        }
        // Every height and width of a block.
        for k in [1, 4, 8, 67] {
            for m in 0..=17 {
                for n in (0..=18).chain([32, 33, 48, 64, 80]) {
                    self.product(memory, Values::Random, (m, n, k))?;
                }
            }
        }
        // Larger blocks, and layers as they are.
        let small = [(33, 67, 20), (33, 48, 20), (13, 48, 64), (8, 65, 64), (8, 64, 65)];
        let deep = [(12, 16, 256), (5, 32, 256), (9, 16, 768), (9, 16, 800), (1, 1, 3072), (1, 1, 16384)];
        for shape in small.into_iter().chain(deep) {
            for values in [Values::Min, Values::Random] {
                self.product(memory, values, shape)?;
            }
        }
        Ok(())
    }

    fn product(
        &mut self,
        memory: &mut [u8],
        values: Values,
        (m, n, k): (usize, usize, usize),
    ) -> Result<(), Difference> {
        // Rows that lie apart, where there is room for it.
        let apart = if k < 256 { self.next() as usize % 4 } else { 0 };
        let shape = MatmulShape {
            m,
            n,
            k,
            input_stride: k + apart,
            weight_stride: k + apart / 2,
            out_stride: n + apart,
            out_tile_stride: TILE_CHANNELS,
        };
        let case = Case { rows: m, columns: n, k: k as i64, values };
        let mut rest = &mut *memory;
        let skip = self.next() as usize % 8;
        let input = &mut take::<i8>(&mut rest, m * shape.input_stride + skip)[skip..];
        let weight = &mut take::<i8>(&mut rest, n * shape.weight_stride + 7 - skip)[7 - skip..];
        self.fill(values, input, |value| (value >> 24) as i8);
        self.fill(values, weight, |value| ((value >> 24) as i8).max(-127));
        let (input, weight) = (&*input, &*weight);
        let mut outputs = self.outputs(&mut rest, m * shape.out_stride);

        self.fill(Values::Random, outputs.expected, |value| value);
        self.compare("matmul_i8", case, &mut outputs, |kernels, out| {
            (kernels.matmul_i8)(&shape, input, weight, out);
            [0; 2]
        })?;
        self.compare("matmul_u8_i8", case, &mut outputs, |kernels, out| {
            (kernels.matmul_u8_i8)(&shape, bytemuck::cast_slice(input), weight, out);
            [0; 2]
        })?;
        let layout = self.kernels.weight_layout;
        if n.is_multiple_of(TILE_CHANNELS) && n * k > 0 && k == shape.weight_stride && layout.fits(n, k) {
            self.packed_products(rest, &shape, case, input, weight)?;
        }
        Ok(())
    }

    /// A product with the same weights, packed.
    fn packed_products(
        &mut self,
        memory: &mut [u8],
        shape: &MatmulShape,
        case: Case,
        input: &[i8],
        weight: &[i8],
    ) -> Result<(), Difference> {
        let (table, layout) = (self.kernels, self.kernels.weight_layout);
        let MatmulShape { m, n, k, .. } = *shape;
        // Tiles one by one, as they lie in a model: apart from each other.
        let tile_bytes = TILE_CHANNELS * k + 64 * (self.next() as usize % 3);
        let (tiles, mut rest) = (n / TILE_CHANNELS, memory);
        let packed = take::<i8>(&mut rest, tiles * tile_bytes);
        for (packed, weight) in packed.chunks_exact_mut(tile_bytes).zip(weight.chunks_exact(TILE_CHANNELS * k)) {
            repack(WeightLayout::RowMajor, weight, layout, &mut packed[..TILE_CHANNELS * k], k);
        }
        let packed = &*packed;
        let tile_strides = [(shape.out_stride, TILE_CHANNELS), (TILE_CHANNELS + case.k as usize % 3, m * 20)];
        let mut outputs = self.outputs(&mut rest, tiles * (m + 1) * 20);
        // The whole reduction, and groups of inputs in the middle of it.
        let part = layout.part().max(4);
        let first = k / (2 * part) * part;
        for group in [0..k, first..k, 0..first, first..(first + part).min(k)] {
            let case = Case { k: group.len() as i64, ..case };
            let input = input.get(group.start..).unwrap_or_default();
            for (out_stride, out_tile_stride) in tile_strides {
                let rows = MatmulShape { k: group.len(), out_stride, ..*shape };
                // `scalar` and tables without a packing of their own read the rows tile by tile.
                let product = |product: &Product<'_>, own: bool, out: &mut [i32]| {
                    if own && layout != WeightLayout::RowMajor {
                        let shape = MatmulShape { weight_stride: tile_bytes, out_tile_stride, ..rows };
                        return product(&shape, &packed[layout.index(0, group.start, k)..], out);
                    }
                    for tile in 0..tiles {
                        let weight = &weight[tile * TILE_CHANNELS * shape.weight_stride + group.start..];
                        let out = out.get_mut(tile * out_tile_stride..).unwrap_or_default();
                        product(&MatmulShape { n: TILE_CHANNELS, ..rows }, weight, out);
                    }
                };
                self.compare("matmul_packed_i8", case, &mut outputs, |kernels, out| {
                    let own = core::ptr::eq(kernels, table);
                    let entry = if own { kernels.matmul_packed_i8 } else { kernels.matmul_i8 };
                    product(&|shape, weight, out| entry(shape, input, weight, out), own, out);
                    [0; 2]
                })?;
                self.compare("matmul_packed_u8_i8", case, &mut outputs, |kernels, out| {
                    let own = core::ptr::eq(kernels, table);
                    let entry = if own { kernels.matmul_packed_u8_i8 } else { kernels.matmul_u8_i8 };
                    let input = bytemuck::cast_slice(input);
                    product(&|shape, weight, out| entry(shape, input, weight, out), own, out);
                    [0; 2]
                })?;
            }
        }
        Ok(())
    }
}
