//! A target value for a figure.

use std::fmt;

use numformer_evaluate::{Evaluation, FigureName};
use serde::{Deserialize, Serialize};

use crate::stopping::stop_rule::{PastEvaluation, StopRule};

/// A target value for a figure of an evaluation. As a [`StopRule`], it ends a run that has reached the value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goal {
    /// The figure.
    pub metric: FigureName,
    /// The value to reach. A better value also reaches the goal.
    pub value: f64,
}

impl Goal {
    /// The goal that a figure reaches `value`.
    #[must_use]
    pub fn new(metric: impl Into<FigureName>, value: f64) -> Self {
        Self { metric: metric.into(), value }
    }

    /// Whether an evaluation reaches the value.
    #[must_use]
    pub fn is_reached(&self, evaluation: &Evaluation) -> bool {
        self.metric.of(evaluation).is_some_and(|found| found.reaches(self.value))
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.metric, self.value)
    }
}

impl StopRule for Goal {
    fn reason(&self, history: &[PastEvaluation]) -> Option<String> {
        let is_reached =
            |past: &&PastEvaluation| past.figure(self.metric.clone()).is_some_and(|found| found.reaches(self.value));
        let reached = history.iter().find(is_reached)?;
        Some(format!("target reached at step {}: {self}", reached.step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stopping::stop_rule::testing::past;

    #[test]
    fn a_goal_is_reached_from_either_side() {
        let evaluation = Evaluation { exact: 0.9, cross_entropy: 0.5, ..Evaluation::default() };
        let reaches = |metric: &str, value| Goal::new(metric, value).is_reached(&evaluation);
        assert!(reaches("exact", 0.9) && reaches("exact", 0.8) && !reaches("exact", 0.95));
        assert!(reaches("cross_entropy", 0.5) && !reaches("cross_entropy", 0.4));
        assert!(!reaches("within_5%", 0.0) && !reaches("a figure of one's own", 0.0));
    }

    #[test]
    fn a_run_ends_at_its_target_and_stays_there() {
        let goal = Goal::new(FigureName::Exact, 0.9);
        let mut history = vec![past(1, 0.8)];
        assert_eq!(goal.reason(&history), None);
        history.push(past(2, 0.95));
        assert_eq!(goal.reason(&history).expect("reached"), "target reached at step 2: exact 0.9");
        history.push(past(3, 0.8));
        assert_eq!(goal.reason(&history).expect("reached"), "target reached at step 2: exact 0.9");
    }
}
