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
pub(super) use {architecture, multiply_high};
