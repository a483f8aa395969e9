//! Eigenvalues and eigenvectors of symmetric matrices.

use faer::prelude::ReborrowMut;
use faer::{Mat, MatMut, MatRef, Scale, Side};
use numformer_metrics::{Deviations, Norm, Property};
use serde::{Deserialize, Serialize};

use crate::comparison::diagonal_of_first_row;
use crate::residual::eigenvector_residual;
use crate::solve_error::require_square;
use crate::solvers::dense::{product, require_method};
use crate::solvers::small::{
    from_fn, largest_magnitude, power_of_two_scale, require_symmetric, reshape, symmetric_eigen, symmetric_entry,
    with_capacity,
};
use crate::{
    Analysis, Instance, Magnitudes, Problem, RayleighQuotient, ReferenceComparison, Refinement, SolveError,
    require_finite, require_representable,
};

/// The eigenvalues of a symmetric matrix, in descending order: from n × n to n × 1.
///
/// An eigenvalue that differs from zero only by rounding is set to zero. The problem is posed on matrices that are
/// symmetric up to rounding: each entry equals its mirror image to 10⁻¹² of the larger one, or to what rounding leaves
/// of a zero. All other matrices are [`SolveError::NotSymmetric`]. A candidate is compared with the target.
///
/// The algorithm is Householder's reduction and implicit QL steps up to n = 32, and faer's above.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{Eigenvalues, Problem};
///
/// let answer = Eigenvalues.solve(mat![[2.0, 1.0], [1.0, 2.0]].as_ref())?;
/// assert!((answer[(0, 0)] - 3.0).abs() < 1e-14);
/// assert!((answer[(1, 0)] - 1.0).abs() < 1e-14);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*, section 4.4. <https://arxiv.org/abs/2112.01898>
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Eigenvalues;

/// How to choose the signs of singular vectors and eigenvectors, which the matrix leaves open.
///
/// Configuration files call these `as_computed` and `canonical`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signs {
    /// The signs that the algorithm computes: a function of the input, but not a simple one. The program of the paper's
    /// authors uses these signs.
    #[default]
    AsComputed,
    /// The first entry of each eigenvector, or left singular vector, is positive. Entries below 10⁻¹⁰, which may be
    /// zeros before rounding, are skipped.
    Canonical,
}

impl Signs {
    /// What counts as zero in a unit vector: far above rounding errors, far below what three digits show.
    const ZERO: f64 = 1e-10;

    /// The factor, 1 or -1, for a vector with these entries.
    pub(crate) fn factor<'a>(self, vector: impl IntoIterator<Item = &'a f64>) -> f64 {
        match self {
            Self::AsComputed => 1.0,
            Self::Canonical => {
                vector.into_iter().find(|x| x.abs() > Self::ZERO).map_or(1.0, |first| 1.0_f64.copysign(*first))
            }
        }
    }
}

/// Eigenvalues and eigenvectors of a symmetric matrix: from n × n to (n + 1) × n.
///
/// The first row of the answer holds the eigenvalues in ascending order. The rows below hold the orthogonal matrix V,
/// whose columns are the eigenvectors: AV = V diag(λ). The algorithm and the condition on symmetric inputs are those of
/// [`Eigenvalues`].
///
/// The error of a candidate is the larger of ‖AV - V diag(λ)‖ / ‖A‖ and ‖VᵀV - I‖ / ‖I‖. Hence signs, the order of the
/// pairs and the basis of an eigenspace are free. The [reference's comparison](ReferenceComparison::of) is between VᵀAV
/// and diag(λ). It does not check V alone, so a zero answer is perfect.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_metrics::Norm;
/// use numformer_problems::{Eigenvectors, Instance, Problem, Signs};
///
/// let problem = Eigenvectors { signs: Signs::Canonical };
/// let input = mat![[2.0, 1.0], [1.0, 2.0]];
/// let answer = problem.solve(input.as_ref())?;
/// let expected = mat![[1.0, 3.0], [0.5_f64.sqrt(), 0.5_f64.sqrt()], [-0.5_f64.sqrt(), 0.5_f64.sqrt()]];
/// assert!((&answer - &expected).norm_max() < 1e-14);
/// let instance = Instance { input: input.as_ref(), target: answer.as_ref() };
/// assert!(problem.error(instance, expected.as_ref(), Norm::L1)? < 1e-14);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*, section 4.5. <https://arxiv.org/abs/2112.01898>
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Eigenvectors {
    /// The signs of the eigenvectors in the answers; candidates may have others.
    pub signs: Signs,
}

impl Problem for Eigenvalues {
    fn name(&self) -> &'static str {
        "eigenvalues"
    }

    fn task_letter(&self) -> &'static str {
        "E"
    }

    fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
        Ok((require_square(input)?, 1))
    }

    fn output_magnitudes(&self, (rows, _): (usize, usize), entries: Magnitudes) -> Magnitudes {
        // No eigenvalue exceeds the largest sum of magnitudes in a row.
        Magnitudes::at_most(entries.largest.map(|bound| rows as f64 * bound))
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let shape = self.output_shape(input.shape())?;
        require_finite(input)?;
        require_symmetric(input)?;
        require_method(input.shape())?;
        reshape(output, shape);
        let scale = power_of_two_scale(input);
        with_capacity!(shape.0, small_eigenvalues(input, scale, output), else large_eigenvalues(input, scale, output))?;
        require_representable(output.as_ref())?;
        // The vectors tell whether the smallest eigenvalues are noise.
        if may_hold_noise(output.as_ref(), input.shape()) {
            let pairs = Eigenvectors::default().solve(input)?;
            let n = shape.0;
            for i in 0..n {
                output[(i, 0)] = pairs[(0, n - 1 - i)];
            }
        }
        Ok(())
    }
}

impl Problem for Eigenvectors {
    fn name(&self) -> &'static str {
        "eigenvectors"
    }

    fn task_letter(&self) -> &'static str {
        "F"
    }

    fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
        let n = require_square(input)?;
        Ok((n + 1, n))
    }

    fn output_magnitudes(&self, input: (usize, usize), entries: Magnitudes) -> Magnitudes {
        let values = Eigenvalues.output_magnitudes(input, entries);
        Magnitudes::at_most(values.largest.map(|largest| largest.max(1.0)))
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let shape = self.output_shape(input.shape())?;
        require_finite(input)?;
        require_symmetric(input)?;
        require_method(input.shape())?;
        reshape(output, shape);
        let (n, scale) = (shape.1, power_of_two_scale(input));
        with_capacity!(
            n,
            small_eigenvectors(input, scale, self.signs, output),
            else large_eigenvectors(input, scale, self.signs, output)
        )?;
        require_representable(output.as_ref())?;
        if may_hold_noise(output.subrows(0, 1), input.shape()) {
            let (mut values, vectors) = output.as_mut().split_at_row_mut(1);
            clear_noise(input, scale, values.rb_mut(), vectors.as_ref(), vectors.as_ref());
        }
        Ok(())
    }

    fn residual(
        &self,
        input: MatRef<'_, f64>,
        candidate: MatRef<'_, f64>,
        norm: Norm,
    ) -> Result<Option<f64>, SolveError> {
        eigenvector_residual(input, candidate, norm).map(Some)
    }

    fn analysis(&self) -> Option<&dyn Analysis> {
        Some(self)
    }
}

impl Analysis for Eigenvectors {
    fn deviations(&self, instance: Instance<'_>, candidate: MatRef<'_, f64>) -> Option<Deviations> {
        let (values, vectors) = candidate.split_at_row(1);
        let exact = instance.target.subrows(0, 1);
        Some(Deviations::of_vectors(Property::Eigenvalues, values, exact, &[vectors]))
    }

    fn refinement(&self) -> Option<&dyn Refinement> {
        Some(&RayleighQuotient)
    }

    fn reference_comparison(
        &self,
        instance: Instance<'_>,
        candidate: MatRef<'_, f64>,
    ) -> Result<ReferenceComparison, SolveError> {
        require_finite(instance.input)?;
        let (values, vectors) = candidate.split_at_row(1);
        let found = product(product(vectors.transpose(), instance.input).as_ref(), vectors);
        Ok(ReferenceComparison::new(found, diagonal_of_first_row(values)))
    }
}

/// Whether some of the eigenvalues or singular values of a matrix of this shape are so small, relative to the largest,
/// that they may be what rounding left of zeros.
pub(crate) fn may_hold_noise(values: MatRef<'_, f64>, shape: (usize, usize)) -> bool {
    let limit = noise_limit(values, shape);
    values.col_iter().flat_map(|column| column.iter()).any(|x| *x != 0.0 && x.abs() <= limit)
}

/// The rounding error n ε ‖A‖ of an eigenvalue or singular value, where n is the larger of rows and columns.
fn noise_limit(values: MatRef<'_, f64>, (rows, columns): (usize, usize)) -> f64 {
    rows.max(columns) as f64 * f64::EPSILON * largest_magnitude(values)
}

/// Sets the smallest of the eigenvalues or singular values in the row `values` to zero, if they differ from zero only
/// by rounding.
///
/// Not all small values are noise: the entries of a diagonal matrix determine each of them. So a value is noise only if
/// it is also within the rounding error of the sum uᵀAv, which is n ε |u|ᵀ|A| |v| up to a small factor.
pub(crate) fn clear_noise(
    a: MatRef<'_, f64>,
    scale: f64,
    mut values: MatMut<'_, f64>,
    u: MatRef<'_, f64>,
    v: MatRef<'_, f64>,
) {
    /// The errors of the algorithms were seen to stay below this factor.
    const FACTOR: f64 = 8.0;
    let limit = noise_limit(values.as_ref(), a.shape());
    let rounding = FACTOR * a.nrows().max(a.ncols()) as f64 * f64::EPSILON;
    loop {
        // From the smallest on, so that the values stay in order.
        let nonzero = (0..values.ncols()).filter(|&j| values[(0, j)] != 0.0);
        let Some(j) = nonzero.min_by(|&i, &j| values[(0, i)].abs().total_cmp(&values[(0, j)].abs())) else { return };
        let entries = (0..a.ncols()).flat_map(|l| (0..a.nrows()).map(move |k| (k, l)));
        let sum: f64 = entries.map(|(k, l)| (u[(k, j)] * (scale * a[(k, l)]) * v[(l, j)]).abs()).sum();
        let size = values[(0, j)].abs();
        if size > limit || scale * size > rounding * sum {
            return;
        }
        values[(0, j)] = 0.0;
    }
}

fn small_eigenvalues<const N: usize>(
    input: MatRef<'_, f64>,
    scale: f64,
    output: &mut Mat<f64>,
) -> Result<(), SolveError> {
    let n = input.nrows();
    let values = symmetric_eigen::<N>(&mut from_fn((n, n), |i, j| symmetric_entry(input, scale, i, j)), n, None)?;
    for i in 0..n {
        output[(i, 0)] = values[n - 1 - i] / scale;
    }
    Ok(())
}

fn small_eigenvectors<const N: usize>(
    input: MatRef<'_, f64>,
    scale: f64,
    signs: Signs,
    output: &mut Mat<f64>,
) -> Result<(), SolveError> {
    let n = input.nrows();
    let mut vectors = [[0.0; N]; N];
    let values =
        symmetric_eigen(&mut from_fn((n, n), |i, j| symmetric_entry(input, scale, i, j)), n, Some(&mut vectors))?;
    for j in 0..n {
        let sign = signs.factor(&vectors[j][..n]);
        output[(0, j)] = values[j] / scale;
        for i in 0..n {
            output[(i + 1, j)] = sign * vectors[j][i];
        }
    }
    Ok(())
}

/// The symmetric part of the matrix times `scale`.
fn symmetric_part(matrix: MatRef<'_, f64>, scale: f64) -> Mat<f64> {
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| symmetric_entry(matrix, scale, i, j))
}

fn large_eigenvalues(input: MatRef<'_, f64>, scale: f64, output: &mut Mat<f64>) -> Result<(), SolveError> {
    let ascending = symmetric_part(input, scale)
        .self_adjoint_eigenvalues(Side::Lower)
        .map_err(|faer::linalg::solvers::EvdError::NoConvergence| SolveError::NotConverged)?;
    for (i, value) in ascending.iter().rev().enumerate() {
        output[(i, 0)] = value / scale;
    }
    Ok(())
}

fn large_eigenvectors(
    input: MatRef<'_, f64>,
    scale: f64,
    signs: Signs,
    output: &mut Mat<f64>,
) -> Result<(), SolveError> {
    let decomposition = symmetric_part(input, scale)
        .self_adjoint_eigen(Side::Lower)
        .map_err(|faer::linalg::solvers::EvdError::NoConvergence| SolveError::NotConverged)?;
    let (mut values, mut vectors) = output.as_mut().split_at_row_mut(1);
    for (j, (value, vector)) in decomposition.S().column_vector().iter().zip(decomposition.U().col_iter()).enumerate() {
        values[(0, j)] = value / scale;
        vectors.rb_mut().col_mut(j).copy_from(Scale(signs.factor(vector.iter())) * vector);
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "signs are exact")]
mod tests {
    use faer::mat;
    use numformer_metrics::norm;
    use numformer_testkit::cases;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::residual::{orthogonality_defect, pair_residual};
    use crate::testing::{assert_solved, assert_zero_is_wrong, mirrored, size, symmetric, wild};
    use crate::{Law, Trace, UniformEntries};

    /// Allowed error of an answer relative to the input, and of products with it: far above rounding at 34 rows.
    const ACCURACY: f64 = 1e-12;

    fn reversed_rows(permutation_seed: usize, a: &Mat<f64>) -> Mat<f64> {
        let n = a.nrows();
        let at = |i: usize| (n - 1 - i + permutation_seed) % n;
        Mat::from_fn(n, n, |i, j| a[(at(i), at(j))])
    }

    #[test]
    fn input_that_is_not_symmetric_or_finite_is_an_error() {
        let square = SolveError::Shape { expected: "a square matrix", found: (2, 3) };
        assert_eq!(Eigenvalues.solve(Mat::zeros(2, 3).as_ref()), Err(square));
        let error = Eigenvectors::default().solve(mat![[1.0, 2.0], [3.0, 4.0]].as_ref()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "expected a symmetric matrix, found 3 in row 2, column 1 but 2 in the mirrored position"
        );
        let error = Eigenvalues.solve(mat![[f64::NAN]].as_ref()).unwrap_err();
        assert!(matches!(error, SolveError::NotFinite { row: 0, column: 0, .. }));
    }

    #[test]
    fn empty_and_single_entries_are_their_own_eigenvalues() {
        assert_eq!(Eigenvalues.solve(Mat::new().as_ref()).unwrap().shape(), (0, 1));
        assert_eq!(Eigenvectors::default().solve(Mat::new().as_ref()).unwrap().shape(), (1, 0));
        assert_eq!(Eigenvalues.solve(mat![[-3.0]].as_ref()).unwrap(), mat![[-3.0]]);
        assert_eq!(Eigenvectors::default().solve(mat![[-3.0]].as_ref()).unwrap(), mat![[-3.0], [1.0]]);
    }

    #[test]
    fn zeros_and_single_pairs_are_wrong_answers() {
        let input = mat![[2.0, 1.0, 0.0], [1.0, 5.0, 3.0], [0.0, 3.0, -1.0]];
        assert_zero_is_wrong(&Eigenvalues, input.as_ref());
        let problem = Eigenvectors::default();
        assert_zero_is_wrong(&problem, input.as_ref());

        // One true pair beside zeros: perfect for the reference, wrong here.
        let target = problem.solve(input.as_ref()).unwrap();
        let pair = Mat::from_fn(4, 3, |i, j| if j == 1 { target[(i, j)] } else { 0.0 });
        let instance = Instance { input: input.as_ref(), target: target.as_ref() };
        assert!(problem.error(instance, pair.as_ref(), Norm::L1).unwrap() > 0.5);
        assert!(ReferenceComparison::of(&problem, instance, pair.as_ref()).unwrap().error(Norm::L1) < ACCURACY);
    }

    #[test]
    fn canonical_signs_pass_over_zeros() {
        let problem = Eigenvectors { signs: Signs::Canonical };
        let answer = problem.solve(mat![[5.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]].as_ref()).unwrap();
        let half = 0.5_f64.sqrt();
        let expected = mat![[-1.0, 1.0, 5.0], [0.0, 0.0, 1.0], [half, half, 0.0], [-half, half, 0.0]];
        assert!(size((&answer - expected).as_ref()) < 1e-15, "{answer:?}");
    }

    /// Large entries first and rounding errors last: QL steps alone do not converge.
    #[test]
    fn the_rounding_errors_of_a_low_rank_do_not_hinder_convergence() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for n in [16, 24, 31, 32].repeat(100) {
            let factor = UniformEntries::new(n, 2, 10.0).unwrap().sample(&mut rng);
            let a = mirrored((&factor * factor.transpose()).as_ref());
            assert_solved(&Eigenvectors::default(), a.as_ref(), ACCURACY);
        }
    }

    #[test]
    fn eigenvalues_that_are_zero_but_for_rounding_are_zero() {
        for a in [
            mat![[1.0, 2.0, 3.0], [2.0, 5.0, 6.0], [3.0, 6.0, 9.0]],
            Mat::full(3, 3, 1.0),
            Mat::full(5, 5, 0.1),
            mat![[-1.0, -1.0, 1.0], [-1.0, -1.0, 1.0], [1.0, 1.0, -1.0]],
            Mat::full(40, 40, 0.3),
        ] {
            for scale in [1e-300, 1.0, 1e300] {
                let a = Scale(scale) * &a;
                let pairs = assert_solved(&Eigenvectors::default(), a.as_ref(), ACCURACY);
                let values = Eigenvalues.solve(a.as_ref()).unwrap();
                for x in values.col(0).iter().chain(pairs.row(0).iter()) {
                    assert!(*x == 0.0 || x.abs() > 1e-3 * size(a.as_ref()), "{x:e} of {a:?}");
                }
            }
        }
        // Values that the entries determine are kept, however small they are.
        let graded = mat![[1.0, 0.0, 0.0], [0.0, 1e-20, 0.0], [0.0, 0.0, -1e-200]];
        assert_eq!(Eigenvalues.solve(graded.as_ref()), Ok(mat![[1.0], [1e-20], [-1e-200]]));
    }

    /// The rows of these matrices separate in the middle of a step.
    #[test]
    fn strongly_graded_matrices_have_their_eigenvectors() {
        let matrices = [
            mat![
                [0.0, 0.0, 0.0, -1e251],
                [0.0, 0.0, 6.5e262, 1e118],
                [0.0, 6.5e262, 0.0, 0.0],
                [-1e251, 1e118, 0.0, 0.0]
            ],
            mat![
                [0.0, 2e-150, -6.5e-146, 3e-8],
                [2e-150, 0.0, -1.0, 0.0],
                [-6.5e-146, -1.0, 0.0, -6.5e-146],
                [3e-8, 0.0, -6.5e-146, 0.0]
            ],
        ];
        for a in matrices {
            let unit = power_of_two_scale(a.as_ref());
            assert_solved(&Eigenvectors::default(), (Scale(unit) * &a).as_ref(), ACCURACY);
        }
    }

    #[test]
    fn asymmetry_beside_a_large_entry_is_seen() {
        let a = mat![[1e8, 0.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]];
        let expected = SolveError::NotSymmetric { row: 2, column: 1, value: 0.0, mirrored: 0.5 };
        assert_eq!(Eigenvalues.solve(a.as_ref()), Err(expected));
        assert_eq!(Eigenvectors::default().solve(a.as_ref()), Err(expected));
    }

    #[test]
    fn a_result_beyond_the_range_is_an_error() {
        let huge = Mat::full(3, 3, f64::MAX);
        assert_eq!(Eigenvalues.solve(huge.as_ref()), Err(SolveError::Overflow));
        assert_eq!(Eigenvectors::default().solve(huge.as_ref()), Err(SolveError::Overflow));
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn answers_meet_their_own_measure(a in symmetric()) {
            let answer = assert_solved(&Eigenvectors::default(), a.as_ref(), ACCURACY);
            for j in 1..a.ncols() {
                prop_assert!(answer[(0, j - 1)] <= answer[(0, j)]);
            }
            let values = assert_solved(&Eigenvalues, a.as_ref(), 0.0);
            let n = a.ncols();
            for j in 0..n {
                prop_assert!((values[(n - 1 - j, 0)] - answer[(0, j)]).abs() <= ACCURACY * size(a.as_ref()));
            }
        }

        #[test]
        fn eigenvalues_agree_with_faer(a in symmetric()) {
            let scale = power_of_two_scale(a.as_ref());
            let expected = symmetric_part(a.as_ref(), scale).self_adjoint_eigenvalues(Side::Lower).unwrap();
            let answer = Eigenvalues.solve(a.as_ref()).unwrap();
            for (i, value) in expected.iter().rev().enumerate() {
                prop_assert!((answer[(i, 0)] - value / scale).abs() <= ACCURACY * size(a.as_ref()));
            }
        }

        #[test]
        fn the_trace_is_the_sum_of_the_eigenvalues(a in symmetric()) {
            let sum: f64 = Eigenvalues.solve(a.as_ref()).unwrap().col(0).iter().sum();
            let trace = Trace.solve(a.as_ref()).unwrap()[(0, 0)];
            prop_assert!((sum - trace).abs() <= 34.0 * ACCURACY * size(a.as_ref()));
        }

        #[test]
        fn the_squares_of_the_eigenvalues_are_those_of_the_entries(a in symmetric()) {
            let values = Eigenvalues.solve(a.as_ref()).unwrap();
            let [of_values, of_entries] = [&values, &a].map(|x| norm(x.as_ref(), Norm::Frobenius));
            prop_assert!((of_values - of_entries).abs() <= ACCURACY * of_entries);
        }

        #[test]
        fn scaling_by_powers_of_two_is_exact(a in symmetric(), k in -100..=100_i32) {
            let problem = Eigenvectors::default();
            let factor = 2.0_f64.powi(k);
            let answer = problem.solve(a.as_ref()).unwrap();
            let scaled = problem.solve((Scale(factor) * &a).as_ref()).unwrap();
            let expected = Mat::from_fn(answer.nrows(), answer.ncols(), |i, j| {
                if i == 0 { factor * answer[(i, j)] } else { answer[(i, j)] }
            });
            // What is left of a zero may be subnormal, before or after scaling.
            prop_assert!(size((scaled - expected).as_ref()) <= f64::MIN_POSITIVE * factor.max(1.0));
        }

        #[test]
        fn exchanging_rows_and_columns_keeps_the_eigenvalues(a in symmetric(), seed in 0..100_usize) {
            let [values, permuted] = [a.clone(), reversed_rows(seed, &a)].map(|x| Eigenvalues.solve(x.as_ref()).unwrap());
            prop_assert!(size((values - permuted).as_ref()) <= ACCURACY * size(a.as_ref()));
        }

        #[test]
        fn signs_and_order_of_the_pairs_are_free(a in symmetric(), flips in any::<u64>()) {
            let problem = Eigenvectors::default();
            let answer = problem.solve(a.as_ref()).unwrap();
            let n = a.ncols();
            let other = Mat::from_fn(n + 1, n, |i, j| {
                let x = answer[(i, n - 1 - j)];
                if i > 0 && flips >> (j % 64) & 1 == 1 { -x } else { x }
            });
            let instance = Instance { input: a.as_ref(), target: answer.as_ref() };
            prop_assert!(problem.error(instance, other.as_ref(), Norm::L1).unwrap() <= ACCURACY);
        }

        #[test]
        fn canonical_signs_do_not_depend_on_those_computed(a in symmetric()) {
            let computed = Eigenvectors::default().solve(a.as_ref()).unwrap();
            let canonical = assert_solved(&Eigenvectors { signs: Signs::Canonical }, a.as_ref(), ACCURACY);
            for j in 0..a.ncols() {
                let first = (1..=a.ncols()).map(|i| canonical[(i, j)]).find(|x| x.abs() > Signs::ZERO).unwrap();
                prop_assert!(first > 0.0);
                for i in 1..=a.ncols() {
                    prop_assert_eq!(canonical[(i, j)].abs(), computed[(i, j)].abs());
                }
            }
        }

        #[test]
        fn a_wrong_answer_has_an_error_of_its_size(a in symmetric(), column in 0..34_usize, growth in 0.01..0.5) {
            if a.ncols() == 0 {
                return Ok(());
            }
            let problem = Eigenvectors::default();
            let answer = problem.solve(a.as_ref()).unwrap();
            let mut longer = answer.clone();
            for i in 1..answer.nrows() {
                longer[(i, column % a.ncols())] *= 1.0 + growth;
            }
            let instance = Instance { input: a.as_ref(), target: answer.as_ref() };
            // One entry of VᵀV - I is (1 + growth)² - 1.
            let error = problem.error(instance, longer.as_ref(), Norm::Max).unwrap();
            prop_assert!(error >= 2.0 * growth);
        }

        #[test]
        fn entries_of_every_magnitude_have_an_answer_or_overflow(a in wild(4, 4)) {
            let a = mirrored(a.as_ref());
            match Eigenvectors::default().solve(a.as_ref()) {
                Ok(answer) => {
                    let vectors = answer.get(1.., ..);
                    prop_assert!(orthogonality_defect(vectors, Norm::Max) <= ACCURACY);
                    let scaled = Scale(power_of_two_scale(a.as_ref())) * &a;
                    let values = Scale(power_of_two_scale(a.as_ref())) * answer.get(..1, ..);
                    prop_assert!(pair_residual(scaled.as_ref(), vectors, vectors, values.as_ref(), Norm::Max) <= ACCURACY);
                }
                Err(error) => prop_assert_eq!(error, SolveError::Overflow),
            }
        }
    }
}
