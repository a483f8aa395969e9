//! The trait of problems.

use std::fmt::Debug;

use faer::{Mat, MatRef};
use numformer_metrics::{Norm, relative_error};

use crate::{Analysis, Instance, Magnitudes, ReferenceComparison, SolveError, require_finite};

/// A map from matrices to matrices, with a trusted solver in `f64`.
///
/// Input and output are one matrix each, as in the sequences of tokens. A problem with two operands reads them side by
/// side as `[A | B]`, and a problem with several answers stacks them into one matrix.
///
/// Solving is deterministic: the answer is a function of the input and of nothing else.
///
/// # Examples
/// A custom problem needs a name, the shape of its answers and a solver:
/// ```
/// use faer::{Mat, MatRef, mat};
/// use numformer_problems::{Problem, SolveError};
///
/// /// The sum along the other diagonal of a square matrix, from the lower left to the upper right.
/// #[derive(Debug)]
/// struct Antitrace;
///
/// impl Problem for Antitrace {
///     fn name(&self) -> &'static str {
///         "antitrace"
///     }
///
///     fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
///         if input.0 != input.1 {
///             return Err(SolveError::Shape { expected: "a square matrix", found: input });
///         }
///         Ok((1, 1))
///     }
///
///     fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
///         let (rows, columns) = self.output_shape(input.shape())?;
///         output.resize_with(rows, columns, |_, _| 0.0);
///         output[(0, 0)] = (0..input.nrows()).map(|i| input[(i, input.ncols() - 1 - i)]).sum();
///         Ok(())
///     }
/// }
///
/// assert_eq!(Antitrace.solve(mat![[1.0, 2.0], [3.0, 5.0]].as_ref())?, mat![[5.0]]);
/// let error = Antitrace.solve(mat![[1.0, 2.0]].as_ref()).unwrap_err();
/// assert_eq!(error.to_string(), "expected a square matrix, found shape 1x2");
/// # Ok::<(), SolveError>(())
/// ```
pub trait Problem: Debug + Send + Sync {
    /// The name in configuration files and reports, in lower case with hyphens: `singular-values`.
    fn name(&self) -> &'static str;

    /// The symbol that comes first in the sequences of this problem when one model learns several problems. It is the
    /// name by default.
    fn task_letter(&self) -> &'static str {
        self.name()
    }

    /// The rows and columns of the input for a first operand `A` of these rows and columns. By default they are those
    /// of `A` itself; for a problem with two operands they are those of `[A | B]`. Experiments choose the shape of their
    /// matrices by it; a law that is passed to a task draws the whole input.
    fn input_shape(&self, operand: (usize, usize)) -> (usize, usize) {
        operand
    }

    /// The rows and columns of the answer to an input of these rows and columns.
    ///
    /// If an input has at least as many rows and columns as another, then so has its answer. The largest answer is
    /// therefore the answer to the largest input.
    ///
    /// # Errors
    /// When the problem is not posed on matrices of that shape ([`SolveError::Shape`]).
    fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError>;

    /// The magnitudes of the entries of an answer, for an input of this shape whose entries have the magnitudes
    /// `entries`. They are [`Magnitudes::ANY`] by default. With them, a vocabulary need not hold symbols for other
    /// numbers.
    fn output_magnitudes(&self, _input: (usize, usize), _entries: Magnitudes) -> Magnitudes {
        Magnitudes::ANY
    }

    /// Writes the answer into `output`, and replaces its shape and entries.
    ///
    /// The [`error`](Self::error) of an answer is at most [`MAX_RESIDUAL`](crate::MAX_RESIDUAL) in every norm,
    /// including rounding. Either the solver checks this, or its algorithm guarantees it. An entry that differs from
    /// zero only by rounding is set to zero if a bound on the rounding errors is available.
    ///
    /// A loop that keeps `output` does not allocate once `output` has held the largest answer, unless the problem says
    /// so.
    ///
    /// # Errors
    /// When the problem is not posed on inputs of that shape, or this input has no trustworthy answer. `output` is
    /// unspecified then.
    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError>;

    /// The answer as a new matrix.
    ///
    /// # Errors
    /// When [`solve_into`](Self::solve_into) fails.
    fn solve(&self, input: MatRef<'_, f64>) -> Result<Mat<f64>, SolveError> {
        let mut output = Mat::new();
        self.solve_into(input, &mut output)?;
        Ok(output)
    }

    /// How far a candidate is from solving an instance: 0 for an exact answer.
    ///
    /// By default, this is the [`residual`](Self::residual) or, for a problem that has none, the [`relative_error`]
    /// against the target.
    ///
    /// # Errors
    /// When the input holds an entry that is not finite.
    ///
    /// # Panics
    /// If the shape of the candidate or of the target is not the [`output_shape`](Self::output_shape) of the input.
    fn error(&self, instance: Instance<'_>, candidate: MatRef<'_, f64>, norm: Norm) -> Result<f64, SolveError> {
        require_finite(instance.input)?;
        let residual = self.residual(instance.input, candidate, norm)?;
        Ok(residual.unwrap_or_else(|| relative_error(candidate, instance.target, norm)))
    }

    /// How far a candidate is from solving the problem, measured with the input alone: 0 for an exact answer. Since
    /// this needs no solution, it can tell the best of several candidates.
    ///
    /// `None` by default, for problems that have no such measure. A problem whose answers are not unique has one and is
    /// judged by it.
    ///
    /// # Errors
    /// When the input holds an entry that is not finite, or is not of a shape that the problem is posed on.
    ///
    /// # Panics
    /// If the shape of the candidate is not the [`output_shape`](Self::output_shape) of the input.
    fn residual(
        &self,
        _input: MatRef<'_, f64>,
        _candidate: MatRef<'_, f64>,
        _norm: Norm,
    ) -> Result<Option<f64>, SolveError> {
        Ok(None)
    }

    /// What can be said about candidates beyond how far they are from being right; `None` by default.
    fn analysis(&self) -> Option<&dyn Analysis> {
        None
    }
}

/// A boxed problem is a problem too, so that it can be chosen at run time.
impl<P: Problem + ?Sized> Problem for Box<P> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn task_letter(&self) -> &'static str {
        (**self).task_letter()
    }

    fn input_shape(&self, operand: (usize, usize)) -> (usize, usize) {
        (**self).input_shape(operand)
    }

    fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
        (**self).output_shape(input)
    }

    fn output_magnitudes(&self, input: (usize, usize), entries: Magnitudes) -> Magnitudes {
        (**self).output_magnitudes(input, entries)
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        (**self).solve_into(input, output)
    }

    fn solve(&self, input: MatRef<'_, f64>) -> Result<Mat<f64>, SolveError> {
        (**self).solve(input)
    }

    fn error(&self, instance: Instance<'_>, candidate: MatRef<'_, f64>, norm: Norm) -> Result<f64, SolveError> {
        (**self).error(instance, candidate, norm)
    }

    fn residual(
        &self,
        input: MatRef<'_, f64>,
        candidate: MatRef<'_, f64>,
        norm: Norm,
    ) -> Result<Option<f64>, SolveError> {
        (**self).residual(input, candidate, norm)
    }

    fn analysis(&self) -> Option<&dyn Analysis> {
        (**self).analysis()
    }
}

impl ReferenceComparison {
    /// The matrices that the program of the paper's authors compares to judge this candidate. These are the ones that
    /// the problem's [analysis](crate::Analysis::reference_comparison) gives, or else the candidate and the target.
    ///
    /// # Errors
    /// When [`Problem::error`] fails.
    ///
    /// # Panics
    /// If [`Problem::error`] panics.
    pub fn of(problem: &dyn Problem, instance: Instance<'_>, candidate: MatRef<'_, f64>) -> Result<Self, SolveError> {
        /// An analysis with the provided methods only.
        #[derive(Debug)]
        struct Plain;
        impl Analysis for Plain {}
        problem.analysis().unwrap_or(&Plain).reference_comparison(instance, candidate)
    }
}

#[cfg(test)]
mod tests {
    use faer::mat;

    use super::*;

    /// Doubles its input, so that the answer clearly differs from the input.
    #[derive(Debug)]
    struct Double;

    impl Problem for Double {
        fn name(&self) -> &'static str {
            "double"
        }

        fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
            Ok(input)
        }

        fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
            *output = faer::Scale(2.0) * input;
            Ok(())
        }
    }

    #[test]
    fn error_is_relative_to_the_exact_answer_by_default() {
        let (input, target, candidate) = (mat![[1.0, -1.0]], mat![[2.0, -2.0]], mat![[2.0, -1.5]]);
        let instance = Instance { input: input.as_ref(), target: target.as_ref() };
        assert_eq!(Double.error(instance, candidate.as_ref(), Norm::L1), Ok(0.125));
        assert_eq!(Double.error(instance, candidate.as_ref(), Norm::Max), Ok(0.25));
    }

    #[test]
    fn no_error_is_measured_on_an_input_that_is_not_finite() {
        let input = mat![[1.0, 2.0], [3.0, f64::NEG_INFINITY]];
        let instance = Instance { input: input.as_ref(), target: input.as_ref() };
        let error = Double.error(instance, input.as_ref(), Norm::L1).unwrap_err();
        assert_eq!(error, SolveError::NotFinite { row: 1, column: 1, value: f64::NEG_INFINITY });
        assert_eq!(error.to_string(), "expected finite entries, found -inf in row 2, column 2");
    }

    #[test]
    fn the_reference_compares_with_the_exact_answer_by_default() {
        let (input, target, candidate) = (mat![[1.0, -1.0]], mat![[0.0]], mat![[0.5]]);
        let instance = Instance { input: input.as_ref(), target: target.as_ref() };
        let comparison = ReferenceComparison::of(&crate::Trace, instance, candidate.as_ref()).unwrap();
        assert_eq!((comparison.found, comparison.expected), (candidate, target));
    }

    /// A boxed problem that fell back on a provided method would lose the override.
    #[test]
    fn a_boxed_problem_keeps_its_own_methods() {
        #[derive(Debug)]
        struct Anything;

        impl Problem for Anything {
            fn name(&self) -> &'static str {
                "anything"
            }

            fn task_letter(&self) -> &'static str {
                "X"
            }

            fn input_shape(&self, (rows, columns): (usize, usize)) -> (usize, usize) {
                (rows, columns + 1)
            }

            fn output_shape(&self, _: (usize, usize)) -> Result<(usize, usize), SolveError> {
                Ok((1, 2))
            }

            fn output_magnitudes(&self, _: (usize, usize), entries: Magnitudes) -> Magnitudes {
                Magnitudes { smallest: 7.0 * entries.smallest, largest: None }
            }

            fn solve_into(&self, _: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
                *output = mat![[1.0, 2.0]];
                Ok(())
            }

            fn solve(&self, _: MatRef<'_, f64>) -> Result<Mat<f64>, SolveError> {
                Ok(mat![[3.0, 4.0]])
            }

            fn error(&self, _: Instance<'_>, _: MatRef<'_, f64>, _: Norm) -> Result<f64, SolveError> {
                Ok(0.5)
            }

            fn residual(&self, _: MatRef<'_, f64>, _: MatRef<'_, f64>, _: Norm) -> Result<Option<f64>, SolveError> {
                Ok(Some(0.25))
            }

            fn analysis(&self) -> Option<&dyn Analysis> {
                Some(self)
            }
        }

        impl Analysis for Anything {}

        let boxed: Box<dyn Problem> = Box::new(Anything);
        let input = Mat::zeros(1, 1);
        assert_eq!((Problem::name(&boxed), Problem::output_shape(&boxed, (1, 1))), ("anything", Ok((1, 2))));
        let mut output = Mat::new();
        assert_eq!(Problem::solve_into(&boxed, input.as_ref(), &mut output), Ok(()));
        assert_eq!(output, mat![[1.0, 2.0]]);
        assert_eq!(Problem::solve(&boxed, input.as_ref()), Ok(mat![[3.0, 4.0]]));
        let instance = Instance { input: input.as_ref(), target: input.as_ref() };
        assert_eq!(Problem::error(&boxed, instance, input.as_ref(), Norm::L1), Ok(0.5));
        assert_eq!(Problem::residual(&boxed, input.as_ref(), input.as_ref(), Norm::L1), Ok(Some(0.25)));
        assert!(Problem::analysis(&boxed).is_some());
        assert_eq!((Problem::task_letter(&boxed), Problem::input_shape(&boxed, (1, 1))), ("X", (1, 2)));
        let magnitudes = Problem::output_magnitudes(&boxed, (1, 1), Magnitudes { smallest: 2.0, largest: Some(3.0) });
        assert_eq!(magnitudes, Magnitudes { smallest: 14.0, largest: None });
    }
}
