//! The bit-exact kernel suite: compares every entry of a table with `scalar`.
//!
//! It needs neither a heap nor files, little stack, and [`BYTES`] of memory that the caller lends it, so the same code runs under
//! `cargo test`, in QEMU and on a board. Each comparison covers the whole memory that an entry could have written to: an element
//! beyond the output is found like a wrong one.

use core::fmt;

use super::scalar::SCALAR;
use super::{Kernels, MatmulShape, PerChannel};
use crate::config::HiddenAct;
use crate::format::layout::{TILE_CHANNELS, WeightLayout, repack};
use crate::ops::activation::delta_table;
use crate::ops::average::Divisor;
use crate::ops::layer_norm::{LayerNormScale, Normalizer, sums};
use crate::ops::softmax::SoftmaxScale;

/// Memory that [`run`] needs, whatever its alignment.
pub const BYTES: usize = 40 * 1024;

/// Why the suite did not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SuiteError {
    /// The memory lent is smaller than [`BYTES`]: nothing was compared.
    MemoryTooSmall {
        /// [`BYTES`].
        needed_bytes: usize,
        /// Bytes lent.
        given_bytes: usize,
    },
    /// The table is wrong.
    Different(Difference),
}

impl fmt::Display for SuiteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MemoryTooSmall { needed_bytes, given_bytes } => {
                write!(
                    f,
                    "the kernel suite needs {needed_bytes} bytes of memory and was given {given_bytes}: lend it more"
                )
            }
            Self::Different(Difference { kernels, entry, case, index, expected, found }) => write!(
                f,
                "the kernels {kernels} are wrong: {entry} gives {found} where scalar gives {expected}, element {index} of {case:?}"
            ),
        }
    }
}

impl core::error::Error for SuiteError {}

/// Where a table first differed from `scalar`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Difference {
    /// The table's name.
    pub kernels: &'static str,
    /// The entry that differed.
    pub entry: &'static str,
    /// What it was given.
    pub case: Case,
    /// The element of the memory around its output; behind the last one, what it returned.
    pub index: usize,
    /// What `scalar` gave.
    pub expected: i64,
    /// What the table gave.
    pub found: i64,
}

/// What an entry was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Case {
    /// Rows of the output.
    pub rows: usize,
    /// Its columns.
    pub columns: usize,
    /// The reduction of a product; else what the entry was also given: a shift, a scale, a stride.
    pub k: i64,
    /// How the values were made.
    pub values: Values,
}

/// How test values are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Values {
    /// The most negative value there is.
    Min,
    /// The most positive one.
    Max,
    /// Both in turn.
    Alternating,
    /// 0.
    Zero,
    /// Any value.
    Random,
    /// Any magnitude: each a random value shifted by a random amount.
    Magnitudes,
}

impl Values {
    const ALL: [Self; 6] = [Self::Min, Self::Max, Self::Alternating, Self::Zero, Self::Random, Self::Magnitudes];
}

/// Every length of a tail, then lengths around those of real models.
fn lengths() -> impl Iterator<Item = usize> {
    (0..=130).chain([191, 192, 193, 255, 256, 257, 312, 511, 512, 513, 768])
}

/// Compares every entry of a table with `scalar`, and returns how many calls were compared.
///
/// All lengths of a tail and real layer sizes; unaligned slices, slices of different lengths; the ends of every range, shifts
/// included; seeded random. Weights never hold −128.
///
/// # Errors
///
/// The first element that differs, or that `memory` is smaller than [`BYTES`].
pub fn run(kernels: &Kernels, memory: &mut [u8]) -> Result<usize, SuiteError> {
    if memory.len() < BYTES {
        return Err(SuiteError::MemoryTooSmall { needed_bytes: BYTES, given_bytes: memory.len() });
    }
    let aligned = memory.as_ptr().align_offset(8).min(8);
    let memory = &mut memory[aligned..];
    let mut suite = Suite { kernels, random: 1, compared: 0 };
    let entries =
        [Suite::products, Suite::epilogues, Suite::quantizations, Suite::softmax, Suite::averages, Suite::layer_norms];
    for entry in entries {
        entry(&mut suite, memory).map_err(SuiteError::Different)?;
    }
    Ok(suite.compared)
}

/// The next `count` elements of memory aligned to 8 bytes, which is left so.
fn take<'m, T: bytemuck::Pod>(rest: &mut &'m mut [u8], count: usize) -> &'m mut [T] {
    let bytes = count * size_of::<T>();
    let (taken, after) = core::mem::take(rest).split_at_mut(bytes.next_multiple_of(8));
    *rest = after;
    bytemuck::cast_slice_mut(&mut taken[..bytes])
}

/// Elements before and behind an output that must stay as they are; odd, so that no output is aligned.
const MARGIN: usize = 3;

/// An output, once for `scalar` and once for the table that is compared.
struct Outputs<'m, T> {
    expected: &'m mut [T],
    found: &'m mut [T],
}

impl<'m, T: bytemuck::Pod> Outputs<'m, T> {
    fn take(rest: &mut &'m mut [u8], len: usize) -> Self {
        Self { expected: take(rest, len + 2 * MARGIN), found: take(rest, len + 2 * MARGIN) }
    }
}

/// A product with one of two kinds of weights, for an input that it knows.
type Product<'a> = dyn Fn(&MatmulShape, &[i8], &mut [i32]) + 'a;

struct Suite<'k> {
    kernels: &'k Kernels,
    random: u32,
    compared: usize,
}

impl Suite<'_> {
    fn next(&mut self) -> u32 {
        // xorshift: every bit is good enough, and no target needs a multiplier for it.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }

    /// The value at an index, in the high bits of an int32.
    fn value(&mut self, values: Values, index: usize) -> i32 {
        match values {
            Values::Min => i32::MIN,
            Values::Max => i32::MAX,
            Values::Alternating => [i32::MAX, i32::MIN][index % 2],
            Values::Zero => 0,
            Values::Random => self.next() as i32,
            Values::Magnitudes => (self.next() as i32) >> (self.next() >> 27),
        }
    }

    /// Fills a slice with `convert` of values.
    fn fill<T>(&mut self, values: Values, out: &mut [T], convert: impl Fn(i32) -> T) {
        for (index, out) in out.iter_mut().enumerate() {
            *out = convert(self.value(values, index));
        }
    }

    /// int16 values; those of all magnitudes are so in int16.
    fn fill_i16(&mut self, values: Values, out: &mut [i16]) {
        self.fill(values, out, |value| match values {
            Values::Magnitudes => value as i16 >> (value >> 28 & 15),
            _ => (value >> 16) as i16,
        });
    }

    fn per_channel(&mut self, values: Values) -> PerChannel {
        let mut out = [0; TILE_CHANNELS];
        self.fill(values, &mut out, |value| value);
        out
    }

    /// Calls both tables with outputs that begin alike, and compares what they return and all that they could have written.
    fn compare<T: bytemuck::Pod + Into<i64>>(
        &mut self,
        entry: &'static str,
        case: Case,
        outputs: &mut Outputs<'_, T>,
        call: impl Fn(&Kernels, &mut [T]) -> [i64; 2],
    ) -> Result<(), Difference> {
        let Outputs { expected, found } = outputs;
        found.copy_from_slice(expected);
        let inner = MARGIN..expected.len() - MARGIN;
        let returned = call(&SCALAR, &mut expected[inner.clone()]);
        let returned_found = call(self.kernels, &mut found[inner]);
        let returns = returned.into_iter().zip(returned_found);
        let mut pairs = expected.iter().zip(&**found).map(|(&a, &b)| (a.into(), b.into())).chain(returns).enumerate();
        self.compared += 1;
        match pairs.find(|(_, (expected, found))| expected != found) {
            None => Ok(()),
            Some((index, (expected, found))) => {
                Err(Difference { kernels: self.kernels.name, entry, case, index, expected, found })
            }
        }
    }

    fn products(&mut self, memory: &mut [u8]) -> Result<(), Difference> {
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
                for n in (0..=18).chain([32, 33, 48]) {
                    self.product(memory, Values::Random, (m, n, k))?;
                }
            }
        }
        // Larger blocks, and layers as they are.
        for shape in [(9, 16, 768), (33, 67, 20), (13, 48, 64), (8, 65, 64), (8, 64, 65), (1, 1, 3072), (1, 1, 16384)] {
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
        let mut outputs = Outputs::take(&mut rest, m * shape.out_stride);

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
        let mut outputs = Outputs::take(&mut rest, tiles * (m + 1) * 20);
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

    fn epilogues(&mut self, memory: &mut [u8]) -> Result<(), Difference> {
        for values in Values::ALL {
            for rows in [0, 1, 2, 3, 7, 8, 9, 16, 33] {
                for shift in [0, 1, 2, 7, 8, 15, 16, 24, 29, 30, 31] {
                    self.epilogue(memory, values, rows, shift)?;
                }
            }
        }
        Ok(())
    }

    /// Everything that works on a tile of some rows.
    fn epilogue(&mut self, memory: &mut [u8], values: Values, rows: usize, shift: u32) -> Result<(), Difference> {
        let mut rest = &mut *memory;
        let case = Case { rows, columns: TILE_CHANNELS, k: shift.into(), values };
        let elements = rows * TILE_CHANNELS;
        let acc = &mut take::<i32>(&mut rest, elements + 1)[1..];
        self.fill(values, acc, |value| value);
        let acc = &*acc;
        let scales = &mut take::<i32>(&mut rest, rows + 1)[1..];
        self.fill(Values::Magnitudes, scales, |value| value);
        if values == Values::Alternating {
            self.fill(Values::Min, scales, |value| value);
        }
        let scales = &*scales;
        let mut tile = Outputs::take(&mut rest, elements);
        self.fill(values, tile.expected, |value| value);
        self.compare("scale_accumulators", case, &mut tile, |kernels, tile| {
            (kernels.scale_accumulators)(acc, scales, shift, tile);
            [0; 2]
        })?;

        self.fill(values, tile.expected, |value| value);
        self.compare("scale_rows", case, &mut tile, |kernels, tile| {
            (kernels.scale_rows)(tile, scales, shift);
            [0; 2]
        })?;

        let shifts = &mut take::<u8>(&mut rest, rows + 1)[1..];
        for output_shift in [0, shift as i32, -1023, -40, -31, -1, 1, 30, 31, 32, 1023] {
            self.fill(Values::Random, shifts, |value| (value & 31) as u8);
            let shifts = &*shifts;
            for channel_values in [values, Values::Magnitudes] {
                let (bias, multiplier) = (self.per_channel(values), self.per_channel(channel_values));
                self.fill(values, tile.expected, |value| value);
                let case = Case { k: output_shift.into(), ..case };
                self.compare("requantize", case, &mut tile, |kernels, tile| {
                    (kernels.requantize)(tile, shifts, output_shift, &bias, &multiplier);
                    [0; 2]
                })?;
            }
        }

        for channels in [TILE_CHANNELS, (self.next() % 17) as usize] {
            let stride = channels + (self.next() % 20) as usize;
            // The last row ends with its channels, or early.
            let cut = (self.next() as usize % 3) * usize::from(stride > channels);
            let len = (rows.saturating_sub(1) * stride + channels * rows.min(1)).saturating_sub(cut);
            let case = Case { columns: channels, ..case };
            let mut residual = Outputs::<i16>::take(&mut rest, len);
            self.fill_i16(values, residual.expected);
            self.compare("add_residual", case, &mut residual, |kernels, residual| {
                (kernels.add_residual)(acc, channels, shift, residual, stride);
                [0; 2]
            })?;
            self.fill_i16(Values::Random, residual.expected);
            self.compare("add_residual", case, &mut residual, |kernels, residual| {
                (kernels.add_residual)(acc, channels, shift, residual, stride);
                [0; 2]
            })?;
            for hidden_act in [HiddenAct::Gelu, HiddenAct::GeluNew, HiddenAct::Relu] {
                let delta = delta_table(hidden_act);
                let multiplier = self.per_channel(if channels == 0 { values } else { Values::Magnitudes });
                self.compare("activate_tile", case, &mut residual, |kernels, out| {
                    (kernels.activate_tile)(delta, acc, channels, &multiplier, out, stride);
                    [0; 2]
                })?;
            }
        }
        self.activations(memory, rows, shift)
    }

    /// Inputs of the activation where its table is not flat: |x| < 8, and the steps around its end.
    fn activations(&mut self, memory: &mut [u8], rows: usize, shift: u32) -> Result<(), Difference> {
        let mut rest = &mut *memory;
        let tile = &mut take::<i32>(&mut rest, rows * TILE_CHANNELS)[..];
        self.fill(Values::Random, tile, |value| value >> (15 + shift % 2));
        let (tile, multiplier) = (&*tile, self.per_channel(Values::Magnitudes));
        let mut out = Outputs::<i16>::take(&mut rest, rows * TILE_CHANNELS);
        for hidden_act in [HiddenAct::Gelu, HiddenAct::GeluNew, HiddenAct::Relu] {
            let case = Case { rows, columns: TILE_CHANNELS, k: hidden_act as i64, values: Values::Random };
            self.compare("activate_tile", case, &mut out, |kernels, out| {
                (kernels.activate_tile)(delta_table(hidden_act), tile, TILE_CHANNELS, &multiplier, out, TILE_CHANNELS);
                [0; 2]
            })?;
        }
        Ok(())
    }

    fn quantizations(&mut self, memory: &mut [u8]) -> Result<(), Difference> {
        for values in Values::ALL {
            for len in lengths() {
                // A slice that is shorter than the output counts as followed by zeros.
                for short in [0, 1 + self.next() as usize % 9] {
                    let mut rest = &mut *memory;
                    let case = Case { rows: 1, columns: len, k: short as i64, values };
                    let row = &mut take::<i16>(&mut rest, len + 1)[1..];
                    let smoothing = &mut take::<i16>(&mut rest, len + 3)[3..];
                    let wide = &mut take::<i32>(&mut rest, len + 1)[1..];
                    let mut out = Outputs::<i8>::take(&mut rest, len);
                    self.fill_i16(values, row);
                    self.fill_i16(if len % 2 == 0 { values } else { Values::Random }, smoothing);
                    self.fill(values, wide, |value| value);
                    let (row, wide) = (&row[..len.saturating_sub(short)], &wide[..len.saturating_sub(short)]);
                    let smoothing = &smoothing[..len.saturating_sub(short / 2)];
                    self.compare("quantize_smoothed", case, &mut out, |kernels, out| {
                        [(kernels.quantize_smoothed)(row, smoothing, out).into(), 0]
                    })?;
                    self.compare("quantize_i16", case, &mut out, |kernels, out| {
                        [(kernels.quantize_i16)(row, out).into(), 0]
                    })?;
                    self.compare("quantize_i32", case, &mut out, |kernels, out| {
                        [(kernels.quantize_i32)(wide, out).into(), 0]
                    })?;
                }
            }
        }
        self.near_ties(memory)
    }

    /// Values that end half-way between two steps, and those that only the first of both roundings brings there.
    fn near_ties(&mut self, memory: &mut [u8]) -> Result<(), Difference> {
        let mut rest = memory;
        let case = Case { rows: 1, columns: 128, k: 0, values: Values::Random };
        let mut out = Outputs::<i8>::take(&mut rest, 128);
        // 127 · v / 254
        let row: [i16; 128] = core::array::from_fn(|i| [254, 4 * i as i16 - 255][usize::from(i > 0)]);
        self.compare("quantize_i16", case, &mut out, |kernels, out| [(kernels.quantize_i16)(&row, out).into(), 0])?;
        self.compare("quantize_smoothed", case, &mut out, |kernels, out| {
            [(kernels.quantize_smoothed)(&row, &[1; 128], out).into(), 0]
        })?;
        for offset in [0, 1] {
            // 127 · v / 2³¹
            let half = |i: i64| (((2 * i - 127) << 30) / 127 + offset) as i32;
            let row: [i32; 128] = core::array::from_fn(|i| if i == 0 { i32::MAX } else { half(i as i64) });
            self.compare("quantize_i32", case, &mut out, |kernels, out| [(kernels.quantize_i32)(&row, out).into(), 0])?;
        }
        Ok(())
    }

    fn softmax(&mut self, memory: &mut [u8]) -> Result<(), Difference> {
        // Every size of step between two scores, from one that leaves all alike to one that leaves one key.
        for (values, exponents) in [
            (Values::Random, 30..=100),
            (Values::Magnitudes, 30..=100),
            (Values::Min, 60..=64),
            (Values::Max, 60..=64),
            (Values::Alternating, 55..=70),
            (Values::Zero, 60..=64),
        ] {
            for exponent in exponents {
                self.softmax_rows(memory, values, exponent, [1, 7, 8, 31, 64, 100].into_iter())?;
            }
        }
        for exponent in [-1023, -100, 1023, 50, 60, 63, 72] {
            self.softmax_rows(memory, Values::Random, exponent, lengths())?;
        }
        Ok(())
    }

    fn softmax_rows(
        &mut self,
        memory: &mut [u8],
        values: Values,
        exponent: i32,
        lengths: impl Iterator<Item = usize>,
    ) -> Result<(), Difference> {
        for len in lengths {
            let mut rest = &mut *memory;
            let case = Case { rows: 1, columns: len, k: exponent.into(), values };
            let scores = &mut take::<i32>(&mut rest, len + 1)[1..];
            let keys = &mut take::<i32>(&mut rest, len + 1)[1..];
            let mut out = Outputs::<u8>::take(&mut rest, len);
            let head_dim = [1, 32, 64, 768][len % 4];
            // Sums of so many products of int8.
            let bits = (head_dim * 127 * 127_usize).ilog2();
            self.fill(values, scores, |value| value >> (31 - bits));
            self.fill(Values::Magnitudes, keys, |value| value & i32::MAX);
            let magnitude = (self.value(Values::Magnitudes, 0) & i32::MAX) * i32::from(exponent != 63);
            let multiplier = 1 << 30 | self.next() as i32 & i32::MAX;
            let scale = SoftmaxScale { multiplier, exponent }.row(magnitude, self.next() % 31, head_dim);
            let keys = &*keys;
            // Scores are overwritten with what the kernel likes.
            let again = take::<i32>(&mut rest, len);
            let again = core::cell::RefCell::new(again);
            self.compare("softmax_row", case, &mut out, |kernels, out| {
                let mut again = again.borrow_mut();
                again.copy_from_slice(scores);
                [(kernels.softmax_row)(&mut again, keys, scale, out).into(), 0]
            })?;
        }
        Ok(())
    }

    fn averages(&mut self, memory: &mut [u8]) -> Result<(), Difference> {
        for values in Values::ALL {
            for len in lengths() {
                for short in [0, 1] {
                    let mut rest = &mut *memory;
                    let weighted = &mut take::<i32>(&mut rest, len + 1)[1..];
                    let scales = &mut take::<i32>(&mut rest, len + 1)[1..];
                    let mut out = Outputs::<i16>::take(&mut rest, len);
                    let ends = [0, 1, 255, 256, 255 * 4096, u32::MAX];
                    let sum = ends.get(len % 8).copied().unwrap_or(self.next() % (255 * 4096));
                    let case = Case { rows: 1, columns: len, k: sum.into(), values };
                    // Averages of int8 values, and what they cannot be.
                    let bits = if short == 0 { (32 - sum.leading_zeros() + 7).min(32) } else { 32 };
                    self.fill(values, weighted, |value| value >> (32 - bits));
                    self.fill(if len % 2 == 0 { Values::Magnitudes } else { values }, scales, |value| value);
                    let (weighted, scales) = (&weighted[..len.saturating_sub(short)], &*scales);
                    self.compare("average_row", case, &mut out, |kernels, out| {
                        (kernels.average_row)(weighted, Divisor::new(sum), scales, out);
                        [0; 2]
                    })?;
                }
            }
        }
        Ok(())
    }

    fn layer_norms(&mut self, memory: &mut [u8]) -> Result<(), Difference> {
        for values in Values::ALL {
            for len in lengths().chain([4096]) {
                let mut rest = &mut *memory;
                let mut row = Outputs::<i16>::take(&mut rest, len);
                self.fill_i16(values, row.expected);
                let case = Case { rows: 1, columns: len, k: 0, values };
                self.compare("layer_norm_sums", case, &mut row, |kernels, row| {
                    let (sum, squares) = (kernels.layer_norm_sums)(row);
                    [sum.into(), squares]
                })?;
                let count = len.min(768);
                let parameters = take::<[i32; 2]>(&mut rest, count);
                for short in [0, 1] {
                    let shift = (self.next() % 32) * short as u32;
                    self.fill(Values::Magnitudes, parameters.as_flattened_mut(), |value| value);
                    if short == 0 && len % 3 == 0 {
                        self.fill(values, parameters.as_flattened_mut(), |value| value);
                    }
                    self.fill_i16(values, row.expected);
                    let inner = &row.expected[MARGIN..][..len];
                    let scale = LayerNormScale { epsilon: 1 << (self.next() % 56), shift };
                    let width = len.max(1);
                    let mut normalizer = Normalizer::new(width, sums(inner), scale);
                    if short == 1 {
                        // Any power of two, whether or not the row leads to it.
                        normalizer.deviation_shift = (self.next() % 80) as i32 - 40;
                        normalizer.inverse = i32::MAX - (self.next() >> 2) as i32;
                    }
                    let parameters = &parameters[..count.saturating_sub(short)];
                    let case = Case { k: shift.into(), ..case };
                    self.compare("layer_norm", case, &mut row, |kernels, row| {
                        (kernels.layer_norm)(row, parameters, &normalizer);
                        [0; 2]
                    })?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn every_available_kernel_matches_scalar_bit_for_bit() {
        let mut memory = vec![0; BYTES + 8];
        for kernels in super::super::available() {
            for skip in [0, 1, 5] {
                let compared = run(kernels, &mut memory[skip..][..BYTES]).unwrap_or_else(|error| panic!("{error}"));
                assert!(compared > 10_000, "{}", kernels.name);
            }
        }
    }

    #[test]
    fn too_little_memory_is_refused() {
        let error = run(&SCALAR, &mut vec![0; BYTES - 1]).unwrap_err();
        assert_eq!(error, SuiteError::MemoryTooSmall { needed_bytes: BYTES, given_bytes: BYTES - 1 });
    }

    /// The entry that is found wrong.
    fn found(wrong: Kernels) -> &'static str {
        match run(&wrong, &mut vec![0; BYTES]) {
            Err(SuiteError::Different(difference)) => difference.entry,
            other => panic!("{} gave {other:?}", wrong.name),
        }
    }

    /// `scalar`, but for one entry that is wrong in the way told.
    macro_rules! wrong {
        ($name:literal, $entry:ident: $kernel:expr) => {
            (stringify!($entry), Kernels { name: $name, $entry: $kernel, ..SCALAR })
        };
    }

    #[test]
    fn a_wrong_kernel_is_found_in_every_entry() {
        let tables: Vec<(&str, Kernels)> = vec![
            wrong!("forgets the tail", matmul_i8: |shape, input, weight, out| {
                (SCALAR.matmul_i8)(&MatmulShape { k: shape.k & !15, ..*shape }, input, weight, out)
            }),
            wrong!("forgets the last row of 17", matmul_i8: |shape, input, weight, out| {
                (SCALAR.matmul_i8)(&MatmulShape { m: shape.m.min(16), ..*shape }, input, weight, out)
            }),
            wrong!("forgets the last four", matmul_packed_i8: |shape, input, weight, out| {
                (SCALAR.matmul_i8)(&MatmulShape { k: shape.k & !7, ..*shape }, input, weight, out)
            }),
            wrong!("saturates pairs of products", matmul_packed_i8: |shape, input, weight, out| {
                for m in 0..shape.m {
                    for n in 0..shape.n {
                        let x = &input[m * shape.input_stride..][..shape.k];
                        let w = &weight[n * shape.weight_stride..][..shape.k];
                        let pair = |(x, w): (&[i8], &[i8])| -> i32 {
                            let sum: i32 = x.iter().zip(w).map(|(&x, &w)| i32::from(x) * i32::from(w)).sum();
                            sum.clamp(-32768, 32767 - 512)
                        };
                        out[m * shape.out_stride + n] = x.chunks(2).zip(w.chunks(2)).map(pair).sum();
                    }
                }
            }),
            wrong!("takes u8 for int8", matmul_packed_u8_i8: |shape, input, weight, out| {
                (SCALAR.matmul_i8)(shape, bytemuck::cast_slice(input), weight, out)
            }),
            wrong!("takes u8 for int8", matmul_u8_i8: |shape, input, weight, out| {
                (SCALAR.matmul_i8)(shape, bytemuck::cast_slice(input), weight, out)
            }),
            wrong!("writes behind the last column", matmul_u8_i8: |shape, input, weight, out| {
                (SCALAR.matmul_u8_i8)(shape, input, weight, out);
                if shape.m > 0 && shape.n < shape.out_stride && (shape.m - 1) * shape.out_stride + shape.n < out.len() {
                    out[(shape.m - 1) * shape.out_stride + shape.n] = 0;
                }
            }),
            wrong!("saturates", scale_accumulators: |acc, scales, shift, tile| {
                let before = tile.to_vec();
                (SCALAR.scale_accumulators)(acc, scales, shift, tile);
                for ((t, before), (i, &acc)) in tile.iter_mut().zip(before).zip(acc.iter().enumerate()) {
                    let product = i64::from(acc.wrapping_shl(shift)) * i64::from(scales[i / 16]);
                    *t = before.saturating_add(((product + (1 << 31)) >> 32) as i32);
                }
            }),
            wrong!("rounds down", scale_accumulators: |acc, scales, shift, tile| {
                for ((t, &acc), i) in tile.iter_mut().zip(acc).zip(0..) {
                    let product = i64::from(acc.wrapping_shl(shift)) * i64::from(scales[i / 16]);
                    *t = t.wrapping_add((product >> 32) as i32);
                }
            }),
            wrong!("saturates", scale_rows: |tile, scales, shift| {
                tile.iter_mut().for_each(|t| *t = t.saturating_mul(1 << shift.min(30)));
                (SCALAR.scale_rows)(tile, scales, 0);
            }),
            wrong!("wraps", requantize: |tile, shifts, output_shift, bias, multiplier| {
                (SCALAR.requantize)(tile, shifts, output_shift, &[0; 16], multiplier);
                tile.iter_mut().zip(bias.iter().cycle()).for_each(|(t, &bias)| *t = t.wrapping_add(bias));
            }),
            wrong!("does not shift left by 30", requantize: |tile, shifts, output_shift, bias, multiplier| {
                (SCALAR.requantize)(tile, shifts, output_shift.min(29), bias, multiplier)
            }),
            wrong!("does not shift right by 31", requantize: |tile, shifts, output_shift, bias, multiplier| {
                (SCALAR.requantize)(tile, shifts, output_shift.max(-30), bias, multiplier)
            }),
            wrong!("wraps", add_residual: |tile, channels, shift, residual, stride| {
                for (tile, residual) in tile.as_chunks::<16>().0.iter().zip(residual.chunks_mut(stride.max(1))) {
                    for (residual, &t) in residual.iter_mut().zip(tile).take(channels) {
                        let sum = t.wrapping_add(i32::from(*residual));
                        *residual = crate::ops::fixed_point::saturate_i16(crate::ops::fixed_point::rounding_shift_right(sum, shift));
                    }
                }
            }),
            wrong!("saturates to -32768", add_residual: |tile, channels, shift, residual, stride| {
                (SCALAR.add_residual)(tile, channels, shift, residual, stride);
                residual.iter_mut().for_each(|r| if *r == -32767 { *r = -32768 });
            }),
            wrong!("has one table", activate_tile: |delta, tile, channels, multiplier, out, stride| {
                let delta = delta.and(delta_table(HiddenAct::Gelu));
                (SCALAR.activate_tile)(delta, tile, channels, multiplier, out, stride)
            }),
            wrong!("cuts inputs at 127", activate_tile: |delta, tile, channels, multiplier, out, stride| {
                let tile: Vec<i32> = tile.iter().map(|&t| t.min(127 << 12)).collect();
                (SCALAR.activate_tile)(delta, &tile, channels, multiplier, out, stride)
            }),
            wrong!("does not interpolate in one step", activate_tile: |delta, tile, channels, multiplier, out, stride| {
                let tile: Vec<i32> = tile.iter().map(|&t| if t.wrapping_abs() >> 7 == 100 { t - t % 128 } else { t }).collect();
                (SCALAR.activate_tile)(delta, &tile, channels, multiplier, out, stride)
            }),
            wrong!("forgets the last value", quantize_smoothed: |row, smoothing, out| {
                (SCALAR.quantize_smoothed)(&row[..row.len().saturating_sub(1)], smoothing, out)
            }),
            wrong!("takes the most negative value as it is", quantize_smoothed: |row, smoothing, out| {
                let largest = (SCALAR.quantize_smoothed)(row, smoothing, out);
                if largest == 1 << 30 { largest - 1 } else { largest }
            }),
            wrong!("takes the most negative value as it is", quantize_i16: |row, out| {
                let largest = (SCALAR.quantize_i16)(row, out);
                if largest == i32::MAX { i32::MIN } else { largest }
            }),
            wrong!("takes the most negative value as it is", quantize_i32: |row, out| {
                let largest = (SCALAR.quantize_i32)(row, out);
                if largest == i32::MAX { i32::MIN } else { largest }
            }),
            wrong!("rounds once", quantize_i32: |row, out| {
                let largest = (SCALAR.quantize_i32)(row, out);
                if largest == i32::MAX {
                    for (out, &x) in out.iter_mut().zip(row) {
                        *out = ((i64::from(x) * 127 + (1 << 30)) >> 31) as i8;
                    }
                }
                largest
            }),
            wrong!("rounds half down", quantize_i16: |row, out| {
                let largest = (SCALAR.quantize_i16)(row, out);
                if largest == 254 << 16 {
                    out.iter_mut().zip(row).for_each(|(out, &x)| *out = (x >> 1) as i8);
                }
                largest
            }),
            wrong!("sums in u8", softmax_row: |scores, keys, scale, out| {
                u32::from((SCALAR.softmax_row)(scores, keys, scale, out) as u8)
            }),
            wrong!("never reaches 1", softmax_row: |scores, keys, scale, out| {
                let sum = (SCALAR.softmax_row)(scores, keys, scale, out);
                out.iter_mut().for_each(|p| if *p == 1 { *p = 0 });
                sum
            }),
            wrong!("does not saturate", average_row: |weighted, divisor, scales, out| {
                (SCALAR.average_row)(weighted, divisor, scales, out);
                out.iter_mut().for_each(|a| if *a == -32767 { *a = -32768 });
            }),
            wrong!("writes beyond its scales", average_row: |weighted, divisor, scales, out| {
                (SCALAR.average_row)(weighted, divisor, scales, out);
                if let Some(last) = out.get_mut(weighted.len()) { *last = 0 }
            }),
            wrong!("sums squares in int32", layer_norm_sums: |row| {
                let (sum, squares) = (SCALAR.layer_norm_sums)(row);
                (sum, i64::from(squares as i32))
            }),
            wrong!("sums in int16", layer_norm_sums: |row| {
                let (sum, squares) = (SCALAR.layer_norm_sums)(row);
                (i32::from(sum as i16), squares)
            }),
            wrong!("saturates the sum with beta", layer_norm: |row, parameters, normalizer| {
                let parameters: Vec<_> = parameters.iter().map(|&[gamma, beta]| [gamma, beta.max(-(1 << 30))]).collect();
                (SCALAR.layer_norm)(row, &parameters, normalizer)
            }),
            wrong!("does not shift left", layer_norm: |row, parameters, normalizer| {
                let deviation_shift = normalizer.deviation_shift.max(-20);
                (SCALAR.layer_norm)(row, parameters, &Normalizer { deviation_shift, ..*normalizer })
            }),
        ];
        for (entry, table) in &tables {
            assert_eq!(found(*table), *entry, "{}", table.name);
        }
        // One at least for each entry there is.
        let Kernels {
            name: _,
            weight_layout: _,
            matmul_i8: _,
            matmul_packed_i8: _,
            matmul_u8_i8: _,
            matmul_packed_u8_i8: _,
            scale_rows: _,
            scale_accumulators: _,
            requantize: _,
            add_residual: _,
            activate_tile: _,
            quantize_smoothed: _,
            quantize_i16: _,
            quantize_i32: _,
            softmax_row: _,
            average_row: _,
            layer_norm_sums: _,
            layer_norm: _,
        } = SCALAR;
        let mut entries: Vec<&str> = tables.iter().map(|(entry, _)| *entry).collect();
        entries.sort_unstable();
        entries.dedup();
        assert_eq!(entries.len(), 16);
    }
}
