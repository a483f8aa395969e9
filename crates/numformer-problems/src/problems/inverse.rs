//! Inverses.

use faer::linalg::solvers::DenseSolveCore;
use faer::{Mat, MatRef, Scale};
use numformer_metrics::{Deviations, Norm, relative_error};
use serde::{Deserialize, Serialize};

use super::eigen::require_square;
use crate::residual::{larger, largest};
use crate::small::{Lu, Square, identity, overflow_guard, require_symmetric, reshape, rows_of, with_capacity};
use crate::{
    Instance, NewtonInverse, Problem, ReferenceComparison, Refinement, SolveError, require_finite,
    require_representable,
};

/// The largest entry of $AA^{-1} - I$ that an inverse may have: above, the matrix is rejected as too ill conditioned.
///
/// The limit of the paper's authors. Of matrices with independent uniform entries, next to none is rejected.
pub const MAX_INVERSE_RESIDUAL: f64 = 1e-10;

/// What a candidate for an inverse is judged by.
///
/// Configuration files call these `residual` and `target`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InverseJudgement {
    /// $\lVert AH - I \rVert / \lVert I \rVert$ for a candidate $H$.
    #[default]
    Residual,
    /// The relative error against the exact inverse.
    Target,
}

/// The inverse of a square matrix: $A \mapsto A^{-1}$, from $n \times n$ to $n \times n$.
///
/// Matrices whose computed inverse leaves a residual above [`MAX_INVERSE_RESIDUAL`] have no trustworthy answer: solving
/// fails with [`SolveError::IllConditioned`], or with [`SolveError::Singular`] where a pivot is zero.
///
/// The algorithm is LU decomposition with partial pivoting, up to $n = 32$ by code of this crate, above by faer's.
///
/// The [comparison of the reference](Problem::reference_comparison) is that of the judgement. In its share of coefficients
/// of $AH$ that are nearly right, it asks for an absolute difference from $I$ below the limit.
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
/// assert_eq!(problem.solve(mat![[1.0, 2.0], [2.0, 4.0]].as_ref()), Err(SolveError::Singular));
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
/// As [`Inversion`], but posed on symmetric matrices only (see [`Eigenvalues`](crate::Eigenvalues)), and with answers that
/// are symmetric to the last bit.
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
        require_finite(input)?;
        Ok(match self {
            Self::Residual => {
                let (rows, columns) = candidate.shape();
                let product = input * candidate;
                Some(relative_error(product.as_ref(), Mat::identity(rows, columns).as_ref(), norm))
            }
            Self::Target => None,
        })
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
                ReferenceComparison::new(instance.input * candidate, Mat::identity(rows, columns)).with_floor(1.0)
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
        invert(input, output)?;
        for i in 1..shape.0 {
            for j in 0..i {
                let mean = 0.5 * output[(i, j)] + 0.5 * output[(j, i)];
                (output[(i, j)], output[(j, i)]) = (mean, mean);
            }
        }
        Ok(())
    }

    fn residual(
        &self,
        input: MatRef<'_, f64>,
        candidate: MatRef<'_, f64>,
        norm: Norm,
    ) -> Result<Option<f64>, SolveError> {
        self.judgement.residual(input, candidate, norm)
    }

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
pub(crate) fn invert(input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
    let scale = overflow_guard(input);
    let residual = with_capacity!(
        input.nrows(),
        small_inverse(input, scale, output),
        else large_inverse(input, scale, output)
    )?;
    require_representable(output.as_ref())?;
    if residual.is_nan() || residual > MAX_INVERSE_RESIDUAL {
        return Err(SolveError::IllConditioned { allowed: MAX_INVERSE_RESIDUAL, residual });
    }
    Ok(())
}

/// Writes the inverse, and returns the largest entry of the residual.
fn small_inverse<const N: usize>(input: MatRef<'_, f64>, scale: f64, output: &mut Mat<f64>) -> Result<f64, SolveError> {
    let n = input.nrows();
    let a: Square<N> = rows_of(input, scale);
    let lu = Lu::new(a, n);
    if lu.is_singular() {
        return Err(SolveError::Singular);
    }
    let inverse = lu.solve(&identity(n));
    let mut residual = 0.0;
    for i in 0..n {
        let mut row = [0.0; N];
        row[i] = -1.0;
        for k in 0..n {
            for j in 0..N {
                row[j] += a[i][k] * inverse[k][j];
            }
        }
        residual = row.iter().fold(residual, |largest, x| larger(largest, x.abs()));
        for j in 0..n {
            output[(i, j)] = inverse[i][j] * scale;
        }
    }
    Ok(residual)
}

/// Writes the inverse, and returns the largest entry of the residual.
fn large_inverse(input: MatRef<'_, f64>, scale: f64, output: &mut Mat<f64>) -> Result<f64, SolveError> {
    let a = Scale(scale) * input;
    let lu = a.partial_piv_lu();
    if (0..a.nrows()).any(|i| lu.U()[(i, i)] == 0.0) {
        return Err(SolveError::Singular);
    }
    let inverse = lu.inverse();
    let product = &a * &inverse;
    faer::zip!(&mut *output, &inverse).for_each(|faer::unzip!(output, inverse)| *output = scale * inverse);
    let entry = |i: usize, j: usize| (product[(i, j)] - if i == j { 1.0 } else { 0.0 }).abs();
    let entries = (0..a.ncols()).flat_map(|j| (0..a.nrows()).map(move |i| (i, j)));
    Ok(largest(entries.map(|(i, j)| entry(i, j))))
}

#[cfg(test)]
mod tests {
    use faer::mat;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{assert_solved, assert_zero_is_wrong, mirrored, size, uniform, well_conditioned, wild};
    use crate::{LeftFactor, Multiplication};

    #[test]
    fn singular_and_ill_conditioned_matrices_are_rejected() {
        let problem = Inversion::default();
        for singular in [Mat::zeros(3, 3), Mat::full(3, 3, 1.0), Mat::zeros(40, 40), mat![[0.0]]] {
            assert_eq!(problem.solve(singular.as_ref()), Err(SolveError::Singular));
            assert_eq!(SymmetricInversion::default().solve(singular.as_ref()), Err(SolveError::Singular));
        }
        // Hilbert's matrices: the condition number of that with 12 rows is 2e16, of that with 5 rows 5e5.
        let hilbert = |n| Mat::from_fn(n, n, |i, j| 1.0 / (i + j + 1) as f64);
        let error = problem.solve(hilbert(12).as_ref()).unwrap_err();
        assert!(
            matches!(error, SolveError::IllConditioned { allowed: 1e-10, residual } if residual > 1e-10),
            "{error}"
        );
        assert_solved(&problem, hilbert(5).as_ref(), 1e-10);
        assert!(matches!(problem.solve(mat![[f64::NAN]].as_ref()), Err(SolveError::NotFinite { .. })));
        assert!(matches!(problem.solve(Mat::zeros(2, 3).as_ref()), Err(SolveError::Shape { .. })));
        let error = SymmetricInversion::default().solve(mat![[1.0, 2.0], [3.0, 4.0]].as_ref()).unwrap_err();
        assert!(matches!(error, SolveError::NotSymmetric { .. }));
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
        #[test]
        fn answers_meet_their_own_measure(a in well_conditioned(), scale in prop_oneof![Just(1.0), Just(1e-150), Just(1e150)]) {
            let answer = assert_solved(&Inversion::default(), (Scale(scale) * &a).as_ref(), 1e-12);
            // A left inverse too.
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
