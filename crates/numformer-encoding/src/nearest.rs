//! Decimal numbers as the nearest doubles.

/// The powers of ten that are exact in a double.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// The `f64` nearest to `significand·10^exponent`.
///
/// One operation on two exact numbers is correctly rounded (Clinger 1990, *How to read floating point numbers
/// accurately*, section 3); otherwise the standard library reads the decimal.
#[inline]
pub(crate) fn value(significand: i64, exponent: i32) -> f64 {
    const EXACT: u64 = 1 << 53;
    match EXACT_POWERS.get(exponent.unsigned_abs() as usize) {
        Some(power) if significand.unsigned_abs() <= EXACT => {
            if exponent < 0 {
                significand as f64 / power
            } else {
                significand as f64 * power
            }
        }
        _ => read_decimal(significand, exponent),
    }
}

#[cold]
fn read_decimal(significand: i64, exponent: i32) -> f64 {
    format!("{significand}e{exponent}").parse().expect("an integer, `e` and an integer are a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_the_nearest_doubles() {
        for significand in [-999_i64, -1, 0, 1, 7, 314, 999, 1 << 53, (1 << 53) + 1, i64::MAX] {
            for exponent in -280..=280 {
                let nearest: f64 = format!("{significand}e{exponent}").parse().expect("a decimal number");
                assert_eq!(value(significand, exponent).to_bits(), nearest.to_bits(), "{significand}e{exponent}");
            }
        }
        assert!(value(0, -5).is_sign_positive());
    }
}
