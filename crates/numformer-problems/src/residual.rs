//! Parts of the residuals by which answers are judged.

use faer::{Mat, MatRef};
use numformer_metrics::{Norm, norm, relative_error};

/// A norm of the residual relative to another norm: 0 for no residual, relative to whatever.
pub(crate) fn quotient(residual: f64, size: f64) -> f64 {
    // As for relative errors, the one quotient that division would leave undefined.
    if residual == 0.0 { 0.0 } else { residual / size }
}

/// The larger of two errors; NaN if one is, which `f64::max` would skip.
pub(crate) fn larger(largest: f64, x: f64) -> f64 {
    if x > largest || x.is_nan() { x } else { largest }
}

/// The largest of several errors; NaN if one is.
pub(crate) fn largest(errors: impl IntoIterator<Item = f64>) -> f64 {
    errors.into_iter().fold(0.0, larger)
}

/// $\lVert Q^\top Q - I \rVert / \lVert I \rVert$: 0 for orthonormal columns, 1 for a zero matrix.
pub(crate) fn orthogonality_defect(q: MatRef<'_, f64>, kind: Norm) -> f64 {
    let n = q.ncols();
    relative_error((q.transpose() * q).as_ref(), Mat::identity(n, n).as_ref(), kind)
}

/// $\lVert AV - UD \rVert / \lVert A \rVert$ for the diagonal matrix $D$ of these entries.
pub(crate) fn pair_residual(
    a: MatRef<'_, f64>,
    v: MatRef<'_, f64>,
    u: MatRef<'_, f64>,
    diagonal: MatRef<'_, f64>,
    kind: Norm,
) -> f64 {
    let mut residual = a * v;
    for j in 0..residual.ncols() {
        for i in 0..residual.nrows() {
            residual[(i, j)] -= u[(i, j)] * diagonal[(0, j)];
        }
    }
    quotient(norm(residual.as_ref(), kind), norm(a, kind))
}

#[cfg(test)]
mod tests {
    use faer::mat;

    use super::*;

    #[test]
    fn nan_is_the_largest_error() {
        assert!(largest([1.0, f64::NAN, 2.0]).is_nan());
        assert!(largest([f64::NAN, f64::INFINITY, 0.0]).is_nan());
        assert_eq!(largest([1.0, 3.0, 2.0]).to_bits(), 3.0_f64.to_bits());
    }

    #[test]
    fn nothing_is_small_relative_to_zero() {
        assert_eq!(quotient(0.0, 0.0).to_bits(), 0.0_f64.to_bits());
        assert_eq!(quotient(1e-300, 0.0).to_bits(), f64::INFINITY.to_bits());
    }

    #[test]
    fn a_zero_matrix_is_as_far_from_orthogonal_as_the_identity_is_large() {
        for &kind in Norm::ALL {
            assert!((orthogonality_defect(Mat::zeros(4, 3).as_ref(), kind) - 1.0).abs() < 1e-15);
            let rotation = mat![[0.6, -0.8], [0.8, 0.6]];
            assert!(orthogonality_defect(rotation.as_ref(), kind) < 1e-15);
        }
    }
}
