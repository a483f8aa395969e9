//! The share of successes, with its confidence interval.

use serde::{Deserialize, Serialize};

use crate::Metric;

/// The share of samples that are true, such as the share of correct predictions, of exact token matches or of decodable
/// outputs.
///
/// # Examples
/// ```
/// use numformer_metrics::{Accuracy, Metric};
///
/// let mut exact_match = Accuracy::default();
/// for (hypothesis, tgt) in [("+ 1 E0", "+ 1 E0"), ("+ 2 E0", "+ 1 E0")] {
///     exact_match.update(&(hypothesis == tgt));
/// }
/// assert_eq!(exact_match.value(), Some(0.5));
/// ```
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accuracy {
    /// How many samples were true.
    pub correct: u64,
    /// How many samples there were.
    pub total: u64,
}

impl Accuracy {
    /// Wilson's 95% confidence interval `(lower, upper)` for the probability behind the share;
    /// `None` before the first sample.
    ///
    /// Unlike the normal approximation it stays within `[0, 1]`, and it has a width even when all
    /// samples agree.
    ///
    /// # Examples
    /// ```
    /// use numformer_metrics::Accuracy;
    ///
    /// let (lower, upper) = Accuracy { correct: 90, total: 100 }.confidence_interval().unwrap();
    /// assert!((lower - 0.8256).abs() < 1e-4 && (upper - 0.9448).abs() < 1e-4);
    /// ```
    ///
    /// # Reference
    /// Wilson (1927), *Probable inference, the law of succession, and statistical inference*, J.
    /// Am. Stat. Assoc. 22(158), 209-212. <https://doi.org/10.1080/01621459.1927.10502953>
    #[must_use]
    pub fn confidence_interval(&self) -> Option<(f64, f64)> {
        /// The 97.5% quantile of the standard normal distribution.
        const Z: f64 = 1.959_963_984_540_054;
        let p = self.value()?;
        let n = self.total as f64;
        let center = p + Z * Z / (2.0 * n);
        let radius = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        // Clamped to exactly 0 and 1 at the ends, where rounding can step outside by one unit.
        Some((((center - radius) / scale).max(0.0), ((center + radius) / scale).min(1.0)))
    }
}

impl Metric for Accuracy {
    type Sample = bool;
    type Value = f64;

    fn update(&mut self, sample: &bool) {
        self.correct += u64::from(*sample);
        self.total += 1;
    }

    fn merge(&mut self, other: &Self) {
        self.correct += other.correct;
        self.total += other.total;
    }

    fn value(&self) -> Option<f64> {
        (self.total > 0).then(|| self.correct as f64 / self.total as f64)
    }
}

#[cfg(test)]
mod tests {
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::assert_merges;

    #[test]
    fn nothing_is_known_before_the_first_sample() {
        assert_eq!(Accuracy::default().value(), None);
        assert_eq!(Accuracy::default().confidence_interval(), None);
    }

    #[test]
    fn merging_adds_the_counts() {
        let mut merged = Accuracy { correct: 1, total: 2 };
        merged.merge(&Accuracy { correct: 2, total: 2 });
        merged.merge(&Accuracy::default());
        assert_eq!(merged.value(), Some(0.75));
    }

    /// The defining property: the ends are the probabilities at which the share lies Z standard
    /// deviations away.
    #[test]
    fn interval_ends_solve_the_equation_of_wilson() {
        for (correct, total) in [(1, 10), (5, 10), (99, 100), (8_500, 10_000)] {
            let accuracy = Accuracy { correct, total };
            let share = accuracy.value().unwrap();
            let (lower, upper) = accuracy.confidence_interval().unwrap();
            for p in [lower, upper] {
                let deviations = (share - p).abs() / (p * (1.0 - p) / total as f64).sqrt();
                assert!((deviations - 1.959_963_984_540_054).abs() < 1e-9, "{correct}/{total}: {deviations}");
            }
        }
    }

    #[test]
    fn interval_stays_within_zero_and_one() {
        for total in [1, 7, 10_000] {
            let (lower, upper) = Accuracy { correct: 0, total }.confidence_interval().unwrap();
            assert!(lower.abs() < 1e-15 && lower >= 0.0 && upper > 0.0 && upper < 1.0);
            let (lower, upper) = Accuracy { correct: total, total }.confidence_interval().unwrap();
            assert!((1.0 - upper).abs() < 1e-15 && upper <= 1.0 && lower > 0.0 && lower < 1.0);
        }
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn merging_parts_gives_the_share_of_the_whole(
            samples in prop::collection::vec(any::<bool>(), 0..20),
            cuts in prop::collection::vec(any::<usize>(), 0..4),
        ) {
            assert_merges(&Accuracy::default(), &samples, &cuts);
        }
    }
}
