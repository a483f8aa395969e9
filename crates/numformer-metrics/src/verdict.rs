//! The outcome of one prediction.

use serde::{Deserialize, Serialize};

use crate::Tolerance;

/// The outcome of one prediction.
///
/// A prediction that cannot be read is data, not a failure of the program: it counts as wrong at
/// every tolerance.
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A matrix of the right shape, at this distance from an answer. A distance of 0 is exact.
    Measured {
        /// The relative error or residual. It is infinite or NaN if the prediction cannot be measured.
        error: f64,
    },
    /// A matrix whose shape is not that of the answer.
    WrongShape {
        /// Rows and columns of the answer.
        expected: (usize, usize),
        /// Rows and columns of the prediction.
        found: (usize, usize),
    },
    /// Not a matrix at all.
    Malformed,
}

impl Verdict {
    /// Whether the prediction is correct at this tolerance: it has the right shape and an error below the tolerance.
    ///
    /// # Examples
    /// ```
    /// use numformer_metrics::{Tolerance, Verdict};
    ///
    /// let verdict = Verdict::Measured { error: 0.015 };
    /// assert!(verdict.is_correct(Tolerance::relative(0.02)));
    /// assert!(!verdict.is_correct(Tolerance::relative(0.01)));
    /// ```
    #[must_use]
    pub fn is_correct(&self, tolerance: Tolerance) -> bool {
        self.error().is_some_and(|error| tolerance.admits(error))
    }

    /// Whether the prediction can be read as a matrix of any shape.
    #[must_use]
    pub fn is_decodable(&self) -> bool {
        !matches!(self, Self::Malformed)
    }

    /// The error; `None` if the prediction was not measured.
    #[must_use]
    pub fn error(&self) -> Option<f64> {
        match *self {
            Self::Measured { error } => Some(error),
            Self::WrongShape { .. } | Self::Malformed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_measured_prediction_can_be_correct() {
        let huge = Tolerance::relative(f64::MAX);
        assert!(Verdict::Measured { error: 1e9 }.is_correct(huge));
        assert!(!Verdict::Measured { error: f64::NAN }.is_correct(huge));
        assert!(!Verdict::WrongShape { expected: (2, 3), found: (3, 2) }.is_correct(huge));
        assert!(!Verdict::Malformed.is_correct(huge));
    }

    #[test]
    fn a_wrong_shape_is_decodable() {
        assert!(Verdict::Measured { error: 1.0 }.is_decodable());
        assert!(Verdict::WrongShape { expected: (2, 3), found: (3, 2) }.is_decodable());
        assert!(!Verdict::Malformed.is_decodable());
    }
}
