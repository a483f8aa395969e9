//! Matrices of independent, normally distributed entries.

use faer::Mat;
use rand::{Rng, RngCore};
use rand_distr::StandardNormal;

use super::entries::NORMAL_BOUND;
use super::impl_distribution;
use crate::law_error::{require_dimension, require_positive};
use crate::magnitudes::require_finite_bound;
use crate::{Law, LawError};

/// Matrices of a fixed shape whose entries are independent and normal, with mean 0.
///
/// The entries are drawn in row-major order. With standard deviation A / √3, they have the standard deviation of the
/// entries of [`UniformEntries`](crate::UniformEntries).
///
/// The [bound](Law::bound) is 8.1 standard deviations, which an entry exceeds with probability 5.5e-16.
///
/// # Examples
/// ```
/// use numformer_problems::GaussianEntries;
/// use rand::{Rng, SeedableRng};
///
/// let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
/// let a = rng.sample(GaussianEntries::new(100, 50, 10.0 / 3.0_f64.sqrt())?);
/// assert_eq!(a.shape(), (100, 50));
/// let variance = a.squared_norm_l2() / 5_000.0;
/// assert!((variance - 100.0 / 3.0).abs() < 3.0);
/// # Ok::<(), numformer_problems::LawError>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*. <https://arxiv.org/abs/2112.01898>
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct GaussianEntries {
    rows: usize,
    columns: usize,
    std: f64,
}

impl GaussianEntries {
    /// The law of matrices with these rows and columns and entries of standard deviation `std`.
    ///
    /// # Errors
    /// When a dimension is not in `1..=`[`MAX_DIMENSION`](crate::MAX_DIMENSION), `std` is not positive and finite, or
    /// `std` is so large that the bound is not finite.
    pub fn new(rows: usize, columns: usize, std: f64) -> Result<Self, LawError> {
        require_finite_bound(Self {
            rows: require_dimension("rows", rows)?,
            columns: require_dimension("columns", columns)?,
            std: require_positive("standard deviation", std)?,
        })
    }
}

impl Law for GaussianEntries {
    fn sample_into(&self, rng: &mut dyn RngCore, matrix: &mut Mat<f64>) {
        matrix.resize_with(self.rows, self.columns, |_, _| 0.0);
        for i in 0..self.rows {
            for j in 0..self.columns {
                matrix[(i, j)] = self.std * rng.sample::<f64, _>(StandardNormal);
            }
        }
    }

    fn max_shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    fn bound(&self) -> Option<f64> {
        Some(NORMAL_BOUND * self.std)
    }
}

impl_distribution!(GaussianEntries);

#[cfg(test)]
mod tests {
    use numformer_testkit::kolmogorov_smirnov;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::test_support::{entries, require_pure_sampling};
    use super::*;

    #[test]
    fn parameters_are_checked() {
        let message = |rows, columns, std| GaussianEntries::new(rows, columns, std).unwrap_err().to_string();
        assert_eq!(message(0, 5, 1.0), "expected 1 to 100 rows, found 0");
        assert_eq!(message(5, 101, 1.0), "expected 1 to 100 columns, found 101");
        for std in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(message(5, 5, std), format!("expected a positive, finite standard deviation, found {std}"));
        }
        assert_eq!(message(5, 5, 1e308), "expected a positive, finite bound on the entries, found inf");
    }

    #[test]
    fn values_are_stable() {
        let mut rng = ChaCha8Rng::seed_from_u64(42);
        let a = Law::sample(&GaussianEntries::new(2, 2, 10.0).unwrap(), &mut rng);
        assert_eq!(a, faer::mat![[4.779812383510217, 13.340706102318078], [-2.108666832710303, 4.763469238088213]]);
    }

    #[test]
    fn samples_depend_on_law_and_generator_alone() {
        require_pure_sampling(&GaussianEntries::new(4, 3, 2.0).unwrap());
    }

    #[test]
    fn entries_are_normal_and_independent() {
        let a = Law::sample(&GaussianEntries::new(100, 100, 2.0).unwrap(), &mut ChaCha8Rng::seed_from_u64(5));
        let normal = |x: f64| libm::erfc(-x / 8.0_f64.sqrt()) / 2.0;
        assert!(kolmogorov_smirnov(&entries(&a), normal) > 1e-3);
        // Sums of neighbours would have a different variance if the neighbours were correlated.
        let sums = |down, right| -> Vec<f64> {
            let pairs = (0..100 - down)
                .step_by(1 + down)
                .flat_map(|i| (0..100 - right).step_by(1 + right).map(move |j| (i, j)));
            pairs.map(|(i, j)| (a[(i, j)] + a[(i + down, j + right)]) / 2.0_f64.sqrt()).collect()
        };
        for (down, right) in [(0, 1), (1, 0), (1, 1)] {
            assert!(kolmogorov_smirnov(&sums(down, right), normal) > 1e-3, "{down} {right}");
        }
    }
}
