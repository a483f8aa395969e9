//! Transposition.

use faer::{Mat, MatRef};
use numformer_metrics::{Norm, relative_error};

use crate::{Analysis, Instance, Magnitudes, Problem, ReferenceComparison, SolveError, require_finite};

/// Transposition: A ↦ Aᵀ, from r × c to c × r.
///
/// It is posed on matrices of every shape. A candidate is compared with the transpose of the input. Entries are only
/// moved, so answers are exact, and entries that are not finite are moved like others.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{Problem, Transpose};
///
/// let answer = Transpose.solve(mat![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]].as_ref())?;
/// assert_eq!(answer, mat![[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*, section 4.1. <https://arxiv.org/abs/2112.01898>
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Transpose;

impl Problem for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn task_letter(&self) -> &'static str {
        "T"
    }

    fn output_shape(&self, (rows, columns): (usize, usize)) -> Result<(usize, usize), SolveError> {
        Ok((columns, rows))
    }

    fn output_magnitudes(&self, _: (usize, usize), entries: Magnitudes) -> Magnitudes {
        entries
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        output.resize_with(input.ncols(), input.nrows(), |_, _| 0.0);
        output.copy_from(input.transpose());
        Ok(())
    }

    fn error(&self, instance: Instance<'_>, candidate: MatRef<'_, f64>, norm: Norm) -> Result<f64, SolveError> {
        require_finite(instance.input)?;
        Ok(relative_error(candidate, instance.input.transpose(), norm))
    }

    fn analysis(&self) -> Option<&dyn Analysis> {
        Some(self)
    }
}

impl Analysis for Transpose {
    fn reference_comparison(
        &self,
        instance: Instance<'_>,
        candidate: MatRef<'_, f64>,
    ) -> Result<ReferenceComparison, SolveError> {
        require_finite(instance.input)?;
        Ok(ReferenceComparison::new(candidate.to_owned(), instance.input.transpose().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use faer::mat;
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;

    fn matrices() -> impl Strategy<Value = Mat<f64>> {
        (1..8usize, 1..8usize).prop_flat_map(|(rows, columns)| {
            prop::collection::vec(-10.0..10.0, rows * columns)
                .prop_map(move |x: Vec<f64>| Mat::from_fn(rows, columns, |i, j| x[i * columns + j]))
        })
    }

    #[test]
    fn a_buffer_of_any_shape_is_replaced() {
        for shape in [(0, 0), (1, 7), (7, 1), (3, 2)] {
            let mut output = Mat::full(shape.0, shape.1, f64::NAN);
            Transpose.solve_into(mat![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]].as_ref(), &mut output).unwrap();
            assert_eq!(output, mat![[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]);
        }
    }

    #[test]
    fn the_untransposed_matrix_is_wrong() {
        let a = mat![[1.0, 2.0], [-2.0, 5.0]];
        let instance = Instance { input: a.as_ref(), target: a.transpose() };
        assert_eq!(Transpose.error(instance, a.as_ref(), Norm::L1), Ok(0.8));
        assert_eq!(Transpose.error(instance, a.transpose(), Norm::L1), Ok(0.0));
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn transposing_twice_is_the_identity(a in matrices()) {
            let once = Transpose.solve(a.as_ref()).unwrap();
            prop_assert_eq!(Ok(once.shape()), Transpose.output_shape(a.shape()));
            prop_assert_eq!(Transpose.solve(once.as_ref()).unwrap(), a);
        }

        #[test]
        fn rows_become_columns(a in matrices()) {
            let answer = Transpose.solve(a.as_ref()).unwrap();
            for i in 0..a.nrows() {
                for j in 0..a.ncols() {
                    prop_assert_eq!(answer[(j, i)].to_bits(), a[(i, j)].to_bits());
                }
            }
        }

        #[test]
        fn answers_meet_their_own_measure(a in matrices()) {
            let answer = Transpose.solve(a.as_ref()).unwrap();
            for &norm in Norm::ALL {
                let instance = Instance { input: a.as_ref(), target: answer.as_ref() };
                prop_assert_eq!(Transpose.error(instance, answer.as_ref(), norm), Ok(0.0));
            }
        }
    }
}
