//! Inverses.

use faer::linalg::solvers::DenseSolveCore;
use faer::{Mat, MatRef};
use numformer_metrics::{Deviations, Norm};
use serde::{Deserialize, Serialize};

use crate::residual::{inverse_residual, require_solution};
use crate::solve_error::require_square;
use crate::solvers::dense::{product, require_method};
use crate::solvers::small::{
    Lu, identity, require_symmetric, reshape, scaled_columns, scaled_columns_of_large, with_capacity,
};
use crate::{
    Analysis, Instance, MAX_RESIDUAL, NewtonInverse, Problem, ReferenceComparison, Refinement, SolveError,
    require_finite, require_representable,
};

use super::svd::condition_number;

/// What a candidate for an inverse is judged by.
///
/// Configuration files call these `residual` and `target`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InverseJudgement {
    /// ‖AH - I‖ / ‖I‖ for a candidate H.
    #[default]
    Residual,
    /// The relative error against the exact inverse.
    Target,
}

/// The inverse of a square matrix: A ↦ A⁻¹, from n × n to n × n.
///
/// If the computed inverse leaves a residual above [`MAX_RESIDUAL`] in any norm, there is no trustworthy answer.
/// Solving then fails with [`SolveError::IllConditioned`], or with [`SolveError::Singular`] if rounding the entries of
/// a singular matrix could have made the input. Residuals are computed as if in twice the precision, so that no
/// rounding error hides what is wrong.
///
/// The algorithm is LU decomposition with partial pivoting, by code of this crate up to n = 32 and by faer above.
///
/// The [reference's comparison](ReferenceComparison::of) is the one that the judgement uses. Its share of nearly right
/// coefficients counts the entries of AH whose absolute difference from those of I is below the limit.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_metrics::Norm;
/// use numformer_problems::{Instance, Inversion, Problem, SolveError};
///
/// let problem = Inversion::default();
/// let input = mat![[2.0, 1.0], [0.0, 4.0]];
/// let answer = problem.solve(input.as_ref())?;
/// assert_eq!(answer, mat![[0.5, -0.125], [0.0, 0.25]]);
/// let instance = Instance { input: input.as_ref(), target: answer.as_ref() };
/// assert_eq!(problem.error(instance, mat![[0.5, 0.0], [0.0, 0.25]].as_ref(), Norm::L1)?, 0.125);
/// let singular = problem.solve(mat![[1.0, 2.0], [2.0, 4.0]].as_ref());
/// assert!(matches!(singular, Err(SolveError::Singular { .. })));
/// # Ok::<(), SolveError>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*, section 4.6. <https://arxiv.org/abs/2112.01898>
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Inversion {
    /// What candidates are judged by.
    pub judgement: InverseJudgement,
}

/// The inverse of a symmetric matrix.
///
/// This is [`Inversion`], but posed only on symmetric matrices (see [`Eigenvalues`](crate::Eigenvalues)), and with
/// answers that are symmetric to the last bit.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{Problem, SolveError, SymmetricInversion};
///
/// let answer = SymmetricInversion::default().solve(mat![[0.0, 2.0], [2.0, 1.0]].as_ref())?;
/// assert_eq!(answer, mat![[-0.25, 0.5], [0.5, 0.0]]);
/// # Ok::<(), SolveError>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*. <https://arxiv.org/abs/2112.01898>
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct SymmetricInversion {
    /// What candidates are judged by.
    pub judgement: InverseJudgement,
}

impl InverseJudgement {
    fn residual(
        self,
        input: MatRef<'_, f64>,
        candidate: MatRef<'_, f64>,
        norm: Norm,
    ) -> Result<Option<f64>, SolveError> {
        match self {
            Self::Residual => inverse_residual(input, candidate, norm).map(Some),
            Self::Target => require_finite(input).map(|()| None),
        }
    }

    fn reference_comparison(
        self,
        instance: Instance<'_>,
        candidate: MatRef<'_, f64>,
    ) -> Result<ReferenceComparison, SolveError> {
        require_finite(instance.input)?;
        Ok(match self {
            Self::Residual => {
                let (rows, columns) = candidate.shape();
                ReferenceComparison::new(product(instance.input, candidate), Mat::identity(rows, columns))
                    .with_floor(1.0)
            }
            Self::Target => ReferenceComparison::new(candidate.to_owned(), instance.target.to_owned()),
        })
    }
}

impl Problem for Inversion {
    fn name(&self) -> &'static str {
        "inversion"
    }

    fn task_letter(&self) -> &'static str {
        "I"
    }

    fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
        require_square(input)?;
        Ok(input)
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let shape = self.output_shape(input.shape())?;
        require_finite(input)?;
        reshape(output, shape);
        invert(input, output)
    }

    fn residual(
        &self,
        input: MatRef<'_, f64>,
        candidate: MatRef<'_, f64>,
        norm: Norm,
    ) -> Result<Option<f64>, SolveError> {
        self.judgement.residual(input, candidate, norm)
    }

    fn analysis(&self) -> Option<&dyn Analysis> {
        Some(self)
    }
}

impl Analysis for Inversion {
    fn deviations(&self, instance: Instance<'_>, candidate: MatRef<'_, f64>) -> Option<Deviations> {
        Some(Deviations::of_matrix(candidate, instance.target))
    }

    fn refinement(&self) -> Option<&dyn Refinement> {
        Some(&NewtonInverse)
    }

    fn reference_comparison(
        &self,
        instance: Instance<'_>,
        candidate: MatRef<'_, f64>,
    ) -> Result<ReferenceComparison, SolveError> {
        self.judgement.reference_comparison(instance, candidate)
    }
}

impl Problem for SymmetricInversion {
    fn name(&self) -> &'static str {
        "symmetric-inversion"
    }

    fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
        require_square(input)?;
        Ok(input)
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let shape = self.output_shape(input.shape())?;
        require_finite(input)?;
        require_symmetric(input)?;
        reshape(output, shape);
        write_inverse(input, output)?;
        for i in 1..shape.0 {
            for j in 0..i {
                let mean = 0.5 * output[(i, j)] + 0.5 * output[(j, i)];
                (output[(i, j)], output[(j, i)]) = (mean, mean);
            }
        }
        require_inverse(input, output.as_ref())
    }

    fn residual(
        &self,
        input: MatRef<'_, f64>,
        candidate: MatRef<'_, f64>,
        norm: Norm,
    ) -> Result<Option<f64>, SolveError> {
        self.judgement.residual(input, candidate, norm)
    }

    fn analysis(&self) -> Option<&dyn Analysis> {
        Some(self)
    }
}

impl Analysis for SymmetricInversion {
    fn deviations(&self, instance: Instance<'_>, candidate: MatRef<'_, f64>) -> Option<Deviations> {
        Some(Deviations::of_matrix(candidate, instance.target))
    }

    fn refinement(&self) -> Option<&dyn Refinement> {
        Some(&NewtonInverse)
    }

    fn reference_comparison(
        &self,
        instance: Instance<'_>,
        candidate: MatRef<'_, f64>,
    ) -> Result<ReferenceComparison, SolveError> {
        self.judgement.reference_comparison(instance, candidate)
    }
}

/// Writes the inverse of a matrix of finite entries into a matrix of the same shape.
///
/// # Errors
/// When there is no inverse, or it cannot be trusted.
pub(crate) fn invert(input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
    write_inverse(input, output)?;
    require_inverse(input, output.as_ref())
}

/// Writes the inverse of a matrix of finite entries into a matrix of the same shape, without checking its accuracy.
///
/// # Errors
/// When a pivot is zero, the inverse leaves the range, or this processor has no method for so large a matrix.
pub(crate) fn write_inverse(input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
    require_method(input.shape())?;
    with_capacity!(input.nrows(), small_inverse(input, output), else large_inverse(input, output))?;
    require_representable(output.as_ref())
}

/// Checks that a matrix is the inverse of another one, to [`MAX_RESIDUAL`] in every norm.
fn require_inverse(a: MatRef<'_, f64>, inverse: MatRef<'_, f64>) -> Result<(), SolveError> {
    let identity = |i, j| if i == j { 1.0 } else { 0.0 };
    require_solution(a, inverse, identity).map_err(|residual| rejection(a, residual))
}

/// Why an answer found with the inverse of a square matrix cannot be trusted.
pub(crate) fn rejection(a: MatRef<'_, f64>, residual: f64) -> SolveError {
    match condition_number(a) {
        // As for the rank: rounding the entries of a singular matrix may have made this matrix.
        Ok(condition_number) if condition_number * a.nrows() as f64 * f64::EPSILON >= 1.0 => {
            SolveError::Singular { condition_number }
        }
        Ok(condition_number) => SolveError::IllConditioned { condition_number, allowed: MAX_RESIDUAL, residual },
        Err(error) => error,
    }
}

const ZERO_PIVOT: SolveError = SolveError::Singular { condition_number: f64::INFINITY };

// The inverse of A is D times that of AD, for the diagonal matrix D that scales the columns.

fn small_inverse<const N: usize>(input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
    let n = input.nrows();
    let (a, scales) = scaled_columns::<N>(input);
    let lu = Lu::new(a, n);
    if lu.is_singular() {
        return Err(ZERO_PIVOT);
    }
    let inverse = lu.solve(&identity(n));
    for i in 0..n {
        for j in 0..n {
            output[(i, j)] = inverse[i][j] * scales[i];
        }
    }
    Ok(())
}

fn large_inverse(input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
    let (a, scales) = scaled_columns_of_large(input);
    let lu = a.partial_piv_lu();
    if (0..input.nrows()).any(|i| lu.U()[(i, i)] == 0.0) {
        return Err(ZERO_PIVOT);
    }
    let inverse = lu.inverse();
    for (j, column) in output.col_iter_mut().enumerate() {
        for (i, entry) in column.iter_mut().enumerate() {
            *entry = inverse[(i, j)] * scales[i];
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use faer::{Scale, mat};
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{assert_solved, assert_zero_is_wrong, mirrored, size, uniform, well_conditioned, wild};
    use crate::{LeftFactor, Multiplication};

    #[test]
    fn singular_and_ill_conditioned_matrices_are_rejected() {
        let problem = Inversion::default();
        for singular in [Mat::zeros(3, 3), Mat::full(3, 3, 1.0), Mat::zeros(40, 40), mat![[0.0]]] {
            assert_eq!(problem.solve(singular.as_ref()), Err(ZERO_PIVOT));
            assert_eq!(SymmetricInversion::default().solve(singular.as_ref()), Err(ZERO_PIVOT));
        }
        // In these matrices, rounding leaves no pivot at zero.
        for singular in [
            mat![[3.0, 2.0, 1.0], [2.0, 2.0, 0.0], [1.0, 0.0, 1.0]],
            mat![[2.0, 4.0, 6.0], [2.0, 0.0, 2.0], [6.0, 8.0, 14.0]],
            mat![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]],
        ] {
            let error = problem.solve(singular.as_ref()).unwrap_err();
            let is_singular = |n: f64| n > 1e15;
            assert!(
                matches!(error, SolveError::Singular { condition_number } if is_singular(condition_number)),
                "{error}"
            );
        }
        // Hilbert's matrices have the condition number 2e16 with 12 rows, and 5e5 with 5 rows.
        let hilbert = |n| Mat::from_fn(n, n, |i, j| 1.0 / (i + j + 1) as f64);
        let error = problem.solve(hilbert(12).as_ref()).unwrap_err();
        assert!(matches!(error, SolveError::Singular { .. }), "{error}");
        let error = problem.solve(hilbert(8).as_ref()).unwrap_err();
        let SolveError::IllConditioned { condition_number, allowed, residual } = error else { panic!("{error}") };
        assert!((condition_number / 1.53e10 - 1.0).abs() < 0.01 && residual > allowed, "{error}");
        let expected =
            "expected a well-conditioned matrix, found condition number 1.5e10: the residual of its answer may be";
        assert!(error.to_string().starts_with(expected), "{error}");
        assert_solved(&problem, hilbert(5).as_ref(), 1e-10);
        assert!(matches!(problem.solve(mat![[f64::NAN]].as_ref()), Err(SolveError::NotFinite { .. })));
        assert!(matches!(problem.solve(Mat::zeros(2, 3).as_ref()), Err(SolveError::Shape { .. })));
        let error = SymmetricInversion::default().solve(mat![[1.0, 2.0], [3.0, 4.0]].as_ref()).unwrap_err();
        assert!(matches!(error, SolveError::NotSymmetric { .. }));
    }

    #[test]
    fn asymmetry_beside_a_large_entry_is_seen() {
        let a = mat![[1e8, 0.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]];
        let error = SymmetricInversion::default().solve(a.as_ref()).unwrap_err();
        assert_eq!(error, SolveError::NotSymmetric { row: 2, column: 1, value: 0.0, mirrored: 0.5 });
        // This matrix is symmetric up to rounding. Its answer is symmetric and as accurate as its judge asks.
        let a = mat![[1e8, 0.3, 0.0], [0.3 * (1.0 + f64::EPSILON), 1.0, 0.5], [0.0, 0.5, 2.0]];
        let answer = assert_solved(&SymmetricInversion::default(), a.as_ref(), 1e-12);
        assert_eq!(answer.transpose().to_owned(), answer);
    }

    #[test]
    fn inverses_beyond_the_range_are_an_error() {
        assert_eq!(Inversion::default().solve(mat![[1e-310]].as_ref()), Err(SolveError::Overflow));
        assert_eq!(Inversion::default().solve(mat![[1e308]].as_ref()), Ok(mat![[1e-308]]));
        assert_eq!(Inversion::default().solve(Mat::new().as_ref()).unwrap().shape(), (0, 0));
    }

    #[test]
    fn a_zero_answer_is_wrong() {
        let input = mat![[2.0, 1.0], [1.0, 3.0]];
        for judgement in [InverseJudgement::Residual, InverseJudgement::Target] {
            assert_zero_is_wrong(&Inversion { judgement }, input.as_ref());
            assert_zero_is_wrong(&SymmetricInversion { judgement }, input.as_ref());
        }
    }

    #[test]
    fn the_judgements_differ() {
        let (input, target, candidate) =
            (mat![[1.0, 0.0], [0.0, 10.0]], mat![[1.0, 0.0], [0.0, 0.1]], mat![[1.0, 0.0], [0.0, 0.2]]);
        let instance = Instance { input: input.as_ref(), target: target.as_ref() };
        let error = |judgement| Inversion { judgement }.error(instance, candidate.as_ref(), Norm::L1).unwrap();
        assert!((error(InverseJudgement::Residual) - 0.5).abs() < 1e-15);
        assert!((error(InverseJudgement::Target) - 0.1 / 1.1).abs() < 1e-15);
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn answers_meet_their_own_measure(a in well_conditioned(), scale in prop_oneof![Just(1.0), Just(1e-150), Just(1e150)]) {
            let answer = assert_solved(&Inversion::default(), (Scale(scale) * &a).as_ref(), 1e-12);
            // The answer is a left inverse, too.
            let n = a.nrows();
            prop_assert!(size((&answer * (Scale(scale) * &a) - Mat::<f64>::identity(n, n)).as_ref()) <= 1e-12);
        }

        #[test]
        fn larger_matrices_are_inverted_too(a in uniform(40, 40)) {
            let dominant = Mat::from_fn(40, 40, |i, j| if i == j { 401.0 } else { a[(i, j)] });
            assert_solved(&Inversion::default(), dominant.as_ref(), 1e-12);
            let symmetric = mirrored(dominant.as_ref());
            let answer = assert_solved(&SymmetricInversion::default(), symmetric.as_ref(), 1e-12);
            prop_assert_eq!(answer.transpose().to_owned(), answer.clone());
        }

        #[test]
        fn answers_agree_with_faer(a in well_conditioned()) {
            let answer = Inversion::default().solve(a.as_ref()).unwrap();
            let expected = a.partial_piv_lu().inverse();
            prop_assert!(size((&answer - expected).as_ref()) <= 1e-12 * size(answer.as_ref()));
        }

        #[test]
        fn the_inverse_of_the_inverse_is_the_matrix(a in well_conditioned()) {
            let twice = Inversion::default().solve(Inversion::default().solve(a.as_ref()).unwrap().as_ref()).unwrap();
            prop_assert!(size((twice - &a).as_ref()) <= 1e-12 * size(a.as_ref()));
        }

        #[test]
        fn the_inverse_of_a_product_is_the_product_of_the_inverses_exchanged(
            a in well_conditioned(), seed in uniform(20, 20),
        ) {
            let n = a.nrows();
            let b = Mat::from_fn(n, n, |i, j| seed[(i, j)] + if i == j { 201.0 } else { 0.0 });
            let invert = |x: &Mat<f64>| Inversion::default().solve(x.as_ref()).unwrap();
            let multiply = |x: &Mat<f64>, y: &Mat<f64>| {
                let both = Mat::from_fn(n, 2 * n, |i, j| if j < n { x[(i, j)] } else { y[(i, j - n)] });
                Multiplication { left: LeftFactor::Plain }.solve(both.as_ref()).unwrap()
            };
            let (found, expected) = (invert(&multiply(&a, &b)), multiply(&invert(&b), &invert(&a)));
            prop_assert!(size((&found - &expected).as_ref()) <= 1e-11 * size(expected.as_ref()));
        }

        #[test]
        fn symmetric_matrices_have_symmetric_inverses(a in well_conditioned()) {
            let a = mirrored(a.as_ref());
            let answer = assert_solved(&SymmetricInversion::default(), a.as_ref(), 1e-12);
            prop_assert_eq!(answer.transpose().to_owned(), answer.clone());
            let general = Inversion::default().solve(a.as_ref()).unwrap();
            prop_assert!(size((&answer - general).as_ref()) <= 1e-13 * size(answer.as_ref()));
        }

        #[test]
        fn an_answer_is_finite_or_there_is_none(a in wild(4, 4)) {
            for problem in [&Inversion::default() as &dyn Problem, &SymmetricInversion::default()] {
                if let Ok(answer) = problem.solve(a.as_ref()) {
                    prop_assert!(require_finite(answer.as_ref()).is_ok());
                }
            }
        }
    }
}
