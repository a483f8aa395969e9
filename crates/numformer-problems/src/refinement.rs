//! Classical iterations towards exact answers, which can start from a model's answer.

use std::fmt::Debug;

use faer::{Mat, MatRef, Scale};
use numformer_metrics::{Norm, norm};

use crate::dense::{product, require_method, solution};
use crate::{Eigenvectors, InverseJudgement, Inversion, Problem};

/// The residual at which a refined answer counts as exact.
pub const REFINED: f64 = 1e-10;

/// The number of steps after which an iteration is given up.
pub const MAX_REFINEMENT_STEPS: u32 = 100;

/// An iteration that brings an answer to a problem closer to the exact one. A model's answer can be its start.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{Inversion, Problem, steps_to_refine};
///
/// let input = mat![[2.0, 1.0], [0.0, 4.0]];
/// let problem = Inversion::default();
/// let refinement = problem.analysis().and_then(|analysis| analysis.refinement()).unwrap();
/// // Each step squares the residual, 1% at first.
/// assert_eq!(steps_to_refine(refinement, input.as_ref(), mat![[0.505, -0.125], [0.0, 0.25]]), Some(3));
/// let cold = refinement.cold_start(input.as_ref());
/// assert_eq!(steps_to_refine(refinement, input.as_ref(), cold), Some(7));
/// ```
pub trait Refinement: Debug + Send + Sync {
    /// The usual start if no answer is available, in the shape of an answer.
    fn cold_start(&self, input: MatRef<'_, f64>) -> Mat<f64>;

    /// Takes one step. An answer that the iteration cannot go on from may become infinite or NaN.
    fn step(&self, input: MatRef<'_, f64>, answer: &mut Mat<f64>);

    /// How far an answer is from being exact, in the Frobenius norm: 0 for an exact answer.
    fn residual(&self, input: MatRef<'_, f64>, answer: MatRef<'_, f64>) -> f64;
}

/// The number of steps after which the residual is at most [`REFINED`]; `None` if it is larger after
/// [`MAX_REFINEMENT_STEPS`] steps, or the iteration breaks down.
///
/// # Panics
/// If the start is not of the shape of an answer to the input.
#[must_use]
pub fn steps_to_refine(refinement: &dyn Refinement, input: MatRef<'_, f64>, start: Mat<f64>) -> Option<u32> {
    let mut answer = start;
    for steps in 0..=MAX_REFINEMENT_STEPS {
        let residual = refinement.residual(input, answer.as_ref());
        if residual <= REFINED {
            return Some(steps);
        }
        if !residual.is_finite() {
            return None;
        }
        refinement.step(input, &mut answer);
    }
    None
}

/// Newton's iteration for the inverse, X ← X (2I - AX), which squares the residual I - AX. It converges if the spectral
/// radius of that residual is below 1. If A has an inverse, this always holds for the cold start `Aᵀ / (‖A‖₁ ‖A‖_∞)`.
///
/// # References
/// - Schulz (1933), *Iterative Berechnung der reziproken Matrix*, ZAMM 13(1), 57-59.
///   <https://doi.org/10.1002/zamm.19330130111>
/// - Ben-Israel and Cohen (1966), *On iterative computation of generalized inverses and associated projections*, SIAM
///   J. Numer. Anal. 3(3), 410-419, for the start. <https://doi.org/10.1137/0703035>
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct NewtonInverse;

impl Refinement for NewtonInverse {
    fn cold_start(&self, input: MatRef<'_, f64>) -> Mat<f64> {
        let largest_sum = |lines: usize, of: &dyn Fn(usize) -> f64| (0..lines).map(of).fold(0.0, f64::max);
        let by_column = largest_sum(input.ncols(), &|j| norm(input.subcols(j, 1), Norm::L1));
        let by_row = largest_sum(input.nrows(), &|i| norm(input.subrows(i, 1), Norm::L1));
        Scale((by_column * by_row).recip()) * input.transpose()
    }

    fn step(&self, input: MatRef<'_, f64>, answer: &mut Mat<f64>) {
        let n = input.nrows();
        let correction = Scale(2.0) * Mat::<f64>::identity(n, n) - product(input, answer.as_ref());
        *answer = product(answer.as_ref(), correction.as_ref());
    }

    fn residual(&self, input: MatRef<'_, f64>, answer: MatRef<'_, f64>) -> f64 {
        residual(&Inversion { judgement: InverseJudgement::Residual }, input, answer)
    }
}

/// Rayleigh quotient iteration on all eigenvectors: v ← (A - ρI)⁻¹ v with ρ = vᵀAv / vᵀv, normalised after each step. A
/// step cubes the error of a vector. The predicted eigenvalues are not used. Nothing prevents two vectors from reaching
/// the same eigenvector, as happens from a poor start. Such an answer never becomes exact.
///
/// The cold start is the standard basis.
///
/// # Reference
/// Parlett (1998), *The Symmetric Eigenvalue Problem*, sections 4.6-4.9. <https://doi.org/10.1137/1.9781611971163>
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct RayleighQuotient;

impl Refinement for RayleighQuotient {
    fn cold_start(&self, input: MatRef<'_, f64>) -> Mat<f64> {
        let n = input.nrows();
        Mat::from_fn(n + 1, n, |i, j| if i == 0 { input[(j, j)] } else { f64::from(u8::from(i == j + 1)) })
    }

    fn step(&self, input: MatRef<'_, f64>, answer: &mut Mat<f64>) {
        let n = input.nrows();
        for j in 0..n {
            let vector = answer.as_ref().submatrix(1, j, n, 1).to_owned();
            let length = norm(vector.as_ref(), Norm::Frobenius);
            let unit = Scale(length.recip()) * vector;
            let next = inverse_iteration(input, &unit, quotient(input, &unit));
            answer[(0, j)] = quotient(input, &next);
            for i in 0..n {
                answer[(i + 1, j)] = next[(i, 0)];
            }
        }
    }

    fn residual(&self, input: MatRef<'_, f64>, answer: MatRef<'_, f64>) -> f64 {
        residual(&Eigenvectors::default(), input, answer)
    }
}

/// The Rayleigh quotient uᵀAu of a unit vector.
fn quotient(a: MatRef<'_, f64>, unit: &Mat<f64>) -> f64 {
    (unit.transpose() * a * unit)[(0, 0)]
}

/// The unit vector along (A - ρI)⁻¹ u, or `u` itself if ρ is an eigenvalue to the last bit.
fn inverse_iteration(a: MatRef<'_, f64>, u: &Mat<f64>, shift: f64) -> Mat<f64> {
    let n = a.nrows();
    if require_method(a.shape()).is_err() {
        return Mat::full(n, 1, f64::NAN);
    }
    let shifted = Mat::from_fn(n, n, |i, j| a[(i, j)] - if i == j { shift } else { 0.0 });
    let solution = solution(shifted.as_ref(), u.as_ref());
    // The length may be as large as 1e17, whose square is in range. Only a vector of infinities has no finite length.
    let length = norm(solution.as_ref(), Norm::Frobenius);
    if length.is_finite() && length > 0.0 { Scale(length.recip()) * solution } else { u.clone() }
}

/// The residual by which an answer is judged; infinite if there is none.
fn residual(problem: &dyn Problem, input: MatRef<'_, f64>, answer: MatRef<'_, f64>) -> f64 {
    problem.residual(input, answer, Norm::Frobenius).ok().flatten().unwrap_or(f64::INFINITY)
}

#[cfg(test)]
mod tests {
    use faer::mat;
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{mirrored, uniform, well_conditioned};

    #[test]
    fn an_exact_answer_takes_no_step() {
        let a = mat![[2.0, 1.0], [1.0, 3.0]];
        for (problem, refinement) in [
            (&Inversion::default() as &dyn Problem, &NewtonInverse as &dyn Refinement),
            (&Eigenvectors::default(), &RayleighQuotient),
        ] {
            let exact = problem.solve(a.as_ref()).expect("an answer");
            assert_eq!(steps_to_refine(refinement, a.as_ref(), exact), Some(0));
        }
    }

    /// I - AX′ = (I - AX)², entry by entry.
    #[test]
    fn a_step_of_newton_squares_the_residual() {
        let a = mat![[2.0, 1.0], [0.5, 4.0]];
        let mut x = mat![[0.5, -0.1], [-0.1, 0.3]];
        let of = |x: &Mat<f64>| Mat::<f64>::identity(2, 2) - &a * x;
        let squared = of(&x) * of(&x);
        NewtonInverse.step(a.as_ref(), &mut x);
        assert!((of(&x) - squared).norm_max() < 1e-15);
    }

    #[test]
    fn the_error_of_an_eigenvector_is_cubed() {
        let a = mat![[2.0, 0.0], [0.0, 5.0]];
        let mut answer = mat![[0.0, 0.0], [1.0, 0.0], [0.1, 1.0]];
        RayleighQuotient.step(a.as_ref(), &mut answer);
        let tangent = (answer[(2, 0)] / answer[(1, 0)]).abs();
        assert!((tangent - 1e-3).abs() < 1e-15, "{tangent}");
        // The other vector was exact and stays the same.
        assert_eq!((answer[(1, 1)], answer[(2, 1)].abs(), answer[(0, 1)]), (0.0, 1.0, 5.0));
    }

    #[test]
    fn starts_that_lead_nowhere_are_told() {
        let a = mat![[2.0, 1.0], [1.0, 3.0]];
        assert_eq!(steps_to_refine(&NewtonInverse, a.as_ref(), Mat::zeros(2, 2)), None);
        assert_eq!(steps_to_refine(&NewtonInverse, a.as_ref(), mat![[9.0, 0.0], [0.0, 9.0]]), None);
        assert_eq!(steps_to_refine(&NewtonInverse, mat![[1.0, 1.0], [1.0, 1.0]].as_ref(), a.clone()), None);
        // A vector of zeros, and one eigenvector twice.
        assert_eq!(steps_to_refine(&RayleighQuotient, a.as_ref(), Mat::zeros(3, 2)), None);
        let twice = mat![[0.0, 0.0], [1.0, 0.9], [-0.6, -0.6]];
        assert_eq!(steps_to_refine(&RayleighQuotient, a.as_ref(), twice), None);
        let nan = mat![[0.0, 0.0], [f64::NAN, 0.0], [0.0, 1.0]];
        assert_eq!(steps_to_refine(&RayleighQuotient, a.as_ref(), nan), None);
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn newton_converges_from_its_cold_start(a in well_conditioned()) {
            prop_assume!(a.nrows() > 0);
            let cold = NewtonInverse.cold_start(a.as_ref());
            prop_assert!(steps_to_refine(&NewtonInverse, a.as_ref(), cold).is_some());
        }

        #[test]
        fn rounded_answers_take_few_steps(a in (1..=6_usize).prop_flat_map(|n| uniform(n, n))) {
            let a = mirrored(a.as_ref());
            let mut answer = Eigenvectors::default().solve(a.as_ref()).expect("an answer");
            let values: Vec<f64> = answer.row(0).iter().copied().collect();
            // Eigenvectors of close eigenvalues are mixed by rounding.
            prop_assume!(values.windows(2).all(|pair| pair[1] - pair[0] > 0.5));
            for x in answer.col_iter_mut().flat_map(|column| column.iter_mut()) {
                *x = (1e3 * *x).round() / 1e3;
            }
            let steps = steps_to_refine(&RayleighQuotient, a.as_ref(), answer);
            prop_assert!(steps.is_some_and(|steps| steps <= 2), "{steps:?}");
        }
    }
}
