//! Proptest strategies.

use std::ops::RangeInclusive;

use proptest::prelude::*;

/// Every finite bit pattern, including zeros and subnormal numbers.
pub fn finite() -> impl Strategy<Value = f64> {
    any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |x| x.is_finite())
}

/// Numbers of either sign whose decimal exponent is uniform in a range.
pub fn log_uniform(exponents: RangeInclusive<i32>) -> impl Strategy<Value = f64> {
    (any::<bool>(), 1.0..10.0, exponents).prop_map(|(negative, x, exponent): (bool, f64, i32)| {
        let magnitude = x * 10_f64.powi(exponent);
        if negative { -magnitude } else { magnitude }
    })
}

/// Numbers within two doubles of the midpoint between two adjacent numbers of `precision` significant decimal digits,
/// where rounding is hardest. The midpoint itself is included if it is a double.
pub fn near_ties(precision: u32, exponents: RangeInclusive<i32>) -> impl Strategy<Value = f64> {
    let significands = 10_u64.pow(precision - 1)..10_u64.pow(precision);
    (significands, exponents, -2..=2_i64, any::<bool>()).prop_map(|(significand, exponent, steps, negative)| {
        let middle: f64 = format!("{significand}.5e{exponent}").parse().expect("a decimal number");
        let magnitude = f64::from_bits(middle.to_bits().wrapping_add_signed(steps));
        if negative { -magnitude } else { magnitude }
    })
}
