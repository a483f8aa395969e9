//! Why a problem has no answer for an input.

use faer::MatRef;

/// Why a problem has no answer for an input.
#[derive(Copy, Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SolveError {
    /// The problem is not posed on matrices of this shape.
    #[error("expected {expected}, found shape {}x{}", found.0, found.1)]
    Shape {
        /// What the problem is posed on, such as "a square matrix".
        expected: &'static str,
        /// Rows and columns of the input.
        found: (usize, usize),
    },
    /// An entry of the input is NaN or infinite.
    #[error("expected finite entries, found {value} in row {}, column {}", row + 1, column + 1)]
    NotFinite {
        /// Row of the entry, from 0.
        row: usize,
        /// Column of the entry, from 0.
        column: usize,
        /// The entry.
        value: f64,
    },
    /// An entry of the answer is larger than every finite `f64`.
    #[error("expected an answer within the range of f64, found an overflow")]
    Overflow,
    /// The matrix differs from its transpose by more than rounding errors.
    #[error(
        "expected a symmetric matrix, found {value} in row {}, column {} but {mirrored} in the mirrored position",
        row + 1,
        column + 1
    )]
    NotSymmetric {
        /// Row of the entry, from 0.
        row: usize,
        /// Column of the entry, from 0.
        column: usize,
        /// The entry.
        value: f64,
        /// The entry with row and column exchanged.
        mirrored: f64,
    },
    /// The matrix is symmetric but not positive definite.
    #[error("expected a positive definite matrix, found pivot {pivot} in row {}", row + 1)]
    NotPositiveDefinite {
        /// Row of the first pivot that is not positive, from 0.
        row: usize,
        /// The pivot.
        pivot: f64,
    },
    /// An eigenvalue of the matrix is zero or negative, and the function is not defined there.
    #[error("expected positive eigenvalues, found {eigenvalue}")]
    NotPositive {
        /// The smallest eigenvalue.
        eigenvalue: f64,
    },
    /// The matrix has no inverse, or it differs from a matrix without an inverse only by rounding.
    #[error(
        "expected an invertible matrix, found one that is singular to the precision of f64: condition number \
         {condition_number:.1e}"
    )]
    Singular {
        /// The largest singular value over the smallest; infinite if a pivot was zero.
        condition_number: f64,
    },
    /// The matrix has an inverse, but `f64` is not precise enough to compute with it.
    #[error(
        "expected a well-conditioned matrix, found condition number {condition_number:.1e}: the residual of its answer \
         may be {residual:.1e}, above {allowed:e}"
    )]
    IllConditioned {
        /// The largest singular value over the smallest.
        condition_number: f64,
        /// The largest residual allowed.
        allowed: f64,
        /// A bound on the residual of the answer.
        residual: f64,
    },
    /// The matrix is too large for the methods that run on every processor, and this processor lacks what the other
    /// methods need.
    #[error(
        "expected a dimension of at most {limit}, since this processor has only one of AVX2 and FMA, or only a part of \
         AVX-512, found {found}"
    )]
    Processor {
        /// The largest dimension for which there is a method.
        limit: usize,
        /// The larger of rows and columns, or the degree of a polynomial.
        found: usize,
    },
    /// The answer computed in `f64` is not accurate enough to be trusted.
    #[error("expected an answer with a residual of at most {allowed:e}, found {residual:.1e}")]
    Inaccurate {
        /// The largest residual allowed.
        allowed: f64,
        /// The residual of the answer.
        residual: f64,
    },
    /// An iteration did not reach the required accuracy.
    #[error("expected the iteration to converge, found no answer after the steps allowed")]
    NotConverged,
    /// The leading coefficient of a polynomial is zero.
    #[error("expected a leading coefficient that is not zero")]
    ZeroLeadingCoefficient,
}

/// Checks that every entry is finite, for problems that compute with them.
///
/// # Errors
/// When an entry is NaN or infinite. [`SolveError::NotFinite`] holds the first such entry in row-major order.
pub fn require_finite(input: MatRef<'_, f64>) -> Result<(), SolveError> {
    if input.col_iter().all(|column| column.iter().fold(true, |finite, x| finite & x.is_finite())) {
        return Ok(());
    }
    for row in 0..input.nrows() {
        for column in 0..input.ncols() {
            let value = input[(row, column)];
            if !value.is_finite() {
                return Err(SolveError::NotFinite { row, column, value });
            }
        }
    }
    Ok(())
}

/// Checks that every entry of an answer is finite, for problems whose answers may be larger than every `f64`.
///
/// # Errors
/// When an entry is NaN or infinite ([`SolveError::Overflow`]).
pub fn require_representable(answer: MatRef<'_, f64>) -> Result<(), SolveError> {
    match require_finite(answer) {
        Ok(()) => Ok(()),
        Err(_) => Err(SolveError::Overflow),
    }
}

/// The number of rows of a square matrix.
pub(crate) fn require_square((rows, columns): (usize, usize)) -> Result<usize, SolveError> {
    if rows != columns {
        return Err(SolveError::Shape { expected: "a square matrix", found: (rows, columns) });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use faer::mat;

    use super::*;

    #[test]
    fn the_first_entry_that_is_not_finite_is_named() {
        let input = mat![[1.0, f64::INFINITY], [f64::INFINITY, f64::NAN]];
        let expected = SolveError::NotFinite { row: 0, column: 1, value: f64::INFINITY };
        assert_eq!(require_finite(input.as_ref()), Err(expected));
        assert_eq!(require_finite(mat![[f64::MAX, -0.0]].as_ref()), Ok(()));
    }
}
