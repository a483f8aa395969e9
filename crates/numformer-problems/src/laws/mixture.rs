//! A law chosen anew for each sample.

use faer::Mat;
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand::{Rng, RngCore};

use crate::law_error::require_positive;
use crate::{Law, LawError, Magnitudes};

/// A mixture of laws: each sample comes from one of them, chosen at random.
///
/// The choice takes one 64-bit word of the generator; then the law draws. The [bound](Law::bound) is the largest
/// bound of the laws, if all of them have one. The laws may have different shapes, for example to draw the dimension
/// for each sample:
///
/// # Examples
/// ```
/// use numformer_problems::{Law, Mixture, Wigner};
/// use rand::{Rng, SeedableRng};
///
/// let dimensions = (5..=15).map(|n| Ok(Box::new(Wigner::new(n, 10.0)?) as Box<dyn Law>));
/// let law = Mixture::uniform(dimensions.collect::<Result<_, _>>()?)?;
/// assert_eq!(law.max_shape(), (15, 15));
///
/// let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
/// let a = rng.sample(&law);
/// assert!((5..=15).contains(&a.nrows()));
/// # Ok::<(), numformer_problems::LawError>(())
/// ```
#[derive(Debug)]
pub struct Mixture {
    laws: Vec<Box<dyn Law>>,
    choice: WeightedIndex<f64>,
}

impl Mixture {
    /// The mixture of these laws, each with a probability proportional to its weight.
    ///
    /// # Errors
    /// When there are no laws, a weight is not positive and finite, or the [magnitudes](Magnitudes::of) of a law are
    /// impossible.
    pub fn new(components: Vec<(f64, Box<dyn Law>)>) -> Result<Self, LawError> {
        let largest = components.iter().try_fold(0.0_f64, |largest, (weight, _)| {
            require_positive("weight", *weight).map(|weight| weight.max(largest))
        })?;
        components.iter().try_for_each(|(_, law)| Magnitudes::of(law).map(|_| ()))?;
        // The weights are divided by the largest, so that their sum is finite.
        let (weights, laws): (Vec<f64>, _) =
            components.into_iter().map(|(weight, law)| (weight / largest, law)).unzip();
        // Nothing else can be wrong with weights in [0, 1] if one of them is 1.
        let choice = WeightedIndex::new(weights).map_err(|_| LawError::NoLaws)?;
        Ok(Self { laws, choice })
    }

    /// The mixture of these laws with equal probabilities.
    ///
    /// # Errors
    /// When there are no laws, or the [magnitudes](Magnitudes::of) of a law are impossible.
    pub fn uniform(laws: Vec<Box<dyn Law>>) -> Result<Self, LawError> {
        Self::new(laws.into_iter().map(|law| (1.0, law)).collect())
    }
}

impl Law for Mixture {
    fn sample_into(&self, rng: &mut dyn RngCore, matrix: &mut Mat<f64>) {
        self.laws[self.choice.sample(rng)].sample_into(rng, matrix);
    }

    fn max_shape(&self) -> (usize, usize) {
        let shapes = self.laws.iter().map(|law| law.max_shape());
        shapes.fold((0, 0), |(rows, columns), (r, c)| (rows.max(r), columns.max(c)))
    }

    fn bound(&self) -> Option<f64> {
        self.laws.iter().try_fold(0.0_f64, |largest, law| law.bound().map(|bound| bound.max(largest)))
    }

    fn smallest(&self) -> f64 {
        self.laws.iter().map(|law| law.smallest()).fold(f64::INFINITY, f64::min)
    }
}

impl Distribution<Mat<f64>> for Mixture {
    fn sample<R: Rng + ?Sized>(&self, mut rng: &mut R) -> Mat<f64> {
        Law::sample(self, &mut rng)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::test_support::require_pure_sampling;
    use super::*;
    use crate::{GaussianEntries, HaarOrthogonal, UniformEntries, Wigner};

    /// A law without a bound.
    #[derive(Debug)]
    struct Unbounded;

    impl Law for Unbounded {
        fn sample_into(&self, _rng: &mut dyn RngCore, matrix: &mut Mat<f64>) {
            *matrix = Mat::full(1, 7, 1e300);
        }

        fn max_shape(&self) -> (usize, usize) {
            (1, 7)
        }

        fn bound(&self) -> Option<f64> {
            None
        }
    }

    fn boxed(law: impl Law + 'static) -> Box<dyn Law> {
        Box::new(law)
    }

    #[test]
    fn parameters_are_checked() {
        assert_eq!(Mixture::new(vec![]).unwrap_err(), LawError::NoLaws);
        assert_eq!(Mixture::uniform(vec![]).unwrap_err().to_string(), "expected at least one law, found none");
        for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = Mixture::new(vec![(1.0, boxed(Unbounded)), (weight, boxed(Unbounded))]).unwrap_err();
            assert_eq!(error.to_string(), format!("expected a positive, finite weight, found {weight}"));
        }
        assert!(Mixture::new(vec![(f64::MAX, boxed(Unbounded)), (f64::MAX, boxed(Unbounded))]).is_ok());
    }

    #[test]
    fn laws_occur_in_proportion_to_their_weights() {
        let components = [(1.0, 2), (5.0, 3), (2.0, 4)];
        let law = components.map(|(weight, n)| (weight, boxed(HaarOrthogonal::new(n).unwrap())));
        let law = Mixture::new(law.into()).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut counts = [0; 5];
        (0..8_000).for_each(|_| counts[Law::sample(&law, &mut rng).nrows()] += 1);
        for (weight, n) in components {
            let (expected, p) = (1_000.0 * weight, weight / 8.0);
            let standard_deviation = (8_000.0 * p * (1.0 - p)).sqrt();
            assert!((f64::from(counts[n]) - expected).abs() < 4.0 * standard_deviation, "{counts:?}");
        }
    }

    #[test]
    fn the_chosen_law_draws_after_the_choice() {
        let law = Mixture::uniform(vec![boxed(Wigner::new(3, 1.0).unwrap())]).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let a = Law::sample(&law, &mut rng);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        rng.next_u64();
        assert_eq!(a, Law::sample(&Wigner::new(3, 1.0).unwrap(), &mut rng));
    }

    #[test]
    fn shape_and_bound_are_the_largest() {
        let mixture = |laws| Mixture::uniform(laws).unwrap();
        let bounded =
            || vec![boxed(UniformEntries::new(2, 5, 3.0).unwrap()), boxed(GaussianEntries::new(4, 1, 1.0).unwrap())];
        let mut laws = bounded();
        assert_eq!(mixture(bounded()).max_shape(), (4, 5));
        assert_eq!(mixture(bounded()).bound(), Some(8.1));
        laws.push(boxed(Unbounded));
        assert_eq!(mixture(laws).bound(), None);
    }

    #[test]
    fn samples_depend_on_law_and_generator_alone() {
        let laws = [(3, 4), (4, 3), (1, 1)].map(|(r, c)| boxed(UniformEntries::new(r, c, 1.0).unwrap()));
        require_pure_sampling(&Mixture::uniform(laws.into()).unwrap());
    }
}
