//! Which entries of a matrix are written, and in which order.

use serde::{Deserialize, Serialize};

/// Which entries of a matrix are written, and in which order.
///
/// In the lower triangle, written row by row, entry (i, j) has the same place whatever the size of the matrix: the
/// sequence of a matrix begins with the entries of its leading blocks. A model that has learned small matrices finds
/// the entries of larger ones where they were.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use numformer_encoding::{Layout, MatrixEncoding, Positional, Vocabulary};
///
/// let p1000 = Positional::p1000();
/// let vocabulary = Vocabulary::reference(&p1000, &p1000);
/// let encoding = MatrixEncoding::new(Arc::new(p1000), &vocabulary)?.with_layout(Layout::LowerTriangle);
/// let mut tokens = Vec::new();
/// encoding.encode(2, 2, [1.0, 5.0, 5.0, 2.0], &mut tokens)?;
/// assert_eq!(vocabulary.render(&tokens), "V2 V2 + 100 E-2 + 500 E-2 + 200 E-2");
/// assert_eq!(encoding.decode(&tokens)?.coefficients, [1.0, 5.0, 5.0, 2.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// LAPACK's packed storage of symmetric matrices has the same order:
/// <https://www.netlib.org/lapack/lug/node123.html>.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// All entries, row by row.
    #[default]
    RowMajor,
    /// Of a symmetric matrix, the entries on and below the diagonal, row by row: n (n + 1) / 2 instead of n².
    LowerTriangle,
}

impl Layout {
    /// How many entries of a matrix of that shape are written. A lower triangle belongs to a square matrix.
    #[must_use]
    pub fn count(self, rows: usize, cols: usize) -> usize {
        match self {
            Self::RowMajor => rows * cols,
            Self::LowerTriangle => rows * (rows + 1) / 2,
        }
    }

    /// Whether there are matrices of that shape in this layout.
    #[must_use]
    pub fn fits(self, rows: usize, cols: usize) -> bool {
        self == Self::RowMajor || rows == cols
    }

    /// The rows and columns, counted from 0, of the entries that are written, in their order.
    pub fn entries(self, rows: usize, cols: usize) -> impl Iterator<Item = (usize, usize)> {
        let in_row = move |row: usize| match self {
            Self::RowMajor => cols,
            Self::LowerTriangle => row + 1,
        };
        (0..rows).flat_map(move |row| (0..in_row(row)).map(move |col| (row, col)))
    }

    /// Replaces the entries that are written by all entries in row-major order.
    pub(crate) fn unpack(self, rows: usize, coefficients: &mut Vec<f64>) {
        if self == Self::RowMajor {
            return;
        }
        coefficients.resize(rows * rows, 0.0);
        // From the last entry to the first: no entry moves to the place of one that is still to be moved.
        for row in (0..rows).rev() {
            for col in (0..=row).rev() {
                coefficients[row * rows + col] = coefficients[row * (row + 1) / 2 + col];
            }
        }
        for row in 0..rows {
            for col in row + 1..rows {
                coefficients[row * rows + col] = coefficients[col * rows + row];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_as_many_as_counted() {
        let triangle = [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)];
        assert!(Layout::LowerTriangle.entries(3, 3).eq(triangle));
        assert!(Layout::RowMajor.entries(2, 2).eq([(0, 0), (0, 1), (1, 0), (1, 1)]));
        for n in 1..9 {
            assert_eq!(Layout::LowerTriangle.entries(n, n).count(), Layout::LowerTriangle.count(n, n));
            assert_eq!(Layout::RowMajor.entries(n, 3).count(), Layout::RowMajor.count(n, 3));
        }
    }

    #[test]
    fn unpacking_mirrors_the_triangle() {
        let mut coefficients = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        Layout::LowerTriangle.unpack(3, &mut coefficients);
        assert_eq!(coefficients, [1.0, 2.0, 4.0, 2.0, 3.0, 5.0, 4.0, 5.0, 6.0]);
        let all = coefficients.clone();
        Layout::RowMajor.unpack(3, &mut coefficients);
        assert_eq!(coefficients, all);
    }
}
