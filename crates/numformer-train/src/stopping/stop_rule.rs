//! Ending a run by what its evaluations say.

use std::collections::BTreeMap;

use numformer_evaluate::{Figure, FigureName};
use serde::{Deserialize, Serialize};

use crate::observers::observer::EvaluationReport;

/// Decides when a run ends before all its steps are taken. A rule is asked after every evaluation, and when a run goes
/// on.
///
/// A rule remembers nothing. The evaluations so far are part of every checkpoint, so a run that goes on ends where it
/// would have ended without the interruption. Closures are rules too.
///
/// # Examples
/// ```
/// use numformer_train::{PastEvaluation, StopRule};
///
/// let three_evaluations = |history: &[PastEvaluation]| (history.len() == 3).then(|| "seen enough".to_owned());
/// assert_eq!(three_evaluations.reason(&[]), None);
/// ```
pub trait StopRule: Send {
    /// The reason why a run with these evaluations ends, or `None` if it goes on. The latest evaluation comes last.
    /// Evaluations of stages are left out.
    fn reason(&self, history: &[PastEvaluation]) -> Option<String>;
}

impl<F: Fn(&[PastEvaluation]) -> Option<String> + Send> StopRule for F {
    fn reason(&self, history: &[PastEvaluation]) -> Option<String> {
        self(history)
    }
}

/// The figures of an earlier evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PastEvaluation {
    /// Updates taken by then.
    pub step: u64,
    /// The figures, by name.
    pub figures: BTreeMap<FigureName, Figure>,
}

impl PastEvaluation {
    /// A figure by its name.
    #[must_use]
    pub fn figure(&self, name: impl Into<FigureName>) -> Option<Figure> {
        self.figures.get(&name.into()).copied()
    }
}

impl From<&EvaluationReport> for PastEvaluation {
    fn from(EvaluationReport { step, evaluation, .. }: &EvaluationReport) -> Self {
        let custom = evaluation.custom.keys().map(|name| FigureName::Custom(name.clone()));
        let figures = FigureName::standard().chain(custom).filter_map(|name| {
            // JSON cannot express numbers that are not finite.
            let figure = name.of(evaluation).filter(|figure| figure.value.is_finite())?;
            Some((name, figure))
        });
        Self { step: *step, figures: figures.collect() }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// An evaluation with this share of exact answers.
    pub(crate) fn past(step: u64, exact: f64) -> PastEvaluation {
        PastEvaluation { step, figures: [(FigureName::Exact, Figure::more_is_better(exact))].into() }
    }
}
