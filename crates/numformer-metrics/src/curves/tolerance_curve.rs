//! Accuracies at several tolerances.

use serde::{Deserialize, Serialize};

use crate::{Accuracy, Metric, Tolerance, Verdict};

/// The accuracy at each of several tolerances, from one pass over the verdicts.
///
/// # Examples
/// ```
/// use numformer_metrics::{Metric, Tolerance, ToleranceCurve, Verdict};
///
/// let mut curve = ToleranceCurve::new([Tolerance::relative(0.05), Tolerance::relative(0.01)]);
/// curve.update(&Verdict::Measured { error: 0.03 });
/// curve.update(&Verdict::Measured { error: 0.004 });
/// assert_eq!(curve.value(), Some(vec![(Tolerance::relative(0.05), 1.0), (Tolerance::relative(0.01), 0.5)]));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToleranceCurve {
    points: Vec<(Tolerance, Accuracy)>,
}

impl ToleranceCurve {
    /// An empty curve over these tolerances, which it keeps in this order.
    pub fn new(tolerances: impl IntoIterator<Item = Tolerance>) -> Self {
        Self { points: tolerances.into_iter().map(|tolerance| (tolerance, Accuracy::default())).collect() }
    }

    /// An empty curve over [`Tolerance::STANDARD`].
    #[must_use]
    pub fn standard() -> Self {
        Self::new(Tolerance::STANDARD)
    }

    /// Each tolerance with the counts of predictions correct at it.
    #[must_use]
    pub fn points(&self) -> &[(Tolerance, Accuracy)] {
        &self.points
    }

    /// The accuracy at one of the curve's tolerances; `None` at any other, and before the first
    /// verdict.
    #[must_use]
    pub fn accuracy(&self, tolerance: Tolerance) -> Option<f64> {
        self.points.iter().find(|(point, _)| *point == tolerance).and_then(|(_, accuracy)| accuracy.value())
    }
}

impl Metric for ToleranceCurve {
    type Sample = Verdict;
    type Value = Vec<(Tolerance, f64)>;

    fn update(&mut self, sample: &Verdict) {
        for (tolerance, accuracy) in &mut self.points {
            accuracy.update(&sample.is_correct(*tolerance));
        }
    }

    /// # Panics
    /// If the two curves have different tolerances.
    fn merge(&mut self, other: &Self) {
        let tolerances = |curve: &Self| curve.points.iter().map(|(tolerance, _)| *tolerance).collect::<Vec<_>>();
        assert_eq!(tolerances(self), tolerances(other), "tolerances of the curves to merge");
        for ((_, accuracy), (_, others)) in self.points.iter_mut().zip(&other.points) {
            accuracy.merge(others);
        }
    }

    fn value(&self) -> Option<Self::Value> {
        self.points.iter().map(|(tolerance, accuracy)| Some((*tolerance, accuracy.value()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve_of(verdicts: &[Verdict]) -> ToleranceCurve {
        let mut curve = ToleranceCurve::standard();
        verdicts.iter().for_each(|verdict| curve.update(verdict));
        curve
    }

    const VERDICTS: [Verdict; 4] = [
        Verdict::Measured { error: 0.015 },
        Verdict::Malformed,
        Verdict::Measured { error: 0.0 },
        Verdict::WrongShape { expected: (1, 2), found: (2, 1) },
    ];

    #[test]
    fn undecodable_and_misshapen_predictions_count_as_wrong() {
        let accuracies: Vec<f64> = curve_of(&VERDICTS).value().unwrap().into_iter().map(|(_, share)| share).collect();
        assert_eq!(accuracies, [0.5, 0.5, 0.25, 0.25]);
    }

    #[test]
    fn nothing_is_known_before_the_first_verdict() {
        assert_eq!(ToleranceCurve::standard().value(), None);
        assert_eq!(ToleranceCurve::standard().accuracy(Tolerance::STANDARD[0]), None);
        assert_eq!(curve_of(&VERDICTS).accuracy(Tolerance::relative(0.03)), None);
    }

    #[test]
    fn merging_parts_gives_the_curve_of_the_whole() {
        for split in 0..=VERDICTS.len() {
            let mut merged = curve_of(&VERDICTS[..split]);
            merged.merge(&curve_of(&VERDICTS[split..]));
            assert_eq!(merged, curve_of(&VERDICTS));
        }
    }

    #[test]
    #[should_panic(expected = "tolerances of the curves")]
    fn merging_different_tolerances_is_a_bug() {
        ToleranceCurve::standard().merge(&ToleranceCurve::new([Tolerance::relative(0.05)]));
    }
}
