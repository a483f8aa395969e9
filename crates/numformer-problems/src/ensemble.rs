//! The trait of random matrices.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use faer::Mat;
use rand::RngCore;

use crate::Magnitudes;

/// The largest number of rows or columns of a random matrix: the largest for which there is a token.
pub const MAX_DIMENSION: usize = 100;

/// A law of random matrices.
///
/// Parameters are checked when the law is made, so sampling cannot fail. A sample depends on the law and on what the
/// generator yields, and on nothing else. A law is immutable and shared between threads, each with its own generator.
///
/// Laws of this crate also implement rand's [`Distribution<Mat<f64>>`](rand::distr::Distribution).
///
/// # Examples
/// A custom law:
/// ```
/// use faer::Mat;
/// use numformer_problems::Ensemble;
/// use rand::{Rng, RngCore, SeedableRng};
///
/// /// Square matrices of independent fair signs.
/// #[derive(Debug)]
/// struct Signs {
///     dimension: usize,
/// }
///
/// impl Ensemble for Signs {
///     fn sample_into(&self, rng: &mut dyn RngCore, matrix: &mut Mat<f64>) {
///         matrix.resize_with(self.dimension, self.dimension, |_, _| 0.0);
///         for column in matrix.col_iter_mut() {
///             column.iter_mut().for_each(|x| *x = if rng.random() { 1.0 } else { -1.0 });
///         }
///     }
///     fn max_shape(&self) -> (usize, usize) {
///         (self.dimension, self.dimension)
///     }
///     fn bound(&self) -> Option<f64> {
///         Some(1.0)
///     }
/// }
///
/// let signs = Signs { dimension: 3 }.sample(&mut rand_chacha::ChaCha8Rng::seed_from_u64(1));
/// assert_eq!(signs.shape(), (3, 3));
/// assert!(signs.col_iter().all(|column| column.iter().all(|x| x.abs() == 1.0)));
/// ```
pub trait Ensemble: Debug + Send + Sync {
    /// Draws a matrix into `matrix`, and replaces its shape and entries.
    ///
    /// A loop that keeps `matrix` does not allocate once `matrix` has held the largest sample, unless the law says so.
    fn sample_into(&self, rng: &mut dyn RngCore, matrix: &mut Mat<f64>);

    /// The largest number of rows and the largest number of columns of a sample.
    fn max_shape(&self) -> (usize, usize);

    /// A magnitude that no entry exceeds, except for at most one in 10¹⁵; `None` if there is no such magnitude.
    fn bound(&self) -> Option<f64>;

    /// A magnitude below which every entry is zero; 0, the default, if it is not known. With it, a vocabulary need not
    /// hold symbols for smaller numbers.
    fn smallest(&self) -> f64 {
        0.0
    }

    /// Draws a new matrix.
    fn sample(&self, rng: &mut dyn RngCore) -> Mat<f64> {
        let mut matrix = Mat::new();
        self.sample_into(rng, &mut matrix);
        matrix
    }
}

/// A boxed law is a law too, so that it can be chosen at run time.
impl<E: Ensemble + ?Sized> Ensemble for Box<E> {
    fn sample_into(&self, rng: &mut dyn RngCore, matrix: &mut Mat<f64>) {
        (**self).sample_into(rng, matrix);
    }

    fn max_shape(&self) -> (usize, usize) {
        (**self).max_shape()
    }

    fn bound(&self) -> Option<f64> {
        (**self).bound()
    }

    fn smallest(&self) -> f64 {
        (**self).smallest()
    }

    fn sample(&self, rng: &mut dyn RngCore) -> Mat<f64> {
        (**self).sample(rng)
    }
}

/// Why parameters do not define a law of random matrices.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EnsembleError {
    /// A number of rows or columns is out of range.
    #[error("expected {} to {} {axis}, found {found}", expected.start(), expected.end())]
    Dimension {
        /// `rows`, `columns`, or `rows and columns` of a square matrix.
        axis: &'static str,
        /// The numbers that are allowed.
        expected: RangeInclusive<usize>,
        /// The number that was given.
        found: usize,
    },
    /// A law of square matrices is given a shape that is not square.
    #[error("expected as many rows as columns, found {rows}x{columns}")]
    NotSquare {
        /// The rows asked for.
        rows: usize,
        /// The columns asked for.
        columns: usize,
    },
    /// The bound on the entries is not positive and finite.
    #[error("expected a positive, finite bound on the entries, found {found}")]
    Bound {
        /// The bound that was given, or that follows from what was given.
        found: f64,
    },
    /// The bound on entries that are sums of products of integers is too small for any integers, or too large for exact
    /// ones.
    #[error("expected a bound from {smallest} to {largest} on products of integers, found {found}")]
    IntegerBound {
        /// The smallest bound that is allowed.
        smallest: f64,
        /// The largest bound that is allowed.
        largest: f64,
        /// The bound that was given.
        found: f64,
    },
    /// A parameter is not positive, or not finite.
    #[error("expected a positive, finite {parameter}, found {found}")]
    NotPositive {
        /// What the parameter is.
        parameter: &'static str,
        /// The value that was given.
        found: f64,
    },
    /// A mixture has no components.
    #[error("expected at least one law, found none")]
    NoLaws,
    /// A range of factors is empty, or begins below 1.
    #[error("expected a range of positive integers, found {} to {}", found.start(), found.end())]
    Factors {
        /// The range that was given.
        found: RangeInclusive<u32>,
    },
}

/// Checks a number of rows or columns.
pub(crate) fn require_dimension(axis: &'static str, found: usize) -> Result<usize, EnsembleError> {
    let expected = 1..=MAX_DIMENSION;
    if expected.contains(&found) { Ok(found) } else { Err(EnsembleError::Dimension { axis, expected, found }) }
}

/// Checks that a parameter is positive and finite.
pub(crate) fn require_positive(parameter: &'static str, found: f64) -> Result<f64, EnsembleError> {
    if found > 0.0 && found.is_finite() { Ok(found) } else { Err(EnsembleError::NotPositive { parameter, found }) }
}

/// Checks that the entries of a law do not overflow, given its bound if it has one.
pub(crate) fn require_finite_bound<E: Ensemble>(law: E) -> Result<E, EnsembleError> {
    Magnitudes::of(&law).map(|_| law)
}
