//! The share of coefficients that are nearly right.

use std::collections::BTreeMap;

use faer::MatRef;
use serde::{Deserialize, Serialize};

use crate::{Accuracy, Metric, Tolerance};

/// Counts the coefficients of a candidate H that are within a tolerance τ of those of the exact answer T: those with
/// |hᵢⱼ - tᵢⱼ| < τ |tᵢⱼ|, and those that are equal.
///
/// Hence an exact coefficient of zero is met only by a zero, and a NaN is never right.
///
/// # Panics
/// If the two shapes differ.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_metrics::{Accuracy, Tolerance, coefficients_within};
///
/// let exact = mat![[100.0, -2.0, 0.0, 0.0]];
/// let candidate = mat![[100.5, 2.0, 0.0, 0.001]];
/// let within = coefficients_within(candidate.as_ref(), exact.as_ref(), Tolerance::relative(0.01));
/// assert_eq!(within, Accuracy { correct: 2, total: 4 });
/// ```
pub fn coefficients_within(candidate: MatRef<'_, f64>, exact: MatRef<'_, f64>, tolerance: Tolerance) -> Accuracy {
    assert_eq!(candidate.shape(), exact.shape(), "shapes of the candidate and of the exact answer");
    let mut within = Accuracy::default();
    for (candidate, exact) in candidate.col_iter().zip(exact.col_iter()) {
        for (&found, &expected) in candidate.iter().zip(exact.iter()) {
            let distance = (found - expected).abs();
            within.update(&(distance == 0.0 || distance < tolerance.fraction() * expected.abs()));
        }
    }
    within
}

/// The share of coefficients that are nearly right, over many predictions.
///
/// A sample is the result of [`coefficients_within`] for one prediction. If a prediction cannot be read or has the
/// wrong shape, none of the answer's coefficients count as right. An answer without coefficients is left out.
///
/// There are two shares, which are equal if all answers have the same size. The [`value`](Metric::value) is the mean of
/// the shares of the predictions: every prediction has the same weight, as in every other metric.
/// [`pooled`](Self::pooled) is the share of all coefficients, so larger answers have more weight. Counts are kept for
/// each size of answer, so both shares have the same bits however the samples are split and merged. There is no
/// confidence interval, since the coefficients of one prediction are not independent.
/// no confidence interval.
///
/// # Examples
/// ```
/// use numformer_metrics::{Accuracy, CoefficientAccuracy, Metric};
///
/// let mut coefficients = CoefficientAccuracy::default();
/// coefficients.update(&Accuracy { correct: 1, total: 1 });
/// coefficients.update(&Accuracy { correct: 2, total: 4 });
/// assert_eq!(coefficients.value(), Some(0.75)); // (1 / 1 + 2 / 4) / 2
/// assert_eq!(coefficients.pooled(), Some(0.6)); // 3 / 5
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoefficientAccuracy {
    /// For each number of coefficients of an answer, the counts over all answers of that size.
    by_size: BTreeMap<u64, Accuracy>,
}

impl CoefficientAccuracy {
    /// The share of all coefficients of all predictions; `None` before the first.
    #[must_use]
    pub fn pooled(&self) -> Option<f64> {
        let mut pooled = Accuracy::default();
        self.by_size.values().for_each(|counts| pooled.merge(counts));
        pooled.value()
    }
}

impl Metric for CoefficientAccuracy {
    type Sample = Accuracy;
    type Value = f64;

    fn update(&mut self, sample: &Accuracy) {
        if sample.total > 0 {
            self.by_size.entry(sample.total).or_default().merge(sample);
        }
    }

    fn merge(&mut self, other: &Self) {
        for (size, counts) in &other.by_size {
            self.by_size.entry(*size).or_default().merge(counts);
        }
    }

    fn value(&self) -> Option<f64> {
        let shares: f64 = self.by_size.iter().map(|(size, counts)| counts.correct as f64 / *size as f64).sum();
        let predictions: u64 = self.by_size.iter().map(|(size, counts)| counts.total / size).sum();
        (predictions > 0).then(|| shares / predictions as f64)
    }
}

#[cfg(test)]
mod tests {
    use faer::{Mat, mat};
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{after, assert_merges};

    const ONE_PER_CENT: Tolerance = Tolerance::relative(0.01);

    fn correct(candidate: f64, exact: f64) -> bool {
        coefficients_within(mat![[candidate]].as_ref(), mat![[exact]].as_ref(), ONE_PER_CENT).correct == 1
    }

    #[test]
    fn a_coefficient_is_right_below_the_tolerance() {
        assert!(correct(100.99, 100.0) && correct(-99.01, -100.0) && correct(1e-300, 1e-300));
        assert!(!correct(101.0, 100.0) && !correct(99.0, 100.0) && !correct(-100.0, 100.0));
    }

    #[test]
    fn only_zero_is_within_a_share_of_zero() {
        assert!(correct(0.0, 0.0) && correct(-0.0, 0.0));
        assert!(!correct(1e-300, 0.0));
    }

    #[test]
    fn what_is_not_finite_is_wrong() {
        for (candidate, exact) in [(f64::NAN, 1.0), (1.0, f64::NAN), (f64::INFINITY, 1.0), (f64::NAN, f64::NAN)] {
            assert!(!correct(candidate, exact), "{candidate} {exact}");
        }
    }

    #[test]
    fn every_coefficient_is_counted() {
        let exact = Mat::from_fn(3, 5, |i, j| (i + 3 * j) as f64);
        let within = |candidate: &Mat<f64>| coefficients_within(candidate.as_ref(), exact.as_ref(), ONE_PER_CENT);
        assert_eq!(within(&exact), Accuracy { correct: 15, total: 15 });
        // Only the zero keeps its value when all coefficients are doubled.
        assert_eq!(within(&(faer::Scale(2.0) * &exact)), Accuracy { correct: 1, total: 15 });
    }

    #[test]
    #[should_panic(expected = "shapes of the candidate")]
    fn comparing_different_shapes_is_a_bug() {
        coefficients_within(Mat::zeros(1, 2).as_ref(), Mat::zeros(2, 1).as_ref(), ONE_PER_CENT);
    }

    #[test]
    fn an_answer_without_coefficients_is_left_out() {
        assert_eq!(after(&CoefficientAccuracy::default(), &[Accuracy::default()]).value(), None);
    }

    #[test]
    fn predictions_that_cannot_be_read_pull_the_mean_down() {
        let samples = [Accuracy { correct: 4, total: 4 }, Accuracy { correct: 0, total: 4 }];
        let accuracy = after(&CoefficientAccuracy::default(), &samples);
        assert_eq!((accuracy.value(), accuracy.pooled()), (Some(0.5), Some(0.5)));
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn merging_parts_gives_the_shares_of_the_whole(
            samples in prop::collection::vec((0..30_u64, 0..30_u64), 0..20),
            cuts in prop::collection::vec(any::<usize>(), 0..4),
        ) {
            let samples: Vec<_> =
                samples.into_iter().map(|(x, total)| Accuracy { correct: x.min(total), total }).collect();
            assert_merges(&CoefficientAccuracy::default(), &samples, &cuts);
        }

        #[test]
        fn the_value_is_the_mean_of_the_shares(
            samples in prop::collection::vec((0..30_u64, 1..30_u64), 1..20)
        ) {
            let samples: Vec<_> =
                samples.into_iter().map(|(x, total)| Accuracy { correct: x.min(total), total }).collect();
            let mean = samples.iter().filter_map(Metric::value).sum::<f64>() / samples.len() as f64;
            let value = after(&CoefficientAccuracy::default(), &samples).value().unwrap();
            prop_assert!((value - mean).abs() < 64.0 * f64::EPSILON);
        }
    }
}
