//! Custom metrics.

use std::collections::BTreeMap;
use std::fmt;

use numformer_encoding::TokenId;
use numformer_metrics::Metric;
use serde::{Deserialize, Serialize};

use crate::answers::pairs::{Pair, Scored, finished, tokens_of};
use crate::figures::figure::{Better, Figure};

/// An example and the answer of a model: a sample for custom metrics. Sequences include their delimiters, except for
/// the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// What the model read.
    pub src: Vec<TokenId>,
    /// The exact answer.
    pub tgt: Vec<TokenId>,
    /// The model's answer; `None` if the model did not end it.
    pub answer: Option<Vec<TokenId>>,
    /// Mean cross-entropy per target token, in nats.
    pub cross_entropy: f64,
}

impl Answered {
    pub(crate) fn new(pair: &Pair, scored: &Scored) -> Self {
        Self {
            src: tokens_of(&pair.src),
            tgt: tokens_of(&pair.tgt),
            answer: scored.answer.as_ref().and_then(|answer| finished(&answer.hypothesis)),
            cross_entropy: scored.cross_entropy,
        }
    }
}

/// Custom metrics by name, each in its state before the first example.
#[derive(Default)]
pub struct CustomMetrics(Vec<(String, Better, Box<dyn AnyMetric>)>);

impl CustomMetrics {
    /// Adds a metric.
    pub fn push<M>(&mut self, name: &str, better: Better, metric: M)
    where
        M: Metric<Sample = Answered, Value = f64> + Clone + Send + Sync + 'static,
    {
        self.0.push((name.to_owned(), better, Box::new(metric)));
    }

    /// Whether there are no metrics.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn update(&mut self, answered: &[Answered]) {
        for (_, _, metric) in &mut self.0 {
            answered.iter().for_each(|sample| metric.update(sample));
        }
    }

    /// The figures so far. A number that is not finite carries no information and is left out.
    pub(crate) fn figures(&self) -> BTreeMap<String, Figure> {
        let figure = |(name, better, metric): &(String, Better, Box<dyn AnyMetric>)| {
            let value = metric.value().filter(|value| value.is_finite())?;
            Some((name.clone(), Figure { value, better: *better }))
        };
        self.0.iter().filter_map(figure).collect()
    }
}

impl Clone for CustomMetrics {
    fn clone(&self) -> Self {
        Self(self.0.iter().map(|(name, better, metric)| (name.clone(), *better, metric.boxed())).collect())
    }
}

impl fmt::Debug for CustomMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, ..)| name)).finish()
    }
}

/// A type-erased [`Metric`].
trait AnyMetric: Send + Sync {
    fn update(&mut self, sample: &Answered);
    fn value(&self) -> Option<f64>;
    fn boxed(&self) -> Box<dyn AnyMetric>;
}

impl<M: Metric<Sample = Answered, Value = f64> + Clone + Send + Sync + 'static> AnyMetric for M {
    fn update(&mut self, sample: &Answered) {
        Metric::update(self, sample);
    }

    fn value(&self) -> Option<f64> {
        Metric::value(self)
    }

    fn boxed(&self) -> Box<dyn AnyMetric> {
        Box::new(self.clone())
    }
}
