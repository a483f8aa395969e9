//! Classical iterations towards exact answers, which can start from a model's answer.

use std::fmt::Debug;

use faer::{Mat, MatRef};

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

#[cfg(test)]
mod tests {
    use faer::mat;

    use super::*;
    use crate::{Eigenvectors, Inversion, NewtonInverse, Problem, RayleighQuotient};

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
}
