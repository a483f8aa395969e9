//! Ending a run that no longer improves.

use numformer_evaluate::FigureName;
use serde::{Deserialize, Serialize};

use crate::stopping::stop_rule::{PastEvaluation, StopRule};

/// A [`StopRule`] that ends a run when a figure no longer improves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patience {
    /// The figure that is to improve.
    pub metric: FigureName,
    /// The number of evaluations in a row without an improvement that ends the run.
    pub evaluations: u32,
    /// An improvement counts only if it is larger than this.
    #[serde(default)]
    pub min_delta: f64,
}

impl Patience {
    /// Ends the run after this many evaluations in a row without any improvement of the figure.
    #[must_use]
    pub fn of(metric: impl Into<FigureName>, evaluations: u32) -> Self {
        Self { metric: metric.into(), evaluations, min_delta: 0.0 }
    }
}

impl StopRule for Patience {
    fn reason(&self, history: &[PastEvaluation]) -> Option<String> {
        let Self { metric, evaluations, min_delta } = self;
        let mut figures = history.iter().filter_map(|past| past.figure(metric.clone()));
        let (mut best, mut without) = (figures.next()?.value, 0);
        for found in figures {
            let is_better = found.is_better_than(best) && (found.value - best).abs() > *min_delta;
            (best, without) = if is_better { (found.value, 0) } else { (best, without + 1) };
            if without >= *evaluations {
                return Some(format!("{metric} has not improved on {best} for {without} evaluations"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stopping::stop_rule::testing::past;

    #[test]
    fn patience_counts_evaluations_without_improvement() {
        let patience = Patience { min_delta: 0.05, ..Patience::of(FigureName::Exact, 2) };
        let figures = [0.1, 0.2, 0.24, 0.3, 0.3, 0.34, 0.9];
        let history: Vec<_> = (1..).zip(figures).map(|(step, exact)| past(step, exact)).collect();
        let ends = (0..=history.len()).find(|end| patience.reason(&history[..*end]).is_some());
        assert_eq!(ends, Some(6));
        let said = patience.reason(&history[..6]).expect("the end");
        assert_eq!(said, "exact has not improved on 0.3 for 2 evaluations");
        // A figure that no evaluation has never ends the run.
        assert_eq!(Patience::of("a figure of one's own", 1).reason(&history), None);
    }
}
