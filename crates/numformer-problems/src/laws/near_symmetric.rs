//! Matrices between those of a law and their symmetric parts.

use std::ops::RangeInclusive;

use faer::Mat;
use rand::RngCore;
use rand::distr::{Distribution, Uniform};

use super::impl_distribution;
use crate::{Law, LawError, Magnitudes};

/// Matrices of a law with their antisymmetric part multiplied by a number that is drawn for each sample, uniformly from
/// an interval.
///
/// A matrix M becomes S + t K, where S = (M + Mᵀ) / 2 is its symmetric part, K = (M - Mᵀ) / 2 its antisymmetric part,
/// and t the asymmetry. With t = 0, the matrix is exactly symmetric; with t = 1, it is M up to rounding. The singular
/// values of a symmetric matrix are the magnitudes of its eigenvalues, so that a model can learn these first, and then
/// matrices that are less and less symmetric.
///
/// M is drawn first, then t. A mixture may hold matrices that are not square beside larger square ones: these are left
/// as they are. The [bound](Law::bound) is that of the law of M.
///
/// # Examples
/// ```
/// use numformer_problems::{NearSymmetric, UniformEntries};
/// use rand::{Rng, SeedableRng};
///
/// let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
/// let law = UniformEntries::new(3, 3, 10.0)?;
/// let symmetric = rng.sample(NearSymmetric::new(law, 0.0..=0.0)?);
/// assert_eq!(symmetric, symmetric.transpose());
/// let near = rng.sample(NearSymmetric::new(law, 0.1..=0.1)?);
/// let (antisymmetric, symmetric) = (&near - near.transpose(), &near + near.transpose());
/// assert!(antisymmetric.norm_max() > 0.0 && antisymmetric.norm_max() < 0.2 * symmetric.norm_max());
/// # Ok::<(), numformer_problems::LawError>(())
/// ```
#[derive(Clone, Debug)]
pub struct NearSymmetric<L> {
    law: L,
    asymmetries: Uniform<f64>,
}

impl<L: Law> NearSymmetric<L> {
    /// The law of matrices of `law` whose antisymmetric part is multiplied by a number from `asymmetry`.
    ///
    /// # Errors
    /// When the [magnitudes](Magnitudes::of) of `law` are impossible, its matrices are not square, or `asymmetry` is empty or does not lie in [0, 1].
    pub fn new(law: L, asymmetry: RangeInclusive<f64>) -> Result<Self, LawError> {
        Magnitudes::of(&law)?;
        let (rows, columns) = law.max_shape();
        if rows != columns {
            return Err(LawError::NotSquare { rows, columns });
        }
        let (least, most) = (*asymmetry.start(), *asymmetry.end());
        let wrong = || LawError::Asymmetry { found: [least, most] };
        if !(least >= 0.0 && most <= 1.0) {
            return Err(wrong());
        }
        let asymmetries = Uniform::new_inclusive(least, most).map_err(|_| wrong())?;
        Ok(Self { law, asymmetries })
    }
}

impl<L: Law> Law for NearSymmetric<L> {
    fn sample_into(&self, rng: &mut dyn RngCore, matrix: &mut Mat<f64>) {
        self.law.sample_into(rng, matrix);
        let asymmetry = self.asymmetries.sample(rng);
        if matrix.nrows() != matrix.ncols() {
            return;
        }
        for j in 0..matrix.ncols() {
            for i in j + 1..matrix.nrows() {
                // Halved first, since the sum of two entries may exceed the largest `f64`.
                let (below, above) = (matrix[(i, j)] / 2.0, matrix[(j, i)] / 2.0);
                let (symmetric, antisymmetric) = (below + above, asymmetry * (below - above));
                matrix[(i, j)] = symmetric + antisymmetric;
                matrix[(j, i)] = symmetric - antisymmetric;
            }
        }
    }

    fn max_shape(&self) -> (usize, usize) {
        self.law.max_shape()
    }

    fn bound(&self) -> Option<f64> {
        self.law.bound()
    }
}

impl_distribution!(NearSymmetric<L>, L);

#[cfg(test)]
mod tests {
    use numformer_testkit::cases;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::test_support::{require_pure_sampling, require_symmetry};
    use super::*;
    use crate::UniformEntries;

    fn uniform(n: usize) -> UniformEntries {
        UniformEntries::new(n, n, 10.0).unwrap()
    }

    #[test]
    fn parameters_are_checked() {
        let wide = UniformEntries::new(2, 3, 1.0).unwrap();
        let error = NearSymmetric::new(wide, 0.0..=1.0).unwrap_err().to_string();
        assert_eq!(error, "expected as many rows as columns, found 2x3");
        for [least, most] in [[-0.1, 0.5], [0.0, 1.1], [0.6, 0.5], [f64::NAN, 0.5], [0.5, f64::NAN]] {
            let error = NearSymmetric::new(uniform(2), least..=most).unwrap_err().to_string();
            assert_eq!(error, format!("expected an interval of asymmetries within 0 to 1, found {least} to {most}"));
        }
    }

    #[test]
    fn without_asymmetry_matrices_are_symmetric() {
        require_symmetry(&NearSymmetric::new(uniform(5), 0.0..=0.0).unwrap());
    }

    #[test]
    fn samples_depend_on_law_and_generator_alone() {
        require_pure_sampling(&NearSymmetric::new(uniform(4), 0.2..=0.8).unwrap());
    }

    proptest! {
        #![proptest_config(cases(64))]

        /// The symmetric part is that of the law's matrix, and the antisymmetric part a multiple within the interval.
        #[test]
        fn parts_are_those_of_the_law(seed: u64, n in 2_usize..7, least in 0.0..0.9_f64, width in 0.0..0.1_f64) {
            let whole = Law::sample(&uniform(n), &mut ChaCha8Rng::seed_from_u64(seed));
            let near = NearSymmetric::new(uniform(n), least..=least + width).unwrap();
            let near = Law::sample(&near, &mut ChaCha8Rng::seed_from_u64(seed));
            prop_assert!(near.norm_max() <= 10.0);
            prop_assert!((&near + near.transpose() - &whole - whole.transpose()).norm_max() < 1e-13);
            let [of_near, of_whole] = [&near, &whole].map(|m| m - m.transpose());
            let asymmetry = of_near.norm_l2() / of_whole.norm_l2();
            prop_assert!((least - 1e-12..=least + width + 1e-12).contains(&asymmetry), "{}", asymmetry);
            prop_assert!((of_near - asymmetry * of_whole).norm_max() < 1e-12);
        }
    }
}
