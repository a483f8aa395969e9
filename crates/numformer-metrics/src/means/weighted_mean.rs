//! The weighted arithmetic mean.

use serde::{Deserialize, Serialize};

use crate::Metric;

/// The arithmetic mean of values that each stand for several observations, as the mean cross-entropy of a sequence
/// stands for its tokens. A NaN among the values makes it NaN.
///
/// A sample is a value and its weight: the number of observations whose mean it is.
///
/// # Examples
/// The cross-entropy per token of two sequences of one and three tokens:
/// ```
/// use numformer_metrics::{Metric, WeightedMean};
///
/// let mut cross_entropy = WeightedMean::default();
/// cross_entropy.update(&(2.0, 1));
/// cross_entropy.update(&(1.0, 3));
/// assert_eq!(cross_entropy.value(), Some(1.25));
/// ```
#[derive(Copy, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WeightedMean {
    /// The sum of the products of value and weight.
    pub sum: f64,
    /// The sum of the weights.
    pub weight: u64,
}

impl Metric for WeightedMean {
    type Sample = (f64, u64);
    type Value = f64;

    /// A sample of weight 0 stands for nothing and changes nothing.
    fn update(&mut self, &(value, weight): &(f64, u64)) {
        if weight > 0 {
            self.sum += value * weight as f64;
            self.weight += weight;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        self.weight += other.weight;
    }

    fn value(&self) -> Option<f64> {
        (self.weight > 0).then(|| self.sum / self.weight as f64)
    }
}

#[cfg(test)]
mod tests {
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{after, assert_merges};

    #[test]
    fn each_value_counts_as_often_as_its_weight() {
        let mean = after(&WeightedMean::default(), &[(4.0, 1), (f64::NAN, 0), (0.0, 7)]);
        assert_eq!(mean.value(), Some(0.5));
        assert!(after(&mean, &[(f64::NAN, 1)]).value().unwrap().is_nan());
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn merging_parts_gives_the_mean_of_the_whole(
            // Eighths, whose sums are exact.
            samples in prop::collection::vec((-80..80_i32, 0..9_u64), 0..20),
            cuts in prop::collection::vec(any::<usize>(), 0..4),
        ) {
            let samples: Vec<_> = samples.into_iter().map(|(x, weight)| (f64::from(x) / 8.0, weight)).collect();
            assert_merges(&WeightedMean::default(), &samples, &cuts);
        }
    }
}
