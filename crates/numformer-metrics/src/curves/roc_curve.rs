//! How well a threshold on a score predicts an event.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Accuracy, Metric};

/// How well a score predicts an event: the receiver operating characteristic of "the event happens when the score is
/// above a threshold", over all thresholds.
///
/// A sample is a score and whether the event happened. Only the order of scores matters. A score that is infinite or
/// NaN counts as the largest finite number, or as the smallest for -∞. The curve stores how often each score occurred
/// with and without the event, which takes about 32 bytes for each different score. It is therefore exact, ties
/// included, and has the same bits however the samples are split and merged.
///
/// The [`value`](Metric::value) is the area under the curve: the probability that a random sample with the event has a
/// higher score than a random sample without it, where equal scores count as half. It is 1 for a score that predicts
/// the event, 1/2 for a score that says nothing, and `None` while all samples are of one kind.
///
/// # Examples
/// ```
/// use numformer_metrics::{Metric, RocCurve};
///
/// let mut failures = RocCurve::default();
/// for (condition_number, is_failure) in [(1.00, false), (1.01, false), (1.01, true), (1.20, true)] {
///     failures.update(&(condition_number, is_failure));
/// }
/// // Of the four pairs of a failure and a success, three are in order and one is a tie.
/// assert_eq!(failures.value(), Some(0.875));
/// let detection = failures.at(1.03);
/// assert_eq!(detection.sensitivity.value(), Some(0.5)); // one of two failures is above
/// assert_eq!(detection.specificity.value(), Some(1.0)); // and no success
/// ```
///
/// # References
/// - Hanley & McNeil (1982), *The meaning and use of the area under a receiver operating characteristic (ROC) curve*,
///   Radiology 143(1), 29-36. <https://doi.org/10.1148/radiology.143.1.7063747>
/// - Fawcett (2006), *An introduction to ROC analysis*, Pattern Recognition Letters 27(8), 861-874.
///   <https://doi.org/10.1016/j.patrec.2005.10.010>
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Level>", into = "Vec<Level>")]
pub struct RocCurve {
    counts: BTreeMap<Score, Counts>,
}

/// A threshold and how well it predicts the event.
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// The event is foretold for scores above this.
    pub threshold: f64,
    /// The share of samples with the event for which it is foretold: the true positive rate.
    pub sensitivity: Accuracy,
    /// The share of samples without the event for which it is not foretold: 1 minus the false positive rate.
    pub specificity: Accuracy,
}

impl Detection {
    /// Youden's index, sensitivity + specificity - 1. It is 1 for a perfect threshold, 0 for a threshold that says
    /// nothing, and `None` while all samples are of one kind.
    ///
    /// # Reference
    /// Youden (1950), *Index for rating diagnostic tests*, Cancer 3(1), 32-35.
    #[must_use]
    pub fn youden_index(&self) -> Option<f64> {
        Some(self.sensitivity.value()? + self.specificity.value()? - 1.0)
    }
}

impl RocCurve {
    /// How well a threshold predicts the event.
    #[must_use]
    pub fn at(&self, threshold: f64) -> Detection {
        let mut above = Counts::default();
        self.counts.iter().rev().take_while(|(score, _)| score.0 > threshold).for_each(|(_, counts)| above.add(counts));
        self.detection(threshold, above)
    }

    /// The points of the curve, with each different outcome of a threshold once. They run from the highest threshold,
    /// which never predicts the event, to -∞, which always does. Empty before the first sample.
    #[must_use]
    pub fn points(&self) -> Vec<Detection> {
        let mut above = Counts::default();
        let mut points = Vec::with_capacity(self.counts.len() + 1);
        for (score, counts) in self.counts.iter().rev() {
            points.push(self.detection(score.0, above));
            above.add(counts);
        }
        if !points.is_empty() {
            points.push(self.detection(f64::NEG_INFINITY, above));
        }
        points
    }

    /// The threshold with the largest [Youden index](Detection::youden_index), or the highest of several; `None` while
    /// all samples are of one kind.
    #[must_use]
    pub fn best(&self) -> Option<Detection> {
        let all = self.totals();
        // Counts are compared instead of rounded shares: the index times the numbers of both kinds, plus a constant.
        let index = |point: &Detection| {
            u128::from(point.sensitivity.correct) * u128::from(all.without)
                + u128::from(point.specificity.correct) * u128::from(all.with)
        };
        self.points()
            .into_iter()
            .filter(|point| point.youden_index().is_some())
            .reduce(|best, point| if index(&point) > index(&best) { point } else { best })
    }

    fn detection(&self, threshold: f64, above: Counts) -> Detection {
        let all = self.totals();
        Detection {
            threshold,
            sensitivity: Accuracy { correct: above.with, total: all.with },
            specificity: Accuracy { correct: all.without - above.without, total: all.without },
        }
    }

    fn totals(&self) -> Counts {
        let mut all = Counts::default();
        self.counts.values().for_each(|counts| all.add(counts));
        all
    }

    fn add(&mut self, score: f64, counts: &Counts) {
        self.counts.entry(Score::new(score)).or_default().add(counts);
    }
}

impl Metric for RocCurve {
    type Sample = (f64, bool);
    type Value = f64;

    fn update(&mut self, &(score, event): &(f64, bool)) {
        self.add(score, &Counts { with: u64::from(event), without: u64::from(!event) });
    }

    fn merge(&mut self, other: &Self) {
        other.counts.iter().for_each(|(score, counts)| self.add(score.0, counts));
    }

    fn value(&self) -> Option<f64> {
        let mut below = Counts::default();
        // Twice the number of pairs in order; a tie is half a pair.
        let mut ordered = 0_u128;
        for counts in self.counts.values() {
            ordered += u128::from(counts.with) * (2 * u128::from(below.without) + u128::from(counts.without));
            below.add(counts);
        }
        let pairs = u128::from(below.with) * u128::from(below.without);
        (pairs > 0).then(|| ordered as f64 / (2 * pairs) as f64)
    }
}

/// A finite score with an order.
#[derive(Copy, Clone, Debug)]
struct Score(f64);

impl Score {
    fn new(score: f64) -> Self {
        // Adding zero turns -0 into 0. A NaN counts as infinity does.
        Self(if score.is_nan() { f64::MAX } else { score.clamp(f64::MIN, f64::MAX) + 0.0 })
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Score {}

/// How many samples there were with the event and without it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Counts {
    with: u64,
    without: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.with += other.with;
        self.without += other.without;
    }
}

/// A score with its counts, as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Level {
    score: f64,
    with: u64,
    without: u64,
}

impl From<Vec<Level>> for RocCurve {
    fn from(levels: Vec<Level>) -> Self {
        let mut curve = Self::default();
        levels.iter().for_each(|&Level { score, with, without }| curve.add(score, &Counts { with, without }));
        curve
    }
}

impl From<RocCurve> for Vec<Level> {
    fn from(curve: RocCurve) -> Self {
        let level = |(Score(score), Counts { with, without })| Level { score, with, without };
        curve.counts.into_iter().map(level).collect()
    }
}

#[cfg(test)]
mod tests {
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{after, assert_merges};

    fn curve(samples: &[(f64, bool)]) -> RocCurve {
        after(&RocCurve::default(), samples)
    }

    fn rates(detection: &Detection) -> (f64, f64) {
        (1.0 - detection.specificity.value().unwrap(), detection.sensitivity.value().unwrap())
    }

    #[test]
    fn a_score_that_predicts_the_event_has_area_one() {
        let perfect = curve(&[(1.0, false), (1.02, false), (1.04, true), (7.0, true)]);
        assert_eq!(perfect.value(), Some(1.0));
        let best = perfect.best().unwrap();
        assert_eq!((best.threshold, best.youden_index()), (1.02, Some(1.0)));
        assert_eq!(curve(&[(1.0, true), (2.0, false)]).value(), Some(0.0));
    }

    #[test]
    fn equal_scores_count_as_half() {
        assert_eq!(curve(&[(1.0, true), (1.0, false), (1.0, false)]).value(), Some(0.5));
        // Pairs: (2, 1) in order, (2, 2) and (1, 1) ties, (1, 2) out of order.
        assert_eq!(curve(&[(1.0, true), (2.0, true), (1.0, false), (2.0, false)]).value(), Some(0.5));
        assert_eq!(curve(&[(0.0, true), (-0.0, false)]).value(), Some(0.5));
    }

    #[test]
    fn one_kind_of_samples_has_no_area() {
        for kind in [true, false] {
            let curve = curve(&[(1.0, kind), (2.0, kind)]);
            assert_eq!((curve.value(), curve.best()), (None, None));
        }
        assert!(RocCurve::default().points().is_empty());
    }

    #[test]
    fn points_go_from_never_to_always() {
        let curve = curve(&[(3.0, true), (2.0, true), (2.0, false), (1.0, false)]);
        let points = curve.points();
        assert!(points.iter().map(|point| point.threshold).eq([3.0, 2.0, 1.0, f64::NEG_INFINITY]));
        assert!(points.iter().map(rates).eq([(0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)]));
    }

    #[test]
    fn scores_beyond_measure_are_the_highest() {
        let curve = curve(&[(f64::NAN, true), (f64::INFINITY, true), (1e300, false), (f64::NEG_INFINITY, false)]);
        assert_eq!(curve.value(), Some(1.0));
        let with_at = |threshold| curve.at(threshold).sensitivity.correct;
        assert_eq!((with_at(1e300), with_at(f64::INFINITY), with_at(f64::NAN)), (2, 0, 0));
        assert_eq!(curve.at(f64::NEG_INFINITY).specificity.correct, 0);
    }

    #[test]
    fn a_stored_curve_is_read_back() {
        let curve = curve(&[(f64::INFINITY, true), (1.5, false), (1.5, true)]);
        let json = serde_json::to_string(&curve).unwrap();
        assert!(json.starts_with(r#"[{"score":1.5,"with":1,"without":1},"#), "{json}");
        assert_eq!(serde_json::from_str::<RocCurve>(&json).unwrap(), curve);
    }

    fn samples() -> impl Strategy<Value = Vec<(f64, bool)>> {
        // Few different scores, so that there are ties.
        let score = prop_oneof![8 => (0..9_u8).prop_map(f64::from), 1 => Just(f64::INFINITY)];
        prop::collection::vec((score, any::<bool>()), 0..30)
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn merging_parts_gives_the_curve_of_the_whole(
            samples in samples(),
            cuts in prop::collection::vec(any::<usize>(), 0..4),
        ) {
            assert_merges(&RocCurve::default(), &samples, &cuts);
        }

        /// Checks the other definition of the area: the trapezoids below the points.
        #[test]
        fn the_value_is_the_area_below_the_points(samples in samples()) {
            let curve = curve(&samples);
            let Some(value) = curve.value() else { return Ok(()) };
            let points: Vec<_> = curve.points().iter().map(rates).collect();
            let area: f64 = points.windows(2).map(|w| (w[1].0 - w[0].0) * (w[0].1 + w[1].1) / 2.0).sum();
            prop_assert!((value - area).abs() < 64.0 * f64::EPSILON, "{value} {area}");
        }

        #[test]
        fn points_say_what_their_thresholds_predict(samples in samples()) {
            let curve = curve(&samples);
            for point in curve.points() {
                prop_assert_eq!(point, curve.at(point.threshold));
                let above = |event| {
                    let is_above = |&&(x, e): &&(f64, bool)| x.min(f64::MAX) > point.threshold && e == event;
                    samples.iter().filter(is_above).count() as u64
                };
                prop_assert_eq!(point.sensitivity.correct, above(true));
                let without = point.specificity;
                prop_assert_eq!(without.total - without.correct, above(false));
            }
        }

        #[test]
        fn no_threshold_beats_the_best(samples in samples(), threshold in -1.0..10.0) {
            let curve = curve(&samples);
            if let Some(best) = curve.best() {
                let index = |detection: Detection| detection.youden_index().unwrap();
                prop_assert!(index(curve.at(threshold)) <= index(best) + 4.0 * f64::EPSILON);
            }
        }
    }
}
