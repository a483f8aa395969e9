//! What is wrong with predicted eigenvalues and eigenvectors.

use faer::{Mat, MatRef, Scale};
use serde::{Deserialize, Serialize};

use crate::{Norm, norm, relative_error};

/// How far predicted eigenvalues and eigenvectors are from the properties of exact ones, property by property.
///
/// All four are free of conventions: the signs of the eigenvectors and the order of the pairs do not matter. None looks
/// at the matrix whose eigenvectors they are, so that a prediction may have perfect properties and be wrong.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_metrics::SpectralDeviation;
///
/// let exact = mat![[1.0, 3.0], [0.6, 0.8], [-0.8, 0.6]];
/// let candidate = mat![[1.0, 2.9], [0.6, 1.0], [-0.8, 0.0]];
/// let deviation = SpectralDeviation::new(candidate.as_ref(), exact.as_ref());
/// assert!((deviation.eigenvalues - 0.025).abs() < 1e-15); // 0.1 / (1 + 3)
/// assert!(deviation.norms < 1e-15);
/// assert!((deviation.orthogonality - 0.6).abs() < 1e-15); // the cosine between (0.6, -0.8) and (1, 0)
/// // Unit vectors at this angle have the singular values sqrt(1 + 0.6) and sqrt(1 - 0.6).
/// assert!((deviation.condition_number - 2.0).abs() < 1e-14);
/// ```
///
/// # Reference
/// Charton (2022), *What is my math transformer doing? Three results on interpretability and generalization*, which
/// studies these properties. Its exact measures are not published; those here are ours.
/// <https://arxiv.org/abs/2211.00170>
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpectralDeviation {
    /// The relative L1 error of the eigenvalues, both lists in ascending order.
    pub eigenvalues: f64,
    /// The largest $\lvert \lVert v_j \rVert_2 - 1 \rvert$ over the columns of $V$.
    pub norms: f64,
    /// The largest magnitude of a cosine between two columns of $V$, whatever their norms. A zero column is orthogonal to
    /// all.
    pub orthogonality: f64,
    /// The condition number $\sigma_{\max}(V) / \sigma_{\min}(V)$: 1 for an orthogonal matrix, or a multiple of one;
    /// infinite for a singular one.
    pub condition_number: f64,
}

impl SpectralDeviation {
    /// Compares a candidate with the exact answer, both $(n + 1) \times n$: eigenvalues in the first row, the matrix $V$ of
    /// eigenvectors below.
    ///
    /// What a NaN or an infinity makes immeasurable is NaN, and so is the condition number when the iteration for it does
    /// not converge. The cost is $O(n^3)$, that of the singular values.
    ///
    /// # Panics
    /// If the two shapes differ, or are not $(n + 1) \times n$.
    pub fn new(candidate: MatRef<'_, f64>, exact: MatRef<'_, f64>) -> Self {
        assert_eq!(candidate.shape(), exact.shape(), "shapes of the candidate and of the exact answer");
        assert_eq!(candidate.nrows(), candidate.ncols() + 1, "rows of eigenvalues and eigenvectors");
        let (_, vectors) = candidate.split_at_row(1);
        let lengths: Vec<f64> = (0..vectors.ncols()).map(|j| norm(vectors.subcols(j, 1), Norm::Frobenius)).collect();
        let (candidate, exact) = (ascending_first_row(candidate), ascending_first_row(exact));
        Self {
            eigenvalues: relative_error(candidate.as_ref(), exact.as_ref(), Norm::L1),
            norms: largest(lengths.iter().map(|length| (length - 1.0).abs())),
            orthogonality: largest_cosine(vectors, &lengths),
            condition_number: condition_number(vectors),
        }
    }
}

/// The entries of the first row, sorted.
fn ascending_first_row(matrix: MatRef<'_, f64>) -> Mat<f64> {
    let mut values: Vec<f64> = matrix.row(0).iter().copied().collect();
    values.sort_unstable_by(f64::total_cmp);
    Mat::from_fn(1, values.len(), |_, j| values[j])
}

/// The largest of some magnitudes; NaN if one is, which `f64::max` would skip.
fn largest(magnitudes: impl IntoIterator<Item = f64>) -> f64 {
    magnitudes.into_iter().fold(0.0, |largest, x| if x > largest || x.is_nan() { x } else { largest })
}

fn largest_cosine(vectors: MatRef<'_, f64>, lengths: &[f64]) -> f64 {
    let units = Mat::from_fn(vectors.nrows(), vectors.ncols(), |i, j| match lengths[j] {
        0.0 => 0.0,
        length => vectors[(i, j)] / length,
    });
    let gram = units.transpose() * &units;
    largest((0..gram.ncols()).flat_map(|j| (0..j).map(move |i| (i, j))).map(|at| gram[at].abs()))
}

/// $\sigma_{\max} / \sigma_{\min}$ of a square matrix; 1 for one without entries, infinite for zero.
fn condition_number(matrix: MatRef<'_, f64>) -> f64 {
    let largest = norm(matrix, Norm::Max);
    if matrix.ncols() == 0 {
        return 1.0;
    }
    if largest == 0.0 {
        return f64::INFINITY;
    }
    if !largest.is_finite() {
        return f64::NAN;
    }
    // Products of extreme entries would leave the range of `f64`.
    let scaled = Scale(largest.recip().min(f64::MAX)) * matrix;
    match scaled.singular_values().as_deref() {
        Ok([highest, .., lowest]) => highest / lowest,
        Ok([_]) => 1.0,
        Ok([]) | Err(_) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use faer::mat;
    use proptest::prelude::*;

    use super::*;

    /// Far above rounding at a few rows.
    const ROUNDING: f64 = 1e-13;

    fn rotation(angle: f64) -> [f64; 2] {
        [angle.cos(), angle.sin()]
    }

    /// Two pairs: these eigenvalues, and unit vectors at these angles.
    fn pairs(values: [f64; 2], angles: [f64; 2], lengths: [f64; 2]) -> Mat<f64> {
        let [[c0, s0], [c1, s1]] = angles.map(rotation);
        let [l0, l1] = lengths;
        mat![[values[0], values[1]], [l0 * c0, l1 * c1], [l0 * s0, l1 * s1]]
    }

    const RIGHT_ANGLE: f64 = std::f64::consts::FRAC_PI_2;

    fn exact() -> Mat<f64> {
        pairs([-2.0, 6.0], [0.3, 0.3 + RIGHT_ANGLE], [1.0, 1.0])
    }

    fn deviation(candidate: &Mat<f64>) -> SpectralDeviation {
        SpectralDeviation::new(candidate.as_ref(), exact().as_ref())
    }

    fn assert_near(found: SpectralDeviation, expected: [f64; 4]) {
        let values = [found.eigenvalues, found.norms, found.orthogonality, found.condition_number];
        for (value, expected) in values.into_iter().zip(expected) {
            // The difference of two infinities is NaN.
            let agree = if expected.is_finite() { (value - expected).abs() <= ROUNDING } else { value.is_infinite() };
            assert!(agree, "{found:?} {expected}");
        }
    }

    #[test]
    fn the_exact_answer_deviates_in_nothing() {
        assert_near(deviation(&exact()), [0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn signs_and_order_of_the_pairs_are_free() {
        let other = pairs([6.0, -2.0], [0.3 - RIGHT_ANGLE, 0.3], [1.0, -1.0]);
        assert_near(deviation(&other), [0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn each_property_is_measured_by_itself() {
        let right = [0.3, 0.3 + RIGHT_ANGLE];
        assert_near(deviation(&pairs([-2.0, 6.4], right, [1.0; 2])), [0.05, 0.0, 0.0, 1.0]);
        assert_near(deviation(&pairs([-2.0, 6.0], right, [1.0, 0.8])), [0.0, 0.2, 0.0, 1.25]);
        // At an angle t, unit vectors have the singular values sqrt(1 ± cos t): the quotient is cot(t / 2).
        let t = 1.5;
        let condition = 1.0 / f64::tan(t / 2.0);
        assert_near(deviation(&pairs([-2.0, 6.0], [0.3, 0.3 + t], [1.0; 2])), [0.0, 0.0, t.cos(), condition]);
        // The cosine is that of the directions, at any norm.
        let found = deviation(&pairs([-2.0, 6.0], [0.3, 0.3 + t], [3.0, 0.5]));
        assert!((found.orthogonality - t.cos()).abs() < ROUNDING && (found.norms - 2.0).abs() < ROUNDING);
    }

    #[test]
    fn the_worst_column_counts() {
        let diagonal = Mat::from_fn(5, 4, |i, j| if i == j + 1 { [1.0, 1.1, 0.5, 1.2][j] } else { 0.0 });
        let exact = Mat::from_fn(5, 4, |i, j| if i == 0 || i == j + 1 { 1.0 } else { 0.0 });
        assert_near(SpectralDeviation::new(diagonal.as_ref(), exact.as_ref()), [1.0, 0.5, 0.0, 2.4]);
    }

    #[test]
    fn zeros_are_orthogonal_but_singular() {
        assert_near(deviation(&Mat::zeros(3, 2)), [1.0, 1.0, 0.0, f64::INFINITY]);
        let one_pair = pairs([-2.0, 0.0], [0.3, 0.0], [1.0, 0.0]);
        assert_near(deviation(&one_pair), [0.75, 1.0, 0.0, f64::INFINITY]);
    }

    #[test]
    fn small_matrices_have_deviations_too() {
        let single = SpectralDeviation::new(mat![[3.0], [-0.5]].as_ref(), mat![[4.0], [1.0]].as_ref());
        assert_near(single, [0.25, 0.5, 0.0, 1.0]);
        assert_near(SpectralDeviation::new(Mat::zeros(1, 0).as_ref(), Mat::zeros(1, 0).as_ref()), [0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn entries_of_any_magnitude_are_measured() {
        for length in [1e-320, 1e-200, 1e200, 1e300] {
            let found = deviation(&pairs([-2.0, 6.0], [0.3, 0.3 + RIGHT_ANGLE], [length; 2]));
            // Subnormal numbers have few digits.
            assert!(found.condition_number < 1.01 && found.orthogonality < 0.01, "{length}: {found:?}");
        }
        let infinite = deviation(&pairs([-2.0, f64::INFINITY], [0.3, 0.0], [1.0, f64::INFINITY]));
        assert!(infinite.eigenvalues.is_infinite() && infinite.condition_number.is_nan(), "{infinite:?}");
        let nan = deviation(&pairs([f64::NAN, 6.0], [0.3, 1.0], [1.0, f64::NAN]));
        assert!(nan.eigenvalues.is_nan() && nan.norms.is_nan() && nan.orthogonality.is_nan(), "{nan:?}");
    }

    #[test]
    #[should_panic(expected = "rows of eigenvalues")]
    fn a_square_matrix_is_a_bug() {
        SpectralDeviation::new(Mat::zeros(2, 2).as_ref(), Mat::zeros(2, 2).as_ref());
    }

    proptest! {
        #[test]
        fn multiples_of_orthogonal_matrices_have_condition_one(
            entries in prop::collection::vec(-1.0..1.0, 36), n in 1..=6_usize, factor in 0.01..100.0
        ) {
            let square = Mat::from_fn(n, n, |i, j| entries[6 * i + j]);
            let q = square.qr().compute_Q();
            let stacked = Mat::from_fn(n + 1, n, |i, j| if i == 0 { 1.0 } else { factor * q[(i - 1, j)] });
            let found = SpectralDeviation::new(stacked.as_ref(), stacked.as_ref());
            prop_assert!((found.condition_number - 1.0).abs() < ROUNDING && found.orthogonality < ROUNDING);
            prop_assert!((found.norms - f64::abs(factor - 1.0)).abs() < ROUNDING * factor);
        }
    }
}
