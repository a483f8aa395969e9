//! Matrices of independent, uniformly distributed entries.

use faer::Mat;
use rand::distr::Distribution;
use rand::{Rng, RngCore};

use crate::law_error::require_dimension;
use crate::{Law, LawError};

/// The share of the bound below which every entry is zero. It is less than 2⁻⁵¹, the spacing of the entries, to allow
/// for rounding.
const GRID: f64 = 1.0 / (1_u64 << 52) as f64;

/// Matrices of a fixed shape whose entries are independent and uniform in `[-A, A]`.
///
/// The entries have mean 0 and standard deviation A / √3. They are drawn in row-major order, one 64-bit word of the
/// generator each, and lie on a grid of spacing 2⁻⁵¹ A.
///
/// # Examples
/// ```
/// use numformer_problems::UniformEntries;
/// use rand::{Rng, SeedableRng};
///
/// let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
/// let a = rng.sample(UniformEntries::new(5, 3, 10.0)?);
/// assert_eq!(a.shape(), (5, 3));
/// assert!(a.norm_max() <= 10.0);
/// # Ok::<(), numformer_problems::LawError>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*, where A = 10. <https://arxiv.org/abs/2112.01898>
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct UniformEntries {
    rows: usize,
    columns: usize,
    bound: f64,
}

impl UniformEntries {
    /// The law of matrices with these rows and columns and entries in `[-bound, bound]`.
    ///
    /// # Errors
    /// When a dimension is not in `1..=`[`MAX_DIMENSION`](crate::MAX_DIMENSION), or the bound is not positive and
    /// finite.
    pub fn new(rows: usize, columns: usize, bound: f64) -> Result<Self, LawError> {
        require_dimension("rows", rows)?;
        require_dimension("columns", columns)?;
        if !(bound > 0.0 && bound.is_finite()) {
            return Err(LawError::Bound { found: bound });
        }
        Ok(Self { rows, columns, bound })
    }
}

impl Law for UniformEntries {
    fn sample_into(&self, rng: &mut dyn RngCore, matrix: &mut Mat<f64>) {
        matrix.resize_with(self.rows, self.columns, |_, _| 0.0);
        for i in 0..self.rows {
            for j in 0..self.columns {
                // The entry is scaled afterwards, since the width 2A of the interval may exceed the largest `f64`.
                matrix[(i, j)] = self.bound * rng.random_range(-1.0..=1.0);
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
        self.bound * GRID
    }
}

impl Distribution<Mat<f64>> for UniformEntries {
    fn sample<R: Rng + ?Sized>(&self, mut rng: &mut R) -> Mat<f64> {
        // `&mut R` is itself a generator and, unlike `R`, has a known size, which `dyn` requires.
        Law::sample(self, &mut rng)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn parameters_are_checked() {
        let message = |rows, columns, bound| UniformEntries::new(rows, columns, bound).unwrap_err().to_string();
        assert_eq!(message(0, 5, 10.0), "expected 1 to 100 rows, found 0");
        assert_eq!(message(5, 101, 10.0), "expected 1 to 100 columns, found 101");
        for bound in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(
                message(5, 5, bound),
                format!("expected a positive, finite bound on the entries, found {bound}")
            );
        }
        assert!(UniformEntries::new(1, 100, f64::MIN_POSITIVE).is_ok());
    }

    #[test]
    fn values_are_stable() {
        let mut rng = ChaCha8Rng::seed_from_u64(42);
        let a = Law::sample(&UniformEntries::new(2, 2, 10.0).unwrap(), &mut rng);
        assert_eq!(a, faer::mat![[3.6379238461334262, 9.005508153449679], [-1.4496719428696059, 2.5472104239468063]]);
    }

    #[test]
    fn both_traits_draw_the_same_matrix() {
        let law = UniformEntries::new(4, 3, 10.0).unwrap();
        let by_rand: Mat<f64> = Distribution::sample(&law, &mut ChaCha8Rng::seed_from_u64(3));
        let mut by_itself = Mat::full(7, 2, f64::NAN);
        law.sample_into(&mut ChaCha8Rng::seed_from_u64(3), &mut by_itself);
        assert_eq!(by_rand, by_itself);
    }

    #[test]
    fn the_largest_bound_does_not_overflow() {
        let law = UniformEntries::new(100, 100, f64::MAX).unwrap();
        let a = Law::sample(&law, &mut ChaCha8Rng::seed_from_u64(4));
        assert!(a.col_iter().all(|column| column.iter().all(|x| x.is_finite())));
    }

    /// Kolmogorov-Smirnov test of 10,000 entries against the uniform law, at the 0.1% level.
    #[test]
    fn entries_are_uniform() {
        /// The 99.9% quantile of the Kolmogorov distribution.
        const CRITICAL: f64 = 1.949;
        let (bound, n) = (10.0, 10_000);
        let law = UniformEntries::new(100, 100, bound).unwrap();
        let a = Law::sample(&law, &mut ChaCha8Rng::seed_from_u64(5));
        let mut entries: Vec<f64> =
            a.col_iter().flat_map(|column| column.iter().copied().collect::<Vec<_>>()).collect();
        entries.sort_by(f64::total_cmp);
        let distance = entries.iter().enumerate().fold(0.0_f64, |largest, (rank, x)| {
            let probability = (x + bound) / (2.0 * bound);
            let below = probability - rank as f64 / n as f64;
            let above = (rank + 1) as f64 / n as f64 - probability;
            largest.max(below).max(above)
        });
        assert!(distance * (n as f64).sqrt() < CRITICAL, "{distance}");
    }

    /// The test above would not detect entries that are repeated within a matrix.
    #[test]
    fn neighbours_are_uncorrelated() {
        let law = UniformEntries::new(100, 100, 1.0).unwrap();
        let a = Law::sample(&law, &mut ChaCha8Rng::seed_from_u64(6));
        let variance = 1.0 / 3.0;
        for (down, right) in [(0, 1), (1, 0), (1, 1)] {
            let products = (0..100 - down).flat_map(|i| (0..100 - right).map(move |j| (i, j)));
            let covariance: f64 = products.map(|(i, j)| a[(i, j)] * a[(i + down, j + right)]).sum::<f64>() / 1e4;
            // The covariance of 10,000 independent pairs has standard deviation variance / 100.
            assert!(covariance.abs() < 4.0 * variance / 100.0, "{covariance}");
        }
    }
}
