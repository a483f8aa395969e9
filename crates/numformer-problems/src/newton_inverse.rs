//! Newton's iteration for the inverse.

use faer::{Mat, MatRef, Scale};
use numformer_metrics::{Norm, norm};

use crate::Refinement;
use crate::residual::inverse_residual;
use crate::solvers::dense::product;

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
        inverse_residual(input, answer, Norm::Frobenius).unwrap_or(f64::INFINITY)
    }
}

#[cfg(test)]
mod tests {
    use faer::mat;
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::steps_to_refine;
    use crate::testing::well_conditioned;

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

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn newton_converges_from_its_cold_start(a in well_conditioned()) {
            prop_assume!(a.nrows() > 0);
            let cold = NewtonInverse.cold_start(a.as_ref());
            prop_assert!(steps_to_refine(&NewtonInverse, a.as_ref(), cold).is_some());
        }
    }
}
