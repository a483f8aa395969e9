//! One metric for each group of samples.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Metric;

/// One metric for each group of samples, such as one for each dimension, task or law of random matrices. Groups are
/// listed in the order of their keys.
///
/// A sample is a key and a sample of the metric. A group that was never seen has no entry.
///
/// # Examples
/// ```
/// use numformer_metrics::{Accuracy, Grouped, Metric};
///
/// let mut by_dimension = Grouped::<usize, Accuracy>::default();
/// for (dimension, is_correct) in [(8, true), (5, true), (8, false)] {
///     by_dimension.update(&(dimension, is_correct));
/// }
/// let shares: Vec<(usize, f64)> = by_dimension.value().unwrap().into_iter().collect();
/// assert_eq!(shares, [(5, 1.0), (8, 0.5)]);
/// let (lower, upper) = by_dimension.group(&8).unwrap().confidence_interval().unwrap();
/// assert!(lower < 0.1 && upper > 0.9); // two samples say little
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "K: Ord + Deserialize<'de>, M: Deserialize<'de>"))]
pub struct Grouped<K, M> {
    /// The metric that a new group begins with.
    empty: M,
    groups: BTreeMap<K, M>,
}

impl<K: Ord, M: Clone> Grouped<K, M> {
    /// No groups yet; each will begin as a copy of `empty`.
    pub fn new(empty: M) -> Self {
        Self { empty, groups: BTreeMap::new() }
    }

    /// The groups seen, in the order of their keys.
    #[must_use]
    pub fn groups(&self) -> &BTreeMap<K, M> {
        &self.groups
    }

    /// The metric of a group; `None` if it was never seen.
    #[must_use]
    pub fn group(&self, key: &K) -> Option<&M> {
        self.groups.get(key)
    }

    /// The metric of a group, for updates that do not copy the sample.
    pub fn group_mut(&mut self, key: K) -> &mut M {
        self.groups.entry(key).or_insert_with(|| self.empty.clone())
    }
}

/// No groups yet; each will begin with the default of the metric.
impl<K: Ord, M: Clone + Default> Default for Grouped<K, M> {
    fn default() -> Self {
        Self::new(M::default())
    }
}

impl<K, M> Metric for Grouped<K, M>
where
    K: Ord + Clone,
    M: Metric + Clone,
    M::Sample: Sized,
{
    type Sample = (K, M::Sample);
    type Value = BTreeMap<K, M::Value>;

    fn update(&mut self, (key, sample): &Self::Sample) {
        self.group_mut(key.clone()).update(sample);
    }

    fn merge(&mut self, other: &Self) {
        for (key, metric) in &other.groups {
            self.group_mut(key.clone()).merge(metric);
        }
    }

    /// The values of the groups that have one.
    fn value(&self) -> Option<Self::Value> {
        let values: BTreeMap<_, _> =
            self.groups.iter().filter_map(|(key, metric)| Some((key.clone(), metric.value()?))).collect();
        (!values.is_empty()).then_some(values)
    }
}

#[cfg(test)]
mod tests {
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{after, assert_merges};
    use crate::{Accuracy, Tolerance, ToleranceCurve, Verdict};

    #[test]
    fn each_group_is_the_metric_of_its_own_samples() {
        let samples = [("b", true), ("a", false), ("b", false), ("b", true)];
        let grouped = after(&Grouped::<_, Accuracy>::default(), &samples);
        let expected = [("a", Accuracy { correct: 0, total: 1 }), ("b", Accuracy { correct: 2, total: 3 })];
        assert!(grouped.groups().iter().map(|(key, metric)| (*key, *metric)).eq(expected));
        assert_eq!(grouped.group(&"c"), None);
    }

    #[test]
    fn groups_begin_as_copies_of_the_empty_metric() {
        let tolerance = Tolerance::relative(0.1);
        let mut grouped = Grouped::new(ToleranceCurve::new([tolerance]));
        grouped.group_mut((5, 5)).update(&Verdict::Measured { error: 0.07 });
        assert_eq!(grouped.group(&(5, 5)).unwrap().accuracy(tolerance), Some(1.0));
    }

    #[test]
    fn stored_groups_are_read_back() {
        let grouped = after(&Grouped::<String, Accuracy>::default(), &[("5x5".to_owned(), true)]);
        let json = serde_json::to_string(&grouped).unwrap();
        assert_eq!(serde_json::from_str::<Grouped<String, Accuracy>>(&json).unwrap(), grouped, "{json}");
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn merging_parts_gives_the_groups_of_the_whole(
            samples in prop::collection::vec((0..4_u8, any::<bool>()), 0..30),
            cuts in prop::collection::vec(any::<usize>(), 0..4),
        ) {
            assert_merges(&Grouped::<u8, Accuracy>::default(), &samples, &cuts);
        }
    }
}
