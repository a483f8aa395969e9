//! Rayleigh quotient iteration for eigenvectors.

use faer::{Mat, MatRef, Scale};
use numformer_metrics::{Norm, norm};

use crate::Refinement;
use crate::residual::eigenvector_residual;
use crate::solvers::dense::{require_method, solution};

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
        eigenvector_residual(input, answer, Norm::Frobenius).unwrap_or(f64::INFINITY)
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

#[cfg(test)]
mod tests {
    use faer::mat;
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{mirrored, uniform};
    use crate::{Eigenvectors, Problem, steps_to_refine};

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

    proptest! {
        #![proptest_config(cases(256))]

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
