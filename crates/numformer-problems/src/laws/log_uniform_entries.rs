//! Matrices of independent entries of every order of magnitude.

use faer::Mat;
use rand::{Rng, RngCore};

use super::impl_distribution;
use crate::law_error::{require_dimension, require_positive};
use crate::{Law, LawError};

/// Matrices of a fixed shape whose entries are independent, with a fair sign and a magnitude whose logarithm is
/// uniform: each order of magnitude between the smallest and the largest is equally likely.
///
/// The magnitude is a (A / a)ᵘ with u uniform in [0, 1), a the smallest and A the largest magnitude. The entries are
/// drawn in row-major order, the magnitude before the sign.
///
/// # Examples
/// ```
/// use numformer_problems::LogUniformEntries;
/// use rand::{Rng, SeedableRng};
///
/// let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
/// let a = rng.sample(LogUniformEntries::new(100, 50, 0.01, 100.0)?);
/// let below_one = a.col_iter().flat_map(|column| column.iter()).filter(|x| x.abs() < 1.0).count();
/// assert!((below_one as f64 / 5_000.0 - 0.5).abs() < 0.03);
/// # Ok::<(), numformer_problems::LawError>(())
/// ```
///
/// # Reference
/// Charton (2024), *Learning the greatest common divisor: explaining transformer predictions*, where models that are
/// trained on operands of log-uniform magnitudes learn more divisors. <https://arxiv.org/abs/2308.15594>
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct LogUniformEntries {
    rows: usize,
    columns: usize,
    smallest: f64,
    bound: f64,
}

impl LogUniformEntries {
    /// The law of matrices with these rows and columns and entries of magnitudes from `smallest` to `bound`.
    ///
    /// # Errors
    /// When a dimension is not in `1..=`[`MAX_DIMENSION`](crate::MAX_DIMENSION), a magnitude is not positive and
    /// finite, or `smallest` is larger than `bound`.
    pub fn new(rows: usize, columns: usize, smallest: f64, bound: f64) -> Result<Self, LawError> {
        require_dimension("rows", rows)?;
        require_dimension("columns", columns)?;
        if !(bound > 0.0 && bound.is_finite()) {
            return Err(LawError::Bound { found: bound });
        }
        require_positive("smallest magnitude", smallest)?;
        if smallest > bound {
            return Err(LawError::Smallest { bound, found: smallest });
        }
        Ok(Self { rows, columns, smallest, bound })
    }
}

impl Law for LogUniformEntries {
    fn sample_into(&self, rng: &mut dyn RngCore, matrix: &mut Mat<f64>) {
        matrix.resize_with(self.rows, self.columns, |_, _| 0.0);
        // The quotient may exceed the largest `f64`.
        let ratio = self.bound.ln() - self.smallest.ln();
        for i in 0..self.rows {
            for j in 0..self.columns {
                let magnitude = self.smallest * (ratio * rng.random::<f64>()).exp();
                // Rounding may take it out of the interval.
                let magnitude = magnitude.clamp(self.smallest, self.bound);
                matrix[(i, j)] = if rng.random() { magnitude } else { -magnitude };
            }
        }
    }

    fn max_shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    fn bound(&self) -> Option<f64> {
        Some(self.bound)
    }

    fn smallest(&self) -> f64 {
        self.smallest
    }
}

impl_distribution!(LogUniformEntries);

#[cfg(test)]
mod tests {
    use numformer_testkit::kolmogorov_smirnov;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::test_support::{entries, require_pure_sampling};
    use super::*;

    #[test]
    fn parameters_are_checked() {
        let message =
            |smallest, bound| LogUniformEntries::new(2, 2, smallest, bound).err().map(|error| error.to_string());
        assert_eq!(message(1.0, 1.0), None);
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let expected = format!("expected a positive, finite smallest magnitude, found {wrong}");
            assert_eq!(message(wrong, 1.0), Some(expected));
            let expected = format!("expected a positive, finite bound on the entries, found {wrong}");
            assert_eq!(message(1.0, wrong), Some(expected));
        }
        let expected = "expected a smallest magnitude of at most the bound 1, found 2".to_owned();
        assert_eq!(message(2.0, 1.0), Some(expected));
        assert!(LogUniformEntries::new(0, 2, 1.0, 2.0).is_err() && LogUniformEntries::new(2, 101, 1.0, 2.0).is_err());
    }

    /// Kolmogorov-Smirnov test of 10,000 logarithms against the uniform law, and the share of positive entries.
    #[test]
    fn every_order_of_magnitude_is_equally_likely() {
        let law = LogUniformEntries::new(100, 100, 1e-3, 10.0).unwrap();
        let drawn = entries(&Law::sample(&law, &mut ChaCha8Rng::seed_from_u64(5)));
        assert!(drawn.iter().all(|x| (1e-3..=10.0).contains(&x.abs())));
        let places: Vec<f64> = drawn.iter().map(|x| (x.abs().log10() + 3.0) / 4.0).collect();
        assert!(kolmogorov_smirnov(&places, |x| x) > 1e-3);
        let positive = drawn.iter().filter(|x| **x > 0.0).count();
        // The standard deviation is 50.
        assert!(positive.abs_diff(5_000) < 200, "{positive}");
    }

    #[test]
    fn the_largest_interval_does_not_overflow() {
        let law = LogUniformEntries::new(100, 100, f64::MIN_POSITIVE, f64::MAX).unwrap();
        let drawn = entries(&Law::sample(&law, &mut ChaCha8Rng::seed_from_u64(6)));
        assert!(drawn.iter().all(|x| x.is_normal()));
        let below_one = drawn.iter().filter(|x| x.abs() < 1.0).count();
        assert!(below_one.abs_diff(5_000) < 200, "{below_one}");
    }

    #[test]
    fn samples_depend_on_law_and_generator_alone() {
        require_pure_sampling(&LogUniformEntries::new(4, 3, 0.1, 10.0).unwrap());
    }
}
