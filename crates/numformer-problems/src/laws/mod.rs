//! The laws of random matrices, one per file.

use faer::Mat;

mod eigen;
mod entries;
mod gaussian_entries;
mod haar_orthogonal;
mod log_uniform_entries;
mod low_rank;
mod mixture;
mod near_symmetric;
mod random_scale;
mod symmetric_spectrum;
mod uniform_entries;
mod wigner;
mod wishart;

pub use entries::Entries;
pub use gaussian_entries::GaussianEntries;
pub use haar_orthogonal::HaarOrthogonal;
pub use log_uniform_entries::LogUniformEntries;
pub use low_rank::LowRank;
pub use mixture::Mixture;
pub use near_symmetric::NearSymmetric;
pub use random_scale::RandomScale;
pub use symmetric_spectrum::{Spectrum, SymmetricSpectrum};
pub use uniform_entries::UniformEntries;
pub use wigner::Wigner;
pub use wishart::Wishart;

/// Makes a law one of rand's distributions; a law of laws names its parameter.
macro_rules! impl_distribution {
    ($law:ty $(, $parameter:ident)?) => {
        impl$(<$parameter: $crate::Law>)? rand::distr::Distribution<faer::Mat<f64>> for $law {
            fn sample<R: rand::Rng + ?Sized>(&self, mut rng: &mut R) -> faer::Mat<f64> {
                // `&mut R` is itself a generator and, unlike `R`, has a known size, which `dyn` requires.
                $crate::Law::sample(self, &mut rng)
            }
        }
    };
}
use impl_distribution;

/// Applies `f` to the lower triangle of a square matrix and copies it to the upper, so that the matrix is exactly
/// symmetric.
fn mirror_lower_triangle(matrix: &mut Mat<f64>, f: impl Fn(f64) -> f64) {
    for j in 0..matrix.ncols() {
        for i in j..matrix.nrows() {
            let entry = f(matrix[(i, j)]);
            matrix[(i, j)] = entry;
            matrix[(j, i)] = entry;
        }
    }
}

/// What the tests of the laws share.
#[cfg(test)]
mod test_support {
    use std::fmt::Display;

    use faer::{Mat, Side};
    use rand::SeedableRng;
    use rand::distr::Distribution;
    use rand_chacha::ChaCha8Rng;

    use crate::Law;

    /// The entries of a matrix, column by column.
    pub(super) fn entries(a: &Mat<f64>) -> Vec<f64> {
        a.col_iter().flat_map(|column| column.iter().copied()).collect()
    }

    /// The eigenvalues of a symmetric matrix, in ascending order.
    pub(super) fn eigenvalues(a: &Mat<f64>) -> Vec<f64> {
        a.self_adjoint_eigenvalues(Side::Lower).expect("a finite matrix")
    }

    /// Asserts that two lists agree, up to an error relative to the largest number.
    pub(super) fn require_close(actual: &[f64], expected: &[f64], tolerance: f64, context: impl Display) {
        assert_eq!(actual.len(), expected.len());
        let largest = expected.iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
        let close = actual.iter().zip(expected).all(|(a, e)| (a - e).abs() <= tolerance * largest);
        assert!(close, "{context}: expected {expected:?}, found {actual:?}");
    }

    /// Asserts that a sample does not depend on the old contents of the buffer or on the trait, but does depend on the
    /// seed.
    pub(super) fn require_pure_sampling(law: &(impl Law + Distribution<Mat<f64>>)) {
        for seed in 0..5 {
            let rng = || ChaCha8Rng::seed_from_u64(seed);
            let expected = Law::sample(law, &mut rng());
            let by_rand: Mat<f64> = Distribution::sample(law, &mut rng());
            assert_eq!(by_rand, expected, "{law:?}");
            for (rows, columns) in [(0, 0), (1, 9), (9, 1), (4, 4), (12, 12)] {
                let mut buffer = Mat::full(rows, columns, f64::NAN);
                law.sample_into(&mut rng(), &mut buffer);
                assert_eq!(buffer, expected, "{law:?}");
            }
            assert_ne!(Law::sample(law, &mut ChaCha8Rng::seed_from_u64(seed + 100)), expected, "{law:?}");
        }
    }

    /// Asserts that samples are symmetric bit for bit and within the bound.
    pub(super) fn require_symmetry(law: &impl Law) {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..20 {
            let a = law.sample(&mut rng);
            let (n, m) = a.shape();
            assert_eq!((n, m), law.max_shape());
            assert!((0..n).all(|i| (0..i).all(|j| a[(i, j)].to_bits() == a[(j, i)].to_bits())), "{law:?}");
            assert!(a.norm_max() <= law.bound().expect("these laws have one"), "{law:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LawError;

    #[test]
    fn no_law_is_made_of_a_scale_that_is_none() {
        for scale in [f64::NAN, -1.0, -f64::MIN_POSITIVE, f64::INFINITY, f64::NEG_INFINITY] {
            let error = |law: &str, made: Option<LawError>| {
                let message = made.unwrap_or_else(|| panic!("{law} of {scale}")).to_string();
                assert!(message.ends_with(&format!("found {scale}")), "{law}: {message}");
            };
            error("uniform", UniformEntries::new(2, 2, scale).err());
            error("gaussian", GaussianEntries::new(2, 2, scale).err());
            error("log-uniform", LogUniformEntries::new(2, 2, scale, 1.0).err());
            error("low-rank", LowRank::new(2, 2, scale).err());
            error("wigner", Wigner::new(2, scale).err());
            error("wishart", Wishart::new(2, scale).err());
            for spectrum in Spectrum::ALL {
                error(spectrum.name(), SymmetricSpectrum::new(2, scale, spectrum).err());
            }
        }
    }
}
