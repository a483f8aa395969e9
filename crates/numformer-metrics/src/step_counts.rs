//! How many steps iterations take.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Metric;

/// How many steps an iteration takes to reach its goal, over many starts.
///
/// A sample is the number of steps, or `None` if the goal was not reached. Everything is kept as counts, so the results
/// have the same bits however the samples are split and merged.
///
/// # Examples
/// ```
/// use numformer_metrics::{Metric, StepCounts};
///
/// let mut steps = StepCounts::default();
/// [Some(2), Some(3), None, Some(2)].iter().for_each(|sample| steps.update(sample));
/// let summary = steps.value().unwrap();
/// assert_eq!((summary.reached, summary.median, summary.most), (0.75, Some(2), Some(3)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepCounts {
    counts: BTreeMap<u32, u64>,
    not_reached: u64,
}

/// The summary of [`StepCounts`].
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepSummary {
    /// The share of starts from which the goal was reached.
    pub reached: f64,
    /// The mean number of steps from these starts; `None` if there are none.
    pub mean: Option<f64>,
    /// The median number of steps from these starts: the lower of the two middle ones if the number of starts is even.
    pub median: Option<u32>,
    /// The largest number of steps from these starts.
    pub most: Option<u32>,
}

impl StepCounts {
    /// How many starts took each number of steps.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<u32, u64> {
        &self.counts
    }

    /// The number of starts from which the goal was not reached.
    #[must_use]
    pub fn not_reached(&self) -> u64 {
        self.not_reached
    }

    fn reached(&self) -> u64 {
        self.counts.values().sum()
    }
}

impl Metric for StepCounts {
    type Sample = Option<u32>;
    type Value = StepSummary;

    fn update(&mut self, sample: &Option<u32>) {
        match sample {
            Some(steps) => *self.counts.entry(*steps).or_default() += 1,
            None => self.not_reached += 1,
        }
    }

    fn merge(&mut self, other: &Self) {
        for (steps, count) in &other.counts {
            *self.counts.entry(*steps).or_default() += count;
        }
        self.not_reached += other.not_reached;
    }

    fn value(&self) -> Option<StepSummary> {
        let reached = self.reached();
        let total = reached + self.not_reached;
        if total == 0 {
            return None;
        }
        let steps: u64 = self.counts.iter().map(|(steps, count)| u64::from(*steps) * count).sum();
        let mut passed = 0;
        let median = self.counts.iter().find_map(|(steps, count)| {
            passed += count;
            (2 * passed >= reached).then_some(*steps)
        });
        Some(StepSummary {
            reached: reached as f64 / total as f64,
            mean: (reached > 0).then(|| steps as f64 / reached as f64),
            median,
            most: self.counts.keys().next_back().copied(),
        })
    }
}

#[cfg(test)]
mod tests {
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{after, assert_merges};

    #[test]
    fn starts_that_never_arrive_have_no_steps() {
        let none = after(&StepCounts::default(), &[None, None]);
        let expected = StepSummary { reached: 0.0, mean: None, median: None, most: None };
        assert_eq!(none.value(), Some(expected));
        let half = after(&StepCounts::default(), &[None, Some(0), Some(7), None]);
        let expected = StepSummary { reached: 0.5, mean: Some(3.5), median: Some(0), most: Some(7) };
        assert_eq!((half.value(), half.not_reached()), (Some(expected), 2));
    }

    #[test]
    fn stored_counts_are_read_back() {
        let steps = after(&StepCounts::default(), &[Some(3), None, Some(3)]);
        let json = serde_json::to_string(&steps).unwrap();
        assert_eq!(serde_json::from_str::<StepCounts>(&json).unwrap(), steps, "{json}");
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn the_figures_are_those_of_the_sorted_list(mut steps in prop::collection::vec(0..20_u32, 1..30)) {
            let samples: Vec<_> = steps.iter().copied().map(Some).collect();
            let summary = after(&StepCounts::default(), &samples).value().unwrap();
            steps.sort_unstable();
            prop_assert_eq!(summary.median, Some(steps[(steps.len() - 1) / 2]));
            prop_assert_eq!(summary.most, steps.last().copied());
            let mean = steps.iter().map(|x| f64::from(*x)).sum::<f64>() / steps.len() as f64;
            prop_assert!((summary.mean.unwrap() - mean).abs() < 1e-12);
        }

        #[test]
        fn merging_parts_gives_the_counts_of_the_whole(
            samples in prop::collection::vec(prop::option::of(0..5_u32), 0..30),
            cuts in prop::collection::vec(any::<usize>(), 0..4),
        ) {
            assert_merges(&StepCounts::default(), &samples, &cuts);
        }
    }
}
