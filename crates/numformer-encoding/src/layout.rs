//! Which entries of a matrix are written, and in which order.

use serde::{Deserialize, Serialize};

/// Which entries of a matrix are written, and in which order.
///
/// In the lower triangle, written row by row, and in the order of leading blocks, entry (i, j) has the same place
/// whatever the size of the matrix: the sequence of a matrix begins with the entries of its leading blocks. A model
/// that has learned small matrices finds the entries of larger ones where they were.
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
    /// All entries, those of the smallest leading blocks first. Each row up to its diagonal is followed by the column
    /// of the same number down to it: (1, 1); (2, 1), (1, 2), (2, 2); (3, 1), (3, 2), (1, 3), (2, 3), (3, 3); and so on.
    LeadingBlocks,
}

impl Layout {
    /// How many entries of a matrix of that shape are written. A lower triangle belongs to a square matrix.
    #[must_use]
    pub fn count(self, rows: usize, cols: usize) -> usize {
        match self {
            Self::RowMajor | Self::LeadingBlocks => rows * cols,
            Self::LowerTriangle => rows * (rows + 1) / 2,
        }
    }

    /// Whether there are matrices of that shape in this layout.
    #[must_use]
    pub fn fits(self, rows: usize, cols: usize) -> bool {
        self != Self::LowerTriangle || rows == cols
    }

    /// The rows and columns, counted from 0, of the entries that are written, in their order.
    pub fn entries(self, rows: usize, cols: usize) -> impl Iterator<Item = (usize, usize)> {
        let parts = if self == Self::LeadingBlocks { rows.max(cols) } else { rows };
        (0..parts).flat_map(move |k| {
            // Entries of row k, then of column k.
            let (of_row, of_column) = match self {
                Self::RowMajor => (cols, 0),
                Self::LowerTriangle => (k + 1, 0),
                Self::LeadingBlocks => {
                    (if k < rows { cols.min(k) } else { 0 }, if k < cols { rows.min(k + 1) } else { 0 })
                }
            };
            let row = (0..of_row).map(move |col| (k, col));
            row.chain((0..of_column).map(move |row| (row, k)))
        })
    }

    /// Replaces the entries that are written by all entries in row-major order; `room` may hold anything.
    pub(crate) fn unpack(self, (rows, cols): (usize, usize), coefficients: &mut Vec<f64>, room: &mut Vec<f64>) {
        if self == Self::RowMajor {
            return;
        }
        room.clear();
        room.append(coefficients);
        coefficients.resize(rows * cols, 0.0);
        for ((row, col), x) in self.entries(rows, cols).zip(&*room) {
            coefficients[row * cols + col] = *x;
            if self == Self::LowerTriangle {
                coefficients[col * cols + row] = *x;
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
        let blocks = [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (2, 1), (0, 2), (1, 2), (2, 2)];
        assert!(Layout::LeadingBlocks.entries(3, 3).eq(blocks));
        assert!(Layout::LeadingBlocks.entries(2, 3).eq([(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]));
        assert!(Layout::LeadingBlocks.entries(3, 1).eq([(0, 0), (1, 0), (2, 0)]));
        for n in 1..9 {
            assert_eq!(Layout::LowerTriangle.entries(n, n).count(), Layout::LowerTriangle.count(n, n));
            for layout in [Layout::RowMajor, Layout::LeadingBlocks] {
                assert_eq!(layout.entries(n, 3).count(), layout.count(n, 3));
            }
        }
    }

    #[test]
    fn unpacking_mirrors_the_triangle_and_orders_by_rows() {
        let unpacked = |layout: Layout, (rows, cols), written: &[f64]| {
            let mut coefficients = written.to_vec();
            layout.unpack((rows, cols), &mut coefficients, &mut vec![7.0; 2]);
            coefficients
        };
        let triangle = unpacked(Layout::LowerTriangle, (3, 3), &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(triangle, [1.0, 2.0, 4.0, 2.0, 3.0, 5.0, 4.0, 5.0, 6.0]);
        assert_eq!(unpacked(Layout::RowMajor, (3, 3), &triangle), triangle);
        let blocks = unpacked(Layout::LeadingBlocks, (2, 3), &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(blocks, [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    }
}
