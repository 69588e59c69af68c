//! The bit-exact kernel suite: compares a table with `scalar`. It needs neither a heap nor files, so the same code runs
//! under `cargo test`, in QEMU and on a board.

use super::scalar::SCALAR;
use super::{Kernels, MatmulShape};
use crate::format::layout::{TILE_CHANNELS, WeightLayout, repack};

const MAX_M: usize = 9;
const MAX_N: usize = 17;
const MAX_K: usize = 768;

/// Where a table first differed from `scalar`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Difference {
    /// The table's name.
    pub kernels: &'static str,
    /// The entry that differed.
    pub entry: &'static str,
    /// The shape it was given.
    pub shape: MatmulShape,
    /// The element of the output.
    pub index: usize,
    /// What `scalar` gave.
    pub expected: i32,
    /// What the table gave.
    pub found: i32,
}

/// How a slice of test values is made.
#[derive(Clone, Copy)]
enum Values {
    AllMin,
    AllMax,
    Alternating,
    Random,
}

fn fill(values: Values, seed: &mut u32, out: &mut [i8], min: i8) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = match values {
            Values::AllMin => min,
            Values::AllMax => 127,
            Values::Alternating => {
                if i % 2 == 0 {
                    127
                } else {
                    min
                }
            }
            Values::Random => {
                *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((*seed >> 24) as i8).max(min)
            }
        };
    }
}

/// Compares every entry of a table with `scalar`, and returns how many products were compared.
///
/// Lengths 0, 1, around every tile size and real layer sizes; unaligned slices; all −128, all 127,
/// alternating signs, seeded random. Weights never hold −128.
///
/// # Errors
///
/// The first element that differs.
pub fn run(kernels: &Kernels) -> Result<usize, Difference> {
    let mut seed = 1;
    let mut compared = 0;
    let (mut input, mut weight) = ([0i8; MAX_M * MAX_K + 3], [0i8; MAX_N * MAX_K + 5]);
    let mut packed = [0i8; TILE_CHANNELS * MAX_K];
    for values in [Values::AllMin, Values::AllMax, Values::Alternating, Values::Random] {
        fill(values, &mut seed, &mut input, -128);
        fill(values, &mut seed, &mut weight, -127);
        for k in [0, 1, 3, 4, 15, 16, 17, 31, 63, 64, 65, 127, 128, 256, 312, 768] {
            for (m, n) in [(0, 1), (1, 0), (1, 1), (2, 4), (3, 5), (8, 16), (9, 17), (5, 16), (7, 3)] {
                let shape = MatmulShape { m, n, k, input_stride: k, weight_stride: k, out_stride: n + 1 };
                let (input, weight) = (&input[3..], &weight[5..]);
                compared += compare(kernels, "matmul_i8", &shape, |kernels, out| {
                    (kernels.matmul_i8)(&shape, input, weight, out)
                })?;
                let unsigned = bytemuck::cast_slice(input);
                compared += compare(kernels, "matmul_u8_i8", &shape, |kernels, out| {
                    (kernels.matmul_u8_i8)(&shape, unsigned, weight, out)
                })?;
                if n == TILE_CHANNELS && k > 0 && kernels.weight_layout.fits(n, k) {
                    let packed = &mut packed[..n * k];
                    repack(WeightLayout::RowMajor, &weight[..n * k], kernels.weight_layout, packed, k);
                    compared += compare(kernels, "matmul_packed_i8", &shape, |table, out| {
                        if core::ptr::eq(table, kernels) {
                            (table.matmul_packed_i8)(&shape, input, packed, out);
                        } else {
                            (table.matmul_i8)(&shape, input, weight, out);
                        }
                    })?;
                }
            }
        }
    }
    Ok(compared)
}

fn compare(
    kernels: &Kernels,
    entry: &'static str,
    shape: &MatmulShape,
    product: impl Fn(&Kernels, &mut [i32]),
) -> Result<usize, Difference> {
    let (mut expected, mut found) = ([77; MAX_M * (MAX_N + 1)], [77; MAX_M * (MAX_N + 1)]);
    product(&SCALAR, &mut expected);
    product(kernels, &mut found);
    match expected.iter().zip(&found).position(|(a, b)| a != b) {
        None => Ok(1),
        Some(index) => Err(Difference {
            kernels: kernels.name,
            entry,
            shape: *shape,
            index,
            expected: expected[index],
            found: found[index],
        }),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_available_kernel_matches_scalar_bit_for_bit() {
        for kernels in super::super::available() {
            assert!(super::run(kernels).unwrap() > 1000, "{}", kernels.name);
        }
    }

    #[test]
    fn a_wrong_kernel_is_found() {
        let wrong = super::Kernels { name: "wrong", matmul_u8_i8: |_, _, _, out| out.fill(1), ..super::SCALAR };
        assert_eq!(super::run(&wrong).unwrap_err().entry, "matmul_u8_i8");
    }
}
