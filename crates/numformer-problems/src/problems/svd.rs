//! Singular values and singular vectors.

use faer::prelude::ReborrowMut;
use faer::{Mat, MatRef, Scale};
use numformer_metrics::{Deviations, Norm, Property};

use crate::comparison::diagonal_of_first_row;
use crate::residual::{largest, orthogonality_defect, pair_residual, quotient};
use crate::solvers::dense::{product, require_method};
use crate::solvers::small::{power_of_two_scale, reshape, rows_of, singular_value_decomposition, with_capacity};
use crate::{
    Analysis, Instance, Magnitudes, Problem, ReferenceComparison, SolveError, require_finite, require_representable,
};

use super::eigen::{Signs, clear_noise, may_hold_noise};

/// The singular values of a matrix, in descending order: from r × c to min(r, c) × 1.
///
/// A singular value that differs from zero only by rounding is set to zero. A candidate is compared with the target.
/// The algorithm is Hestenes's one-sided Jacobi method up to 32 rows and columns, and faer's above.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{Problem, SingularValues};
///
/// let answer = SingularValues.solve(mat![[0.0, -2.0, 0.0], [3.0, 0.0, 4.0]].as_ref())?;
/// assert_eq!(answer, mat![[5.0], [2.0]]);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*, section 4.7. <https://arxiv.org/abs/2112.01898>
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct SingularValues;

/// The thin singular value decomposition of a matrix: from r × c to (1 + r + c) × k, k = min(r, c).
///
/// The first row of the answer holds the singular values in descending order. The next r rows hold the left singular
/// vectors U, and the last c rows hold the right singular vectors V, as columns: A = U diag(σ) Vᵀ. The algorithm is
/// that of [`SingularValues`].
///
/// The error of a candidate is the largest of ‖AV - U diag(σ)‖ / ‖A‖, ‖AᵀU - V diag(σ)‖ / ‖A‖, ‖UᵀU - I‖ / ‖I‖,
/// ‖VᵀV - I‖ / ‖I‖ and, since singular values are not negative, ‖σ - |σ|‖ / ‖A‖. Hence common signs of the pairs, their
/// order and the bases of their spaces are free. The [reference's comparison](ReferenceComparison::of) is between UᵀAV
/// and diag(σ). It does not check U and V alone, so a zero answer is perfect.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{Problem, Signs, Svd};
///
/// let problem = Svd { signs: Signs::Canonical };
/// let answer = problem.solve(mat![[0.0, -2.0, 0.0], [3.0, 0.0, 4.0]].as_ref())?;
/// let (singular_values, vectors) = answer.split_at_row(1);
/// let (u, v) = vectors.split_at_row(2);
/// assert_eq!(singular_values, mat![[5.0, 2.0]]);
/// assert_eq!(u, mat![[0.0, 1.0], [1.0, 0.0]]);
/// assert!((v - mat![[0.6, 0.0], [0.0, -1.0], [0.8, 0.0]]).norm_max() < 1e-15);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*, section 4.7. <https://arxiv.org/abs/2112.01898>
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Svd {
    /// The signs of the pairs of singular vectors in the answers; candidates may have others.
    pub signs: Signs,
}

impl Problem for SingularValues {
    fn name(&self) -> &'static str {
        "singular-values"
    }

    fn output_shape(&self, (rows, columns): (usize, usize)) -> Result<(usize, usize), SolveError> {
        Ok((rows.min(columns), 1))
    }

    fn output_magnitudes(&self, (rows, columns): (usize, usize), entries: Magnitudes) -> Magnitudes {
        // No singular value exceeds the Frobenius norm.
        Magnitudes::at_most(entries.largest.map(|bound| ((rows * columns) as f64).sqrt() * bound))
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let shape = self.output_shape(input.shape())?;
        require_finite(input)?;
        require_method(input.shape())?;
        reshape(output, shape);
        let (larger, scale) = (input.nrows().max(input.ncols()), power_of_two_scale(input));
        with_capacity!(
            larger,
            small_singular_values(input, scale, output),
            else large_singular_values(input, scale, output)
        )?;
        require_representable(output.as_ref())?;
        // The vectors tell whether the smallest singular values are noise.
        if may_hold_noise(output.as_ref(), input.shape()) {
            let decomposition = Svd::default().solve(input)?;
            for i in 0..shape.0 {
                output[(i, 0)] = decomposition[(0, i)];
            }
        }
        Ok(())
    }
}

impl Problem for Svd {
    fn name(&self) -> &'static str {
        "svd"
    }

    fn output_shape(&self, (rows, columns): (usize, usize)) -> Result<(usize, usize), SolveError> {
        Ok((1 + rows + columns, rows.min(columns)))
    }

    fn output_magnitudes(&self, input: (usize, usize), entries: Magnitudes) -> Magnitudes {
        let values = SingularValues.output_magnitudes(input, entries);
        Magnitudes::at_most(values.largest.map(|largest| largest.max(1.0)))
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let shape = self.output_shape(input.shape())?;
        require_finite(input)?;
        require_method(input.shape())?;
        reshape(output, shape);
        let (larger, scale) = (input.nrows().max(input.ncols()), power_of_two_scale(input));
        with_capacity!(
            larger,
            small_svd(input, scale, self.signs, output),
            else large_svd(input, scale, self.signs, output)
        )?;
        require_representable(output.as_ref())?;
        if may_hold_noise(output.subrows(0, 1), input.shape()) {
            let (values, vectors) = output.as_mut().split_at_row_mut(1);
            let (u, v) = vectors.as_ref().split_at_row(input.nrows());
            clear_noise(input, scale, values, u, v);
        }
        Ok(())
    }

    fn residual(
        &self,
        input: MatRef<'_, f64>,
        candidate: MatRef<'_, f64>,
        norm: Norm,
    ) -> Result<Option<f64>, SolveError> {
        require_finite(input)?;
        assert_eq!(candidate.shape(), self.output_shape(input.shape())?, "shapes of the candidate and of an answer");
        let a = input;
        let (values, vectors) = candidate.split_at_row(1);
        let (u, v) = vectors.split_at_row(a.nrows());
        let negative = Mat::from_fn(1, values.ncols(), |_, j| values[(0, j)] - values[(0, j)].abs());
        Ok(Some(largest([
            pair_residual(a, v, u, values, norm),
            pair_residual(a.transpose(), u, v, values, norm),
            orthogonality_defect(u, norm),
            orthogonality_defect(v, norm),
            quotient(numformer_metrics::norm(negative.as_ref(), norm), numformer_metrics::norm(a, norm)),
        ])))
    }

    fn analysis(&self) -> Option<&dyn Analysis> {
        Some(self)
    }
}

impl Analysis for Svd {
    fn deviations(&self, instance: Instance<'_>, candidate: MatRef<'_, f64>) -> Option<Deviations> {
        let (values, vectors) = candidate.split_at_row(1);
        let (u, v) = vectors.split_at_row(instance.input.nrows());
        let exact = instance.target.subrows(0, 1);
        Some(Deviations::of_vectors(Property::SingularValues, values, exact, &[u, v]))
    }

    fn reference_comparison(
        &self,
        instance: Instance<'_>,
        candidate: MatRef<'_, f64>,
    ) -> Result<ReferenceComparison, SolveError> {
        require_finite(instance.input)?;
        let (values, vectors) = candidate.split_at_row(1);
        let (u, v) = vectors.split_at_row(instance.input.nrows());
        Ok(ReferenceComparison::new(
            product(product(u.transpose(), instance.input).as_ref(), v),
            diagonal_of_first_row(values),
        ))
    }
}

/// The singular values up to a common factor, a power of two that keeps them in range, in descending order.
pub(crate) fn scaled_singular_values(matrix: MatRef<'_, f64>) -> Result<Mat<f64>, SolveError> {
    require_finite(matrix)?;
    SingularValues.solve((Scale(power_of_two_scale(matrix)) * matrix).as_ref())
}

/// The largest singular value over the smallest: infinite for a singular matrix, 1 for a matrix without entries.
pub(crate) fn condition_number(matrix: MatRef<'_, f64>) -> Result<f64, SolveError> {
    let values = scaled_singular_values(matrix)?;
    Ok(if values.nrows() == 0 { 1.0 } else { values[(0, 0)] / values[(values.nrows() - 1, 0)] })
}

fn small_singular_values<const N: usize>(
    input: MatRef<'_, f64>,
    scale: f64,
    output: &mut Mat<f64>,
) -> Result<(), SolveError> {
    // The method takes a matrix with at least as many rows as columns, with its columns in the rows of the array.
    let tall = if input.nrows() < input.ncols() { input.transpose() } else { input };
    let mut columns = rows_of::<N>(tall.transpose(), scale);
    let values = singular_value_decomposition(&mut columns, tall.nrows(), tall.ncols(), None)?;
    for (i, value) in values.iter().enumerate().take(tall.ncols()) {
        output[(i, 0)] = value / scale;
    }
    Ok(())
}

fn small_svd<const N: usize>(
    input: MatRef<'_, f64>,
    scale: f64,
    signs: Signs,
    output: &mut Mat<f64>,
) -> Result<(), SolveError> {
    let (rows, columns) = input.shape();
    let is_wide = rows < columns;
    let tall = if is_wide { input.transpose() } else { input };
    let mut left = rows_of::<N>(tall.transpose(), scale);
    let mut right = [[0.0; N]; N];
    let values = singular_value_decomposition(&mut left, tall.nrows(), tall.ncols(), Some(&mut right))?;
    // The singular vectors of the transpose are those of the matrix, exchanged.
    let (u, v) = if is_wide { (&right, &left) } else { (&left, &right) };
    for j in 0..tall.ncols() {
        let sign = signs.factor(&u[j][..rows]);
        output[(0, j)] = values[j] / scale;
        for i in 0..rows {
            output[(1 + i, j)] = sign * u[j][i];
        }
        for i in 0..columns {
            output[(1 + rows + i, j)] = sign * v[j][i];
        }
    }
    Ok(())
}

fn large_singular_values(input: MatRef<'_, f64>, scale: f64, output: &mut Mat<f64>) -> Result<(), SolveError> {
    let values = (Scale(scale) * input)
        .singular_values()
        .map_err(|faer::linalg::solvers::SvdError::NoConvergence| SolveError::NotConverged)?;
    for (i, value) in values.iter().enumerate() {
        output[(i, 0)] = value / scale;
    }
    Ok(())
}

fn large_svd(input: MatRef<'_, f64>, scale: f64, signs: Signs, output: &mut Mat<f64>) -> Result<(), SolveError> {
    let decomposition = (Scale(scale) * input)
        .thin_svd()
        .map_err(|faer::linalg::solvers::SvdError::NoConvergence| SolveError::NotConverged)?;
    let (mut values, vectors) = output.as_mut().split_at_row_mut(1);
    let (mut u, mut v) = vectors.split_at_row_mut(input.nrows());
    for (j, value) in decomposition.S().column_vector().iter().enumerate() {
        let left = decomposition.U().col(j);
        let sign = Scale(signs.factor(left.iter()));
        values[(0, j)] = value / scale;
        u.rb_mut().col_mut(j).copy_from(sign * left);
        v.rb_mut().col_mut(j).copy_from(sign * decomposition.V().col(j));
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the two problems compute the same numbers")]
mod tests {
    use faer::mat;
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::solvers::small::largest_magnitude;
    use crate::testing::{assert_solved, assert_zero_is_wrong, general, size, symmetric, wild};
    use crate::{Determinant, Eigenvalues};

    /// Allowed error of an answer relative to the input: far above rounding at 34 rows.
    const ACCURACY: f64 = 1e-12;

    #[test]
    fn matrices_without_entries_have_no_singular_values() {
        for (rows, columns) in [(0, 0), (3, 0), (0, 3)] {
            let input = Mat::zeros(rows, columns);
            assert_eq!(SingularValues.solve(input.as_ref()).unwrap().shape(), (0, 1));
            assert_eq!(Svd::default().solve(input.as_ref()).unwrap().shape(), (1 + rows + columns, 0));
        }
        assert_eq!(Svd::default().solve(mat![[-3.0]].as_ref()).unwrap(), mat![[3.0], [-1.0], [1.0]]);
    }

    #[test]
    fn a_zero_matrix_has_orthonormal_singular_vectors() {
        for shape in [(3, 3), (2, 4), (4, 2), (33, 33)] {
            assert_solved(&Svd::default(), Mat::zeros(shape.0, shape.1).as_ref(), ACCURACY);
        }
    }

    /// The first and the last column are parallel, and they separate when columns are sorted.
    #[test]
    fn columns_that_change_places_are_still_compared() {
        let a = mat![[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1e-55, 0.0, 10.0]];
        assert_solved(&Svd::default(), a.as_ref(), ACCURACY);
    }

    #[test]
    fn singular_values_that_are_zero_but_for_rounding_are_zero() {
        for a in [
            mat![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]],
            Mat::full(3, 5, 0.1),
            mat![[1.0, 2.0], [3.0, 6.0], [5.0, 10.0]],
            Mat::full(40, 36, 0.3),
        ] {
            let decomposition = assert_solved(&Svd::default(), a.as_ref(), ACCURACY);
            let values = SingularValues.solve(a.as_ref()).unwrap();
            for x in values.col(0).iter().chain(decomposition.row(0).iter()) {
                assert!(*x == 0.0 || *x > 1e-3 * size(a.as_ref()), "{x:e} of {a:?}");
            }
        }
        // Values that the entries determine are kept, however small they are.
        let graded = mat![[0.0, 1.0, 0.0], [1e-20, 0.0, 0.0], [0.0, 0.0, -1e-200]];
        assert_eq!(SingularValues.solve(graded.as_ref()), Ok(mat![[1.0], [1e-20], [1e-200]]));
    }

    /// The last column is so short that it is skipped in some sweeps and not in others.
    #[test]
    fn a_column_without_a_direction_gets_one() {
        let x = 0.000_803_397_396_116_003_7;
        for short in [5e-146, 5e-145, 5e-144, 5e-142, 5e-141, 5e-140, 5e-139, 5e-138] {
            let a = mat![[0.0, -0.5, short], [-0.5, 0.0, -x], [short, -x, 0.0]];
            assert_solved(&Svd::default(), a.as_ref(), ACCURACY);
            let a = mat![[1.0, 1.0, 1.0], [1.0, 1.0, 1.0 + f64::EPSILON], [short, -short, short]];
            assert_solved(&Svd::default(), a.as_ref(), ACCURACY);
        }
    }

    #[test]
    fn condition_numbers_of_any_scale_are_found() {
        for scale in [1e-300, 1.0, 1e308] {
            let condition_number = condition_number((Scale(scale) * mat![[1.0, 0.0], [0.0, -1e-7]]).as_ref()).unwrap();
            assert!((condition_number / 1e7 - 1.0).abs() < 1e-12, "{condition_number:e}");
        }
        assert_eq!(condition_number(mat![[1.0, 0.0], [0.0, 0.0]].as_ref()), Ok(f64::INFINITY));
        assert_eq!(condition_number(Mat::new().as_ref()), Ok(1.0));
    }

    #[test]
    fn zeros_and_single_pairs_are_wrong_answers() {
        let input = mat![[2.0, 1.0, 0.0], [-1.0, 5.0, 3.0]];
        assert_zero_is_wrong(&SingularValues, input.as_ref());
        let problem = Svd::default();
        assert_zero_is_wrong(&problem, input.as_ref());

        let target = problem.solve(input.as_ref()).unwrap();
        let pair = Mat::from_fn(6, 2, |i, j| if j == 0 { target[(i, j)] } else { 0.0 });
        let instance = Instance { input: input.as_ref(), target: target.as_ref() };
        assert!(problem.error(instance, pair.as_ref(), Norm::L1).unwrap() >= 0.5);
        assert!(ReferenceComparison::of(&problem, instance, pair.as_ref()).unwrap().error(Norm::L1) < ACCURACY);
    }

    #[test]
    fn each_part_of_the_error_is_needed() {
        let problem = Svd::default();
        let error = |input: &Mat<f64>, candidate: &Mat<f64>| {
            let target = problem.solve(input.as_ref()).unwrap();
            let instance = Instance { input: input.as_ref(), target: target.as_ref() };
            problem.error(instance, candidate.as_ref(), Norm::Frobenius).unwrap()
        };
        // AV = U diag(σ) with orthonormal columns, but V does not span the rows of A.
        assert!(error(&mat![[1.0, 1.0]], &mat![[1.0], [1.0], [1.0], [0.0]]) > 0.5);
        assert!(error(&mat![[1.0], [1.0]], &mat![[1.0], [1.0], [0.0], [1.0]]) > 0.5);
        // For a singular value of zero, only the lengths say that a vector is missing.
        let input = mat![[1.0, 0.0], [0.0, 0.0]];
        let missing_left = mat![[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]];
        let missing_right = mat![[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]];
        assert!(error(&input, &missing_left) > 0.5 && error(&input, &missing_right) > 0.5);
    }

    #[test]
    fn a_negative_singular_value_is_wrong_though_it_decomposes_the_matrix() {
        let input = mat![[2.0, 1.0], [-1.0, 5.0]];
        let problem = Svd::default();
        let target = problem.solve(input.as_ref()).unwrap();
        let negative = Mat::from_fn(5, 2, |i, j| if j == 0 && i < 3 { -target[(i, j)] } else { target[(i, j)] });
        let instance = Instance { input: input.as_ref(), target: target.as_ref() };
        assert!(problem.error(instance, negative.as_ref(), Norm::Frobenius).unwrap() > 1.0);
    }

    #[test]
    fn entries_that_are_not_finite_and_results_beyond_the_range_are_errors() {
        assert!(matches!(SingularValues.solve(mat![[f64::NAN]].as_ref()), Err(SolveError::NotFinite { .. })));
        assert_eq!(Svd::default().solve(Mat::full(3, 2, f64::MAX).as_ref()), Err(SolveError::Overflow));
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn answers_meet_their_own_measure(a in general()) {
            let answer = assert_solved(&Svd::default(), a.as_ref(), ACCURACY);
            let values = assert_solved(&SingularValues, a.as_ref(), 0.0);
            for j in 0..values.nrows() {
                prop_assert!(answer[(0, j)] >= 0.0 && (j == 0 || answer[(0, j)] <= answer[(0, j - 1)]));
                prop_assert_eq!(answer[(0, j)], values[(j, 0)]);
            }
        }

        #[test]
        fn singular_values_agree_with_faer(a in general()) {
            let scale = power_of_two_scale(a.as_ref());
            let expected = (Scale(scale) * &a).singular_values().unwrap();
            let answer = SingularValues.solve(a.as_ref()).unwrap();
            for (i, value) in expected.iter().enumerate() {
                prop_assert!((answer[(i, 0)] - value / scale).abs() <= ACCURACY * size(a.as_ref()));
            }
        }

        #[test]
        fn the_transpose_has_the_same_singular_values_and_the_vectors_exchanged(a in general()) {
            let values = SingularValues.solve(a.as_ref()).unwrap();
            let of_transpose = SingularValues.solve(a.transpose()).unwrap();
            prop_assert!(size((values - of_transpose).as_ref()) <= ACCURACY * size(a.as_ref()));
            let problem = Svd::default();
            let answer = problem.solve(a.transpose()).unwrap();
            let (rows, columns) = a.shape();
            let exchanged = Mat::from_fn(1 + rows + columns, answer.ncols(), |i, j| match i {
                0 => answer[(0, j)],
                _ if i <= rows => answer[(i + columns, j)],
                _ => answer[(i - rows, j)],
            });
            let instance = Instance { input: a.as_ref(), target: exchanged.as_ref() };
            prop_assert!(problem.error(instance, exchanged.as_ref(), Norm::L1).unwrap() <= ACCURACY);
        }

        #[test]
        fn the_singular_values_of_a_symmetric_matrix_are_magnitudes_of_eigenvalues(a in symmetric()) {
            let values = SingularValues.solve(a.as_ref()).unwrap();
            let mut magnitudes: Vec<f64> =
                Eigenvalues.solve(a.as_ref()).unwrap().col(0).iter().map(|x| x.abs()).collect();
            magnitudes.sort_by(|x, y| y.total_cmp(x));
            for (i, magnitude) in magnitudes.into_iter().enumerate() {
                prop_assert!((values[(i, 0)] - magnitude).abs() <= ACCURACY * size(a.as_ref()));
            }
        }

        #[test]
        fn the_determinant_is_the_product_of_the_singular_values(a in crate::testing::uniform(4, 4)) {
            let product: f64 = SingularValues.solve(a.as_ref()).unwrap().col(0).iter().product();
            let determinant = Determinant.solve(a.as_ref()).unwrap()[(0, 0)];
            prop_assert!((product - determinant.abs()).abs() <= ACCURACY * 40_f64.powi(4));
        }

        #[test]
        fn scaling_by_powers_of_two_is_exact(a in general(), k in -100..=100_i32) {
            let factor = 2.0_f64.powi(k);
            let values = SingularValues.solve(a.as_ref()).unwrap();
            let scaled = SingularValues.solve((Scale(factor) * &a).as_ref()).unwrap();
            // What is left of a zero may be subnormal, before or after scaling.
            prop_assert!(size((scaled - Scale(factor) * values).as_ref()) <= f64::MIN_POSITIVE * factor.max(1.0));
        }

        #[test]
        fn canonical_signs_keep_the_decomposition(a in general()) {
            let answer = assert_solved(&Svd { signs: Signs::Canonical }, a.as_ref(), ACCURACY);
            for j in 0..answer.ncols() {
                let first = (1..=a.nrows()).map(|i| answer[(i, j)]).find(|x| x.abs() > 1e-10).unwrap();
                prop_assert!(first > 0.0);
            }
        }

        #[test]
        fn entries_of_every_magnitude_have_an_answer_or_overflow(a in wild(4, 3)) {
            match Svd::default().solve(a.as_ref()) {
                Ok(answer) => {
                    let (u, v) = (answer.get(1..5, ..), answer.get(5.., ..));
                    prop_assert!(orthogonality_defect(u, Norm::Max) <= ACCURACY);
                    prop_assert!(orthogonality_defect(v, Norm::Max) <= ACCURACY);
                    let scale = power_of_two_scale(a.as_ref());
                    let (scaled, values) = (Scale(scale) * &a, Scale(scale) * answer.get(..1, ..));
                    prop_assert!(largest_magnitude(scaled.as_ref()) < 2.0);
                    prop_assert!(pair_residual(scaled.as_ref(), v, u, values.as_ref(), Norm::Max) <= ACCURACY);
                }
                Err(error) => prop_assert_eq!(error, SolveError::Overflow),
            }
        }
    }
}
