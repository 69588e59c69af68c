//! The bit-exact kernel suite: compares every entry of a table with `scalar`.
//!
//! It needs neither a heap nor files, little stack, and [`BYTES`] of memory that the caller lends it, so the same code runs under
//! `cargo test`, in QEMU and on a board. Each comparison covers the whole memory that an entry could have written to: an element
//! beyond the output is found like a wrong one.

use core::fmt;
use core::ops::Range;

use super::scalar::SCALAR;
use super::{Kernels, PerChannel};
use crate::format::layout::TILE_CHANNELS;

mod epilogues;
mod products;
mod rows;
#[cfg(test)]
mod wrong;

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

/// An output, once for `scalar` and once for the table that is compared.
struct Outputs<'m, T> {
    expected: &'m mut [T],
    found: &'m mut [T],
    /// Elements before and behind it that must stay as they are.
    margin: usize,
}

impl<T> Outputs<'_, T> {
    fn inner(&self) -> Range<usize> {
        self.margin..self.expected.len() - self.margin
    }
}

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

    /// An output of so many elements; every other begins at a multiple of 4.
    fn outputs<'m, T: bytemuck::Pod>(&mut self, rest: &mut &'m mut [u8], len: usize) -> Outputs<'m, T> {
        let margin = 3 + (self.next() & 1) as usize;
        Outputs { expected: take(rest, len + 2 * margin), found: take(rest, len + 2 * margin), margin }
    }

    /// An input of so many elements; every other begins at a multiple of 4.
    fn input<'m, T: bytemuck::Pod>(&mut self, rest: &mut &'m mut [u8], len: usize) -> &'m mut [T] {
        let skip = (self.next() & 1) as usize;
        &mut take(rest, len + skip)[skip..]
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
        let inner = outputs.inner();
        let Outputs { expected, found, .. } = outputs;
        found.copy_from_slice(expected);
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
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;

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
}
