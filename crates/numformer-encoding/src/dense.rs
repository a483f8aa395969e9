//! A plain matrix and its text form.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A matrix in row-major order. The crates exchange matrices in this form.
///
/// Its text form separates rows by `;` and numbers by white space or commas. A single number is a 1×1 matrix. Numbers
/// are written so that they are read back exactly.
///
/// # Examples
/// ```
/// use numformer_encoding::DenseMatrix;
///
/// let matrix: DenseMatrix = "1.5, 2; 3 4".parse()?;
/// assert_eq!((matrix.rows, matrix.cols), (2, 2));
/// assert_eq!(matrix.coefficients, [1.5, 2.0, 3.0, 4.0]);
/// assert_eq!(matrix.to_string(), "1.5 2; 3 4");
/// # Ok::<(), numformer_encoding::ParseMatrixError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DenseMatrix {
    /// The number of rows.
    pub rows: usize,
    /// The number of columns.
    pub cols: usize,
    /// The `rows`·`cols` coefficients, row by row.
    pub coefficients: Vec<f64>,
}

/// Why a text is not a matrix. Rows and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseMatrixError {
    /// A row, perhaps the only one, holds no number.
    #[error("expected a number in row {row}, found none")]
    EmptyRow {
        /// The row.
        row: usize,
    },
    /// A row is not as long as the first.
    #[error("expected {expected} numbers in row {row}, as in row 1, found {found}")]
    RaggedRow {
        /// The row.
        row: usize,
        /// The length of the first row.
        expected: usize,
        /// The length of this row.
        found: usize,
    },
    /// An entry is not a number, or there is nothing between two commas.
    #[error("expected a number in row {row}, column {column}, found `{found}`")]
    BadNumber {
        /// The row.
        row: usize,
        /// The column.
        column: usize,
        /// What stands there.
        found: String,
    },
}

impl FromStr for DenseMatrix {
    type Err = ParseMatrixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut coefficients = Vec::new();
        let mut cols = 0;
        let mut rows = 0;
        for line in text.split(';') {
            rows += 1;
            let before = coefficients.len();
            parse_row(line, rows, &mut coefficients)?;
            let found = coefficients.len() - before;
            if rows == 1 {
                cols = found;
            } else if found != cols {
                return Err(ParseMatrixError::RaggedRow { row: rows, expected: cols, found });
            }
        }
        Ok(Self { rows, cols, coefficients })
    }
}

/// Appends the numbers of one row, which must hold at least one.
fn parse_row(line: &str, row: usize, coefficients: &mut Vec<f64>) -> Result<(), ParseMatrixError> {
    if line.trim().is_empty() {
        return Err(ParseMatrixError::EmptyRow { row });
    }
    let mut column = 0;
    for cell in line.split(',') {
        // Between two commas stand one or more numbers, separated by white space.
        let mut words = cell.split_whitespace().peekable();
        words.peek().ok_or_else(|| ParseMatrixError::BadNumber { row, column: column + 1, found: String::new() })?;
        for word in words {
            column += 1;
            let bad = |_| ParseMatrixError::BadNumber { row, column, found: word.to_owned() };
            coefficients.push(word.parse().map_err(bad)?);
        }
    }
    Ok(())
}

impl fmt::Display for DenseMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A matrix without columns has no chunks of any size.
        for (i, row) in self.coefficients.chunks(self.cols.max(1)).enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            for (j, x) in row.iter().enumerate() {
                if j > 0 {
                    f.write_str(" ")?;
                }
                // Both forms are read back exactly; this one is short.
                if *x == 0.0 || (1e-5..1e16).contains(&x.abs()) {
                    write!(f, "{x}")?;
                } else {
                    write!(f, "{x:e}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commas_and_white_space_separate_numbers() {
        let expected = DenseMatrix { rows: 2, cols: 3, coefficients: vec![1.0, -2.0, 3.0, 4.0, 5e-3, 0.0] };
        for text in ["1 -2 3;4 0.005 0", "1,-2,3;4,5e-3,0", " 1, -2  3 ;\n4 , 5E-3 ,0 "] {
            assert_eq!(text.parse(), Ok(expected.clone()), "{text}");
        }
        assert_eq!("7".parse(), Ok(DenseMatrix { rows: 1, cols: 1, coefficients: vec![7.0] }));
    }

    #[test]
    fn large_and_small_numbers_are_written_shortly() {
        let coefficients = vec![-1.5, 0.0, 2e-7, 3.02e76];
        assert_eq!(DenseMatrix { rows: 1, cols: 4, coefficients }.to_string(), "-1.5 0 2e-7 3.02e76");
    }

    #[test]
    fn a_text_that_is_no_matrix_is_located() {
        let message = |text: &str| text.parse::<DenseMatrix>().expect_err("not a matrix").to_string();
        assert_eq!(message(""), "expected a number in row 1, found none");
        assert_eq!(message("1 2;"), "expected a number in row 2, found none");
        assert_eq!(message("1 2; 3 4; 5"), "expected 2 numbers in row 3, as in row 1, found 1");
        assert_eq!(message("1 2; 3 x"), "expected a number in row 2, column 2, found `x`");
        assert_eq!(message("1,,2"), "expected a number in row 1, column 2, found ``");
        assert_eq!(message("1,"), "expected a number in row 1, column 2, found ``");
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn text_is_read_back_exactly(
            rows in 1..6_usize,
            cols in 1..6_usize,
            pool in proptest::collection::vec(numformer_testkit::strategies::finite(), 25),
        ) {
            let matrix = DenseMatrix { rows, cols, coefficients: pool[..rows * cols].to_vec() };
            prop_assert_eq!(matrix.to_string().parse(), Ok(matrix));
        }

        #[test]
        fn any_text_is_a_matrix_or_an_error(text in "[0-9eE.,; +-]{0,20}") {
            if let Ok(DenseMatrix { rows, cols, coefficients }) = text.parse() {
                prop_assert!(rows > 0 && cols > 0);
                prop_assert_eq!(coefficients.len(), rows * cols);
            }
        }
    }
}
