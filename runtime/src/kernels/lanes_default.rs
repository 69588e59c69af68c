//! What a file of lanes need not write out itself: made of the functions that it has, or of what the compiler makes of a plain loop.

macro_rules! defaults {
    ($features:literal) => {
        /// See [`rounding_shift_right`](crate::ops::fixed_point::rounding_shift_right).
        #[inline]
        #[target_feature(enable = $features)]
        pub(super) fn rounding_shift_right(value: Lanes, shift: u32) -> Lanes {
            if shift == 0 {
                return value;
            }
            // Halved upwards, in an order that does not overflow.
            let double = shift_right(value, shift.min(31) - 1);
            sub(double, shift_right(double, 1))
        }

        /// See [`scale_by_power_of_two`](crate::ops::fixed_point::scale_by_power_of_two).
        #[inline]
        #[target_feature(enable = $features)]
        pub(super) fn scale_by_power_of_two(value: Lanes, shift: i32) -> Lanes {
            if shift >= 0 {
                rounding_shift_right(value, shift as u32)
            } else {
                shift_left_saturating(value, shift.unsigned_abs().min(30))
            }
        }

        /// `rounding_multiply_high`, then `scale_by_power_of_two`.
        #[inline]
        #[target_feature(enable = $features)]
        pub(super) fn multiply_and_scale(value: Lanes, multiplier: Lanes, shift: i32) -> Lanes {
            match shift {
                0..=30 => rounding_multiply_shift(value, multiplier, shift as u32),
                _ => scale_by_power_of_two(rounding_multiply_high(value, multiplier), shift),
            }
        }

        /// `rounding_multiply_high` of a value that is first shifted left, by less than 32.
        #[inline]
        #[target_feature(enable = $features)]
        pub(super) fn shifted_multiply_high(value: Lanes, left: u32, multiplier: Lanes) -> Lanes {
            rounding_multiply_high(shift_left(value, left), multiplier)
        }

        /// The same, then `rounding_shift_right` by `right`, below 31.
        #[inline]
        #[target_feature(enable = $features)]
        pub(super) fn shifted_multiply_shift(value: Lanes, left: u32, multiplier: Lanes, right: u32) -> Lanes {
            rounding_multiply_shift(shift_left(value, left), multiplier, right)
        }

        /// What is added to the channels of a tile, and the bounds between which that does not overflow.
        #[derive(Clone, Copy)]
        pub(super) struct Bias {
            bias: Lanes,
            least: Lanes,
            most: Lanes,
        }

        #[inline]
        #[target_feature(enable = $features)]
        pub(super) fn bias(bias: &[i32; 16]) -> Bias {
            let bias = load(bias);
            Bias {
                bias,
                least: sub(splat(i32::MIN), min(bias, splat(0))),
                most: sub(splat(i32::MAX), max(bias, splat(0))),
            }
        }

        /// Saturating.
        #[inline]
        #[target_feature(enable = $features)]
        pub(super) fn add_bias(value: Lanes, Bias { bias, least, most }: Bias) -> Lanes {
            add(max(min(value, most), least), bias)
        }

        /// The largest magnitude of a row.
        #[inline]
        #[target_feature(enable = $features)]
        pub(super) fn magnitude_i16(row: &[i16]) -> u16 {
            row.iter().fold(0, |most, value| most.max(value.unsigned_abs()))
        }

        /// The largest magnitude of a row.
        #[inline]
        #[target_feature(enable = $features)]
        pub(super) fn magnitude_i32(row: &[i32]) -> u32 {
            row.iter().fold(0, |most, value| most.max(value.unsigned_abs()))
        }

        /// See [`sums`](crate::ops::layer_norm::sums).
        #[inline]
        #[target_feature(enable = $features)]
        pub(super) fn sums(row: &[i16]) -> (i32, i64) {
            crate::ops::layer_norm::sums(row)
        }
    };
}

pub(super) use defaults;
