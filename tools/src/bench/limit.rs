//! The limit of a core: how many int8 products its multiplication makes of data that lies in registers.

use std::num::NonZeroUsize;
use std::time::Instant;

use mbert_runtime::kernels::Kernels;

/// An instruction, and what it can do.
#[derive(Clone, Copy)]
pub struct Limit {
    /// As vendors write it.
    pub instruction: &'static str,
    /// Products of one round of the loop.
    macs: f64,
    /// Runs so many rounds.
    run: fn(u64),
}

/// Rounds of a loop that are timed together: about a millisecond, so that some windows are not disturbed.
const ROUNDS: u64 = 200_000;
/// How often.
const TIMES: usize = 50;

impl Limit {
    /// That of the instruction which these kernels multiply with; `None` where none has been written down.
    pub fn of(kernels: &Kernels) -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        return x86_64::limit(kernels.name);
        #[cfg(not(target_arch = "x86_64"))]
        return None;
    }

    /// Products a second of so many threads together, now: the sum of what each reaches in the best of many short windows.
    pub fn macs_per_second(&self, threads: NonZeroUsize) -> f64 {
        let one = || {
            let window = |_| {
                let begin = Instant::now();
                (self.run)(ROUNDS);
                self.macs * ROUNDS as f64 / begin.elapsed().as_secs_f64()
            };
            (0..TIMES).map(window).fold(0.0, f64::max)
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads.get()).map(|_| scope.spawn(one)).collect();
            let first = one();
            others.into_iter().fold(first, |sum, other| sum + other.join().unwrap_or(0.0))
        })
    }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::arch::asm;

    use super::Limit;

    pub(super) fn limit(kernels: &str) -> Option<Limit> {
        // Kernels of these names are handed out only where the CPU has their instructions. Those for AVX2 multiply bytes first, with
        // vpmaddubsw, and may come to 1.24 times what vpmaddwd can do of int16; it stays the measure of exact products without VNNI.
        match kernels {
            "avx512vnni" => Some(Limit { instruction: "vpdpbusd", macs: 12.0 * 64.0, run: vpdpbusd_512 }),
            "avxvnni" => Some(Limit { instruction: "vpdpbusd", macs: 12.0 * 32.0, run: vpdpbusd_256 }),
            "avx2" => Some(Limit { instruction: "vpmaddwd", macs: 12.0 * 16.0, run: vpmaddwd }),
            _ => None,
        }
    }

    /// A loop over twelve independent sums in registers 0 to 11, of registers 14 and 15; 12 is free. `\\i` is the register's number.
    macro_rules! rounds {
        ($name:ident, $instructions:literal) => {
            fn $name(rounds: u64) {
                // SAFETY: the CPU has the instructions, as `limit` has shown; they touch no memory, and every register is named.
                unsafe {
                    asm!(
                        "2:",
                        ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
                        $instructions,
                        ".endr",
                        "dec {rounds}",
                        "jnz 2b",
                        rounds = inout(reg) rounds => _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                        out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                        out("xmm12") _, out("xmm14") _, out("xmm15") _,
                        options(nomem, nostack),
                    );
                }
            }
        };
    }

    rounds!(vpdpbusd_512, "vpdpbusd zmm\\i, zmm14, zmm15");
    rounds!(vpdpbusd_256, "{{vex}} vpdpbusd ymm\\i, ymm14, ymm15");
    rounds!(vpmaddwd, "vpmaddwd ymm12, ymm14, ymm15\nvpaddd ymm\\i, ymm\\i, ymm12");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_are_faster_than_a_tenth_of_one_and_every_limit_is_a_rate() {
        for limit in mbert_runtime::kernels::available().filter_map(Limit::of) {
            let [one, two] = [1, 2].map(|threads| limit.macs_per_second(NonZeroUsize::new(threads).unwrap()));
            assert!(one > 1e8 && two > one / 10.0, "{}: {one} and {two} products a second", limit.instruction);
        }
    }
}
