//! What the program of the paper's authors compares.

use faer::{Mat, MatRef};
use numformer_metrics::{Norm, relative_error};

use crate::{Analysis, Instance, Problem, SolveError};

/// A pair of matrices whose difference is the error of a candidate, as the program of the paper's authors measures it.
///
/// For most problems these are the candidate and the target; for others a residual, as VᵀAV beside diag(λ). Made by
/// [`ReferenceComparison::of`], and of use only beside published figures: some of these measures accept wrong answers.
///
/// How it differs from [`Problem::error`], by the names of the problems:
/// - `eigenvectors`: VᵀAV against diag(λ), relative to the predicted λ. Nothing is asked of V by itself; zeros, or one
///   true pair beside zeros, are perfect.
/// - `svd`: UᵀAV against diag(σ), with the same consequences.
/// - `inversion`, `symmetric-inversion`: the same error, by residual or against the target. The share of coefficients
///   is that of AH within an absolute difference of I, so that a zero answer has its zeros right.
/// - all others: no difference.
///
/// The program reports [the square](Self::squared_frobenius) of the Frobenius ratio where we report the ratio.
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
    /// What an exact answer gives; of the same shape.
    pub expected: Mat<f64>,
    /// In the share of coefficients that are nearly right, expected numbers of a smaller magnitude count as of this one.
    pub floor: f64,
}

impl ReferenceComparison {
    /// The usual [`floor`](Self::floor): only zeros, and what stands for them after rounding, are below.
    ///
    /// The recorded shares of residuals with expected zeros lie on both sides of it: differences of 8.8e-15 were counted
    /// within 1%, those of 1.02e-14 were not.
    pub const DEFAULT_FLOOR: f64 = 1e-12;

    /// What the program of the paper's authors compares to judge this candidate: what the problem's
    /// [analysis](crate::Analysis::reference_comparison) says, or else the candidate and the target.
    ///
    /// # Errors
    /// As [`Problem::error`].
    ///
    /// # Panics
    /// As [`Problem::error`].
    pub fn of(problem: &dyn Problem, instance: Instance<'_>, candidate: MatRef<'_, f64>) -> Result<Self, SolveError> {
        /// Says nothing by itself: all methods are as provided.
        #[derive(Debug)]
        struct Plain;
        impl Analysis for Plain {}
        problem.analysis().unwrap_or(&Plain).reference_comparison(instance, candidate)
    }

    /// Compares two matrices of one shape, with the [default](Self::DEFAULT_FLOOR) floor.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn new(found: Mat<f64>, expected: Mat<f64>) -> Self {
        assert_eq!(found.shape(), expected.shape(), "shapes of what is found and what is expected");
        Self { found, expected, floor: Self::DEFAULT_FLOOR }
    }

    /// Sets the magnitude below which expected numbers count as of this magnitude.
    #[must_use]
    pub fn with_floor(mut self, floor: f64) -> Self {
        self.floor = floor;
        self
    }

    /// The relative error in a norm, as [`relative_error`] defines it.
    pub fn error(&self, norm: Norm) -> f64 {
        relative_error(self.found.as_ref(), self.expected.as_ref(), norm)
    }

    /// The square of the relative error in the Frobenius norm, which the program reports in its place.
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
    fn the_reference_compares_with_the_exact_answer_by_default() {
        let (input, target, candidate) = (mat![[1.0, -1.0]], mat![[0.0]], mat![[0.5]]);
        let instance = Instance { input: input.as_ref(), target: target.as_ref() };
        let comparison = ReferenceComparison::of(&crate::Trace, instance, candidate.as_ref()).unwrap();
        assert_eq!((comparison.found, comparison.expected), (candidate, target));
    }

    #[test]
    #[should_panic(expected = "shapes of what is found")]
    fn matrices_of_different_shapes_are_a_bug() {
        let _ = ReferenceComparison::new(Mat::zeros(1, 2), Mat::zeros(2, 1));
    }
}
