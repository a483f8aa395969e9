//! Why predicted eigenvectors are wrong.

use serde::{Deserialize, Serialize};

use crate::{Accuracy, Metric, RocCurve, SpectralDeviation, Tolerance};

/// Why predicted eigenvectors are wrong, over many predictions: which properties of an exact answer they keep, and how
/// well the condition number of $V$ foretells that a prediction is wrong.
///
/// A sample is the [`SpectralDeviation`] of a prediction and whether the prediction was judged correct. Predictions that
/// cannot be read have no eigenvectors and no place here: they are counted where accuracy is. All of it is counts, the
/// same bits however the samples are cut and merged.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_metrics::{FailureAnalysis, Metric, SpectralDeviation};
///
/// let exact = mat![[1.0, 3.0], [0.6, 0.8], [-0.8, 0.6]];
/// let skew = mat![[1.0, 3.0], [0.6, 1.0], [-0.8, 0.0]];
/// let mut analysis = FailureAnalysis::default();
/// for (candidate, is_correct) in [(&exact, true), (&skew, false)] {
///     analysis.update(&(SpectralDeviation::new(candidate.as_ref(), exact.as_ref()), is_correct));
/// }
/// let summary = analysis.value().unwrap();
/// assert_eq!((summary.eigenvalues, summary.norms, summary.orthogonality), (1.0, 1.0, 0.5));
/// assert_eq!(summary.area_under_curve, Some(1.0));
/// let threshold = analysis.failures().at(1.03);
/// assert_eq!(threshold.youden_index(), Some(1.0)); // cond(V) > 1.03 exactly when wrong
/// ```
///
/// # Reference
/// Charton (2022), *What is my math transformer doing? Three results on interpretability and generalization*.
/// <https://arxiv.org/abs/2211.00170>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailureAnalysis {
    tolerance: Tolerance,
    correct: Accuracy,
    eigenvalues: Accuracy,
    norms: Accuracy,
    orthogonality: Accuracy,
    failures: RocCurve,
}

/// What a [`FailureAnalysis`] found.
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailureSummary {
    /// The share of correct predictions.
    pub correct: f64,
    /// The share of predictions whose eigenvalues deviate by less than the tolerance.
    pub eigenvalues: f64,
    /// The share of predictions whose column norms all do.
    pub norms: f64,
    /// The share of predictions whose columns are all orthogonal to within it.
    pub orthogonality: f64,
    /// The probability that the condition number of a wrong prediction is higher than that of a correct one: the
    /// [area](RocCurve) under the curve. `None` when all are correct or all wrong.
    pub area_under_curve: Option<f64>,
}

impl FailureAnalysis {
    /// An analysis that counts the deviations below a tolerance.
    #[must_use]
    pub fn new(tolerance: Tolerance) -> Self {
        Self {
            tolerance,
            correct: Accuracy::default(),
            eigenvalues: Accuracy::default(),
            norms: Accuracy::default(),
            orthogonality: Accuracy::default(),
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

    /// How many predictions have their eigenvalues within the tolerance.
    #[must_use]
    pub fn eigenvalues(&self) -> Accuracy {
        self.eigenvalues
    }

    /// How many predictions have all their column norms within the tolerance of 1.
    #[must_use]
    pub fn norms(&self) -> Accuracy {
        self.norms
    }

    /// How many predictions have the cosines of all pairs of columns within the tolerance of 0.
    #[must_use]
    pub fn orthogonality(&self) -> Accuracy {
        self.orthogonality
    }

    /// How well thresholds on the condition number foretell that a prediction is wrong.
    #[must_use]
    pub fn failures(&self) -> &RocCurve {
        &self.failures
    }
}

/// An analysis at the tolerance of the published one, 1%.
impl Default for FailureAnalysis {
    fn default() -> Self {
        Self::new(Tolerance::relative(0.01))
    }
}

impl Metric for FailureAnalysis {
    type Sample = (SpectralDeviation, bool);
    type Value = FailureSummary;

    fn update(&mut self, (deviation, is_correct): &Self::Sample) {
        self.correct.update(is_correct);
        self.eigenvalues.update(&self.tolerance.admits(deviation.eigenvalues));
        self.norms.update(&self.tolerance.admits(deviation.norms));
        self.orthogonality.update(&self.tolerance.admits(deviation.orthogonality));
        self.failures.update(&(deviation.condition_number, !is_correct));
    }

    /// # Panics
    /// If the two analyses have different tolerances.
    fn merge(&mut self, other: &Self) {
        assert_eq!(self.tolerance, other.tolerance, "tolerances of the analyses to merge");
        self.correct.merge(&other.correct);
        self.eigenvalues.merge(&other.eigenvalues);
        self.norms.merge(&other.norms);
        self.orthogonality.merge(&other.orthogonality);
        self.failures.merge(&other.failures);
    }

    fn value(&self) -> Option<FailureSummary> {
        Some(FailureSummary {
            correct: self.correct.value()?,
            eigenvalues: self.eigenvalues.value()?,
            norms: self.norms.value()?,
            orthogonality: self.orthogonality.value()?,
            area_under_curve: self.failures.value(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{after, assert_merges};

    fn sample(
        eigenvalues: f64,
        norms: f64,
        orthogonality: f64,
        condition_number: f64,
        correct: bool,
    ) -> (SpectralDeviation, bool) {
        (SpectralDeviation { eigenvalues, norms, orthogonality, condition_number }, correct)
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
        assert_eq!((summary.correct, summary.eigenvalues), (0.4, 0.8));
        assert_eq!((summary.norms, summary.orthogonality), (0.4, 0.6));
        // Of 6 pairs of a failure and a success, 4 are in order, one is a tie, one is out of order.
        assert_eq!(summary.area_under_curve, Some(0.75));
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
