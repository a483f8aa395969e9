//! Why predicted answers are wrong.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Accuracy, Deviations, Grouped, Metric, Property, RocCurve, Tolerance};

/// Why predicted answers are wrong, over many predictions: which properties of an exact answer they keep, and how well
/// the condition number of a prediction predicts that it is wrong.
///
/// A sample is the [`Deviations`] of a prediction and whether the prediction was judged correct. Predictions that
/// cannot be read have no properties, so they are not counted here but in the accuracy. Everything is kept as counts,
/// so the results have the same bits however the samples are split and merged.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_metrics::{Deviations, FailureAnalysis, Metric, Property};
///
/// let values = mat![[1.0, 3.0]];
/// let exact = mat![[0.6, 0.8], [-0.8, 0.6]];
/// let skew = mat![[0.6, 1.0], [-0.8, 0.0]];
/// let mut analysis = FailureAnalysis::default();
/// for (vectors, is_correct) in [(&exact, true), (&skew, false)] {
///     let (property, values) = (Property::Eigenvalues, values.as_ref());
///     analysis.update(&(Deviations::of_vectors(property, values, values, &[vectors.as_ref()]), is_correct));
/// }
/// let summary = analysis.value().unwrap();
/// assert_eq!(summary.kept[&Property::Norms], 1.0);
/// assert_eq!(summary.kept[&Property::Orthogonality], 0.5);
/// assert_eq!(summary.area_under_curve, Some(1.0));
/// let threshold = analysis.failures().at(1.03);
/// assert_eq!(threshold.youden_index(), Some(1.0)); // the condition number is above 1.03 exactly when wrong
/// ```
///
/// # Reference
/// Charton (2022), *What is my math transformer doing? Three results on interpretability and generalization*.
/// <https://arxiv.org/abs/2211.00170>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailureAnalysis {
    tolerance: Tolerance,
    correct: Accuracy,
    kept: Grouped<Property, Accuracy>,
    kept_when_wrong: Grouped<Property, Accuracy>,
    failures: RocCurve,
}

/// What a [`FailureAnalysis`] found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailureSummary {
    /// The share of correct predictions.
    pub correct: f64,
    /// For each property, the share of predictions that deviate from it by less than the tolerance.
    pub kept: BTreeMap<Property, f64>,
    /// The same shares among wrong predictions; empty if all predictions are correct.
    pub kept_when_wrong: BTreeMap<Property, f64>,
    /// The probability that the condition number of a wrong prediction is higher than that of a correct one: the
    /// [area](RocCurve) under the curve. `None` when all are correct or all wrong.
    pub area_under_curve: Option<f64>,
}

impl FailureAnalysis {
    /// An analysis in which a property counts as kept if the deviation from it is below the tolerance.
    #[must_use]
    pub fn new(tolerance: Tolerance) -> Self {
        Self {
            tolerance,
            correct: Accuracy::default(),
            kept: Grouped::default(),
            kept_when_wrong: Grouped::default(),
            failures: RocCurve::default(),
        }
    }

    /// The deviation below which a property counts as kept.
    #[must_use]
    pub fn tolerance(&self) -> Tolerance {
        self.tolerance
    }

    /// How many predictions were correct.
    #[must_use]
    pub fn correct(&self) -> Accuracy {
        self.correct
    }

    /// For each property, how many predictions keep it.
    #[must_use]
    pub fn kept(&self) -> &BTreeMap<Property, Accuracy> {
        self.kept.groups()
    }

    /// For each property, how many wrong predictions keep it.
    #[must_use]
    pub fn kept_when_wrong(&self) -> &BTreeMap<Property, Accuracy> {
        self.kept_when_wrong.groups()
    }

    /// How well thresholds on the condition number predict that a prediction is wrong.
    #[must_use]
    pub fn failures(&self) -> &RocCurve {
        &self.failures
    }
}

/// An analysis with the tolerance of the published one, 1%.
impl Default for FailureAnalysis {
    fn default() -> Self {
        Self::new(Tolerance::relative(0.01))
    }
}

impl Metric for FailureAnalysis {
    type Sample = (Deviations, bool);
    type Value = FailureSummary;

    fn update(&mut self, (deviations, is_correct): &Self::Sample) {
        self.correct.update(is_correct);
        for (property, deviation) in &deviations.properties {
            let is_kept = self.tolerance.admits(*deviation);
            self.kept.group_mut(*property).update(&is_kept);
            if !is_correct {
                self.kept_when_wrong.group_mut(*property).update(&is_kept);
            }
        }
        self.failures.update(&(deviations.condition_number, !is_correct));
    }

    /// # Panics
    /// If the two analyses have different tolerances.
    fn merge(&mut self, other: &Self) {
        assert_eq!(self.tolerance, other.tolerance, "tolerances of the analyses to merge");
        self.correct.merge(&other.correct);
        self.kept.merge(&other.kept);
        self.kept_when_wrong.merge(&other.kept_when_wrong);
        self.failures.merge(&other.failures);
    }

    fn value(&self) -> Option<FailureSummary> {
        Some(FailureSummary {
            correct: self.correct.value()?,
            kept: self.kept.value().unwrap_or_default(),
            kept_when_wrong: self.kept_when_wrong.value().unwrap_or_default(),
            area_under_curve: self.failures.value(),
        })
    }
}

#[cfg(test)]
mod tests {
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{after, assert_merges};

    fn sample(
        eigenvalues: f64,
        norms: f64,
        orthogonality: f64,
        condition_number: f64,
        correct: bool,
    ) -> (Deviations, bool) {
        let properties = vec![
            (Property::Eigenvalues, eigenvalues),
            (Property::Norms, norms),
            (Property::Orthogonality, orthogonality),
        ];
        (Deviations { properties, condition_number }, correct)
    }

    #[test]
    fn each_property_has_its_share_and_wrong_predictions_are_the_event() {
        let analysis = after(
            &FailureAnalysis::default(),
            &[
                sample(0.0, 0.0, 0.0, 1.0, true),
                sample(0.005, 0.02, 0.0, 1.02, true),
                sample(0.0, 0.0, 0.0, 1.0, false), // a wrong eigenbasis, orthonormal all the same
                sample(0.0, 0.02, 0.5, 1.5, false),
                sample(f64::NAN, 0.02, 0.5, f64::INFINITY, false),
            ],
        );
        let summary = analysis.value().unwrap();
        let shares = |[eigenvalues, norms, orthogonality]: [f64; 3]| {
            [(Property::Eigenvalues, eigenvalues), (Property::Norms, norms), (Property::Orthogonality, orthogonality)]
                .into()
        };
        assert_eq!(summary.kept, shares([0.8, 0.4, 0.6]));
        assert_eq!(summary.kept_when_wrong, shares([2.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0]));
        // Of 6 pairs of a failure and a success, 4 are in order, one is a tie, one is out of order.
        assert_eq!((summary.correct, summary.area_under_curve), (0.4, Some(0.75)));
        let best = analysis.failures().best().unwrap();
        assert_eq!((best.threshold, best.sensitivity), (1.02, Accuracy { correct: 2, total: 3 }));
    }

    #[test]
    #[should_panic(expected = "tolerances of the analyses")]
    fn merging_different_tolerances_is_a_bug() {
        FailureAnalysis::default().merge(&FailureAnalysis::new(Tolerance::relative(0.05)));
    }

    #[test]
    fn a_stored_analysis_is_read_back() {
        let analysis = after(&FailureAnalysis::default(), &[sample(0.1, 0.0, 0.0, f64::INFINITY, false)]);
        let json = serde_json::to_string(&analysis).unwrap();
        assert_eq!(serde_json::from_str::<FailureAnalysis>(&json).unwrap(), analysis, "{json}");
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn merging_parts_gives_the_analysis_of_the_whole(
            samples in prop::collection::vec(
                (0.0..0.02, 0.0..0.02, 0.0..0.02, (0..9_u8).prop_map(f64::from), any::<bool>())
                    .prop_map(|(a, b, c, d, correct)| sample(a, b, c, d, correct)),
                0..20,
            ),
            cuts in prop::collection::vec(any::<usize>(), 0..4),
        ) {
            assert_merges(&FailureAnalysis::default(), &samples, &cuts);
        }
    }
}
