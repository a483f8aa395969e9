//! Symmetric matrices of independent entries.

use faer::Mat;
use rand::RngCore;

use super::entries::Entries;
use super::impl_distribution;
use crate::law_error::{require_dimension, require_positive};
use crate::magnitudes::require_finite_bound;
use crate::{Law, LawError};

/// Symmetric matrices whose entries on and below the diagonal are independent and of one law.
///
/// The entries are uniform in `[-A, A]` or, as an option, normal. They have mean 0 and standard deviation A / √3. As n
/// grows, the distribution of the eigenvalues tends to a semicircle of standard deviation σ = √n A / √3 and radius 2σ.
/// The diagonal has the law of the other entries, so matrices of normal entries are not quite the Gaussian orthogonal
/// law, whose diagonal has twice the variance of the other entries.
///
/// The lower triangle is drawn row by row and mirrored, so samples are exactly symmetric. The [bound](Law::bound)
/// is A, or 8.1 standard deviations of normal entries.
///
/// # Examples
/// ```
/// use numformer_problems::{Entries, Wigner};
/// use rand::{Rng, SeedableRng};
///
/// let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
/// let a = rng.sample(Wigner::new(5, 10.0)?);
/// assert_eq!(a, a.transpose());
/// assert!(a.norm_max() <= 10.0);
/// let b = rng.sample(Wigner::new(5, 10.0)?.with_entries(Entries::Gaussian)?);
/// assert_eq!(b, b.transpose());
/// # Ok::<(), numformer_problems::LawError>(())
/// ```
///
/// # References
/// - Wigner (1958), *On the distribution of the roots of certain symmetric matrices*, Annals of Mathematics 67.
///   <https://doi.org/10.2307/1970008>
/// - Charton (2022), *Linear algebra with transformers*, where A = 10. <https://arxiv.org/abs/2112.01898>
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Wigner {
    pub(super) dimension: usize,
    pub(super) amplitude: f64,
    pub(super) entries: Entries,
}

impl Wigner {
    /// The law of symmetric matrices of this dimension with entries uniform in `[-amplitude, amplitude]`.
    ///
    /// # Errors
    /// When the dimension is not in `1..=`[`MAX_DIMENSION`](crate::MAX_DIMENSION), or the amplitude is not positive and
    /// finite.
    pub fn new(dimension: usize, amplitude: f64) -> Result<Self, LawError> {
        require_finite_bound(Self {
            dimension: require_dimension("rows and columns", dimension)?,
            amplitude: require_positive("amplitude", amplitude)?,
            entries: Entries::default(),
        })
    }

    /// The same law, with entries of another law that has the same standard deviation.
    ///
    /// # Errors
    /// When the bound is no longer finite.
    pub fn with_entries(self, entries: Entries) -> Result<Self, LawError> {
        require_finite_bound(Self { entries, ..self })
    }
}

impl Law for Wigner {
    fn sample_into(&self, rng: &mut dyn RngCore, matrix: &mut Mat<f64>) {
        matrix.resize_with(self.dimension, self.dimension, |_, _| 0.0);
        for i in 0..self.dimension {
            for j in 0..=i {
                let entry = self.amplitude * self.entries.draw(rng);
                matrix[(i, j)] = entry;
                matrix[(j, i)] = entry;
            }
        }
    }

    fn max_shape(&self) -> (usize, usize) {
        (self.dimension, self.dimension)
    }

    fn bound(&self) -> Option<f64> {
        Some(self.amplitude * self.entries.unit_bound())
    }
}

impl_distribution!(Wigner);

#[cfg(test)]
mod tests {
    use numformer_testkit::{empirical_distance, kolmogorov_smirnov};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::test_support::{eigenvalues, require_pure_sampling, require_symmetry};
    use super::*;

    fn law(dimension: usize, amplitude: f64, entries: Entries) -> Wigner {
        Wigner::new(dimension, amplitude).unwrap().with_entries(entries).unwrap()
    }

    #[test]
    fn parameters_are_checked() {
        let message = |dimension, amplitude| Wigner::new(dimension, amplitude).unwrap_err().to_string();
        assert_eq!(message(0, 1.0), "expected 1 to 100 rows and columns, found 0");
        assert_eq!(message(101, 1.0), "expected 1 to 100 rows and columns, found 101");
        for amplitude in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(message(5, amplitude), format!("expected a positive, finite amplitude, found {amplitude}"));
        }
        let largest = Wigner::new(5, f64::MAX).unwrap();
        assert!(matches!(largest.with_entries(Entries::Gaussian), Err(LawError::Bound { .. })));
    }

    #[test]
    fn values_are_stable() {
        let sample = |entries| Law::sample(&law(2, 10.0, entries), &mut ChaCha8Rng::seed_from_u64(42));
        assert_eq!(
            sample(Entries::Uniform),
            faer::mat![[3.6379238461334262, 9.005508153449679], [9.005508153449679, -1.4496719428696059]]
        );
        assert_eq!(
            sample(Entries::Gaussian),
            faer::mat![[2.7596259662955314, 7.702260259353027], [7.702260259353027, -1.217439363496529]]
        );
    }

    #[test]
    fn samples_depend_on_law_and_generator_alone() {
        for entries in Entries::ALL {
            require_pure_sampling(&law(4, 2.0, entries));
        }
    }

    #[test]
    fn samples_are_symmetric() {
        for entries in Entries::ALL {
            require_symmetry(&law(7, 3.0, entries));
        }
    }

    #[test]
    fn the_lower_triangle_is_independent_and_uniform() {
        let a = Law::sample(&Wigner::new(100, 3.0).unwrap(), &mut ChaCha8Rng::seed_from_u64(2));
        let lower: Vec<f64> = (0..100).flat_map(|i| (0..=i).map(move |j| (i, j))).map(|(i, j)| a[(i, j)]).collect();
        assert!(kolmogorov_smirnov(&lower, |x| (3.0 + x) / 6.0) > 1e-3);
        // The sum of two independent uniform entries is triangular.
        let sums: Vec<f64> = lower.chunks_exact(2).map(|pair| pair[0] + pair[1]).collect();
        let triangular = |x: f64| {
            let tail = (6.0 - x.abs()).powi(2) / 72.0;
            if x < 0.0 { tail } else { 1.0 - tail }
        };
        assert!(kolmogorov_smirnov(&sums, triangular) > 1e-3);
    }

    /// At a finite dimension, the mean distribution of the eigenvalues differs from the semicircle by about 1 / n. The
    /// dimension here is larger than any for which there are tokens.
    #[test]
    fn eigenvalues_tend_to_the_semicircle() {
        let (n, amplitude) = (200, 3.0);
        let radius = 2.0 * (n as f64 / 3.0).sqrt() * amplitude;
        let semicircle = |x: f64| {
            let x = (x / radius).clamp(-1.0, 1.0);
            0.5 + (x * (1.0 - x * x).sqrt() + x.asin()) / std::f64::consts::PI
        };
        for entries in Entries::ALL {
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            let law = Wigner { dimension: n, amplitude, entries };
            let pooled: Vec<f64> = (0..20).flat_map(|_| eigenvalues(&Law::sample(&law, &mut rng))).collect();
            let distance = empirical_distance(&pooled, semicircle);
            assert!(distance < 1.0 / n as f64, "{entries}: {distance}");
        }
    }
}
