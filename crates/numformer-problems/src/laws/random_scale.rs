//! Multiples of a law, with a factor drawn for each sample.

use std::ops::RangeInclusive;

use faer::Mat;
use rand::RngCore;
use rand::distr::{Distribution, Uniform};

use super::impl_distribution;
use crate::magnitudes::require_finite_bound;
use crate::{Law, LawError, Magnitudes};

/// Matrices of a law times an integer that is drawn for each sample, uniformly from a range.
///
/// This is how the amplitude A varies between samples: the laws of this crate with amplitude A are A times those with
/// amplitude 1. The factor is drawn first, then the matrix. The [bound](Law::bound) is that of the law times the
/// largest factor.
///
/// # Examples
/// Wigner matrices of amplitude 1 to 100:
/// ```
/// use numformer_problems::{Law, RandomScale, Wigner};
/// use rand::{Rng, SeedableRng};
///
/// let law = RandomScale::new(Wigner::new(5, 1.0)?, 1..=100)?;
/// assert_eq!(law.bound(), Some(100.0));
/// let a = rand_chacha::ChaCha8Rng::seed_from_u64(1).sample(&law);
/// assert!(a.norm_max() <= 100.0);
/// # Ok::<(), numformer_problems::LawError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RandomScale<E> {
    law: E,
    largest: u32,
    factors: Uniform<u32>,
}

impl<E: Law> RandomScale<E> {
    /// The law of matrices of `law` times an integer drawn from `factors`.
    ///
    /// # Errors
    /// When the range is empty or contains 0, the [magnitudes](Magnitudes::of) of `law` are impossible, or its bound
    /// times the largest factor is not finite.
    pub fn new(law: E, factors: RangeInclusive<u32>) -> Result<Self, LawError> {
        Magnitudes::of(&law)?;
        let (smallest, largest) = factors.clone().into_inner();
        if smallest == 0 {
            return Err(LawError::Factors { found: factors });
        }
        let uniform = Uniform::new_inclusive(smallest, largest).map_err(|_| LawError::Factors { found: factors })?;
        require_finite_bound(Self { law, largest, factors: uniform })
    }
}

impl<E: Law> Law for RandomScale<E> {
    fn sample_into(&self, rng: &mut dyn RngCore, matrix: &mut Mat<f64>) {
        let factor = f64::from(self.factors.sample(rng));
        self.law.sample_into(rng, matrix);
        for column in matrix.col_iter_mut() {
            column.iter_mut().for_each(|entry| *entry *= factor);
        }
    }

    fn max_shape(&self) -> (usize, usize) {
        self.law.max_shape()
    }

    fn bound(&self) -> Option<f64> {
        self.law.bound().map(|bound| bound * f64::from(self.largest))
    }

    fn smallest(&self) -> f64 {
        // The factors are 1 or more.
        self.law.smallest()
    }
}

impl_distribution!(RandomScale<E>, E);

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::test_support::require_pure_sampling;
    use super::*;
    use crate::{GaussianEntries, HaarOrthogonal, UniformEntries};

    #[test]
    fn parameters_are_checked() {
        let law = UniformEntries::new(2, 2, 1e300).unwrap();
        let message = |factors| RandomScale::new(law, factors).unwrap_err().to_string();
        assert_eq!(message(0..=5), "expected a range of positive integers, found 0 to 5");
        #[expect(clippy::reversed_empty_ranges, reason = "such a range is an error")]
        let reversed = 7..=3;
        assert_eq!(message(reversed), "expected a range of positive integers, found 7 to 3");
        assert_eq!(message(1..=u32::MAX), "expected a positive, finite bound on the entries, found inf");
        assert!(RandomScale::new(law, 1..=1).is_ok());
    }

    /// The entry of an orthogonal matrix of dimension 1 is a sign, so the factor can be seen.
    #[test]
    fn every_factor_is_equally_likely() {
        let law = RandomScale::new(HaarOrthogonal::new(1).unwrap(), 3..=6).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut counts = [0; 7];
        (0..8_000).for_each(|_| counts[Law::sample(&law, &mut rng)[(0, 0)].abs() as usize] += 1);
        assert_eq!(counts[..3], [0, 0, 0]);
        // The standard deviation is 39.
        assert!(counts[3..].iter().all(|count: &u32| count.abs_diff(2_000) < 160), "{counts:?}");
    }

    #[test]
    fn one_factor_scales_the_whole_matrix() {
        let orthogonal = RandomScale::new(HaarOrthogonal::new(4).unwrap(), 2..=9).unwrap();
        let a = Law::sample(&orthogonal, &mut ChaCha8Rng::seed_from_u64(2));
        let square = a.transpose() * &a;
        let factor = square[(0, 0)].sqrt().round();
        assert!((2.0..=9.0).contains(&factor), "{factor}");
        assert!((square - factor * factor * Mat::<f64>::identity(4, 4)).norm_max() < 1e-12);
    }

    #[test]
    fn bound_and_shape_follow_the_law() {
        let law: Box<dyn Law> = Box::new(GaussianEntries::new(2, 3, 1.0).unwrap());
        let law = RandomScale::new(law, 1..=10).unwrap();
        assert_eq!(law.bound(), Some(81.0));
        assert_eq!(law.max_shape(), (2, 3));
    }

    #[test]
    fn samples_depend_on_law_and_generator_alone() {
        require_pure_sampling(&RandomScale::new(UniformEntries::new(4, 3, 1.0).unwrap(), 1..=50).unwrap());
    }
}
