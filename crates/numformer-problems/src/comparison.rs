//! What the program of the paper's authors compares.

use faer::{Mat, MatRef};
use numformer_metrics::{Norm, relative_error};

/// A pair of matrices whose difference is the error of a candidate, as the program of the paper's authors measures it.
///
/// For most problems, these are the candidate and the target. For others they are the parts of a residual, such as VᵀAV
/// and diag(λ). [`ReferenceComparison::of`] makes the pair. It is useful only with published figures, since some of
/// these measures accept wrong answers.
///
/// It differs from [`Problem::error`](crate::Problem::error) as follows, by the names of the problems:
/// - `eigenvectors`: VᵀAV is compared with diag(λ), relative to the predicted λ. V itself is not checked, so a zero
///   answer is perfect, and so is an answer with one true pair and zeros elsewhere.
/// - `svd`: UᵀAV is compared with diag(σ), with the same consequences.
/// - `inversion`, `symmetric-inversion`: the error is the same, by residual or against the target. The share of
///   coefficients counts the entries of AH within an absolute difference of those of I, so a zero answer has the zeros
///   of I right.
/// - all others: there is no difference.
///
/// The program reports [the square](Self::squared_frobenius) of the Frobenius ratio, whereas this crate reports the
/// ratio.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_metrics::Norm;
/// use numformer_problems::ReferenceComparison;
///
/// let comparison = ReferenceComparison::new(mat![[3.0, 4.0, 0.0]], mat![[3.0, 5.0, 0.0]]);
/// assert_eq!(comparison.error(Norm::L1), 0.125);
/// assert_eq!(comparison.error(Norm::Max), 0.2);
/// assert!((comparison.squared_frobenius() - 1.0 / 34.0).abs() < 1e-15);
/// assert!((comparison.share_within(0.01) - 2.0 / 3.0).abs() < 1e-15);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceComparison {
    /// What the candidate gives.
    pub found: Mat<f64>,
    /// What an exact answer gives, in the same shape.
    pub expected: Mat<f64>,
    /// In the share of coefficients that are nearly right, smaller expected numbers count as if they had this
    /// magnitude.
    pub floor: f64,
}

impl ReferenceComparison {
    /// The usual [`floor`](Self::floor): only zeros, and what rounding makes of them, are below it.
    ///
    /// It agrees with the recorded shares of residuals with expected zeros: a difference of 8.8e-15 was counted as
    /// within 1%, and a difference of 1.02e-14 was not.
    pub const DEFAULT_FLOOR: f64 = 1e-12;

    /// Compares two matrices of one shape, with the [default](Self::DEFAULT_FLOOR) floor.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn new(found: Mat<f64>, expected: Mat<f64>) -> Self {
        assert_eq!(found.shape(), expected.shape(), "shapes of what is found and what is expected");
        Self { found, expected, floor: Self::DEFAULT_FLOOR }
    }

    /// Sets the magnitude that smaller expected numbers are taken to have.
    #[must_use]
    pub fn with_floor(mut self, floor: f64) -> Self {
        self.floor = floor;
        self
    }

    /// The relative error in a norm, as [`relative_error`] defines it.
    pub fn error(&self, norm: Norm) -> f64 {
        relative_error(self.found.as_ref(), self.expected.as_ref(), norm)
    }

    /// The square of the relative error in the Frobenius norm, which the program reports instead of the error.
    pub fn squared_frobenius(&self) -> f64 {
        self.error(Norm::Frobenius).powi(2)
    }

    /// The share of coefficients that differ from the expected ones by less than a fraction of their magnitude; 1 if
    /// there are none.
    pub fn share_within(&self, fraction: f64) -> f64 {
        let (rows, columns) = self.expected.shape();
        let is_within = |&(i, j): &(usize, usize)| {
            let expected = self.expected[(i, j)];
            (self.found[(i, j)] - expected).abs() < fraction * expected.abs().max(self.floor)
        };
        let within = (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))).filter(is_within).count();
        if rows * columns == 0 { 1.0 } else { within as f64 / (rows * columns) as f64 }
    }
}

/// The diagonal matrix with the entries of the first row.
pub(crate) fn diagonal_of_first_row(matrix: MatRef<'_, f64>) -> Mat<f64> {
    let n = matrix.ncols();
    Mat::from_fn(n, n, |i, j| if i == j { matrix[(0, i)] } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use faer::mat;

    use super::*;

    #[test]
    fn expected_zeros_are_met_within_the_floor() {
        let comparison = ReferenceComparison::new(mat![[9e-15, 1.1e-14, f64::NAN, 1.0]], mat![[0.0, 0.0, 0.0, 1.0]]);
        assert!((comparison.share_within(0.01) - 0.5).abs() < f64::EPSILON);
        let comparison = comparison.with_floor(1.0);
        assert!((comparison.share_within(0.01) - 0.75).abs() < f64::EPSILON);
    }

    #[test]
    #[should_panic(expected = "shapes of what is found")]
    fn matrices_of_different_shapes_are_a_bug() {
        let _ = ReferenceComparison::new(Mat::zeros(1, 2), Mat::zeros(2, 1));
    }
}
