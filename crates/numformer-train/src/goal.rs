//! Ending a run, or a stage of it, by what its evaluations say.

use std::fmt;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::divergence::DivergenceReport;
use crate::figure_name::FigureName;
use crate::figures::Evaluation;
use crate::observer::{EvaluationReport, Observer, Start, StopReason};

/// A value that a figure of an evaluation is to reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goal {
    /// The figure.
    pub metric: FigureName,
    /// The value: reached, or better.
    pub value: f64,
}

impl Goal {
    /// Whether an evaluation reaches the value.
    #[must_use]
    pub fn is_reached(self, evaluation: &Evaluation) -> bool {
        self.metric.of(evaluation).is_some_and(|found| !found.is_nan() && !self.metric.is_better(self.value, found))
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.metric, self.value)
    }
}

/// Ends a run as soon as an evaluation reaches a [`Goal`].
#[derive(Clone, Debug)]
pub struct TargetReached {
    goal: Goal,
    history: Vec<EvaluationReport>,
}

impl TargetReached {
    /// Ends a run at this goal.
    #[must_use]
    pub fn new(goal: Goal) -> Self {
        Self { goal, history: Vec::new() }
    }

    /// The evaluations of the run that goes on, from [`Trainer::past_evaluations`](crate::Trainer::past_evaluations): a run
    /// that had reached the goal ends at once.
    #[must_use]
    pub fn with_history(self, history: Vec<EvaluationReport>) -> Self {
        Self { history, ..self }
    }
}

impl Observer for TargetReached {
    fn on_start(&mut self, start: &Start<'_>) -> ControlFlow<StopReason> {
        past(&mut self.history, start.step).iter().try_for_each(|report| self.on_evaluation(report))
    }

    fn on_evaluation(&mut self, report: &EvaluationReport) -> ControlFlow<StopReason> {
        if report.stage.is_some() || !self.goal.is_reached(&report.evaluation) {
            return ControlFlow::Continue(());
        }
        ControlFlow::Break(StopReason::Asked(format!("target reached at step {}: {}", report.step, self.goal)))
    }
}

/// When a run that no longer improves ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patience {
    /// The figure that is to improve.
    pub metric: FigureName,
    /// Evaluations without an improvement, one after another, that end the run.
    pub evaluations: u32,
    /// A smaller improvement is none.
    #[serde(default)]
    pub min_delta: f64,
}

/// Ends a run whose figure no longer improves.
#[derive(Clone, Debug)]
pub struct EarlyStopping {
    patience: Patience,
    /// The figure at each evaluation so far, after its step.
    seen: Vec<(u64, f64)>,
    history: Vec<EvaluationReport>,
}

impl EarlyStopping {
    /// Ends a run when this patience is over.
    #[must_use]
    pub fn new(patience: Patience) -> Self {
        Self { patience, seen: Vec::new(), history: Vec::new() }
    }

    /// As [`TargetReached::with_history`].
    #[must_use]
    pub fn with_history(self, history: Vec<EvaluationReport>) -> Self {
        Self { history, ..self }
    }
}

impl Observer for EarlyStopping {
    fn on_start(&mut self, start: &Start<'_>) -> ControlFlow<StopReason> {
        self.seen.retain(|(step, _)| *step <= start.step);
        past(&mut self.history, start.step).iter().try_for_each(|report| self.on_evaluation(report))
    }

    fn on_evaluation(&mut self, report: &EvaluationReport) -> ControlFlow<StopReason> {
        let Patience { metric, evaluations, min_delta } = self.patience;
        let found = metric.of(&report.evaluation).filter(|_| report.stage.is_none());
        self.seen.extend(found.map(|found| (report.step, found)));
        let Some((&(_, first), later)) = self.seen.split_first() else { return ControlFlow::Continue(()) };
        let (mut best, mut without) = (first, 0);
        for &(_, found) in later {
            let is_better = metric.is_better(found, best) && (found - best).abs() > min_delta;
            (best, without) = if is_better { (found, 0) } else { (best, without + 1) };
        }
        if without < evaluations {
            return ControlFlow::Continue(());
        }
        let reason = format!("{metric} has not improved on {best} for {without} evaluations");
        ControlFlow::Break(StopReason::Asked(reason))
    }

    fn on_divergence(&mut self, divergence: &DivergenceReport) -> ControlFlow<StopReason> {
        self.seen.retain(|(step, _)| *step <= divergence.step);
        ControlFlow::Continue(())
    }
}

/// What happened up to a step, in order; of the rest the history knows nothing.
fn past(history: &mut Vec<EvaluationReport>, step: u64) -> Vec<EvaluationReport> {
    std::mem::take(history).into_iter().filter(|report| report.step <= step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Experiment;
    use crate::divergence::Remedy;

    fn report(step: u64, exact: f64) -> EvaluationReport {
        let json = format!(
            r#"{{"step":{step},"examples":1,"count":9,"accuracy":[],"exact":{exact},"decodable":1.0,"cross_entropy":0.5}}"#
        );
        serde_json::from_str(&json).expect("a report")
    }

    fn reason(flow: ControlFlow<StopReason>) -> String {
        flow.break_value().expect("the end").to_string()
    }

    fn start(experiment: &Experiment, step: u64) -> Start<'_> {
        Start { experiment, former: experiment, step, roll_backs: 0, parameters: 0, gradients: "" }
    }

    #[test]
    fn a_goal_is_reached_from_either_side() {
        let evaluation = report(1, 0.9).evaluation;
        let reaches = |metric, value| Goal { metric, value }.is_reached(&evaluation);
        assert!(
            reaches(FigureName::Exact, 0.9) && reaches(FigureName::Exact, 0.8) && !reaches(FigureName::Exact, 0.95)
        );
        assert!(reaches(FigureName::CrossEntropy, 0.5) && !reaches(FigureName::CrossEntropy, 0.4));
        assert!(!reaches(FigureName::Within(0), 0.0));
    }

    #[test]
    fn a_run_ends_at_its_target_and_stays_there() {
        let goal = Goal { metric: FigureName::Exact, value: 0.9 };
        let mut target = TargetReached::new(goal);
        assert!(target.on_evaluation(&report(1, 0.8)).is_continue());
        let staged = EvaluationReport { stage: Some("small".to_owned()), ..report(2, 1.0) };
        assert!(target.on_evaluation(&staged).is_continue());
        assert_eq!(reason(target.on_evaluation(&report(2, 0.95))), "stopped: target reached at step 2: exact 0.9");

        let experiment = Experiment::preset("transpose-3x3").expect("embedded");
        let history = vec![report(1, 0.8), report(2, 0.95)];
        let mut again = TargetReached::new(goal).with_history(history.clone());
        assert!(again.on_start(&start(&experiment, 2)).is_break());
        let mut earlier = TargetReached::new(goal).with_history(history);
        assert!(earlier.on_start(&start(&experiment, 1)).is_continue());
    }

    #[test]
    fn patience_counts_evaluations_without_improvement() {
        let patience = Patience { metric: FigureName::Exact, evaluations: 2, min_delta: 0.05 };
        let figures = [0.1, 0.2, 0.24, 0.3, 0.3, 0.34, 0.9];
        let mut whole = EarlyStopping::new(patience);
        let ends =
            figures.iter().zip(1..).position(|(exact, step)| whole.on_evaluation(&report(step, *exact)).is_break());
        assert_eq!(ends, Some(5));

        // A run that goes on remembers what it had seen.
        let experiment = Experiment::preset("transpose-3x3").expect("embedded");
        let history = figures[..5].iter().zip(1..).map(|(exact, step)| report(step, *exact)).collect();
        let mut resumed = EarlyStopping::new(patience).with_history(history);
        assert!(resumed.on_start(&start(&experiment, 5)).is_continue());
        let said = reason(resumed.on_evaluation(&report(6, 0.34)));
        assert_eq!(said, "stopped: exact has not improved on 0.3 for 2 evaluations");

        // What a run that went back had seen beyond is forgotten.
        let back = DivergenceReport {
            step: 3,
            diverged: 7,
            loss: f64::NAN,
            lr: 1.0,
            gradient_norm: f64::NAN,
            remedy: Remedy::RolledBack,
        };
        assert!(resumed.on_divergence(&back).is_continue());
        assert!(resumed.on_evaluation(&report(4, 0.26)).is_continue());
        assert!(resumed.on_evaluation(&report(5, 0.26)).is_continue());
        assert!(resumed.on_evaluation(&report(6, 0.26)).is_break());
    }
}
