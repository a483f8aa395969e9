//! Symmetric matrices with eigenvalues of a given law.

use std::array;
use std::f64::consts::{FRAC_1_SQRT_2, LN_10};
use std::fmt;

use faer::Mat;
use rand::seq::SliceRandom;
use rand::{Rng, RngCore};
use rand_distr::{Exp1, StandardNormal};
use serde::{Deserialize, Serialize};

use super::eigen::map_spectrum;
use super::entries::{Entries, LIPSCHITZ_BOUND, NORMAL_BOUND};
use super::{Wigner, Wishart, impl_distribution};
use crate::magnitudes::require_finite_bound;
use crate::{Law, LawError, MAX_DIMENSION};

/// The law of the eigenvalues of a symmetric matrix.
///
/// Here σ = √n A / √3, which is the standard deviation of the eigenvalues of the [`Wigner`] matrix of dimension n and
/// amplitude A. Configuration files use the names in kebab case, such as `abs-laplace`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Spectrum {
    /// The eigenvalues of a [`Wigner`] matrix, unchanged. Their law tends to a semicircle.
    #[default]
    Semicircle,
    /// The absolute values of the eigenvalues of a [`Wigner`] matrix, in random order.
    Positive,
    /// Independent and uniform in `[-√3 σ, √3 σ]`.
    Uniform,
    /// Independent and normal with mean 0 and standard deviation σ.
    Gaussian,
    /// Independent, with Laplace's law of mean 0 and scale σ / √2. The standard deviation is σ.
    Laplace,
    /// Independent and exponential with mean σ / √2, which is the law of the absolute values of Laplace's law.
    AbsLaplace,
    /// The eigenvalues of a [`Wishart`] matrix. Their law tends to that of Marchenko and Pastur.
    MarchenkoPastur,
}

impl Spectrum {
    /// All laws.
    pub const ALL: [Self; 7] = [
        Self::Semicircle,
        Self::Positive,
        Self::Uniform,
        Self::Gaussian,
        Self::Laplace,
        Self::AbsLaplace,
        Self::MarchenkoPastur,
    ];

    /// The name in configuration files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Semicircle => "semicircle",
            Self::Positive => "positive",
            Self::Uniform => "uniform",
            Self::Gaussian => "gaussian",
            Self::Laplace => "laplace",
            Self::AbsLaplace => "abs-laplace",
            Self::MarchenkoPastur => "marchenko-pastur",
        }
    }
}

/// The name used in configuration files.
impl fmt::Display for Spectrum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Symmetric matrices Q diag(λ) Qᵀ with the eigenvectors of a [`Wigner`] matrix and eigenvalues of another law.
///
/// The columns of Q are in the order of the eigenvalues that are replaced, from the smallest to the largest. The new
/// eigenvalues are drawn in that order, after the Wigner matrix. [`Spectrum::Semicircle`] is the Wigner matrix itself
/// and [`Spectrum::MarchenkoPastur`] is a [`Wishart`] matrix. A matrix of amplitude A is A times one of amplitude 1.
///
/// [`Spectrum::Positive`] is not |W|. The eigenvalues of |W| are tied to the eigenvectors that they came with, so its
/// rows are as short as those of W: no longer than √n A. In the published program, a transposition unties eigenvalues
/// and eigenvectors: the program writes Qᵀ diag(|λ|) Q. A random order has the same effect and agrees with statistics
/// recorded from that program. The statistics of |W| differ from them.
///
/// The eigenvectors of a Wigner matrix are not exactly uniform on the orthogonal group, as
/// [`HaarOrthogonal`](crate::HaarOrthogonal) is.
///
/// Samples are exactly symmetric, and their eigenvalues are as drawn up to rounding. A sample takes one
/// eigendecomposition, which is O(n³) operations.
///
/// # Bounds
/// No entry of a symmetric matrix exceeds the largest eigenvalue. Hence the [bound](Law::bound) of uniform spectra
/// is √3 σ. The bound of positive spectra is a bound on the Frobenius norm of the Wigner matrix: nA or, for normal
/// entries, (n + √2 s) A / √3 with s = √(30 ln 10), by the concentration of Lipschitz functions of normal variables.
/// For the other spectra, an entry is Σₖ wₖ λₖ with Σₖ |wₖ| ≤ 1 and weights that are independent of λ:
/// - Gaussian: given the weights, the entry is normal with a standard deviation of at most σ, so 8.1 σ is enough.
/// - Laplace, of scale b: by convexity, E(|Σₖ wₖ λₖ| - a)₊ ≤ E(|λ₁| - a)₊ = b exp(-a/b). The entry therefore exceeds t
///   with a probability of at most b exp(-a/b) / (t - a). With a = t - b this is exp(1 - t/b), which is 10⁻¹⁵ for
///   t = (1 + 15 ln 10) b.
///
/// # Examples
/// ```
/// use numformer_problems::{Spectrum, SymmetricSpectrum};
/// use rand::{Rng, SeedableRng};
///
/// let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
/// let a = rng.sample(SymmetricSpectrum::new(5, 10.0, Spectrum::Positive)?);
/// assert_eq!(a, a.transpose());
/// let eigenvalues = a.self_adjoint_eigenvalues(faer::Side::Lower).expect("it converges");
/// assert!(eigenvalues[0] > 0.0);
/// # Ok::<(), numformer_problems::LawError>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*, on models out of distribution.
/// <https://arxiv.org/abs/2112.01898>
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct SymmetricSpectrum {
    /// The law of the matrices whose eigenvectors are kept.
    wigner: Wigner,
    spectrum: Spectrum,
}

impl SymmetricSpectrum {
    /// The law of symmetric matrices of this dimension with eigenvalues of the law `spectrum`, made from matrices whose
    /// entries are uniform in `[-amplitude, amplitude]`.
    ///
    /// # Errors
    /// When the dimension is not in `1..=`[`MAX_DIMENSION`](crate::MAX_DIMENSION), the amplitude is not positive and
    /// finite, or the amplitude is so large that the bound is not finite.
    pub fn new(dimension: usize, amplitude: f64, spectrum: Spectrum) -> Result<Self, LawError> {
        require_finite_bound(Self { wigner: Wigner::new(dimension, amplitude)?, spectrum })
    }

    /// The same law, with eigenvectors of matrices whose entries have another law of the same standard deviation.
    ///
    /// The law of the eigenvalues changes only if they are made from those of that matrix, which is the case for
    /// semicircular, positive and Marchenko-Pastur spectra.
    ///
    /// # Errors
    /// When the bound is no longer finite.
    pub fn with_entries(self, entries: Entries) -> Result<Self, LawError> {
        require_finite_bound(Self { wigner: self.wigner.with_entries(entries)?, ..self })
    }

    /// The law of the matrix itself, if its spectrum is that of a product.
    fn wishart(&self) -> Wishart {
        let Wigner { dimension, amplitude, entries } = self.wigner;
        Wishart { dimension, amplitude, entries }
    }

    /// The standard deviation of the eigenvalues of a Wigner matrix of amplitude 1.
    fn unit_sigma(&self) -> f64 {
        (self.wigner.dimension as f64).sqrt() * Entries::unit_std()
    }

    /// Draws a Wigner matrix and new eigenvalues, and replaces those of the matrix.
    fn replace_eigenvalues(
        &self,
        rng: &mut dyn RngCore,
        matrix: &mut Mat<f64>,
        draw: impl Fn(&mut dyn RngCore) -> f64,
    ) {
        let Wigner { dimension, amplitude, .. } = self.wigner;
        // The matrix is scaled afterwards, since the decomposition squares entries, which may leave the range of `f64`.
        Wigner { amplitude: 1.0, ..self.wigner }.sample_into(rng, matrix);
        let mut eigenvalues = [0.0; MAX_DIMENSION];
        let eigenvalues = &mut eigenvalues[..dimension];
        eigenvalues.fill_with(|| draw(rng));
        map_spectrum(matrix, amplitude, |values| values.copy_from_slice(eigenvalues));
    }
}

impl Law for SymmetricSpectrum {
    fn sample_into(&self, rng: &mut dyn RngCore, matrix: &mut Mat<f64>) {
        let sigma = self.unit_sigma();
        let scale = sigma * FRAC_1_SQRT_2;
        match self.spectrum {
            Spectrum::Semicircle => self.wigner.sample_into(rng, matrix),
            Spectrum::MarchenkoPastur => self.wishart().sample_into(rng, matrix),
            Spectrum::Positive => {
                let Wigner { dimension, amplitude, .. } = self.wigner;
                Wigner { amplitude: 1.0, ..self.wigner }.sample_into(rng, matrix);
                let mut order: [usize; MAX_DIMENSION] = array::from_fn(|i| i);
                let order = &mut order[..dimension];
                order.shuffle(rng);
                map_spectrum(matrix, amplitude, |values| {
                    let mut shuffled = [0.0; MAX_DIMENSION];
                    shuffled.iter_mut().zip(order).for_each(|(x, i)| *x = values[*i].abs());
                    values.copy_from_slice(&shuffled[..dimension]);
                });
            }
            Spectrum::Uniform => {
                let largest = 3.0_f64.sqrt() * sigma;
                self.replace_eigenvalues(rng, matrix, |rng| largest * rng.random_range(-1.0..=1.0));
            }
            Spectrum::Gaussian => {
                self.replace_eigenvalues(rng, matrix, |rng| sigma * rng.sample::<f64, _>(StandardNormal));
            }
            Spectrum::Laplace => self.replace_eigenvalues(rng, matrix, |rng| {
                let magnitude = scale * rng.sample::<f64, _>(Exp1);
                if rng.random() { magnitude } else { -magnitude }
            }),
            Spectrum::AbsLaplace => {
                self.replace_eigenvalues(rng, matrix, |rng| scale * rng.sample::<f64, _>(Exp1));
            }
        }
    }

    fn max_shape(&self) -> (usize, usize) {
        self.wigner.max_shape()
    }

    fn bound(&self) -> Option<f64> {
        let Wigner { dimension, amplitude, entries } = self.wigner;
        let sigma = self.unit_sigma();
        let unit_bound = match self.spectrum {
            Spectrum::Semicircle => return self.wigner.bound(),
            Spectrum::MarchenkoPastur => return self.wishart().bound(),
            Spectrum::Positive => match entries {
                Entries::Uniform => dimension as f64,
                Entries::Gaussian => Entries::unit_std() * (dimension as f64 + 2.0_f64.sqrt() * LIPSCHITZ_BOUND),
            },
            Spectrum::Uniform => 3.0_f64.sqrt() * sigma,
            Spectrum::Gaussian => NORMAL_BOUND * sigma,
            Spectrum::Laplace | Spectrum::AbsLaplace => (1.0 + 15.0 * LN_10) * FRAC_1_SQRT_2 * sigma,
        };
        Some(amplitude * unit_bound)
    }
}

impl_distribution!(SymmetricSpectrum);

#[cfg(test)]
mod tests {
    use numformer_testkit::strategies::log_uniform;
    use numformer_testkit::{cases, kolmogorov_smirnov};
    use proptest::prelude::proptest;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::test_support::{eigenvalues, require_close, require_pure_sampling, require_symmetry};
    use super::*;

    fn laws(dimension: usize, amplitude: f64) -> impl Iterator<Item = SymmetricSpectrum> {
        Spectrum::ALL.into_iter().flat_map(move |spectrum| {
            let law = SymmetricSpectrum::new(dimension, amplitude, spectrum).unwrap();
            Entries::ALL.map(|entries| law.with_entries(entries).unwrap())
        })
    }

    fn sample(law: &impl Law, seed: u64) -> Mat<f64> {
        Law::sample(law, &mut ChaCha8Rng::seed_from_u64(seed))
    }

    #[test]
    fn names_are_those_of_configuration_files() {
        for spectrum in Spectrum::ALL {
            let name = serde_json::to_value(spectrum).unwrap();
            assert_eq!(name, spectrum.to_string());
            assert_eq!(serde_json::from_value::<Spectrum>(name).unwrap(), spectrum);
        }
    }

    #[test]
    fn parameters_are_checked() {
        let message = |dimension, amplitude| {
            SymmetricSpectrum::new(dimension, amplitude, Spectrum::Laplace).unwrap_err().to_string()
        };
        assert_eq!(message(0, 1.0), "expected 1 to 100 rows and columns, found 0");
        assert_eq!(message(101, 1.0), "expected 1 to 100 rows and columns, found 101");
        assert_eq!(message(5, f64::NAN), "expected a positive, finite amplitude, found NaN");
        assert_eq!(message(5, f64::MAX), "expected a positive, finite bound on the entries, found inf");
    }

    #[test]
    fn values_are_stable() {
        let first = |spectrum| {
            let a = sample(&SymmetricSpectrum::new(3, 10.0, spectrum).unwrap(), 42);
            [a[(0, 0)], a[(1, 0)], a[(2, 1)]]
        };
        for (spectrum, expected) in [
            (Spectrum::Semicircle, [3.6379238461334262, 9.005508153449679, -4.228122417176348]),
            (Spectrum::Positive, [9.492973377359718, 1.1050526038713193, 3.8181508947160547]),
            (Spectrum::Uniform, [6.478974045990915, 4.053912506979275, -6.872055407442151]),
            (Spectrum::Gaussian, [12.992968286088683, 10.957505291762846, -7.938611696750339]),
            (Spectrum::Laplace, [3.4395882080220073, -0.9437493587914951, -11.750778299014526]),
            (Spectrum::AbsLaplace, [33.16967535018249, 18.470263146274988, -0.7713123239804464]),
            (Spectrum::MarchenkoPastur, [3.446214155792296, -0.13410631729583677, 4.951534949407641]),
        ] {
            require_close(&first(spectrum), &expected, 1e-12, spectrum);
        }
    }

    #[test]
    fn samples_depend_on_law_and_generator_alone() {
        laws(4, 2.0).for_each(|law| require_pure_sampling(&law));
    }

    proptest! {
        #![proptest_config(cases(64))]
        #[test]
        fn samples_are_symmetric(dimension in 1..20_usize, amplitude in log_uniform(-300..=300)) {
            laws(dimension, amplitude.abs()).for_each(|law| require_symmetry(&law));
        }
    }

    #[test]
    fn amplitude_scales_the_matrix() {
        for (small, large) in laws(6, 1.0).zip(laws(6, 4.0)) {
            let [small, large] = [&small, &large].map(|law| sample(law, 9));
            // The factor is a power of two, so nothing is rounded.
            assert_eq!(faer::Scale(4.0) * small, large);
        }
    }

    #[test]
    fn extreme_amplitudes_do_no_harm() {
        for law in laws(20, f64::MIN_POSITIVE).chain(laws(20, 1e305)) {
            assert!(sample(&law, 10).norm_max() <= law.bound().unwrap(), "{law:?}");
        }
    }

    #[test]
    fn the_semicircle_is_a_wigner_matrix_and_marchenko_pastur_a_wishart_matrix() {
        let spectrum = |spectrum| sample(&SymmetricSpectrum::new(5, 3.0, spectrum).unwrap(), 11);
        assert_eq!(spectrum(Spectrum::Semicircle), sample(&Wigner::new(5, 3.0).unwrap(), 11));
        assert_eq!(spectrum(Spectrum::MarchenkoPastur), sample(&Wishart::new(5, 3.0).unwrap(), 11));
    }

    /// The eigenvalues are |λ|, with the same eigenvectors, so the matrix commutes with W.
    #[test]
    fn positive_spectra_are_absolute_values_of_those_of_wigner_matrices() {
        for entries in Entries::ALL {
            let wigner = Wigner::new(8, 3.0).unwrap().with_entries(entries).unwrap();
            let law = SymmetricSpectrum::new(8, 3.0, Spectrum::Positive).unwrap().with_entries(entries).unwrap();
            for seed in 0..10 {
                let (w, a) = (sample(&wigner, seed), sample(&law, seed));
                let mut expected: Vec<f64> = eigenvalues(&w).iter().map(|x| x.abs()).collect();
                expected.sort_by(f64::total_cmp);
                require_close(&eigenvalues(&a), &expected, 1e-13, entries);
                assert!((&a * &w - &w * &a).norm_max() < 1e-12);
            }
        }
    }

    #[test]
    fn positive_eigenvalues_are_in_random_order() {
        let wigner = Wigner::new(4, 3.0).unwrap();
        let law = SymmetricSpectrum::new(4, 3.0, Spectrum::Positive).unwrap();
        let mut counts = [0_u32; 4];
        for seed in 0..2_000 {
            let vectors = sample(&wigner, seed).self_adjoint_eigen(faer::Side::Lower).unwrap().U().to_owned();
            let a = vectors.transpose() * sample(&law, seed) * &vectors;
            counts[(0..4).max_by(|&i, &j| a[(i, i)].total_cmp(&a[(j, j)])).unwrap()] += 1;
        }
        // The standard deviation is 19.
        assert!(counts.iter().all(|count| count.abs_diff(500) < 80), "{counts:?}");
    }

    #[test]
    fn new_eigenvalues_keep_the_eigenvectors_in_ascending_order() {
        for (spectrum, entries) in [(Spectrum::Uniform, Entries::Uniform), (Spectrum::Laplace, Entries::Gaussian)] {
            let wigner = Wigner::new(6, 3.0).unwrap().with_entries(entries).unwrap();
            let law = SymmetricSpectrum::new(6, 3.0, spectrum).unwrap().with_entries(entries).unwrap();
            let mut rng = ChaCha8Rng::seed_from_u64(12);
            let w = Law::sample(&wigner, &mut rng);
            let sigma = 6.0_f64.sqrt() * 3.0 / 3.0_f64.sqrt();
            let a = sample(&law, 12);
            let vectors = w.self_adjoint_eigen(faer::Side::Lower).unwrap().U().to_owned();
            let diagonal = vectors.transpose() * a * &vectors;
            for i in 0..6 {
                let expected = match spectrum {
                    Spectrum::Uniform => sigma * 3.0_f64.sqrt() * rng.random_range(-1.0..=1.0),
                    _ => {
                        let magnitude = sigma / 2.0_f64.sqrt() * rng.sample::<f64, _>(Exp1);
                        if rng.random() { magnitude } else { -magnitude }
                    }
                };
                assert!((diagonal[(i, i)] - expected).abs() < 1e-12, "{spectrum} {i}");
                assert!((0..i).all(|j| diagonal[(i, j)].abs() < 1e-12), "{spectrum} {i}");
            }
        }
    }

    /// Kolmogorov-Smirnov tests of the eigenvalues of 1,000 matrices. The eigenvalues of each matrix are independent.
    #[test]
    fn eigenvalues_follow_their_law() {
        let (n, amplitude) = (5, 10.0);
        let sigma = (n as f64 / 3.0).sqrt() * amplitude;
        let cdf = |spectrum, x: f64| match spectrum {
            Spectrum::Uniform => (x / (sigma * 3.0_f64.sqrt()) + 1.0) / 2.0,
            Spectrum::Gaussian => libm::erfc(-x / (sigma * 2.0_f64.sqrt())) / 2.0,
            Spectrum::Laplace => {
                let tail = (-x.abs() * 2.0_f64.sqrt() / sigma).exp() / 2.0;
                if x < 0.0 { tail } else { 1.0 - tail }
            }
            _ => 1.0 - (-x * 2.0_f64.sqrt() / sigma).exp(),
        };
        for spectrum in [Spectrum::Uniform, Spectrum::Gaussian, Spectrum::Laplace, Spectrum::AbsLaplace] {
            for entries in Entries::ALL {
                let law = SymmetricSpectrum::new(n, amplitude, spectrum).unwrap().with_entries(entries).unwrap();
                let mut rng = ChaCha8Rng::seed_from_u64(13);
                let pooled: Vec<f64> = (0..1_000).flat_map(|_| eigenvalues(&Law::sample(&law, &mut rng))).collect();
                let p = kolmogorov_smirnov(&pooled, |x| cdf(spectrum, x));
                assert!(p > 1e-3, "{spectrum} {entries}: {p}");
            }
        }
    }
}
