//! The performance of a stored model on unseen matrices, and where it fails.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::Path;

use numformer_data::Split;
use numformer_evaluate::{Evaluation, EvaluationTable, ProblemFailures, Solved, failures_by_problem};
use numformer_experiment::{Amount, Catalogue, RunError, StoredRun};
use numformer_metrics::Verdict;

use crate::ReportError;
use crate::format::with_causes;

/// Maximum number of worst answers kept: of those with an error, and of those that are not a matrix of the right shape.
const WORST: usize = 4;

/// Results of a run's model on a test: its performance on unseen matrices, including other laws than those of training, and
/// where it fails.
#[derive(Clone, Debug, PartialEq)]
pub struct TestResults {
    /// Number of updates that the model has had.
    pub step: u64,
    /// What is wrong with checkpoints that are newer than the model's: they are damaged and were skipped.
    pub passed_over: Vec<String>,
    /// The figures on the test split: on the examples of its file, or else on matrices like those of training.
    pub evaluation: Evaluation,
    /// The verdict on the answer to each example, in the L1 norm.
    pub verdicts: Vec<Verdict>,
    /// The answers with the largest errors, the worst first, then some that are not a matrix of the right shape.
    pub worst: Vec<WorstCase>,
    /// Why answers are wrong, for each problem whose answers have checkable properties.
    pub failures: BTreeMap<String, ProblemFailures>,
    /// The figures on the test sets of the experiment.
    pub by_set: Vec<(String, Evaluation)>,
    /// The figures on matrices of other laws.
    pub by_law: Vec<(String, Evaluation)>,
}

/// An answer that is far from right.
#[derive(Clone, Debug, PartialEq)]
pub struct WorstCase {
    /// The number of the example in the test split, from 0.
    pub index: u64,
    /// The example and the answer.
    pub solved: Solved,
}

impl TestResults {
    /// Tests the model of the run in `dir`, with the tokens that it knows. It answers the first `examples` of the
    /// run's test split, which may come from a file, and as many matrices drawn for each test set and each of `laws`.
    ///
    /// A law is omitted if the run's problem has no matrices of that law, such as a law of rectangular matrices for a
    /// problem on symmetric ones. All laws are omitted if problems of the run define their own matrices.
    ///
    /// # Errors
    /// When there is no run, it has no valid checkpoint, `examples` is 0, or the file of the test split is unsuitable.
    pub fn of(dir: &Path, examples: impl Into<Amount>, laws: &[impl AsRef<str>]) -> Result<Self, ReportError> {
        Self::with_catalogue(dir, examples, laws, &Catalogue::standard())
    }

    /// Like [`TestResults::of`], but looks names up in `catalogue` instead of the standard one: those in the experiment
    /// and those of `laws`.
    ///
    /// # Errors
    /// As [`TestResults::of`].
    pub fn with_catalogue(
        dir: &Path,
        examples: impl Into<Amount>,
        laws: &[impl AsRef<str>],
        catalogue: &Catalogue,
    ) -> Result<Self, ReportError> {
        let laws: Vec<&str> = laws.iter().map(AsRef::as_ref).collect();
        Self::ask(dir, examples.into(), &laws, catalogue)
            .map_err(|source| ReportError::Model { path: dir.to_owned(), source })
    }

    fn ask(dir: &Path, examples: Amount, laws: &[&str], catalogue: &Catalogue) -> Result<Self, Box<RunError>> {
        let run = StoredRun::with_catalogue(dir, catalogue)?;
        let mut by_set: Vec<_> = rows(&run.evaluate_sets(examples)?);
        // The first set is the test split itself.
        let (_, evaluation) = by_set.remove(0);
        let solved = run.solve_split(Split::Test, examples)?;
        let failures = failures_by_problem(run.task(), &solved);
        let verdicts = solved.iter().map(|solved| solved.verdict).collect();
        let worst = worst(solved).into_iter().map(|(index, solved)| WorstCase { index, solved }).collect();
        let by_law = rows(&run.evaluate_laws(laws, examples.of_drawn())?);
        let passed_over = run.passed_over().iter().map(|error| with_causes(error)).collect();
        Ok(Self { step: run.step(), passed_over, evaluation, verdicts, worst, failures, by_set, by_law })
    }

    /// The number of answers that are not a matrix of the right shape, or whose error is too large to measure.
    #[must_use]
    pub fn without_error(&self) -> u64 {
        self.verdicts.iter().filter(|verdict| measured(verdict).is_none()).count() as u64
    }

    /// The errors of the answers that have one, in the order of the examples.
    pub fn errors(&self) -> impl Iterator<Item = f64> {
        self.verdicts.iter().filter_map(measured)
    }
}

/// The evaluation on each set, with the name of the set.
fn rows(table: &EvaluationTable) -> Vec<(String, Evaluation)> {
    table.iter().map(|(name, evaluation)| (name.to_owned(), evaluation.clone())).collect()
}

/// The error, if there is one that can be drawn.
fn measured(verdict: &Verdict) -> Option<f64> {
    verdict.error().filter(|error| error.is_finite())
}

/// The worst answers, with the numbers of their examples.
fn worst(solved: Vec<Solved>) -> Vec<(u64, Solved)> {
    let cases = (0..).zip(solved).filter(|(_, solved)| solved.verdict != Verdict::Measured { error: 0.0 });
    let error = |(_, solved): &(u64, Solved)| measured(&solved.verdict);
    let (mut far, mut shapeless): (Vec<_>, Vec<_>) = cases.partition(|case| error(case).is_some());
    // The sort is stable, so of equal errors the first comes first.
    far.sort_by(|a, b| error(b).partial_cmp(&error(a)).unwrap_or(Ordering::Equal));
    far.truncate(WORST);
    shapeless.truncate(WORST);
    far.into_iter().chain(shapeless).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An answer with this error, or, for `None`, an answer that is not a matrix.
    pub(crate) fn solved(error: Option<f64>) -> Solved {
        let matrix = |text: &str| text.parse().expect("a matrix");
        Solved {
            problem: "transpose",
            src: "V1 V2 + 1 E0 + 2 E0".to_owned(),
            target: "V2 V1 + 1 E0 + 2 E0".to_owned(),
            answer: "V2 V1 + 1 E0 <script>".to_owned(),
            input: matrix("1 2"),
            exact: matrix("1; 2"),
            found: Ok(matrix("1; 2.5")),
            verdict: error.map_or(Verdict::Malformed, |error| Verdict::Measured { error }),
            score: None,
        }
    }

    pub(crate) fn example() -> TestResults {
        let evaluation: Evaluation = serde_json::from_str(
            r#"{"count":4,"accuracy":[[0.05,0.5]],"exact":0.25,"decodable":0.75,"cross_entropy":0.5,
            "exact_interval":[0.1,0.4],"decodable_interval":[0.6,0.9],"norms":{"l1":[[0.05,0.5,0.2,0.8]]},
            "by_dimension":{"2x2":{"count":4,"accuracy":[[0.05,0.5]],"exact":0.25,"decodable":0.75,"cross_entropy":0.5,
                "norms":{"l1":[[0.05,0.5,0.2,0.8]]}},
              "3x3":{"count":4,"accuracy":[[0.05,0.5]],"exact":0.25,"decodable":0.75,"cross_entropy":0.5,
                "norms":{"l1":[[0.05,0.5,0.2,0.8]]}}}}"#,
        )
        .expect("an evaluation");
        let case = |(index, solved)| WorstCase { index, solved };
        let all = [Some(0.0), Some(0.02), None, Some(f64::INFINITY), Some(0.75)].map(solved);
        TestResults {
            step: 2,
            passed_over: Vec::new(),
            verdicts: all.iter().map(|solved| solved.verdict).collect(),
            worst: worst(all.to_vec()).into_iter().map(case).collect(),
            failures: BTreeMap::new(),
            by_set: vec![("heavy-tails".to_owned(), evaluation.clone())],
            by_law: vec![("gaussian".to_owned(), evaluation.clone()), ("uniform".to_owned(), evaluation.clone())],
            evaluation,
        }
    }

    #[test]
    fn the_worst_come_first_and_right_answers_not_at_all() {
        let worst = |errors: &[Option<f64>]| {
            let cases = worst(errors.iter().map(|error| solved(*error)).collect());
            cases.iter().map(|(index, _)| *index).collect::<Vec<_>>()
        };
        assert_eq!(worst(&[Some(0.0), Some(0.1), None, Some(2.0), Some(f64::NAN), Some(0.1)]), [3, 1, 5, 2, 4]);
        assert_eq!(worst(&[Some(0.1); 10]), [0, 1, 2, 3]);
        assert_eq!(worst(&[None; 10]), [0, 1, 2, 3]);
    }

    #[test]
    fn answers_beyond_measure_have_no_error() {
        let results = example();
        assert_eq!(results.without_error(), 2);
        assert_eq!(results.errors().collect::<Vec<_>>(), [0.0, 0.02, 0.75]);
    }
}
