//! Why parameters do not define a law of random matrices.

use std::ops::RangeInclusive;

use crate::MAX_DIMENSION;

/// Why parameters do not define a law of random matrices.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LawError {
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
    /// The smallest magnitude is larger than the largest.
    #[error("expected a smallest magnitude of at most the bound {bound}, found {found}")]
    Smallest {
        /// The largest magnitude.
        bound: f64,
        /// The smallest one that was given.
        found: f64,
    },
    /// A mixture has no components.
    #[error("expected at least one law, found none")]
    NoLaws,
    /// An interval of asymmetries is empty, or does not lie in [0, 1].
    #[error("expected an interval of asymmetries within 0 to 1, found {} to {}", found[0], found[1])]
    Asymmetry {
        /// The ends of the interval that was given.
        found: [f64; 2],
    },
    /// A range of factors is empty, or begins below 1.
    #[error("expected a range of positive integers, found {} to {}", found.start(), found.end())]
    Factors {
        /// The range that was given.
        found: RangeInclusive<u32>,
    },
}

/// Checks a number of rows or columns.
pub(crate) fn require_dimension(axis: &'static str, found: usize) -> Result<usize, LawError> {
    let expected = 1..=MAX_DIMENSION;
    if expected.contains(&found) { Ok(found) } else { Err(LawError::Dimension { axis, expected, found }) }
}

/// Checks that a parameter is positive and finite.
pub(crate) fn require_positive(parameter: &'static str, found: f64) -> Result<f64, LawError> {
    if found > 0.0 && found.is_finite() { Ok(found) } else { Err(LawError::NotPositive { parameter, found }) }
}
