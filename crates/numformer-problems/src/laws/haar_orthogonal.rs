//! Orthogonal matrices, uniformly distributed.

use faer::Mat;
use rand::{Rng, RngCore};
use rand_distr::StandardNormal;

use super::impl_distribution;
use crate::law_error::require_dimension;
use crate::{Law, LawError, MAX_DIMENSION};

/// Uniformly distributed orthogonal matrices. Their law is Haar's, which no rotation or reflection changes.
///
/// The determinant is 1 or -1 with equal probability. An entry squared has the law Beta(1/2, (n - 1)/2).
///
/// A sample is orthogonal up to rounding, and no entry exceeds 1. It is a product of Householder reflections of random
/// vectors, which takes 4n³/3 operations. If x is normal and Q′ is uniform in dimension n - 1, then x / |x| is a first
/// column, and a reflection that exchanges its line with the first axis carries the columns of Q′ to the other columns.
/// The vectors are drawn from the shortest to the longest.
///
/// # Examples
/// ```
/// use faer::Mat;
/// use numformer_problems::HaarOrthogonal;
/// use rand::{Rng, SeedableRng};
///
/// let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
/// let q = rng.sample(HaarOrthogonal::new(5)?);
/// assert!((q.transpose() * &q - Mat::<f64>::identity(5, 5)).norm_max() < 1e-14);
/// # Ok::<(), numformer_problems::LawError>(())
/// ```
///
/// # Reference
/// Stewart (1980), *The efficient generation of random orthogonal matrices with an application to condition
/// estimators*, SIAM Journal on Numerical Analysis 17. <https://doi.org/10.1137/0717034>
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct HaarOrthogonal {
    dimension: usize,
}

impl HaarOrthogonal {
    /// The uniform law on the orthogonal matrices of this dimension.
    ///
    /// # Errors
    /// When the dimension is not in `1..=`[`MAX_DIMENSION`].
    pub fn new(dimension: usize) -> Result<Self, LawError> {
        Ok(Self { dimension: require_dimension("rows and columns", dimension)? })
    }
}

impl Law for HaarOrthogonal {
    fn sample_into(&self, rng: &mut dyn RngCore, matrix: &mut Mat<f64>) {
        let n = self.dimension;
        matrix.resize_with(n, n, |_, _| 0.0);
        matrix.fill(0.0);
        let last = rng.sample::<f64, _>(StandardNormal);
        matrix[(n - 1, n - 1)] = 1.0_f64.copysign(last);
        let mut normal = [0.0; MAX_DIMENSION];
        // Makes the block from the diagonal entry `first` on uniform, given that the block after it is.
        for first in (0..n - 1).rev() {
            let x = &mut normal[first..n];
            x.fill_with(|| rng.sample::<f64, _>(StandardNormal));
            let length = x.iter().map(|x| x * x).sum::<f64>().sqrt();
            for (entry, x) in matrix.col_as_slice_mut(first)[first..n].iter_mut().zip(&*x) {
                *entry = x / length;
            }
            // u = x + sign |x| e. Of the two reflections to the axis, this is the one without cancellation.
            x[0] += length.copysign(x[0]);
            let half_square = length * x[0].abs();
            for j in first + 1..n {
                let column = &mut matrix.col_as_slice_mut(j)[first..n];
                let product: f64 = column.iter().zip(&*x).map(|(entry, u)| entry * u).sum();
                let factor = product / half_square;
                for (entry, u) in column.iter_mut().zip(&*x) {
                    // Rounding may carry an entry past 1.
                    *entry = (*entry - factor * u).clamp(-1.0, 1.0);
                }
            }
        }
    }

    fn max_shape(&self) -> (usize, usize) {
        (self.dimension, self.dimension)
    }

    fn bound(&self) -> Option<f64> {
        Some(1.0)
    }
}

impl_distribution!(HaarOrthogonal);

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use numformer_testkit::kolmogorov_smirnov;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::test_support::{require_close, require_pure_sampling};
    use super::*;

    fn samples(dimension: usize, count: usize, seed: u64) -> Vec<Mat<f64>> {
        let law = HaarOrthogonal::new(dimension).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..count).map(|_| Law::sample(&law, &mut rng)).collect()
    }

    /// The probability that an entry of a uniform orthogonal matrix is below `x`. It equals the probability that a
    /// uniform point of the sphere has a first coordinate below `x`.
    fn entry_cdf(dimension: usize, x: f64) -> f64 {
        match dimension {
            2 => 0.5 + x.asin() / PI,
            3 => (1.0 + x) / 2.0,
            4 => 0.5 + (x * (1.0 - x * x).sqrt() + x.asin()) / PI,
            5 => 0.5 + 0.75 * (x - x.powi(3) / 3.0),
            _ => unreachable!("not needed"),
        }
    }

    #[test]
    fn parameters_are_checked() {
        let message = |dimension| HaarOrthogonal::new(dimension).unwrap_err().to_string();
        assert_eq!(message(0), "expected 1 to 100 rows and columns, found 0");
        assert_eq!(message(101), "expected 1 to 100 rows and columns, found 101");
    }

    #[test]
    fn values_are_stable() {
        let a = &samples(2, 1, 42)[0];
        let expected = [0.9877374075901617, 0.15612435315179632, -0.15612435315179632, 0.9877374075901617];
        require_close(&[a[(0, 0)], a[(0, 1)], a[(1, 0)], a[(1, 1)]], &expected, 1e-15, "entries");
    }

    #[test]
    fn samples_depend_on_law_and_generator_alone() {
        require_pure_sampling(&HaarOrthogonal::new(4).unwrap());
    }

    #[test]
    fn samples_are_orthogonal() {
        for n in [1, 2, 3, 5, 20, 100] {
            for q in samples(n, 5, 1) {
                assert!((q.transpose() * &q - Mat::<f64>::identity(n, n)).norm_max() < 1e-12, "{n}");
                assert!(q.norm_max() <= 1.0);
            }
        }
    }

    #[test]
    fn angles_in_the_plane_are_uniform_among_rotations_and_reflections() {
        let (rotations, reflections): (Vec<_>, Vec<_>) =
            samples(2, 10_000, 2).into_iter().partition(|q| q.determinant() > 0.0);
        for class in [rotations, reflections] {
            // Half of the samples, up to four standard deviations.
            assert!(class.len().abs_diff(5_000) < 200, "{}", class.len());
            let angles: Vec<f64> = class.iter().map(|q| q[(1, 0)].atan2(q[(0, 0)])).collect();
            assert!(kolmogorov_smirnov(&angles, |angle| 0.5 + angle / (2.0 * PI)) > 1e-3);
        }
    }

    #[test]
    fn every_entry_is_a_coordinate_of_a_uniform_point_of_the_sphere() {
        for n in [2, 3, 4, 5] {
            let samples = samples(n, 2_000, 3);
            for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let entries: Vec<f64> = samples.iter().map(|q| q[(i, j)]).collect();
                let p = kolmogorov_smirnov(&entries, |x| entry_cdf(n, x));
                assert!(p > 1e-4, "{n}: {i} {j} {p}");
            }
        }
    }

    /// The right law of each entry is not enough: the columns must also be independent, apart from being orthogonal.
    #[test]
    fn rotations_on_either_side_do_not_change_the_law() {
        let (c, s) = (0.6, 0.8);
        let rotated: Vec<[f64; 2]> = samples(5, 5_000, 4)
            .iter()
            .map(|q| {
                let left = c * q[(1, 2)] - s * q[(3, 2)];
                let both = c * left - s * (c * q[(1, 4)] - s * q[(3, 4)]);
                [left, both]
            })
            .collect();
        for k in 0..2 {
            let entries: Vec<f64> = rotated.iter().map(|pair| pair[k]).collect();
            assert!(kolmogorov_smirnov(&entries, |x| entry_cdf(5, x)) > 1e-3, "{k}");
        }
    }

    /// The trace of a uniform orthogonal matrix has the moments of a standard normal variable up to the n-th.
    ///
    /// Diaconis and Shahshahani (1994), *On the eigenvalues of random matrices*. <https://doi.org/10.2307/3214948>
    #[test]
    fn traces_have_the_moments_of_a_normal_variable() {
        let count = 20_000;
        let traces: Vec<f64> = samples(5, count, 5).iter().map(|q| (0..5).map(|i| q[(i, i)]).sum()).collect();
        for (power, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
            let moment = traces.iter().map(|x: &f64| x.powi(power)).sum::<f64>() / count as f64;
            let standard_error = (variance / count as f64).sqrt();
            assert!((moment - expected).abs() < 4.0 * standard_error, "{power}: {moment}");
        }
    }
}
