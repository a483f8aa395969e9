//! LU decomposition with partial pivoting.

use super::{Square, add_multiple, euclidean_norm, two_rows};

/// The decomposition PA = LU of a square matrix. L is lower triangular with a unit diagonal, and U is upper triangular.
///
/// # Reference
/// Golub and Van Loan (2013), *Matrix Computations*, 4th edition, section 3.4.
#[derive(Debug)]
pub(crate) struct Lu<const N: usize> {
    n: usize,
    /// L without its diagonal, and U.
    factors: Square<N>,
    /// Row `i` of PA is row `permutation[i]` of A.
    permutation: [usize; N],
    /// Whether P exchanges rows an odd number of times.
    odd: bool,
}

impl<const N: usize> Lu<N> {
    /// Decomposes the leading `n` rows and columns.
    pub(crate) fn new(mut a: Square<N>, n: usize) -> Self {
        let mut permutation = std::array::from_fn(|i| i);
        let mut odd = false;
        for k in 0..n {
            let pivot = (k + 1..n).fold(k, |pivot, i| if a[i][k].abs() > a[pivot][k].abs() { i } else { pivot });
            if pivot != k {
                a.swap(k, pivot);
                permutation.swap(k, pivot);
                odd = !odd;
            }
            let diagonal = a[k][k];
            if diagonal == 0.0 {
                // The column is zero from here on, so there is nothing to eliminate.
                continue;
            }
            let mut pivot_row = a[k];
            pivot_row[..=k].fill(0.0);
            for row in &mut a[k + 1..n] {
                let factor = row[k] / diagonal;
                add_multiple(row, -factor, &pivot_row);
                row[k] = factor;
            }
        }
        Self { n, factors: a, permutation, odd }
    }

    /// Whether a pivot is zero.
    pub(crate) fn is_singular(&self) -> bool {
        (0..self.n).any(|i| self.factors[i][i] == 0.0)
    }

    /// The diagonal of U, with the sign of the permutation in its first entry: numbers whose product is det A.
    pub(crate) fn pivots(&self) -> impl Iterator<Item = f64> {
        (0..self.n).map(|i| if i == 0 && self.odd { -self.factors[0][0] } else { self.factors[i][i] })
    }

    /// The Euclidean norms of the rows of PA and of |L| |U|, for the `a` that was decomposed.
    pub(crate) fn row_norms(&self, a: &Square<N>) -> impl Iterator<Item = (f64, f64)> {
        (0..self.n).map(|i| {
            let mut bound = [0.0; N];
            for k in 0..=i {
                let factor = if k == i { 1.0 } else { self.factors[i][k].abs() };
                for (sum, entry) in bound.iter_mut().zip(&self.factors[k]).take(self.n).skip(k) {
                    *sum += factor * entry.abs();
                }
            }
            let [of_row, of_bound] = [&a[self.permutation[i]], &bound].map(euclidean_norm);
            (of_row, of_bound)
        })
    }

    /// A⁻¹B for the right-hand sides in the columns of `b`; infinite or NaN if A is singular.
    pub(crate) fn solve(&self, b: &Square<N>) -> Square<N> {
        let n = self.n;
        let mut x = [[0.0; N]; N];
        for i in 0..n {
            x[i] = b[self.permutation[i]];
        }
        for i in 1..n {
            for j in 0..i {
                let (solved, row) = two_rows(&mut x, j, i);
                add_multiple(row, -self.factors[i][j], solved);
            }
        }
        for i in (0..n).rev() {
            for j in i + 1..n {
                let (row, solved) = two_rows(&mut x, i, j);
                add_multiple(row, -self.factors[i][j], solved);
            }
            let diagonal = self.factors[i][i];
            x[i].iter_mut().for_each(|x| *x /= diagonal);
        }
        x
    }
}
