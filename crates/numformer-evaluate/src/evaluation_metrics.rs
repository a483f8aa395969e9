//! Collecting the figures of an evaluation.

use std::collections::BTreeMap;

use numformer_data::Judgement;
use numformer_metrics::{
    Accuracy, CoefficientAccuracy, Grouped, Metric, Norm, Tolerance, ToleranceCurve, WeightedMean,
};
use serde::{Deserialize, Serialize};

use crate::answers::shape::Shape;
use crate::figures::{Estimate, Evaluation};

/// One example beside a model's answer: a sample for [`EvaluationMetrics`].
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationSample {
    /// The verdict on the answer, and the problem that it answers.
    pub judgement: Judgement,
    /// The name of the law that the input was drawn from, if it has one.
    pub law: Option<String>,
    /// Whether the answer is the exact one, token for token.
    pub is_exact: bool,
    /// Mean cross-entropy per target token, in nats.
    pub cross_entropy: f64,
    /// Number of tokens in that mean.
    pub target_tokens: u64,
    /// Number of matrices that were drawn for the example but rejected: they had no answer that can be trusted and
    /// written.
    pub rejected: u32,
}

/// The figures of an [`Evaluation`], over all examples and over those of each dimension, problem and law.
///
/// Merged parts give the figures of the whole. All figures agree to the last bit, except that the cross-entropy agrees
/// up to the rounding of a sum. Parts may be stored and read back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvaluationMetrics {
    all: Tally,
    by_dimension: Grouped<Shape, Tally>,
    by_problem: Grouped<String, Tally>,
    by_law: Grouped<String, Tally>,
}

impl Metric for EvaluationMetrics {
    type Sample = EvaluationSample;
    type Value = Evaluation;

    fn update(&mut self, sample: &EvaluationSample) {
        self.all.update(sample);
        self.by_dimension.group_mut(sample.judgement.shape.into()).update(sample);
        self.by_problem.group_mut(sample.judgement.problem.to_owned()).update(sample);
        if let Some(law) = &sample.law {
            self.by_law.group_mut(law.clone()).update(sample);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.all.merge(&other.all);
        self.by_dimension.merge(&other.by_dimension);
        self.by_problem.merge(&other.by_problem);
        self.by_law.merge(&other.by_law);
    }

    fn value(&self) -> Option<Evaluation> {
        Some(Evaluation {
            by_dimension: several(&self.by_dimension),
            by_problem: several(&self.by_problem),
            by_law: several(&self.by_law),
            ..self.all.value()?
        })
    }
}

/// The figures of the groups; empty if there is only one, as it would repeat the figures of all examples.
fn several<K: Ord + Clone>(groups: &Grouped<K, Tally>) -> BTreeMap<K, Evaluation> {
    groups.value().filter(|groups| groups.len() > 1).unwrap_or_default()
}

/// The figures of one set of examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tally {
    curves: Grouped<Norm, ToleranceCurve>,
    coefficients: CoefficientAccuracy,
    exact: Accuracy,
    decodable: Accuracy,
    cross_entropy: WeightedMean,
    rejected: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            curves: Grouped::new(ToleranceCurve::standard()),
            coefficients: CoefficientAccuracy::default(),
            exact: Accuracy::default(),
            decodable: Accuracy::default(),
            cross_entropy: WeightedMean::default(),
            rejected: 0,
        }
    }
}

impl Metric for Tally {
    type Sample = EvaluationSample;
    type Value = Evaluation;

    fn update(&mut self, sample: &EvaluationSample) {
        sample.judgement.verdicts.iter().for_each(|verdict| self.curves.update(verdict));
        self.coefficients.update(&sample.judgement.coefficients);
        self.exact.update(&sample.is_exact);
        self.decodable.update(&sample.judgement.is_decodable());
        self.cross_entropy.update(&(sample.cross_entropy, sample.target_tokens));
        self.rejected += u64::from(sample.rejected);
    }

    fn merge(&mut self, other: &Self) {
        self.curves.merge(&other.curves);
        self.coefficients.merge(&other.coefficients);
        self.exact.merge(&other.exact);
        self.decodable.merge(&other.decodable);
        self.cross_entropy.merge(&other.cross_entropy);
        self.rejected += other.rejected;
    }

    fn value(&self) -> Option<Evaluation> {
        let estimates = |curve: &ToleranceCurve| curve.points().iter().map(estimate).collect::<Option<Vec<_>>>();
        let norms = self.curves.groups().iter().map(|(norm, curve)| Some((*norm, estimates(curve)?)));
        Some(Evaluation {
            count: self.exact.total,
            accuracy: self.curves.group(&Norm::L1)?.value()?,
            exact: self.exact.value()?,
            decodable: self.decodable.value()?,
            cross_entropy: self.cross_entropy.value()?,
            rejected: self.rejected,
            coefficients: self.coefficients.value()?,
            norms: norms.collect::<Option<_>>()?,
            exact_interval: interval(&self.exact)?,
            decodable_interval: interval(&self.decodable)?,
            ..Evaluation::default()
        })
    }
}

fn estimate((tolerance, accuracy): &(Tolerance, Accuracy)) -> Option<Estimate> {
    Some(Estimate { tolerance: *tolerance, share: accuracy.value()?, interval: interval(accuracy)? })
}

/// Rounded to six decimals: more would carry no information and make logs longer.
pub(crate) fn interval(accuracy: &Accuracy) -> Option<(f64, f64)> {
    let rounded = |x: f64| (1e6 * x).round() / 1e6;
    accuracy.confidence_interval().map(|(lower, upper)| (rounded(lower), rounded(upper)))
}

#[cfg(test)]
mod tests {
    use numformer_metrics::Verdict;
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;

    /// An example whose answer, of two coefficients, has this error in every norm; without an error, the answer is
    /// malformed.
    fn judged(problem: &'static str, rows: usize, law: Option<&str>, error: Option<f64>) -> EvaluationSample {
        let verdict = error.map_or(Verdict::Malformed, |error| Verdict::Measured { error });
        let correct = error.map_or(0, |error| 1 + u64::from(error < 0.01));
        EvaluationSample {
            judgement: Judgement {
                problem,
                shape: (rows, 2),
                verdicts: Norm::ALL.iter().map(|norm| (*norm, verdict)).collect(),
                coefficients: Accuracy { correct, total: 2 },
            },
            law: law.map(str::to_owned),
            is_exact: error == Some(0.0),
            cross_entropy: 0.5,
            target_tokens: 4,
            rejected: 0,
        }
    }

    fn of(samples: &[EvaluationSample]) -> EvaluationMetrics {
        let mut metrics = EvaluationMetrics::default();
        samples.iter().for_each(|sample| metrics.update(sample));
        metrics
    }

    #[test]
    fn nothing_is_known_before_the_first_example() {
        assert_eq!(EvaluationMetrics::default().value(), None);
    }

    #[test]
    fn figures_are_those_of_the_metrics() {
        let errors = [Some(0.0), Some(0.015), None, Some(0.03)];
        let mut samples = errors.map(|error| judged("transpose", 3, None, error));
        samples[0] = EvaluationSample { cross_entropy: 1.5, target_tokens: 12, rejected: 3, ..samples[0].clone() };
        // Worse in one norm than in the others.
        samples[3].judgement.verdicts[2] = (Norm::Max, Verdict::Measured { error: 0.7 });
        let evaluation = of(&samples).value().expect("four examples");

        let expected = Tolerance::STANDARD.into_iter().zip([0.75, 0.5, 0.25, 0.25]).collect::<Vec<_>>();
        assert_eq!(evaluation.accuracy, expected);
        assert_eq!((evaluation.count, evaluation.exact, evaluation.decodable), (4, 0.25, 0.75));
        // (12 · 1.5 + 3 · 4 · 0.5) / 24, and (1 + 1/2 + 0 + 1/2) / 4.
        assert_eq!((evaluation.cross_entropy, evaluation.coefficients, evaluation.rejected), (1.0, 0.5, 3));
        assert!(evaluation.norms.keys().eq(Norm::ALL));
        let shares = |norm| evaluation.norms[&norm].iter().map(|estimate| estimate.share).collect::<Vec<_>>();
        assert_eq!(shares(Norm::L1), [0.75, 0.5, 0.25, 0.25]);
        assert_eq!(shares(Norm::Max), [0.5, 0.5, 0.25, 0.25]);
        let wilson = Accuracy { correct: 3, total: 4 }.confidence_interval().expect("four examples");
        for (lower, upper) in [evaluation.norms[&Norm::Frobenius][0].interval, evaluation.decodable_interval] {
            assert!((lower - wilson.0).abs() < 1e-6 && (upper - wilson.1).abs() < 1e-6, "{lower} {upper}");
        }
        // One dimension, one problem, and no law.
        assert!(evaluation.by_dimension.is_empty() && evaluation.by_problem.is_empty() && evaluation.by_law.is_empty());
    }

    /// Examples of two problems, three shapes and two laws.
    fn samples() -> impl Strategy<Value = Vec<EvaluationSample>> {
        let error = prop::option::of(prop::sample::select(vec![0.0, 0.004, 0.009, 0.015, 0.03, 0.5, f64::NAN]));
        let law = prop::option::of(prop::sample::select(vec!["uniform", "gaussian"]));
        // Eighths, whose sums are exact.
        let numbers = (0..80_u32, 1..9_u64, 0..3_u32);
        let sample = (prop::sample::select(vec!["transpose", "addition"]), 1..4_usize, law, error, numbers);
        prop::collection::vec(sample, 1..30).prop_map(|samples| {
            let judged = samples.into_iter().map(|(problem, rows, law, error, numbers)| EvaluationSample {
                cross_entropy: f64::from(numbers.0) / 8.0,
                target_tokens: numbers.1,
                rejected: numbers.2,
                ..judged(problem, rows, law, error)
            });
            judged.collect()
        })
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn merging_parts_gives_the_figures_of_the_whole(samples in samples(), cuts in [any::<usize>(), any::<usize>()]) {
            let mut cuts = cuts.map(|cut| cut % (samples.len() + 1));
            cuts.sort_unstable();
            let parts = [&samples[..cuts[0]], &samples[cuts[0]..cuts[1]], &samples[cuts[1]..]].map(of);
            let whole = of(&samples);
            let mut forwards = EvaluationMetrics::default();
            parts.iter().for_each(|part| forwards.merge(part));
            prop_assert_eq!(forwards.value(), whole.value());
            let mut backwards = EvaluationMetrics::default();
            parts.iter().rev().for_each(|part| backwards.merge(part));
            prop_assert_eq!(backwards.value(), whole.value());
            prop_assert_eq!(backwards, whole);
        }

        #[test]
        fn each_group_is_judged_as_by_itself(samples in samples()) {
            let evaluation = of(&samples).value().expect("at least one example");
            let alone = |is_in: &dyn Fn(&EvaluationSample) -> bool| {
                let group: Vec<_> = samples.iter().filter(|sample| is_in(sample)).cloned().collect();
                let figures = of(&group).value().expect("a group has an example");
                Evaluation { by_dimension: BTreeMap::new(), by_problem: BTreeMap::new(), by_law: BTreeMap::new(), ..figures }
            };
            for (shape, group) in &evaluation.by_dimension {
                prop_assert_eq!(group, &alone(&|s| Shape::from(s.judgement.shape) == *shape));
            }
            for (problem, group) in &evaluation.by_problem {
                prop_assert_eq!(group, &alone(&|s| s.judgement.problem == problem));
            }
            for (law, group) in &evaluation.by_law {
                prop_assert_eq!(group, &alone(&|s| s.law.as_ref() == Some(law)));
            }
            let counts = |groups: Vec<u64>| groups.iter().sum::<u64>();
            let by_problem = counts(evaluation.by_problem.values().map(|group| group.count).collect());
            prop_assert!(by_problem == evaluation.count || evaluation.by_problem.is_empty());
            let by_dimension = counts(evaluation.by_dimension.values().map(|group| group.count).collect());
            prop_assert!(by_dimension == evaluation.count || evaluation.by_dimension.is_empty());
        }

        #[test]
        fn stored_evaluations_are_read_back(samples in samples()) {
            let evaluation = of(&samples).value().expect("at least one example");
            let json = serde_json::to_string(&evaluation).expect("plain data");
            prop_assert_eq!(serde_json::from_str::<Evaluation>(&json).expect(&json), evaluation);
        }

        #[test]
        fn stored_parts_are_read_back(samples in samples()) {
            let metrics = of(&samples);
            let json = serde_json::to_string(&metrics).expect("plain data");
            prop_assert_eq!(serde_json::from_str::<EvaluationMetrics>(&json).expect(&json), metrics);
        }
    }
}
