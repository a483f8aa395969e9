//! Functions of symmetric matrices.

use std::cell::RefCell;

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::{ColMut, Mat, Par};
use numformer_metrics::faer_limit;

use crate::MAX_DIMENSION;
use crate::solvers::small::{self, power_of_two_scale, rows_of, symmetric_eigen, with_capacity};

use super::mirror_lower_triangle;

/// Replaces the eigenvalues of a symmetric matrix and keeps its eigenvectors: Q diag(λ) Qᵀ becomes Q diag(f(λ)) Qᵀ,
/// scaled.
///
/// `f` gets the eigenvalues in ascending order and changes them in place. It must not call this function. The result is
/// exactly symmetric. No memory is allocated once a thread has seen the dimension.
///
/// # Panics
/// If the matrix is not square, larger than [`MAX_DIMENSION`], or not finite.
pub(super) fn map_spectrum(matrix: &mut Mat<f64>, scale: f64, f: impl FnOnce(&mut [f64])) {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
    }
    let n = matrix.nrows();
    let mut values = [0.0; MAX_DIMENSION];
    let values = &mut values[..n];
    SCRATCH.with_borrow_mut(|scratch| {
        let vectors = scratch.decompose(matrix, values);
        f(values);
        matrix.fill(0.0);
        for (k, value) in values.iter().enumerate() {
            let vector = &vectors.col_as_slice(k)[..n];
            for j in 0..n {
                let factor = value * vector[j];
                for (sum, x) in matrix.col_as_slice_mut(j)[j..].iter_mut().zip(&vector[j..]) {
                    *sum += factor * x;
                }
            }
        }
    });
    mirror_lower_triangle(matrix, |sum| scale * sum);
}

/// Memory for eigenvectors and for their computation.
struct Scratch {
    vectors: Mat<f64>,
    stack: MemBuffer,
    /// The largest dimension for which `stack` suffices.
    dimension: usize,
}

impl Scratch {
    fn new() -> Self {
        Self { vectors: Mat::new(), stack: Self::stack(1), dimension: 1 }
    }

    fn stack(dimension: usize) -> MemBuffer {
        let compute = ComputeEigenvectors::Yes;
        MemBuffer::new(self_adjoint_evd_scratch::<f64>(dimension, compute, Par::Seq, Default::default()))
    }

    /// The eigenvectors, as columns, and eigenvalues of a symmetric matrix, the latter in ascending order.
    fn decompose(&mut self, matrix: &Mat<f64>, values: &mut [f64]) -> &Mat<f64> {
        let n = matrix.nrows();
        self.vectors.resize_with(n, n, |_, _| 0.0);
        let vectors = &mut self.vectors;
        // Without faer, a method is used that is slow for larger matrices.
        let decomposed = if n <= small::MAX_DIMENSION || faer_limit().is_none() {
            with_capacity!(n, small_decompose(matrix, values, vectors), else Err(TooLarge))
        } else {
            small_decompose::<MAX_DIMENSION>(matrix, values, vectors)
        };
        if decomposed.is_ok() {
            return &self.vectors;
        }
        if n > self.dimension {
            (self.stack, self.dimension) = (Self::stack(n), n);
        }
        self_adjoint_evd(
            matrix.as_ref(),
            ColMut::from_slice_mut(values).as_diagonal_mut(),
            Some(self.vectors.as_mut()),
            Par::Seq,
            MemStack::new(&mut self.stack),
            Default::default(),
        )
        .expect("the QR algorithm converges on finite symmetric matrices");
        &self.vectors
    }
}

/// The error of a matrix that is too large for the methods of [`small`](crate::small), or takes them too many steps.
struct TooLarge;

fn small_decompose<const N: usize>(
    matrix: &Mat<f64>,
    values: &mut [f64],
    vectors: &mut Mat<f64>,
) -> Result<(), TooLarge> {
    let n = matrix.nrows();
    let scale = power_of_two_scale(matrix.as_ref());
    let mut rows = [[0.0; N]; N];
    let scaled =
        symmetric_eigen::<N>(&mut rows_of(matrix.as_ref(), scale), n, Some(&mut rows)).map_err(|_| TooLarge)?;
    for j in 0..n {
        values[j] = scaled[j] / scale;
        vectors.col_as_slice_mut(j)[..n].copy_from_slice(&rows[j][..n]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::test_support::eigenvalues;
    use super::*;

    /// Eigenvalues 1 and 3 with eigenvectors (1, -1) and (1, 1).
    fn two_by_two() -> Mat<f64> {
        faer::mat![[2.0, 1.0], [1.0, 2.0]]
    }

    #[test]
    fn eigenvalues_arrive_in_ascending_order() {
        let mut a = two_by_two();
        map_spectrum(&mut a, 2.0, |values| {
            assert!((values[0] - 1.0).abs() < 1e-15 && (values[1] - 3.0).abs() < 1e-15, "{values:?}");
            values.copy_from_slice(&[5.0, 7.0]);
        });
        assert!((a - faer::mat![[12.0, 2.0], [2.0, 12.0]]).norm_max() < 1e-14);
    }

    #[test]
    fn the_inverse_has_inverse_eigenvalues() {
        for n in [1, 2, 5, 30, 100] {
            // The second difference with diagonal 3: its eigenvalues lie between 1 and 5.
            let a = Mat::from_fn(n, n, |i, j| [3.0, -1.0, 0.0][i.abs_diff(j).min(2)]);
            let mut inverse = a.clone();
            map_spectrum(&mut inverse, 1.0, |values| values.iter_mut().for_each(|x| *x = 1.0 / *x));
            assert!((a * inverse - Mat::<f64>::identity(n, n)).norm_max() < 1e-13, "{n}");
        }
    }

    #[test]
    fn smaller_matrices_follow_larger_ones() {
        for n in [3, 40, 2, 1, 41] {
            let mut a = Mat::from_fn(n, n, |i, j| 1.0 / (1.0 + i as f64 + j as f64));
            map_spectrum(&mut a, 1.0, |values| values.iter_mut().enumerate().for_each(|(i, x)| *x = i as f64));
            let found = eigenvalues(&a);
            assert!(found.iter().enumerate().all(|(i, x)| (x - i as f64).abs() < 1e-12), "{n}: {found:?}");
        }
    }
}
