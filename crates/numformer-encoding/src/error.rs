//! What can go wrong: building an encoding, writing a number, reading one.

use std::borrow::Cow;

use crate::TokenId;
use crate::spelling::symbol_or_unknown;

/// Why an encoding with such parameters does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodingError {
    /// The number of significant digits is out of range.
    #[error("expected a precision from 1 to {max} significant digits, found {found}")]
    Precision {
        /// The most digits this kind of encoding supports.
        max: u32,
        /// The precision asked for.
        found: u32,
    },
    /// The base of the digits is out of range.
    #[error("expected a base from 2 to {max}, found {found}")]
    Base {
        /// The largest base.
        max: u32,
        /// The base asked for.
        found: u32,
    },
    /// The range of exponents is too wide, or it lacks the exponent 0, with which zero is written.
    #[error("expected exponents around 0, from -{limit} to {limit} at most, found {min} to {max}")]
    Exponents {
        /// The largest magnitude of an exponent.
        limit: i32,
        /// The smallest exponent asked for.
        min: i32,
        /// The largest exponent asked for.
        max: i32,
    },
    /// The number of decades of a floating encoding is out of range.
    #[error("expected from 1 to {max} exponents, found {found}")]
    ExponentCount {
        /// The most exponents.
        max: u32,
        /// The count asked for.
        found: u32,
    },
    /// The smallest decade of a floating encoding is out of range.
    #[error("expected a unit from 1 to 10^-{max}, found 10^-{found}")]
    Decimals {
        /// The most decimals of the unit.
        max: u32,
        /// The decimals asked for.
        found: u32,
    },
}

/// Why a number or a matrix cannot be written.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// NaN and the infinities have no word.
    #[error("expected a finite number, found {value}")]
    NotFinite {
        /// The number.
        value: f64,
    },
    /// The number, once rounded, is beyond the largest word.
    #[error("expected a magnitude of at most {largest:e}, found {value:e}")]
    TooLarge {
        /// The number.
        value: f64,
        /// The largest number the encoding can write.
        largest: f64,
    },
    /// One coefficient of a matrix cannot be written; the source says why.
    #[error("the coefficient in row {row}, column {column} cannot be written")]
    Coefficient {
        /// The row, from 1.
        row: usize,
        /// The column, from 1.
        column: usize,
        /// The coefficient.
        value: f64,
        /// What is wrong with it.
        #[source]
        source: Box<EncodeError>,
    },
    /// The vocabulary has no dimension token for such a shape.
    #[error("expected a shape from 1x1 to {max}x{max}, found {rows}x{cols}")]
    Shape {
        /// The largest dimension.
        max: usize,
        /// The number of rows.
        rows: usize,
        /// The number of columns.
        cols: usize,
    },
    /// A lower triangle belongs to a square matrix.
    #[error("expected as many columns as rows, for the layout `lower-triangle`, found {rows}x{cols}")]
    NotSquare {
        /// The number of rows.
        rows: usize,
        /// The number of columns.
        cols: usize,
    },
    /// A lower triangle stands for a symmetric matrix.
    #[error(
        "expected a symmetric matrix, for the layout `lower-triangle`, found {below} in row {row}, column {column}, \
         and {above} in row {column}, column {row}"
    )]
    NotSymmetric {
        /// The row of an entry below the diagonal, from 1.
        row: usize,
        /// Its column, from 1.
        column: usize,
        /// That entry.
        below: f64,
        /// The entry on the other side of the diagonal.
        above: f64,
    },
    /// The coefficients do not fill the shape, or overflow it (then `found` is a lower bound).
    #[error("expected {expected} coefficients, found {found}")]
    Count {
        /// Rows times columns.
        expected: usize,
        /// The coefficients given.
        found: usize,
    },
}

/// Why a list of tokens is not a number or a matrix.
///
/// Positions count tokens from 0. An id beyond the vocabulary is reported as `<unknown 12345>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A token of the wrong kind.
    #[error("expected {expected} at position {position}, found `{found}`")]
    Unexpected {
        /// The kind of token that could stand there.
        expected: Cow<'static, str>,
        /// Where it stands.
        position: usize,
        /// Its symbol.
        found: String,
    },
    /// The tokens end too early.
    #[error("expected {expected} at position {position}, found the end")]
    TooShort {
        /// The kind of token that could stand there.
        expected: Cow<'static, str>,
        /// The number of tokens.
        position: usize,
    },
    /// Tokens follow the last number.
    #[error("expected the end at position {position}, found `{found}`")]
    Trailing {
        /// Where the matrix, or the number, ends.
        position: usize,
        /// The first symbol after it.
        found: String,
    },
    /// A symbol that marks a number out of range and has no value.
    #[error("expected a number at position {position}, found `{found}`, which has no value")]
    NoValue {
        /// Where it stands.
        position: usize,
        /// Its symbol.
        found: String,
    },
}

impl DecodeError {
    /// The error of a reader that wanted `expected` at `position` of `tokens` but found another kind of token or the
    /// end.
    ///
    /// `symbols` are those of the encoding, in id order. This is for implementors of
    /// [`NumberEncoding`](crate::NumberEncoding).
    #[cold]
    pub fn expected(
        expected: impl Into<Cow<'static, str>>,
        position: usize,
        tokens: &[TokenId],
        symbols: &[String],
    ) -> Self {
        let expected = expected.into();
        match tokens.get(position) {
            None => Self::TooShort { expected, position },
            Some(&id) => Self::Unexpected { expected, position, found: symbol_or_unknown(symbols, id) },
        }
    }

    /// The position of the first token that could not be read, or the number of tokens if they end too early.
    pub fn position(&self) -> usize {
        match self {
            Self::Unexpected { position, .. }
            | Self::TooShort { position, .. }
            | Self::Trailing { position, .. }
            | Self::NoValue { position, .. } => *position,
        }
    }

    /// The same error about a list that has `offset` more tokens in front.
    #[must_use]
    pub fn shifted(mut self, offset: usize) -> Self {
        match &mut self {
            Self::Unexpected { position, .. }
            | Self::TooShort { position, .. }
            | Self::Trailing { position, .. }
            | Self::NoValue { position, .. } => *position += offset,
        }
        self
    }
}
