//! Comparison of numbers up to a relative error.

/// |a − b| relative to the larger magnitude. It is 0 for equal numbers, and infinite if only one is NaN or they differ
/// by an infinity.
pub fn relative_distance(a: f64, b: f64) -> f64 {
    if a.to_bits() == b.to_bits() || (a - b).abs() == 0.0 || (a.is_nan() && b.is_nan()) {
        return 0.0;
    }
    let distance = (a - b).abs() / a.abs().max(b.abs());
    if distance.is_finite() { distance } else { f64::INFINITY }
}

/// Asserts that two numbers agree up to a relative error: `assert_close!(actual, expected, tolerance)`.
///
/// A format string and its arguments may follow, to identify the case that failed.
#[macro_export]
macro_rules! assert_close {
    ($actual:expr, $expected:expr, $tolerance:expr $(,)?) => {
        $crate::assert_close!($actual, $expected, $tolerance, "")
    };
    ($actual:expr, $expected:expr, $tolerance:expr, $($context:tt)+) => {{
        let (actual, expected, tolerance): (f64, f64, f64) = ($actual, $expected, $tolerance);
        let distance = $crate::relative_distance(actual, expected);
        assert!(
            distance <= tolerance,
            "expected {expected:e}, found {actual:e}: relative error {distance:e} above {tolerance:e} {}",
            format_args!($($context)+)
        );
    }};
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these results are exact")]
mod tests {
    use super::relative_distance;

    #[test]
    fn distance_is_relative_to_the_larger_number() {
        assert_eq!(relative_distance(1.0, 2.0), 0.5);
        assert_eq!(relative_distance(-2e300, -1e300), 0.5);
    }

    #[test]
    fn only_equal_numbers_have_distance_zero() {
        assert_eq!(relative_distance(0.0, -0.0), 0.0);
        assert_eq!(relative_distance(f64::INFINITY, f64::INFINITY), 0.0);
        assert_eq!(relative_distance(0.0, 1e-300), 1.0);
        assert_eq!(relative_distance(f64::NAN, 0.0), f64::INFINITY);
        assert_eq!(relative_distance(f64::INFINITY, 1.0), f64::INFINITY);
    }

    #[test]
    #[should_panic(expected = "case 3")]
    fn distant_numbers_fail_with_their_context() {
        assert_close!(1.0, 1.1, 0.05, "case {}", 3);
    }
}
