//! The relative error below which an answer counts as correct.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The relative error below which an answer counts as correct: a positive, finite fraction.
///
/// It is serialized as that fraction and displayed as a percentage.
///
/// # Examples
/// ```
/// use numformer_metrics::Tolerance;
///
/// let tolerance = Tolerance::relative(0.05);
/// assert!(tolerance.admits(0.049));
/// assert!(!tolerance.admits(0.05));
/// assert_eq!(tolerance.to_string(), "5%");
/// ```
#[derive(Copy, Clone, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Tolerance(f64);

impl Tolerance {
    /// The tolerances every report lists: 5, 2, 1 and 0.5 per cent.
    pub const STANDARD: [Self; 4] =
        [Self::relative(0.05), Self::relative(0.02), Self::relative(0.01), Self::relative(0.005)];

    /// The tolerance of this fraction: `relative(0.05)` is 5 per cent.
    ///
    /// # Panics
    /// If the fraction is not positive and finite. For fractions from outside the program, use
    /// [`try_relative`](Self::try_relative).
    #[must_use]
    pub const fn relative(fraction: f64) -> Self {
        match Self::try_relative(fraction) {
            Ok(tolerance) => tolerance,
            Err(_) => panic!("a tolerance must be positive and finite"),
        }
    }

    /// The tolerance of this fraction.
    ///
    /// # Errors
    /// When the fraction is not positive and finite.
    pub const fn try_relative(fraction: f64) -> Result<Self, ToleranceError> {
        if fraction > 0.0 && fraction.is_finite() {
            Ok(Self(fraction))
        } else {
            Err(ToleranceError { found: fraction })
        }
    }

    /// The tolerance as a fraction: 0.05 for 5 per cent.
    #[must_use]
    pub const fn fraction(self) -> f64 {
        self.0
    }

    /// Whether an answer with this relative error is correct, which means that the error is below the tolerance. A NaN
    /// never is.
    #[must_use]
    pub fn admits(self, error: f64) -> bool {
        error < self.0
    }
}

/// The error of a fraction that is not a tolerance.
#[derive(Copy, Clone, Debug, PartialEq, thiserror::Error)]
#[error("expected a positive, finite tolerance, found {found}")]
pub struct ToleranceError {
    /// The fraction that was given.
    pub found: f64,
}

impl TryFrom<f64> for Tolerance {
    type Error = ToleranceError;

    fn try_from(fraction: f64) -> Result<Self, ToleranceError> {
        Self::try_relative(fraction)
    }
}

impl From<Tolerance> for f64 {
    fn from(tolerance: Tolerance) -> Self {
        tolerance.0
    }
}

/// The percentage, such as `0.5%`.
impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The decimal point is moved in the text, since multiplying 0.07 by 100 gives 7.000000000000001.
        let text = format!("{:e}", self.0);
        let (digits, exponent) = text.split_once('e').expect("the format `e` writes an exponent");
        let exponent: i32 = exponent.parse().expect("the exponent of an f64 is a small integer");
        let percentage: f64 = format!("{digits}e{}", exponent + 2).parse().expect("digits and exponent make a number");
        f.pad(&format!("{percentage}%"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displayed_as_percentages() {
        assert_eq!(Tolerance::STANDARD.map(|tolerance| tolerance.to_string()), ["5%", "2%", "1%", "0.5%"]);
        for (fraction, text) in [(0.07, "7%"), (0.29, "29%"), (1.0, "100%"), (0.00001, "0.001%"), (0.0625, "6.25%")] {
            assert_eq!(Tolerance::relative(fraction).to_string(), text);
        }
        assert_eq!(format!("[{:>5}]", Tolerance::relative(0.01)), "[   1%]");
    }

    #[test]
    fn only_positive_finite_fractions_are_tolerances() {
        for fraction in [0.0, -0.0, -0.05, f64::NAN, f64::INFINITY] {
            let error = Tolerance::try_relative(fraction).unwrap_err();
            assert_eq!(error.to_string(), format!("expected a positive, finite tolerance, found {fraction}"));
        }
        assert_eq!(Tolerance::try_relative(0.05), Ok(Tolerance::STANDARD[0]));
    }

    #[test]
    fn configuration_files_are_checked() {
        assert_eq!(serde_json::to_string(&Tolerance::relative(0.05)).unwrap(), "0.05");
        assert_eq!(serde_json::from_str::<Tolerance>("0.05").unwrap(), Tolerance::relative(0.05));
        let error = serde_json::from_str::<Tolerance>("-1").unwrap_err();
        assert!(error.to_string().contains("found -1"), "{error}");
    }

    #[test]
    fn the_tolerance_itself_and_nan_are_not_admitted() {
        let tolerance = Tolerance::relative(0.05);
        assert!(tolerance.admits(0.0));
        assert!(tolerance.admits(0.05_f64.next_down()));
        for error in [0.05, 1.0, f64::INFINITY, f64::NAN] {
            assert!(!tolerance.admits(error), "{error}");
        }
    }
}
