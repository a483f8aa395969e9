//! What happened in a run.

use std::collections::BTreeMap;

use numformer_evaluate::FigureName;
use serde::{Deserialize, Serialize};

use crate::stop_rule::PastEvaluation;

/// What happened in a run, as far as the rest of it depends on that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunProgress {
    /// Steps left out since they diverged, in all.
    #[serde(skip_serializing_if = "is_default")]
    pub skipped: u64,
    /// The last steps, as many of them as were left out one after another.
    #[serde(skip_serializing_if = "is_default")]
    pub skipped_in_a_row: u32,
    /// Times that the run went back after it diverged.
    #[serde(skip_serializing_if = "is_default")]
    pub roll_backs: u32,
    /// For each stage that is over, the step after which it was.
    #[serde(skip_serializing_if = "is_default")]
    pub stages: Vec<u64>,
    /// The best evaluation by each figure that checkpoints are kept of.
    #[serde(skip_serializing_if = "is_default")]
    pub best: BTreeMap<FigureName, Best>,
    /// The evaluations that the run was due for, but for those of stages.
    #[serde(skip_serializing_if = "is_default")]
    pub history: Vec<PastEvaluation>,
    /// Whether the evaluation after the last step was broken off: it is done first when the run goes on.
    #[serde(skip_serializing_if = "is_default")]
    pub unjudged: bool,
}

/// The best evaluation so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// After so many updates.
    pub step: u64,
    /// The figure.
    pub value: f64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
