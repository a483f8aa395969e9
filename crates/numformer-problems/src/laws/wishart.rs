//! Products of a matrix of independent entries with its transpose.

use faer::Mat;
use rand::RngCore;

use super::entries::Entries;
use super::{impl_distribution, mirror_lower_triangle};
use crate::law_error::{require_dimension, require_positive};
use crate::magnitudes::require_finite_bound;
use crate::{Law, LawError, MAX_DIMENSION};

/// Positive semidefinite matrices MᵀM, where M is square with independent entries.
///
/// The entries of M are uniform in `[-√A, √A]` or, as an option, normal. They have mean 0 and variance A / 3. As n
/// grows, the distribution of the eigenvalues, divided by nA / 3, tends to the law of Marchenko and Pastur on `[0, 4]`.
/// A matrix of amplitude A is A times one of amplitude 1.
///
/// The rows of M are drawn one after the other. Samples are exactly symmetric; rounding may turn an eigenvalue near 0
/// negative.
///
/// The [bound](Law::bound) is nA or, for normal entries, (√n + s)² A / 3 with s = √(30 ln 10). An entry of MᵀM is
/// at most the product of the lengths of two columns of M, and the length of a standard normal vector exceeds √n + s
/// with a probability of at most exp(-s²/2) = 10⁻¹⁵. Off the diagonal, where two lengths matter,
/// 4 xᵀy = |x + y|² - |x - y|² shows that the probability is far smaller.
///
/// # Examples
/// ```
/// use numformer_problems::Wishart;
/// use rand::{Rng, SeedableRng};
///
/// let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
/// let a = rng.sample(Wishart::new(5, 10.0)?);
/// assert_eq!(a, a.transpose());
/// assert!((0..5).all(|i| a[(i, i)] > 0.0));
/// # Ok::<(), numformer_problems::LawError>(())
/// ```
///
/// # References
/// - Marchenko and Pastur (1967), *Distribution of eigenvalues for some sets of random matrices*, Mathematics of the
///   USSR-Sbornik 1. <https://doi.org/10.1070/SM1967v001n04ABEH001994>
/// - Charton (2022), *Linear algebra with transformers*. <https://arxiv.org/abs/2112.01898>
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Wishart {
    pub(super) dimension: usize,
    pub(super) amplitude: f64,
    pub(super) entries: Entries,
}

impl Wishart {
    /// The law of the matrices MᵀM of this dimension, where the entries of M are uniform in `[-√A, √A]`, and A is the
    /// amplitude.
    ///
    /// # Errors
    /// When the dimension is not in `1..=`[`MAX_DIMENSION`], the amplitude is not positive and finite, or the amplitude
    /// is so large that the bound is not finite.
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

impl Wishart {
    /// Draws a matrix; `row` holds one row of M at a time.
    fn sample_with(&self, rng: &mut dyn RngCore, matrix: &mut Mat<f64>, row: &mut [f64]) {
        let n = self.dimension;
        matrix.resize_with(n, n, |_, _| 0.0);
        matrix.fill(0.0);
        // The product is the sum over the rows of M of each row's products with itself, so M need not be kept.
        for _ in 0..n {
            row.fill_with(|| self.entries.draw(rng));
            for j in 0..n {
                for (sum, x) in matrix.col_as_slice_mut(j)[j..].iter_mut().zip(&row[j..]) {
                    *sum += x * row[j];
                }
            }
        }
        mirror_lower_triangle(matrix, |sum| self.amplitude * sum);
    }
}

impl Law for Wishart {
    fn sample_into(&self, rng: &mut dyn RngCore, matrix: &mut Mat<f64>) {
        let mut row = [0.0; MAX_DIMENSION];
        self.sample_with(rng, matrix, &mut row[..self.dimension]);
    }

    fn max_shape(&self) -> (usize, usize) {
        (self.dimension, self.dimension)
    }

    fn bound(&self) -> Option<f64> {
        Some(self.amplitude * self.entries.unit_length_bound(self.dimension).powi(2))
    }
}

impl_distribution!(Wishart);

#[cfg(test)]
mod tests {
    use numformer_testkit::empirical_distance;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::test_support::{eigenvalues, require_pure_sampling, require_symmetry};
    use super::*;

    fn law(dimension: usize, amplitude: f64, entries: Entries) -> Wishart {
        Wishart::new(dimension, amplitude).unwrap().with_entries(entries).unwrap()
    }

    #[test]
    fn parameters_are_checked() {
        let message = |dimension, amplitude| Wishart::new(dimension, amplitude).unwrap_err().to_string();
        assert_eq!(message(0, 1.0), "expected 1 to 100 rows and columns, found 0");
        assert_eq!(message(101, 1.0), "expected 1 to 100 rows and columns, found 101");
        assert_eq!(message(5, -1.0), "expected a positive, finite amplitude, found -1");
        assert_eq!(message(5, f64::MAX), "expected a positive, finite bound on the entries, found inf");
        let large = Wishart::new(5, f64::MAX / 8.0).unwrap();
        assert!(matches!(large.with_entries(Entries::Gaussian), Err(LawError::Bound { .. })));
    }

    #[test]
    fn values_are_stable() {
        let sample = |entries| Law::sample(&law(2, 10.0, entries), &mut ChaCha8Rng::seed_from_u64(42));
        assert_eq!(
            sample(Entries::Uniform),
            faer::mat![[1.5336038652209558, 2.906873337380291], [2.906873337380291, 8.758745804571191]]
        );
        assert_eq!(
            sample(Entries::Gaussian),
            faer::mat![[0.909769407764338, 1.7907167547212621], [1.7907167547212621, 6.688835949687986]]
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

    /// The generator yields M row by row, as it yields the entries of a matrix of unit amplitude.
    #[test]
    fn samples_are_the_product_of_the_transpose_with_the_matrix() {
        let m = Law::sample(&crate::UniformEntries::new(6, 6, 1.0).unwrap(), &mut ChaCha8Rng::seed_from_u64(4));
        let a = Law::sample(&Wishart::new(6, 10.0).unwrap(), &mut ChaCha8Rng::seed_from_u64(4));
        let expected = 10.0 * (m.transpose() * &m);
        assert!((a - expected).norm_max() < 60.0 * 6.0 * f64::EPSILON);
    }

    /// Square roots of the scaled eigenvalues tend to a quarter of a circle of radius 2. The dimension here is larger
    /// than any for which there are tokens.
    #[test]
    fn eigenvalues_tend_to_the_law_of_marchenko_and_pastur() {
        let (n, amplitude) = (200, 3.0);
        let scale = n as f64 * amplitude / 3.0;
        let quarter_circle = |x: f64| {
            let x = x.clamp(0.0, 2.0);
            (x * (4.0 - x * x).sqrt() / 2.0 + 2.0 * (x / 2.0).asin()) / std::f64::consts::PI
        };
        for entries in Entries::ALL {
            let mut rng = ChaCha8Rng::seed_from_u64(5);
            let law = Wishart { dimension: n, amplitude, entries };
            let (mut a, mut row) = (Mat::new(), vec![0.0; n]);
            let mut roots = Vec::new();
            for _ in 0..20 {
                law.sample_with(&mut rng, &mut a, &mut row);
                roots.extend(eigenvalues(&a).into_iter().map(|x| (x.max(0.0) / scale).sqrt()));
            }
            let distance = empirical_distance(&roots, quarter_circle);
            assert!(distance < 1.0 / n as f64, "{entries}: {distance}");
        }
    }
}
