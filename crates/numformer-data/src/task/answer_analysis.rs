//! The analysis of an answer of the right shape.

use numformer_encoding::DenseMatrix;
use numformer_metrics::Deviations;
use numformer_problems::{Instance, steps_to_refine};

use crate::Task;
use crate::task::view;

/// What is wrong with an answer, and how many steps of a classical iteration lead from it to the exact one.
///
/// [`Task::analyse`] makes it.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerAnalysis {
    /// Which properties of the exact answer the answer lacks.
    pub deviations: Deviations,
    /// The numbers of steps to the exact answer, if the problem has an [iteration](numformer_problems::Refinement).
    pub refinement: Option<RefinementSteps>,
}

/// The numbers of steps of an iteration until the residual is at most [`REFINED`](numformer_problems::REFINED); `None`
/// if it never is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RefinementSteps {
    /// From the answer.
    pub from_answer: Option<u32>,
    /// From the usual start of the iteration.
    pub from_cold_start: Option<u32>,
}

impl Task {
    /// The analysis of an answer; `None` if the answers of the problem have no separate properties, the problem is
    /// not one of this task, or the answer does not have the shape of the exact one.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use numformer_data::Task;
    /// use numformer_encoding::Positional;
    /// use numformer_metrics::Property;
    /// use numformer_problems::{Inversion, UniformEntries};
    ///
    /// let p1000 = Arc::new(Positional::p1000());
    /// let task = Task::new(Inversion::default(), UniformEntries::new(2, 2, 10.0)?, p1000.clone(), p1000)?;
    /// let [input, exact, answer] = ["2 0; 0 4", "0.5 0; 0 0.25", "0.505 0; 0 0.25"].map(str::parse);
    /// let analysis = task.analyse("inversion", &input?, &exact?, &answer?).unwrap();
    /// assert!((analysis.deviations.of(Property::Coefficients).unwrap() - 0.005 / 0.75).abs() < 1e-15);
    /// assert_eq!(analysis.refinement.unwrap().from_answer, Some(3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn analyse(
        &self,
        problem: &str,
        input: &DenseMatrix,
        exact: &DenseMatrix,
        answer: &DenseMatrix,
    ) -> Option<AnswerAnalysis> {
        let problem = self.problems().find(|known| known.name() == problem)?;
        let shape = problem.output_shape((input.rows, input.cols)).ok()?;
        if [exact, answer].iter().any(|matrix| (matrix.rows, matrix.cols) != shape) {
            return None;
        }
        let (input, exact, answer) = (view(input), view(exact), view(answer));
        let analysis = problem.analysis()?;
        let deviations = analysis.deviations(Instance { input, target: exact }, answer)?;
        let refinement = analysis.refinement().map(|refinement| RefinementSteps {
            from_answer: steps_to_refine(refinement, input, answer.to_owned()),
            from_cold_start: steps_to_refine(refinement, input, refinement.cold_start(input)),
        });
        Some(AnswerAnalysis { deviations, refinement })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use numformer_encoding::Positional;
    use numformer_problems::{Svd, Trace, UniformEntries};

    use super::*;

    #[test]
    fn only_what_has_properties_and_the_right_shape_is_analysed() {
        let p1000 = Arc::new(Positional::p1000());
        let laws = || vec![Box::new(UniformEntries::new(1, 1, 10.0).unwrap()) as _];
        let builder = Task::builder(p1000.clone(), p1000).with_task_letters();
        let builder = builder.with_problem(Trace, 1.0, laws()).with_problem(Svd::default(), 1.0, laws());
        let task = builder.build().unwrap();
        let analyse = |problem, input: &str, exact: &str, answer: &str| {
            let [input, exact, answer] = [input, exact, answer].map(|text| text.parse().unwrap());
            task.analyse(problem, &input, &exact, &answer)
        };
        let svd = analyse("svd", "-2", "2; -1; 1", "2; -1; 0.5").unwrap();
        assert_eq!(svd.refinement, None);
        assert_eq!(
            svd.deviations.properties.iter().map(|(_, deviation)| *deviation).collect::<Vec<_>>(),
            [0.0, 0.5, 0.0]
        );
        assert_eq!(analyse("svd", "-2", "2; -1; 1", "2; -1"), None);
        assert_eq!(analyse("trace", "-2", "-2", "-2"), None);
        assert_eq!(analyse("inversion", "-2", "-0.5", "-0.5"), None);
    }
}
