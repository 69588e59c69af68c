//! What Armv7-M does in one instruction only with the DSP extension, as words of an assembly program.

/// `to = rmh(a, b)`, or with a sum `to = sum + rmh(a, b)`, where `rmh` is
/// [`rounding_multiply_high`](crate::ops::fixed_point::rounding_multiply_high).
///
/// `low`, which may be `b` but not `to`, and with a sum `a` too, are lost.
#[cfg(kernel_dsp)]
macro_rules! multiply_high {
    ($to:literal, $a:literal, $b:literal, $low:literal) => {
        concat!("smmulr ", $to, ", ", $a, ", ", $b)
    };
    ($to:literal, $a:literal, $b:literal, $low:literal, $sum:literal) => {
        concat!("smmlar ", $to, ", ", $a, ", ", $b, ", ", $sum)
    };
}
#[cfg(kernel_thumb2)]
macro_rules! multiply_high {
    ($to:literal, $a:literal, $b:literal, $low:literal) => {
        // The highest bit of the low half is the one that rounds.
        concat!(
            "smull ", $low, ", ", $to, ", ", $a, ", ", $b, "\n", "lsls ", $low, ", ", $low, ", #1\n", "adc ", $to,
            ", ", $to, ", #0",
        )
    };
    ($to:literal, $a:literal, $b:literal, $low:literal, $sum:literal) => {
        concat!(
            "smull ", $low, ", ", $a, ", ", $a, ", ", $b, "\n", "lsls ", $low, ", ", $low, ", #1\n", "adc ", $to, ", ",
            $sum, ", ", $a,
        )
    };
}

/// [`multiply_high!`] for each of r4 to r7: by its own one of r8 to r11, which may be lost; or all by `b`, with a sum or without, as is told there.
macro_rules! multiply_four_high {
    () => {
        multiply_four_high!(@ ["r8", "r8"], ["r9", "r9"], ["r10", "r10"], ["r11", "r11"])
    };
    ($b:literal, $($low_and_sum:literal),+) => {
        multiply_four_high!(@ [$b, $($low_and_sum),+], [$b, $($low_and_sum),+], [$b, $($low_and_sum),+], [$b, $($low_and_sum),+])
    };
    (@ [$($r4:literal),+], [$($r5:literal),+], [$($r6:literal),+], [$($r7:literal),+]) => {
        concat!(
            multiply_high!("r4", "r4", $($r4),+),
            "\n",
            multiply_high!("r5", "r5", $($r5),+),
            "\n",
            multiply_high!("r6", "r6", $($r6),+),
            "\n",
            multiply_high!("r7", "r7", $($r7),+),
        )
    };
}

/// Shifts r4 to r7 left, by a register.
macro_rules! shift_four_left {
    ($by:literal) => {
        concat!(".irp value, r4, r5, r6, r7\nlsls \\value, ", $by, "\n.endr")
    };
}

/// Has to stand before what is only in the DSP extension: the assembler that looks for a crate's symbols is not told of it by the name of
/// an Armv8-M target.
#[cfg(kernel_dsp)]
macro_rules! architecture {
    () => {
        ".arch armv7e-m"
    };
}
#[cfg(kernel_thumb2)]
macro_rules! architecture {
    () => {
        ".arch armv7-m"
    };
}
