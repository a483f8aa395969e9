//! How small and how large the entries of matrices are.

use crate::{Law, LawError};

/// A range of magnitudes that holds every nonzero entry of some matrices.
///
/// # Examples
/// ```
/// use numformer_problems::{Magnitudes, Problem, Trace};
///
/// // The sum of three numbers, each of at most 10.
/// let traces = Trace.output_magnitudes((3, 3), Magnitudes::at_most(10.0));
/// assert_eq!(traces, Magnitudes { smallest: 0.0, largest: Some(30.0) });
/// ```
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Magnitudes {
    /// No nonzero entry is smaller; 0 if nothing is known.
    pub smallest: f64,
    /// No entry is larger; `None` if there is no bound.
    pub largest: Option<f64>,
}

impl Magnitudes {
    /// The magnitudes of any finite numbers.
    pub const ANY: Self = Self { smallest: 0.0, largest: None };

    /// The magnitudes from 0 to a bound, if there is one.
    #[must_use]
    pub fn at_most(largest: impl Into<Option<f64>>) -> Self {
        Self { smallest: 0.0, largest: largest.into() }
    }

    /// What a law of random matrices says about their entries: its [`smallest`](Law::smallest) and its
    /// [`bound`](Law::bound). The laws of this crate are right; a custom law may contradict itself.
    ///
    /// # Errors
    /// When either is NaN or negative, or the bound is infinite.
    pub fn of(law: &(impl Law + ?Sized)) -> Result<Self, LawError> {
        let (smallest, largest) = (law.smallest(), law.bound());
        match largest {
            Some(found) if !(found >= 0.0 && found.is_finite()) => Err(LawError::Bound { found }),
            _ if smallest >= 0.0 => Ok(Self { smallest, largest }),
            _ => Err(LawError::NotPositive { parameter: "smallest magnitude of entries", found: smallest }),
        }
    }

    /// The smallest range that holds both.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self {
            smallest: self.smallest.min(other.smallest),
            largest: self.largest.zip(other.largest).map(|(a, b)| a.max(b)),
        }
    }
}

/// Checks that the entries of a law do not overflow, given its bound if it has one.
pub(crate) fn require_finite_bound<E: Law>(law: E) -> Result<E, LawError> {
    Magnitudes::of(&law).map(|_| law)
}

#[cfg(test)]
mod tests {
    use faer::Mat;
    use rand::RngCore;

    use super::*;
    use crate::{Mixture, NearSymmetric, RandomScale};

    /// A law that says this about matrices without entries.
    #[derive(Debug)]
    struct Says(f64, Option<f64>);

    impl Law for Says {
        fn sample_into(&self, _: &mut dyn RngCore, matrix: &mut Mat<f64>) {
            *matrix = Mat::new();
        }

        fn max_shape(&self) -> (usize, usize) {
            (0, 0)
        }

        fn bound(&self) -> Option<f64> {
            self.1
        }

        fn smallest(&self) -> f64 {
            self.0
        }
    }

    #[test]
    fn magnitudes_that_cannot_be_are_refused_wherever_a_law_is_given() {
        for bound in [f64::NAN, -1.0, f64::INFINITY] {
            let message = format!("expected a positive, finite bound on the entries, found {bound}");
            let law = || Says(0.0, Some(bound));
            assert_eq!(Magnitudes::of(&law()).unwrap_err().to_string(), message);
            assert_eq!(RandomScale::new(law(), 1..=2).unwrap_err().to_string(), message);
            assert_eq!(NearSymmetric::new(law(), 0.0..=1.0).unwrap_err().to_string(), message);
            assert_eq!(Mixture::uniform(vec![Box::new(law())]).unwrap_err().to_string(), message);
        }
        for smallest in [f64::NAN, -1.0] {
            let error = Magnitudes::of(&Says(smallest, None)).unwrap_err();
            let message = "expected a positive, finite smallest magnitude of entries, found";
            assert_eq!(error.to_string(), format!("{message} {smallest}"));
        }
        assert_eq!(Magnitudes::of(&Says(2.0, Some(0.0))), Ok(Magnitudes { smallest: 2.0, largest: Some(0.0) }));
    }

    #[test]
    fn a_join_holds_both_ranges() {
        let (small, large) = (Magnitudes { smallest: 1.0, largest: Some(2.0) }, Magnitudes::at_most(3.0));
        assert_eq!(small.join(large), Magnitudes { smallest: 0.0, largest: Some(3.0) });
        assert_eq!(large.join(small), small.join(large));
        assert_eq!(small.join(Magnitudes::ANY), Magnitudes::ANY);
        assert_eq!(small.join(small), small);
    }
}
