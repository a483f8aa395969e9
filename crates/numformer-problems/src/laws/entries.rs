//! Laws of a single entry.

use std::fmt;

use rand::{Rng, RngCore};
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

/// The magnitude that a standard normal variable exceeds with a probability below 10⁻¹⁵. The probability is 5.5e-16; it
/// reaches 1e-15 at 8.027.
pub(super) const NORMAL_BOUND: f64 = 8.1;

/// s = √(30 ln 10), for which exp(-s²/2) is 10⁻¹⁵.
///
/// A function of independent standard normal variables that changes by no more than its argument, as lengths do,
/// exceeds its mean by s with a probability of at most exp(-s²/2).
///
/// Boucheron, Lugosi and Massart (2013), *Concentration Inequalities*, theorem 5.6.
pub(super) const LIPSCHITZ_BOUND: f64 = 8.311_290_681_345_55;

/// The law of the independent entries from which a random matrix is made.
///
/// For the same A, both have mean 0 and standard deviation A / √3. Configuration files call them `uniform` and
/// `gaussian`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entries {
    /// Uniform in `[-A, A]`, the default of Charton (2022).
    #[default]
    Uniform,
    /// Normal with standard deviation A / √3.
    Gaussian,
}

impl Entries {
    /// Both laws.
    pub const ALL: [Self; 2] = [Self::Uniform, Self::Gaussian];

    /// The name in configuration files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Gaussian => "gaussian",
        }
    }

    /// The standard deviation, for A = 1.
    pub(super) fn unit_std() -> f64 {
        3.0_f64.sqrt().recip()
    }

    /// Draws an entry, for A = 1.
    pub(super) fn draw(self, rng: &mut dyn RngCore) -> f64 {
        match self {
            Self::Uniform => rng.random_range(-1.0..=1.0),
            Self::Gaussian => Self::unit_std() * rng.sample::<f64, _>(StandardNormal),
        }
    }

    /// A magnitude that no entry exceeds for A = 1, except for one in 10¹⁵.
    pub(super) fn unit_bound(self) -> f64 {
        match self {
            Self::Uniform => 1.0,
            Self::Gaussian => NORMAL_BOUND * Self::unit_std(),
        }
    }

    /// A length that no vector of `n` entries exceeds for A = 1, except for one in 10¹⁵.
    ///
    /// The mean length of a standard normal vector is at most √n.
    pub(super) fn unit_length_bound(self, n: usize) -> f64 {
        let root = (n as f64).sqrt();
        match self {
            Self::Uniform => root,
            Self::Gaussian => Self::unit_std() * (root + LIPSCHITZ_BOUND),
        }
    }
}

/// The name used in configuration files.
impl fmt::Display for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use numformer_testkit::{assert_close, kolmogorov_smirnov};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn names_are_those_of_configuration_files() {
        for entries in Entries::ALL {
            let name = serde_json::to_value(entries).unwrap();
            assert_eq!(name, entries.to_string());
            assert_eq!(serde_json::from_value::<Entries>(name).unwrap(), entries);
        }
    }

    #[test]
    fn draws_follow_the_law() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut sample = |entries: Entries| -> Vec<f64> { (0..10_000).map(|_| entries.draw(&mut rng)).collect() };
        assert!(kolmogorov_smirnov(&sample(Entries::Uniform), |x| (1.0 + x) / 2.0) > 1e-3);
        let normal = |x: f64| libm::erfc(-x * 1.5_f64.sqrt()) / 2.0;
        assert!(kolmogorov_smirnov(&sample(Entries::Gaussian), normal) > 1e-3);
    }

    /// Checks the probability that a normal variable, or the length of a normal vector in the plane, exceeds its bound.
    #[test]
    fn bounds_are_exceeded_with_the_probability_they_state() {
        let entry = libm::erfc(NORMAL_BOUND / 2.0_f64.sqrt());
        assert!((5e-16..1e-15).contains(&entry), "{entry:e}");
        assert_close!((-LIPSCHITZ_BOUND.powi(2) / 2.0).exp(), 1e-15, 1e-12);
        let length = Entries::Gaussian.unit_length_bound(2) * 3.0_f64.sqrt();
        assert!((-length * length / 2.0).exp() < 1e-15, "{length}");
    }
}
