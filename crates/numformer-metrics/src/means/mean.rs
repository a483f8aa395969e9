//! The arithmetic mean.

use serde::{Deserialize, Serialize};

use crate::Metric;

/// The arithmetic mean of the samples. A NaN among them makes it NaN.
///
/// # Examples
/// ```
/// use numformer_metrics::{Mean, Metric};
///
/// let mut loss = Mean::default();
/// assert_eq!(loss.value(), None);
/// loss.update(&1.0);
/// loss.update(&2.0);
/// assert_eq!(loss.value(), Some(1.5));
/// ```
#[derive(Copy, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// The sum of the samples.
    pub sum: f64,
    /// How many samples there were.
    pub count: u64,
}

impl Metric for Mean {
    type Sample = f64;
    type Value = f64;

    fn update(&mut self, sample: &f64) {
        self.sum += sample;
        self.count += 1;
    }

    fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        self.count += other.count;
    }

    fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_parts_gives_the_mean_of_the_whole() {
        let mean_of = |samples: &[f64]| {
            let mut mean = Mean::default();
            samples.iter().for_each(|sample| mean.update(sample));
            mean
        };
        let mut merged = mean_of(&[1.0, 2.0, 6.0]);
        merged.merge(&mean_of(&[]));
        merged.merge(&mean_of(&[7.0]));
        assert_eq!(merged, mean_of(&[1.0, 2.0, 6.0, 7.0]));
        assert_eq!(merged.value(), Some(4.0));
    }

    #[test]
    fn nan_is_not_hidden() {
        let mut mean = Mean::default();
        mean.update(&1.0);
        mean.update(&f64::NAN);
        assert!(mean.value().unwrap().is_nan());
    }
}
