//! Why answers are wrong, and how useful they are as starting points.

use std::collections::BTreeMap;
use std::fmt;

use numformer_data::{AnswerAnalysis, Task};
use numformer_metrics::{
    Accuracy, Detection, FailureAnalysis, FailureSummary, Metric, StepCounts, StepSummary, Tolerance,
};
use numformer_problems::REFINED;
use serde::{Serialize, Serializer};

use crate::answers::solved::Solved;
use crate::text::{Align, table};

/// The tolerance at which an answer counts as correct where failures are analysed.
pub const FAILURE_TOLERANCE: Tolerance = Tolerance::relative(0.05);

/// Why a model's answers to one problem are wrong, and how many steps of a classical iteration separate them from the
/// exact answer.
///
/// Answers that are not a matrix of the right shape are counted, but otherwise ignored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProblemFailures {
    /// The number of answers that are matrices of the right shape, and the number of all answers.
    pub shaped: Accuracy,
    /// Which properties of exact answers these answers keep. An answer is correct if it is within 5% in the norm L1.
    pub properties: FailureAnalysis,
    /// Steps to the exact answer, if the problem has an iteration.
    pub refinement: Option<RefinementCounts>,
}

/// Steps of an iteration until the residual is at most [`REFINED`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefinementCounts {
    /// Steps from the model's answers.
    pub from_answers: StepCounts,
    /// Steps from those of the model's answers that are within 5%.
    pub from_correct_answers: StepCounts,
    /// Steps from the usual start of the iteration, for the same inputs.
    pub from_cold_starts: StepCounts,
}

impl RefinementCounts {
    /// Each kind of start with its name, in reading order.
    #[must_use]
    pub fn by_start(&self) -> [(&'static str, &StepCounts); 3] {
        [
            ("answer", &self.from_answers),
            ("answer within 5%", &self.from_correct_answers),
            ("cold start", &self.from_cold_starts),
        ]
    }
}

/// Diagnoses answers to the problems of a task, problem by problem. It covers the problems whose answers have
/// properties to check.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use candle_core::Device;
/// use numformer_data::{Split, Task};
/// use numformer_encoding::Positional;
/// use numformer_evaluate::{failures_by_problem, solve};
/// use numformer_model::{Cell, Parameters, Recurrent, RecurrentConfig};
/// use numformer_problems::{Inversion, UniformEntries};
///
/// let p10 = Arc::new(Positional::p10());
/// let task = Task::new(Inversion::default(), UniformEntries::new(2, 2, 10.0)?, p10.clone(), p10)?;
/// let task = Arc::new(task);
/// let config = RecurrentConfig::new(Cell::Gru, task.vocabulary().len(), 8, 1);
/// let model = Recurrent::new(&config, &Parameters::random(0, &Device::Cpu).frozen())?;
/// let solved = solve(&model, &task, &task.batches(0, Split::Test, 8), 0, &Device::Cpu)?;
/// let failures = failures_by_problem(&task, &solved);
/// assert_eq!(failures["inversion"].shaped.total, 8);
/// println!("{}", failures["inversion"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn failures_by_problem(task: &Task, solved: &[Solved]) -> BTreeMap<String, ProblemFailures> {
    let mut failures = BTreeMap::<String, ProblemFailures>::new();
    for solved in solved {
        let analyse = |answer| task.analyse(solved.problem, &solved.input, &solved.exact, answer);
        // The exact answer shows whether the problem has properties to check.
        if analyse(&solved.exact).is_none() {
            continue;
        }
        // An answer that the model did not end has no error, even if its tokens form a matrix.
        let answer = solved.found.as_ref().ok().filter(|_| solved.verdict.error().is_some());
        failures.entry(solved.problem.to_owned()).or_default().update(answer.and_then(analyse), solved);
    }
    failures
}

impl ProblemFailures {
    fn update(&mut self, analysis: Option<AnswerAnalysis>, solved: &Solved) {
        self.shaped.update(&analysis.is_some());
        let Some(AnswerAnalysis { deviations, refinement }) = analysis else { return };
        let is_correct = solved.verdict.is_correct(FAILURE_TOLERANCE);
        self.properties.update(&(deviations, is_correct));
        if let Some(steps) = refinement {
            let counts = self.refinement.get_or_insert_default();
            counts.from_answers.update(&steps.from_answer);
            if is_correct {
                counts.from_correct_answers.update(&steps.from_answer);
            }
            counts.from_cold_starts.update(&steps.from_cold_start);
        }
    }
}

impl fmt::Display for ProblemFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |accuracy: Accuracy| match accuracy.value() {
            Some(share) => format!("{:.2}%", 100.0 * share),
            None => "-".to_owned(),
        };
        write!(f, "answers of the right shape: {} of {}", self.shaped.correct, self.shaped.total)?;
        write!(f, "\nwithin {FAILURE_TOLERANCE}: {}", share(self.properties.correct()))?;
        let width = f.width().filter(|width| *width > 0);
        let kept_to = format!("kept to {}", self.properties.tolerance());
        let rows = self.properties.kept().iter().map(|(property, kept)| {
            let when_wrong = self.properties.kept_when_wrong().get(property).copied().unwrap_or_default();
            vec![format!("  {property}"), share(*kept), share(when_wrong)]
        });
        let kept = table(&[&kept_to, "all", "wrong"], &rows.collect::<Vec<_>>(), Align::Right, width);
        write!(f, "\n{}", kept.trim_end())?;
        if let (Some(area), Some(best)) = (self.properties.failures().value(), self.properties.failures().best()) {
            write!(
                f,
                "\nthe condition number is above {:.4} for {} of the wrong answers and {} of the right ones (area \
                 under the curve {area:.4})",
                best.threshold,
                share(best.sensitivity),
                share(Accuracy { correct: best.specificity.total - best.specificity.correct, ..best.specificity })
            )?;
        }
        if let Some(refinement) = &self.refinement {
            let steps_to = format!("steps to {REFINED:e}");
            let rows = refinement.by_start().into_iter().filter_map(|(start, counts)| {
                let steps = counts.value()?;
                let number = |steps: Option<u32>| steps.map_or_else(|| "-".to_owned(), |steps| steps.to_string());
                let reached = format!("{:.2}%", 100.0 * steps.reached);
                Some(vec![format!("  {start}"), reached, number(steps.median), number(steps.most)])
            });
            let rows: Vec<_> = rows.collect();
            let steps = table(&[&steps_to, "reached", "median", "most"], &rows, Align::Right, width);
            write!(f, "\n{}", steps.trim_end())?;
        }
        Ok(())
    }
}

/// The figures of failures as they are serialized.
#[derive(Serialize)]
struct Figures<'a> {
    answers: u64,
    shaped: u64,
    #[serde(flatten)]
    failures: Option<FailureSummary>,
    best_threshold: Option<Detection>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refinement: Option<BTreeMap<&'a str, Option<StepSummary>>>,
}

impl Serialize for ProblemFailures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let by_start = |steps: &RefinementCounts| {
            let names = ["from_answers", "from_correct_answers", "from_cold_starts"];
            names.into_iter().zip(steps.by_start().map(|(_, counts)| counts.value())).collect()
        };
        Figures {
            answers: self.shaped.total,
            shaped: self.shaped.correct,
            failures: self.properties.value(),
            best_threshold: self.properties.failures().best(),
            refinement: self.refinement.as_ref().map(by_start),
        }
        .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use numformer_encoding::Positional;
    use numformer_metrics::Property;
    use numformer_model::{End, Hypothesis};
    use numformer_problems::{Eigenvectors, Inversion, Law, Spectrum, SymmetricSpectrum, Trace, UniformEntries};

    use super::*;
    use crate::answers::solved::solved;

    fn task() -> Task {
        let p1000 = Arc::new(Positional::p1000());
        let uniform = || -> Vec<Box<dyn Law>> { vec![Box::new(UniformEntries::new(2, 2, 10.0).expect("a law"))] };
        let symmetric = SymmetricSpectrum::new(2, 10.0, Spectrum::Semicircle).expect("a law");
        Task::builder(p1000.clone(), p1000)
            .with_problem(Inversion::default(), 1.0, uniform())
            .with_problem(Trace, 1.0, uniform())
            .with_problem(Eigenvectors::default(), 1.0, vec![Box::new(symmetric)])
            .with_task_letters()
            .build()
            .expect("a task")
    }

    /// An answer of these coefficients, row by row, to the problem of this number; `None` if it was never ended.
    fn answered(task: &Task, problem: usize, answer: &str) -> Solved {
        let example = task.example_of(problem, &"2 0; 0 4".parse().expect("a matrix")).expect("an example");
        let words = answer.split_whitespace().map(|number| {
            let exponent = format!("{:.2e}", number.parse::<f64>().expect("a number"));
            let (digits, exponent) = exponent.split_once('e').expect("an exponent");
            match digits.replace('.', "").parse().expect("digits") {
                0 => "+ 0 E0".to_owned(),
                digits => format!("+ {} E{}", digits, exponent.parse::<i32>().expect("an exponent") - 2),
            }
        });
        let words: Vec<String> = words.collect();
        let head = task.vocabulary().render(&example.tgt[1..4]);
        let tokens = task.vocabulary().tokenize(&format!("{head} {}", words.join(" "))).expect("known symbols");
        let end = if words.is_empty() { End::Limit } else { End::Delimiter };
        let hypothesis = Hypothesis { ids: tokens.iter().map(|token| token.0).collect(), end };
        solved(task, &example.src, &example.tgt, &hypothesis.into()).expect("an example of the task")
    }

    const INVERSION: usize = 0;
    const TRACE: usize = 1;
    const EIGENVECTORS: usize = 2;

    #[test]
    fn answers_are_split_by_problem_and_property() {
        let task = task();
        let inverse = |answer| answered(&task, INVERSION, answer);
        let eigen = |answer| answered(&task, EIGENVECTORS, answer);
        let solved = [
            inverse("0.5 0 0 0.25"),
            inverse("0.505 0 0 0.25"),
            // The direction is as good, but the matrix is twice as large. Newton's iteration does not converge from
            // there.
            inverse("1 0 0 0.5"),
            inverse(""),
            answered(&task, TRACE, "6"),
            eigen("2 4 1 0 0 1"),
            // Both vectors are near the first, so they become the same after refinement.
            eigen("2 4 1 1 0 0.1"),
        ];
        let failures = failures_by_problem(&task, &solved);
        assert!(failures.keys().eq(["eigenvectors", "inversion"]), "{failures:?}");

        let inversion = &failures["inversion"];
        assert_eq!(inversion.shaped, Accuracy { correct: 3, total: 4 });
        assert_eq!(inversion.properties.correct(), Accuracy { correct: 2, total: 3 });
        let kept = |property| inversion.properties.kept()[&property].correct;
        assert_eq!([Property::Coefficients, Property::Magnitude, Property::Direction].map(kept), [2, 2, 3]);
        let steps = inversion.refinement.as_ref().expect("Newton's iteration");
        assert_eq!((steps.from_answers.not_reached(), steps.from_correct_answers.not_reached()), (1, 0));
        assert!(steps.from_correct_answers.counts().keys().eq(&[0, 3]), "{steps:?}");
        let cold = steps.from_cold_starts.value().expect("three starts");
        assert!(cold.reached > 0.99 && cold.median > Some(3), "{cold:?}");

        let eigenvectors = &failures["eigenvectors"];
        let summary = eigenvectors.properties.value().expect("two answers");
        assert_eq!((summary.kept[&Property::Eigenvalues], summary.kept[&Property::Orthogonality]), (1.0, 0.5));
        assert_eq!(summary.area_under_curve, Some(1.0));
        let steps = eigenvectors.refinement.as_ref().expect("Rayleigh quotients").from_answers.value();
        assert_eq!(steps.map(|steps| (steps.reached, steps.most)), Some((0.5, Some(0))));
    }

    #[test]
    fn figures_are_shown_and_serialized() {
        let task = task();
        let answers = ["0.5 0 0 0.25", "0.5 0 0.5 0.25"].map(|answer| answered(&task, INVERSION, answer));
        let failures = failures_by_problem(&task, &answers);
        let shown = failures["inversion"].to_string();
        let expected = [
            "answers of the right shape: 2 of 2",
            "within 5%: 50.00%",
            "kept to 1%         all  wrong",
            "  coefficients  50.00%  0.00%",
            "  magnitude     50.00%  0.00%",
            "  direction     50.00%  0.00%",
            "the condition number is above 2.0000 for 100.00% of the wrong answers and 0.00% of the right ones (area \
             under the curve 1.0000)",
            "steps to 1e-10      reached  median  most",
            "  answer            100.00%       0     1",
            "  answer within 5%  100.00%       0     0",
        ];
        assert_eq!(shown.lines().take(10).collect::<Vec<_>>(), expected, "{shown}");
        let json = serde_json::to_value(&failures).expect("plain data");
        let inversion = &json["inversion"];
        assert_eq!((&inversion["shaped"], &inversion["correct"]), (&2.into(), &0.5.into()), "{json}");
        assert_eq!(inversion["kept"]["magnitude"], 0.5, "{json}");
        assert_eq!(inversion["refinement"]["from_answers"]["most"], 1, "{json}");
        assert_eq!(inversion["best_threshold"]["threshold"], 2.0, "{json}");
    }
}
