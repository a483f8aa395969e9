//! What every metric promises, for tests.

use std::fmt::Debug;

use crate::Metric;

/// The metric after these samples, from `empty`.
pub(crate) fn after<M: Metric + Clone>(empty: &M, samples: &[M::Sample]) -> M
where
    M::Sample: Sized,
{
    let mut metric = empty.clone();
    samples.iter().for_each(|sample| metric.update(sample));
    metric
}

/// Checks that `empty` has no value, and that the metric is the same in one pass over the samples as when the samples
/// are cut at any of these places and the parts are merged.
///
/// The samples must be such that floating-point sums of them are exact.
pub(crate) fn assert_merges<M>(empty: &M, samples: &[M::Sample], cuts: &[usize])
where
    M: Metric + Clone + Debug + PartialEq,
    M::Sample: Sized,
    M::Value: Debug,
{
    assert!(empty.value().is_none(), "{:?}", empty.value());
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (samples.len() + 1)).chain([0, samples.len()]).collect();
    cuts.sort_unstable();
    let parts: Vec<M> = cuts.windows(2).map(|ends| after(empty, &samples[ends[0]..ends[1]])).collect();
    let whole = after(empty, samples);
    let mut forwards = empty.clone();
    parts.iter().for_each(|part| forwards.merge(part));
    assert_eq!(forwards, whole);
    let mut backwards = empty.clone();
    parts.iter().rev().for_each(|part| backwards.merge(part));
    assert_eq!(backwards, whole);
}
