//! Strided matrices over slices.

use std::ops::Range;

/// A matrix that borrows its entries: entry (i, j) is at `i·row_stride + j·column_stride`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MatRef<'a, T = f32> {
    pub(super) data: &'a [T],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a, T: Copy> MatRef<'a, T> {
    /// Rows of `columns` entries, `stride` apart.
    ///
    /// # Panics
    /// When `data` is too short.
    pub(crate) fn new(data: &'a [T], rows: usize, columns: usize, stride: usize) -> Self {
        assert_fits(data.len(), rows, columns, stride);
        Self { data, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// A row-major matrix of `columns` columns that fills `data`.
    ///
    /// # Panics
    /// When the last row is not whole.
    pub(crate) fn filling(data: &'a [T], columns: usize) -> Self {
        assert!(data.len().is_multiple_of(columns), "{} entries in rows of {columns}", data.len());
        Self::new(data, data.len() / columns, columns, columns)
    }

    /// The transpose, without moving any entries.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// The columns in `range`.
    ///
    /// # Panics
    /// When the range goes past the last column.
    pub(crate) fn columns(self, range: Range<usize>) -> Self {
        assert!(range.end <= self.columns, "columns {range:?} of {}", self.columns);
        // A matrix without rows may have no entries to skip.
        let skip = (range.start * self.column_stride).min(self.data.len());
        Self { data: &self.data[skip..], columns: range.len(), ..self }
    }

    /// The rows of a matrix whose rows are contiguous.
    #[inline(always)]
    pub(crate) fn rows(self) -> impl Iterator<Item = &'a [T]> {
        (0..self.rows).map(move |i| self.part_of_row(i, 0, self.columns))
    }

    /// `width` entries of row `i`, from column `j` on, of a matrix whose rows are contiguous.
    #[inline(always)]
    pub(super) fn part_of_row(&self, i: usize, j: usize, width: usize) -> &'a [T] {
        debug_assert_eq!(self.column_stride, 1, "rows are contiguous");
        &self.data[i * self.row_stride + j..][..width]
    }
}

/// A matrix that borrows its entries mutably: rows of adjacent entries, `stride` apart.
#[derive(Debug)]
pub(crate) struct MatMut<'a, T = f32> {
    pub(super) data: &'a mut [T],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) stride: usize,
}

impl<'a, T> MatMut<'a, T> {
    /// Rows of `columns` entries, `stride` apart.
    ///
    /// # Panics
    /// When `data` is too short, or rows overlap.
    pub(crate) fn new(data: &'a mut [T], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(columns <= stride, "rows of {columns} overlap at stride {stride}");
        assert_fits(data.len(), rows, columns, stride);
        Self { data, rows, columns, stride }
    }

    /// A row-major matrix of `columns` columns that fills `data`.
    ///
    /// # Panics
    /// When the last row is not whole.
    pub(crate) fn filling(data: &'a mut [T], columns: usize) -> Self {
        assert!(data.len().is_multiple_of(columns), "{} entries in rows of {columns}", data.len());
        let rows = data.len() / columns;
        Self::new(data, rows, columns, columns)
    }
}

fn assert_fits(len: usize, rows: usize, columns: usize, stride: usize) {
    if rows == 0 || columns == 0 {
        return;
    }
    // Checked arithmetic, because unsafe code relies on it: a product that wraps around would look small.
    let needed = (rows - 1).checked_mul(stride).and_then(|before| before.checked_add(columns));
    let needed = needed.expect("a matrix in memory has fewer entries than there are addresses");
    assert!(needed <= len, "{rows}×{columns} at stride {stride} needs {needed} entries, found {len}");
}

/// How a result is stored in its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// The result replaces the old entries, which are never read.
    Replace,
    /// The result is added to the old entries.
    Add,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "needs 10 entries, found 9")]
    fn a_short_slice_is_refused() {
        let _ = MatRef::new(&[0.0; 9], 2, 4, 6);
    }

    #[test]
    #[should_panic(expected = "fewer entries than there are addresses")]
    fn a_size_that_wraps_around_is_refused() {
        let _ = MatRef::new(&[0.0; 9], 3, 1, usize::MAX / 2 + 1);
    }
}
