//! The judgement of one prediction in every norm.

use numformer_encoding::TokenId;
use numformer_metrics::{Accuracy, Norm, Tolerance, Verdict, coefficients_within};
use numformer_problems::Instance;

use crate::task::error::no_answer;
use crate::task::view;
use crate::{Task, TaskError};

/// The tolerance of a single coefficient: that of the paper's figures.
const COEFFICIENT: Tolerance = Tolerance::relative(0.01);

/// The judgement of one prediction: its verdict in every norm, and the problem and shape that it is about.
///
/// [`Task::judgement`] makes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The name of the problem that the source poses.
    pub problem: &'static str,
    /// Rows and columns of the matrix it is posed on.
    pub shape: (usize, usize),
    /// The verdict in each of [`Norm::ALL`]. They differ only in the error.
    pub verdicts: Vec<(Norm, Verdict)>,
    /// How many coefficients are within 1% of the target's, as [`coefficients_within`] counts them. If the answer
    /// cannot be read or has the wrong shape, none are.
    pub coefficients: Accuracy,
}

impl Judgement {
    /// The verdict in a norm.
    #[must_use]
    pub fn verdict(&self, norm: Norm) -> Verdict {
        let verdict = self.verdicts.iter().find(|(known, _)| *known == norm);
        verdict.expect("a judgement is in every norm").1
    }

    /// Whether the prediction can be read as a matrix of any shape.
    #[must_use]
    pub fn is_decodable(&self) -> bool {
        self.verdicts.iter().all(|(_, verdict)| verdict.is_decodable())
    }
}

impl Task {
    /// Judges predicted tokens in every norm. The tokens are read once.
    ///
    /// `src` and `tgt` are the sequences of an example, including delimiters. `hypothesis` is what a model wrote after
    /// the leading delimiter. It is read up to the first delimiter, or to the end if there is none. `None` stands for
    /// an answer that was never finished, which is malformed. A prediction is judged by what the tokens say, since
    /// these are what the model saw, and not by the matrices before rounding.
    ///
    /// A prediction that cannot be read gives a verdict and not an error; [`read_tgt`](Self::read_tgt) says why it
    /// cannot.
    ///
    /// # Errors
    /// When `src` or `tgt` is not a matrix, or `tgt` does not have the shape of an answer.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use numformer_data::Task;
    /// use numformer_encoding::Positional;
    /// use numformer_metrics::{Accuracy, Norm, Verdict};
    /// use numformer_problems::{Transpose, UniformEntries};
    ///
    /// let p1000 = Arc::new(Positional::p1000());
    /// let task = Task::new(Transpose, UniformEntries::new(1, 2, 10.0)?, p1000.clone(), p1000)?;
    /// let tokens = |text| task.vocabulary().tokenize(text);
    /// let (src, tgt) = (tokens("<s> V1 V2 + 3 E0 + 4 E0 <s>")?, tokens("<s> V2 V1 + 3 E0 + 4 E0 <s>")?);
    /// let judgement = task.judgement(&src, &tgt, Some(&tokens("V2 V1 + 3 E0 + 3 E0 <s>")?))?;
    /// assert_eq!((judgement.problem, judgement.shape), ("transpose", (1, 2)));
    /// assert_eq!(judgement.verdict(Norm::Frobenius), Verdict::Measured { error: 0.2 });
    /// assert_eq!(judgement.verdict(Norm::Max), Verdict::Measured { error: 0.25 });
    /// assert_eq!(judgement.coefficients, Accuracy { correct: 1, total: 2 });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn judgement(
        &self,
        src: &[TokenId],
        tgt: &[TokenId],
        hypothesis: Option<&[TokenId]>,
    ) -> Result<Judgement, TaskError> {
        let (posed, input) = self.read_posed(src)?;
        let problem = &posed.problem;
        let shape = (input.rows, input.cols);
        let expected = problem.output_shape(shape).map_err(|source| no_answer(problem, source))?;
        let target = posed.tgt.decode(self.between_delimiters(tgt)).map_err(TaskError::Target)?;
        if (target.rows, target.cols) != expected {
            return Err(TaskError::TargetShape { expected, found: (target.rows, target.cols) });
        }
        let judgement = |verdicts, coefficients| Judgement { problem: problem.name(), shape, verdicts, coefficients };
        let without_error = |verdict| {
            let none = Accuracy { correct: 0, total: (expected.0 * expected.1) as u64 };
            judgement(Norm::ALL.iter().map(|&norm| (norm, verdict)).collect(), none)
        };
        let candidate = hypothesis.map(|hypothesis| posed.tgt.decode(self.up_to_delimiter(hypothesis)));
        let Some(Ok(candidate)) = candidate else {
            return Ok(without_error(Verdict::Malformed));
        };
        let found = (candidate.rows, candidate.cols);
        if found != expected {
            return Ok(without_error(Verdict::WrongShape { expected, found }));
        }
        let instance = Instance { input: view(&input), target: view(&target) };
        let verdict = |&norm: &Norm| {
            let error = problem.error(instance, view(&candidate), norm).map_err(|source| no_answer(problem, source))?;
            Ok((norm, Verdict::Measured { error }))
        };
        let verdicts = Norm::ALL.iter().map(verdict).collect::<Result<_, TaskError>>()?;
        Ok(judgement(verdicts, coefficients_within(view(&candidate), view(&target), COEFFICIENT)))
    }

    /// Judges predicted tokens in one norm, which is a part of the [`judgement`](Self::judgement).
    ///
    /// # Errors
    /// When [`judgement`](Self::judgement) fails.
    pub fn judge(
        &self,
        src: &[TokenId],
        tgt: &[TokenId],
        hypothesis: &[TokenId],
        norm: Norm,
    ) -> Result<Verdict, TaskError> {
        Ok(self.judgement(src, tgt, Some(hypothesis))?.verdict(norm))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use numformer_encoding::Positional;
    use numformer_problems::{Eigenvectors, Transpose, UniformEntries};

    use super::*;

    fn task() -> Task {
        let p1000 = Arc::new(Positional::p1000());
        let laws = || vec![Box::new(UniformEntries::new(2, 2, 10.0).unwrap()) as _];
        let builder = Task::builder(p1000.clone(), p1000).with_task_letters();
        let builder = builder.with_problem(Transpose, 1.0, laws());
        builder.with_problem(Eigenvectors::default(), 1.0, laws()).build().unwrap()
    }

    #[test]
    fn an_answer_without_an_error_has_no_coefficient_right() {
        let task = task();
        let tokens = |text: &str| task.vocabulary().tokenize(text).unwrap();
        let (src, tgt) = (tokens("<s> T V1 V2 + 3 E0 + 4 E0 <s>"), tokens("<s> T V2 V1 + 3 E0 + 4 E0 <s>"));
        let judge = |hypothesis| task.judgement(&src, &tgt, hypothesis).unwrap();
        let exact = judge(Some(&tgt[1..]));
        assert!(exact.is_decodable());
        assert_eq!(exact.coefficients, Accuracy { correct: 2, total: 2 });

        let written = |text| task.judgement(&src, &tgt, Some(&tokens(text))).unwrap();
        let misshapen = written("T V1 V2 + 3 E0 + 4 E0 <s>");
        let wrong_shape = Verdict::WrongShape { expected: (2, 1), found: (1, 2) };
        let malformed = written("T V2 V1 + 3 E0 <s>");
        // An answer that never ended is malformed, whatever it says.
        let unfinished = judge(None);
        for (judgement, verdict) in
            [(misshapen, wrong_shape), (malformed, Verdict::Malformed), (unfinished, Verdict::Malformed)]
        {
            assert!(judgement.verdicts.iter().map(|(norm, _)| norm).eq(Norm::ALL));
            assert!(judgement.verdicts.iter().all(|(_, found)| *found == verdict), "{judgement:?}");
            assert_eq!(judgement.is_decodable(), verdict.is_decodable());
            assert_eq!(judgement.coefficients, Accuracy { correct: 0, total: 2 });
            assert_eq!((judgement.problem, judgement.shape), ("transpose", (1, 2)));
        }
    }

    /// Eigenvectors may have either sign, but the target's coefficients have one sign.
    #[test]
    fn verdicts_are_the_problem_s_and_coefficients_the_target_s() {
        let task = task();
        let tokens = |text: &str| task.vocabulary().tokenize(text).unwrap();
        let src = tokens("F V2 V2 + 2 E0 + 0 E0 + 0 E0 + 5 E0");
        let tgt = tokens("F V3 V2 + 2 E0 + 5 E0 + 1 E0 + 0 E0 + 0 E0 + 1 E0");
        let flipped = tokens("F V3 V2 + 2 E0 + 5 E0 - 1 E0 + 0 E0 + 0 E0 + 1 E0");
        let judgement = task.judgement(&src, &tgt, Some(&flipped)).unwrap();
        assert_eq!((judgement.problem, judgement.shape), ("eigenvectors", (2, 2)));
        assert!(judgement.verdicts.iter().all(|(_, verdict)| *verdict == Verdict::Measured { error: 0.0 }));
        assert_eq!(judgement.coefficients, Accuracy { correct: 5, total: 6 });
    }
}
