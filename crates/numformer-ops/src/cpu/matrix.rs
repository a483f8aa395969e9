//! Strided matrices over slices, and their product.

use std::ops::Range;
use std::sync::LazyLock;

use gemm::Parallelism;

use crate::cpu::scratch::Scratch;

/// Whether the gemm crate has a product that this processor can run.
///
/// The crate chooses by one feature alone, then panics if the processor lacks another feature that its choice needs.
/// Such processors exist: the first with FMA had no AVX2, the first with AVX-512 had only part of it, and a virtual
/// machine may hide any feature.
static GEMM_RUNS: LazyLock<bool> = LazyLock::new(|| {
    #[cfg(target_arch = "x86_64")]
    {
        use gemm_common::simd::{MixedSimd, V3, V4};
        if is_x86_feature_detected!("avx512f") {
            return <V4 as MixedSimd<f32, f32, f32, f32>>::try_new().is_some();
        }
        if is_x86_feature_detected!("fma") {
            return <V3 as MixedSimd<f32, f32, f32, f32>>::try_new().is_some();
        }
    }
    true
});

/// A matrix that borrows its entries: entry (i, j) is at `i·row_stride + j·column_stride`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MatRef<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> MatRef<'a> {
    /// Rows of `columns` entries, `stride` apart.
    ///
    /// # Panics
    /// When `data` is too short.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert_fits(data.len(), rows, columns, stride);
        Self { data, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// A row-major matrix of `columns` columns that fills `data`.
    pub(crate) fn filling(data: &'a [f32], columns: usize) -> Self {
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

    fn entry(self, i: usize, j: usize) -> f32 {
        self.data[i * self.row_stride + j * self.column_stride]
    }
}

/// A matrix that borrows its entries mutably: rows of adjacent entries, `stride` apart.
#[derive(Debug)]
pub(crate) struct MatMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> MatMut<'a> {
    /// Rows of `columns` entries, `stride` apart.
    ///
    /// # Panics
    /// When `data` is too short, or rows overlap.
    pub(crate) fn new(data: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(columns <= stride, "rows of {columns} overlap at stride {stride}");
        assert_fits(data.len(), rows, columns, stride);
        Self { data, rows, columns, stride }
    }

    /// A row-major matrix of `columns` columns that fills `data`.
    pub(crate) fn filling(data: &'a mut [f32], columns: usize) -> Self {
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

/// Stores `scale`·`lhs`·`rhs`, on the calling thread alone.
///
/// # Panics
/// When the shapes disagree.
pub(crate) fn multiply(dst: MatMut<'_>, store: Store, scale: f32, lhs: MatRef<'_>, rhs: MatRef<'_>) {
    assert!(
        lhs.rows == dst.rows && rhs.columns == dst.columns && lhs.columns == rhs.rows,
        "{}×{} product of {}×{} and {}×{}",
        dst.rows,
        dst.columns,
        lhs.rows,
        lhs.columns,
        rhs.rows,
        rhs.columns,
    );
    if *GEMM_RUNS {
        multiply_with_gemm(dst, store, scale, lhs, rhs);
    } else {
        multiply_plainly(dst, store, scale, lhs, rhs);
    }
}

/// [`multiply`] by the gemm crate, for use where [`GEMM_RUNS`]. The caller has checked the shapes.
fn multiply_with_gemm(dst: MatMut<'_>, store: Store, scale: f32, lhs: MatRef<'_>, rhs: MatRef<'_>) {
    #[expect(unsafe_code, reason = "the gemm crate takes pointers and strides")]
    // SAFETY: the three types hold slices that reach to their last entry (checked when they were made, and preserved by
    // `t` and `columns`), the dimensions agree (checked by the caller), and `dst` is borrowed exclusively.
    unsafe {
        gemm::gemm(
            dst.rows,
            dst.columns,
            lhs.columns,
            dst.data.as_mut_ptr(),
            1,
            dst.stride as isize,
            store == Store::Add,
            lhs.data.as_ptr(),
            lhs.column_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.column_stride as isize,
            rhs.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// [`multiply`] by loops that every processor runs: each row of the product is a combination of the rows of `rhs`.
fn multiply_plainly(dst: MatMut<'_>, store: Store, scale: f32, lhs: MatRef<'_>, rhs: MatRef<'_>) {
    let (inner, columns) = (rhs.rows, rhs.columns);
    // The inner loop runs along the rows, so their entries must be adjacent.
    let mut packed = Scratch::take(inner * columns);
    for (at, x) in packed.iter_mut().enumerate() {
        *x = rhs.entry(at / columns, at % columns);
    }
    for i in 0..dst.rows {
        let row = &mut dst.data[i * dst.stride..][..columns];
        if store == Store::Replace {
            row.fill(0.0);
        }
        for (l, rhs_row) in packed.chunks_exact(columns.max(1)).enumerate() {
            let factor = scale * lhs.entry(i, l);
            for (y, x) in row.iter_mut().zip(rhs_row) {
                // Not `mul_add`: without a hardware instruction, it is a function call for each entry.
                *y += factor * x;
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "sums of small integers are exact")]
mod tests {
    use super::*;

    fn integers(len: usize, multiplier: usize) -> Vec<f32> {
        (0..len).map(|i| (i * multiplier % 11) as f32 - 5.0).collect()
    }

    type Multiply = fn(MatMut<'_>, Store, f32, MatRef<'_>, MatRef<'_>);

    /// The two ways to multiply, or only the second where gemm does not run.
    fn products() -> Vec<Multiply> {
        if *GEMM_RUNS { vec![multiply_with_gemm, multiply_plainly] } else { vec![multiply_plainly] }
    }

    #[test]
    fn products_of_small_integers_are_exact() {
        for multiply in products() {
            for (m, n, k) in [
                (1, 1, 1),
                (3, 5, 7),
                (33, 17, 40),
                (16, 16, 2),
                (1, 50, 9),
                (70, 1, 65),
                (2, 3, 0),
                (0, 3, 2),
                (2, 0, 3),
            ] {
                let (a, b) = (integers(m * k, 7), integers(k * n, 3));
                let expected: Vec<f32> =
                    (0..m * n).map(|at| (0..k).map(|l| a[at / n * k + l] * b[l * n + at % n]).sum()).collect();

                let mut dst = vec![f32::NAN; m * n];
                let (lhs, rhs) = (MatRef::new(&a, m, k, k), MatRef::new(&b, k, n, n));
                multiply(MatMut::new(&mut dst, m, n, n), Store::Replace, 1.0, lhs, rhs);
                assert_eq!(dst, expected, "{m}×{k}·{k}×{n}");

                multiply(MatMut::new(&mut dst, m, n, n), Store::Add, -1.0, lhs, rhs);
                assert!(dst.iter().all(|x| *x == 0.0), "adding the negative product");

                // (BᵀAᵀ)ᵀ = AB: the same numbers at transposed places.
                let mut transposed = vec![f32::NAN; m * n];
                multiply(MatMut::new(&mut transposed, n, m, m), Store::Replace, 1.0, rhs.t(), lhs.t());
                assert!((0..m * n).all(|at| transposed[at % n * m + at / n] == expected[at]));
            }
        }
    }

    #[test]
    fn columns_and_strides_leave_the_rest_alone() {
        for multiply in products() {
            let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]; // 2×3
            let mut dst = vec![9.0; 8];
            let right = MatRef::filling(&a, 3).columns(1..3);
            multiply(MatMut::new(&mut dst, 2, 2, 4), Store::Replace, 1.0, right, right.t());
            assert_eq!(dst, [13.0, 28.0, 9.0, 9.0, 28.0, 61.0, 9.0, 9.0]);

            let mut square = [0.0];
            let second_row = MatRef::filling(&a, 3).t().columns(1..2);
            multiply(MatMut::filling(&mut square, 1), Store::Replace, 1.0, second_row.t(), second_row);
            assert_eq!(square, [77.0]);
        }
    }

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

    #[test]
    #[should_panic(expected = "2×2 product of 2×3 and 2×3")]
    fn disagreeing_shapes_are_refused() {
        let a = MatRef::filling(&[0.0; 6], 3);
        multiply(MatMut::filling(&mut [0.0; 4], 2), Store::Replace, 1.0, a, a);
    }
}
