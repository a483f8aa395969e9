//! The trait of random matrices.

use std::fmt::Debug;

use faer::Mat;
use rand::RngCore;

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
/// use numformer_problems::Law;
/// use rand::{Rng, RngCore, SeedableRng};
///
/// /// Square matrices of independent fair signs.
/// #[derive(Debug)]
/// struct Signs {
///     dimension: usize,
/// }
///
/// impl Law for Signs {
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
pub trait Law: Debug + Send + Sync {
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
impl<E: Law + ?Sized> Law for Box<E> {
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
