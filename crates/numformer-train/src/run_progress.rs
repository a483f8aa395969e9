//! What happened in a run.

use std::collections::BTreeMap;

use numformer_evaluate::FigureName;
use serde::{Deserialize, Serialize};

use crate::stopping::stop_rule::PastEvaluation;

/// What happened in a run. It holds only what the rest of the run depends on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunProgress {
    /// Total number of steps left out because they diverged.
    #[serde(skip_serializing_if = "is_default")]
    pub skipped: u64,
    /// Number of steps left out in a row, up to the latest step.
    #[serde(skip_serializing_if = "is_default")]
    pub skipped_in_a_row: u32,
    /// How often the run went back after it diverged.
    #[serde(skip_serializing_if = "is_default")]
    pub roll_backs: u32,
    /// For each finished stage, the step after which it ended.
    #[serde(skip_serializing_if = "is_default")]
    pub stages: Vec<u64>,
    /// The best evaluation by each figure for which the best checkpoint is kept.
    #[serde(skip_serializing_if = "is_default")]
    pub best: BTreeMap<FigureName, Best>,
    /// The evaluations that were due, except those of stages.
    #[serde(skip_serializing_if = "is_default")]
    pub history: Vec<PastEvaluation>,
    /// Whether the evaluation after the last step was interrupted. If so, it is done first when the run goes on.
    #[serde(skip_serializing_if = "is_default")]
    pub unjudged: bool,
}

impl RunProgress {
    /// The value of a figure in the latest evaluation.
    #[must_use]
    pub fn latest(&self, figure: impl Into<FigureName>) -> Option<f64> {
        self.history.last()?.figure(figure).map(|figure| figure.value)
    }
}

/// The best evaluation so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Updates taken by then.
    pub step: u64,
    /// The figure.
    pub value: f64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
