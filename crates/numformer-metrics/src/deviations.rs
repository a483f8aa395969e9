//! Which properties of exact answers are missing from predicted ones.

use std::fmt;

use faer::{Mat, MatRef, Scale};
use serde::{Deserialize, Serialize};

use crate::{Norm, faer_limit, norm, relative_error};

/// A property of exact answers that a predicted one may lack.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Property {
    /// The eigenvalues are right. The deviation is their relative L1 error, with both lists in ascending order.
    Eigenvalues,
    /// The singular values are right. The deviation is measured as for eigenvalues.
    SingularValues,
    /// The vectors are unit vectors. The deviation is the largest |‖vⱼ‖₂ - 1| over the columns.
    Norms,
    /// The vectors are orthogonal. The deviation is the largest magnitude of a cosine between two columns, regardless
    /// of their norms. A zero column is orthogonal to all others.
    Orthogonality,
    /// The coefficients are those of the exact answer. The deviation is the relative L1 error.
    Coefficients,
    /// The answer is as large as the exact one. The deviation is `|‖H‖_F / ‖T‖_F - 1|`.
    Magnitude,
    /// The answer is a multiple of the exact one. The deviation is `‖H / ‖H‖_F - T / ‖T‖_F‖_F`, which is about the
    /// angle between the two in radians.
    Direction,
}

impl Property {
    /// The name, as shown in tables: `singular values`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eigenvalues => "eigenvalues",
            Self::SingularValues => "singular values",
            Self::Norms => "norms",
            Self::Orthogonality => "orthogonality",
            Self::Coefficients => "coefficients",
            Self::Magnitude => "magnitude",
            Self::Direction => "direction",
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How far a predicted answer is from each property of the exact one, and the condition number of the prediction.
///
/// A figure is NaN if a NaN or an infinity makes it impossible to measure. The condition number is also NaN if the
/// iteration for it does not converge or does not run on this processor ([`faer_limit`]). The cost is O(n³), that of
/// the singular values.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_metrics::{Deviations, Property};
///
/// // Eigenvalues, and eigenvectors as columns.
/// let (values, vectors) = (mat![[1.0, 2.9]], mat![[0.6, 1.0], [-0.8, 0.0]]);
/// let exact = mat![[1.0, 3.0]];
/// let deviations = Deviations::of_vectors(Property::Eigenvalues, values.as_ref(), exact.as_ref(), &[vectors.as_ref()]);
/// let of = |property| deviations.of(property).unwrap();
/// assert!((of(Property::Eigenvalues) - 0.025).abs() < 1e-15); // 0.1 / (1 + 3)
/// assert!(of(Property::Norms) < 1e-15);
/// assert!((of(Property::Orthogonality) - 0.6).abs() < 1e-15); // the cosine between (0.6, -0.8) and (1, 0)
/// // Unit vectors at this angle have the singular values sqrt(1 + 0.6) and sqrt(1 - 0.6).
/// assert!((deviations.condition_number - 2.0).abs() < 1e-14);
/// ```
///
/// # Reference
/// Charton (2022), *What is my math transformer doing? Three results on interpretability and generalization*, which
/// studies these properties. Its exact measures are not published; those used here are defined by this crate.
/// <https://arxiv.org/abs/2211.00170>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deviations {
    /// Each property with the deviation from it, which is 0 if the answer has the property.
    pub properties: Vec<(Property, f64)>,
    /// The condition number `σ_max / σ_min` of the prediction, or the largest one if the prediction consists of several
    /// matrices. It is 1 for an orthogonal matrix or a multiple of one, and infinite for a singular matrix.
    pub condition_number: f64,
}

impl Deviations {
    /// The deviations of eigenvalues or singular values (`property` says which) and of one or more bases of vectors.
    /// Each list of values is one row; the vectors are columns. The exact vectors are not needed, since signs and the
    /// order of the pairs do not matter. A prediction may have all of these properties and still be wrong.
    ///
    /// # Panics
    /// If the two lists of values have different shapes.
    #[must_use]
    pub fn of_vectors(
        property: Property,
        values: MatRef<'_, f64>,
        exact: MatRef<'_, f64>,
        bases: &[MatRef<'_, f64>],
    ) -> Self {
        assert_eq!(values.shape(), exact.shape(), "shapes of the predicted and of the exact values");
        let lengths = |basis: &MatRef<'_, f64>| -> Vec<f64> {
            (0..basis.ncols()).map(|j| norm(basis.subcols(j, 1), Norm::Frobenius)).collect()
        };
        let (values, exact) = (ascending_first_row(values), ascending_first_row(exact));
        let norms = largest(bases.iter().flat_map(lengths).map(|length| (length - 1.0).abs()));
        let cosines = largest(bases.iter().map(|basis| largest_cosine(*basis, &lengths(basis))));
        Self {
            properties: vec![
                (property, relative_error(values.as_ref(), exact.as_ref(), Norm::L1)),
                (Property::Norms, norms),
                (Property::Orthogonality, cosines),
            ],
            condition_number: largest(bases.iter().map(|basis| condition_number(*basis))),
        }
    }

    /// The deviations of a matrix from the exact one. For an inverse, the condition number is that of the matrix it
    /// inverts.
    ///
    /// # Panics
    /// If the two shapes differ.
    #[must_use]
    pub fn of_matrix(candidate: MatRef<'_, f64>, exact: MatRef<'_, f64>) -> Self {
        assert_eq!(candidate.shape(), exact.shape(), "shapes of the candidate and of the exact answer");
        let [length, exact_length] = [candidate, exact].map(|matrix| norm(matrix, Norm::Frobenius));
        let magnitude = match exact_length {
            // Two zeros are equally large.
            0.0 if length > 0.0 => f64::INFINITY,
            0.0 => length,
            _ => (length / exact_length - 1.0).abs(),
        };
        let units = [(candidate, length), (exact, exact_length)].map(|(matrix, length)| match length {
            0.0 => matrix.to_owned(),
            length => Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| matrix[(i, j)] / length),
        });
        Self {
            properties: vec![
                (Property::Coefficients, relative_error(candidate, exact, Norm::L1)),
                (Property::Magnitude, magnitude),
                (Property::Direction, norm((&units[0] - &units[1]).as_ref(), Norm::Frobenius)),
            ],
            condition_number: condition_number(candidate),
        }
    }

    /// The deviation from one of the properties; `None` if it was not measured.
    #[must_use]
    pub fn of(&self, property: Property) -> Option<f64> {
        self.properties.iter().find(|(known, _)| *known == property).map(|(_, deviation)| *deviation)
    }
}

/// The entries of the first row, sorted.
fn ascending_first_row(matrix: MatRef<'_, f64>) -> Mat<f64> {
    let mut values: Vec<f64> = matrix.row(0).iter().copied().collect();
    values.sort_unstable_by(f64::total_cmp);
    Mat::from_fn(1, values.len(), |_, j| values[j])
}

/// The largest of some magnitudes, or NaN if one of them is NaN, which `f64::max` would skip.
fn largest(magnitudes: impl IntoIterator<Item = f64>) -> f64 {
    magnitudes.into_iter().fold(0.0, |largest, x| if x > largest || x.is_nan() { x } else { largest })
}

fn largest_cosine(vectors: MatRef<'_, f64>, lengths: &[f64]) -> f64 {
    let units = Mat::from_fn(vectors.nrows(), vectors.ncols(), |i, j| match lengths[j] {
        0.0 => 0.0,
        length => vectors[(i, j)] / length,
    });
    // This is computed vector by vector, since such products run on every processor.
    let cosines = |j: usize| units.subcols(0, j).transpose() * units.col(j);
    largest((0..units.ncols()).map(|j| largest(cosines(j).iter().map(|x| x.abs()))))
}

/// `σ_max / σ_min` of a matrix: 1 for a matrix without entries, infinite for a zero matrix.
fn condition_number(matrix: MatRef<'_, f64>) -> f64 {
    let largest = norm(matrix, Norm::Max);
    if matrix.ncols() == 0 {
        return 1.0;
    }
    if largest == 0.0 {
        return f64::INFINITY;
    }
    let is_decomposed = faer_limit().is_none_or(|limit| usize::max(matrix.nrows(), matrix.ncols()) <= limit);
    if !largest.is_finite() || !is_decomposed {
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
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;

    /// Far above the rounding errors of matrices with a few rows.
    const ROUNDING: f64 = 1e-13;

    fn rotation(angle: f64) -> [f64; 2] {
        [angle.cos(), angle.sin()]
    }

    /// Two pairs: these eigenvalues, and vectors with these angles and lengths.
    fn pairs(values: [f64; 2], angles: [f64; 2], lengths: [f64; 2]) -> Mat<f64> {
        let [[c0, s0], [c1, s1]] = angles.map(rotation);
        let [l0, l1] = lengths;
        mat![[values[0], values[1]], [l0 * c0, l1 * c1], [l0 * s0, l1 * s1]]
    }

    const RIGHT_ANGLE: f64 = std::f64::consts::FRAC_PI_2;

    fn exact() -> Mat<f64> {
        pairs([-2.0, 6.0], [0.3, 0.3 + RIGHT_ANGLE], [1.0, 1.0])
    }

    /// The deviations of eigenvalues in the first row and eigenvectors below it.
    fn of_pairs(candidate: &Mat<f64>, exact: &Mat<f64>) -> Deviations {
        let (values, vectors) = candidate.as_ref().split_at_row(1);
        Deviations::of_vectors(Property::Eigenvalues, values, exact.as_ref().subrows(0, 1), &[vectors])
    }

    fn deviation(candidate: &Mat<f64>) -> Deviations {
        of_pairs(candidate, &exact())
    }

    /// Eigenvalues, norms, orthogonality, and the condition number.
    fn figures(found: &Deviations) -> [f64; 4] {
        let [values, norms, orthogonality] =
            [Property::Eigenvalues, Property::Norms, Property::Orthogonality].map(|of| found.of(of).unwrap());
        [values, norms, orthogonality, found.condition_number]
    }

    fn assert_near(found: Deviations, expected: [f64; 4]) {
        let values = figures(&found);
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
        // The cosine is that of the directions, regardless of the norms.
        let [_, norms, orthogonality, _] = figures(&deviation(&pairs([-2.0, 6.0], [0.3, 0.3 + t], [3.0, 0.5])));
        assert!((orthogonality - t.cos()).abs() < ROUNDING && (norms - 2.0).abs() < ROUNDING);
    }

    #[test]
    fn the_worst_column_counts() {
        let diagonal = Mat::from_fn(5, 4, |i, j| if i == j + 1 { [1.0, 1.1, 0.5, 1.2][j] } else { 0.0 });
        let exact = Mat::from_fn(5, 4, |i, j| if i == 0 || i == j + 1 { 1.0 } else { 0.0 });
        assert_near(of_pairs(&diagonal, &exact), [1.0, 0.5, 0.0, 2.4]);
    }

    #[test]
    fn zeros_are_orthogonal_but_singular() {
        assert_near(deviation(&Mat::zeros(3, 2)), [1.0, 1.0, 0.0, f64::INFINITY]);
        let one_pair = pairs([-2.0, 0.0], [0.3, 0.0], [1.0, 0.0]);
        assert_near(deviation(&one_pair), [0.75, 1.0, 0.0, f64::INFINITY]);
    }

    #[test]
    fn small_matrices_have_deviations_too() {
        let single = of_pairs(&mat![[3.0], [-0.5]], &mat![[4.0], [1.0]]);
        assert_near(single, [0.25, 0.5, 0.0, 1.0]);
        assert_near(of_pairs(&Mat::zeros(1, 0), &Mat::zeros(1, 0)), [0.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn entries_of_any_magnitude_are_measured() {
        for length in [1e-320, 1e-200, 1e200, 1e300] {
            let found = figures(&deviation(&pairs([-2.0, 6.0], [0.3, 0.3 + RIGHT_ANGLE], [length; 2])));
            // Subnormal numbers have few digits.
            assert!(found[3] < 1.01 && found[2] < 0.01, "{length}: {found:?}");
        }
        let infinite = figures(&deviation(&pairs([-2.0, f64::INFINITY], [0.3, 0.0], [1.0, f64::INFINITY])));
        assert!(infinite[0].is_infinite() && infinite[3].is_nan(), "{infinite:?}");
        let nan = figures(&deviation(&pairs([f64::NAN, 6.0], [0.3, 1.0], [1.0, f64::NAN])));
        assert!(nan[..3].iter().all(|x| x.is_nan()), "{nan:?}");
    }

    /// Of two bases, the worse one counts. They may have different numbers of rows.
    #[test]
    fn several_bases_are_measured_together() {
        let (values, exact) = (mat![[3.0, 1.0]], mat![[3.0, 2.0]]);
        let left = mat![[1.0, 0.0], [0.0, 0.9]];
        let right = mat![[1.0, 0.6], [0.0, 0.8], [0.0, 0.0]];
        let of = |bases: &[MatRef<'_, f64>]| {
            Deviations::of_vectors(Property::SingularValues, values.as_ref(), exact.as_ref(), bases)
        };
        let both = of(&[left.as_ref(), right.as_ref()]);
        let deviation = |property| both.of(property).unwrap();
        assert!((deviation(Property::SingularValues) - 0.2).abs() < ROUNDING);
        assert!((deviation(Property::Norms) - 0.1).abs() < ROUNDING);
        assert!((deviation(Property::Orthogonality) - 0.6).abs() < ROUNDING);
        assert!((both.condition_number - 2.0).abs() < ROUNDING);
        assert_eq!(
            (of(&[right.as_ref()]).condition_number, both.of(Property::Magnitude)),
            (both.condition_number, None)
        );
    }

    #[test]
    fn the_error_of_a_matrix_is_split_into_magnitude_and_direction() {
        let exact = mat![[3.0, 0.0], [0.0, 4.0]];
        let of = |candidate: Mat<f64>| {
            let found = Deviations::of_matrix(candidate.as_ref(), exact.as_ref());
            let deviation = |property| found.of(property).unwrap();
            let [c, m, d] = [Property::Coefficients, Property::Magnitude, Property::Direction].map(deviation);
            [c, m, d, found.condition_number]
        };
        let near = |found: [f64; 4], expected: [f64; 4]| {
            let agree = found.iter().zip(expected).all(|(x, y)| (x - y).abs() < ROUNDING || x.to_bits() == y.to_bits());
            assert!(agree, "{found:?} {expected:?}");
        };
        near(of(exact.clone()), [0.0, 0.0, 0.0, 4.0 / 3.0]);
        near(of(Scale(1.5) * &exact), [0.5, 0.5, 0.0, 4.0 / 3.0]);
        // As large as the exact matrix, at an angle whose cosine is 24/25.
        near(of(mat![[4.0, 0.0], [0.0, 3.0]]), [2.0 / 7.0, 0.0, (2.0_f64 - 48.0 / 25.0).sqrt(), 4.0 / 3.0]);
        near(of(Mat::zeros(2, 2)), [1.0, 1.0, 1.0, f64::INFINITY]);
        assert!(of(mat![[f64::NAN, 0.0], [0.0, 1.0]]).iter().all(|x| x.is_nan()));
    }

    #[test]
    #[should_panic(expected = "shapes of the candidate")]
    fn another_shape_is_a_bug() {
        let _ = Deviations::of_matrix(Mat::zeros(2, 2).as_ref(), Mat::zeros(3, 2).as_ref());
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn multiples_of_orthogonal_matrices_have_condition_one(
            entries in prop::collection::vec(-1.0..1.0, 36), n in 1..=6_usize, factor in 0.01..100.0
        ) {
            let square = Mat::from_fn(n, n, |i, j| entries[6 * i + j]);
            let q = square.qr().compute_Q();
            let stacked = Mat::from_fn(n + 1, n, |i, j| if i == 0 { 1.0 } else { factor * q[(i - 1, j)] });
            let [_, norms, orthogonality, condition_number] = figures(&of_pairs(&stacked, &stacked));
            prop_assert!((condition_number - 1.0).abs() < ROUNDING && orthogonality < ROUNDING);
            prop_assert!((norms - f64::abs(factor - 1.0)).abs() < ROUNDING * factor);
        }
    }
}
