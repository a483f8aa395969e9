//! Parts of the residuals by which answers are judged.

use faer::{Mat, MatRef};
use numformer_metrics::{Norm, norm, relative_error};

use crate::solve_error::require_square;
use crate::solvers::dense::product;
use crate::solvers::small::MAX_DIMENSION;
use crate::{SolveError, require_finite};

/// The largest error that an answer may have by its problem's own measure. An answer with a larger error is not
/// returned.
///
/// For inverses, this is the limit of the paper's authors, although they apply it only to the largest entry. It rejects
/// almost no matrices with independent uniform entries.
pub const MAX_RESIDUAL: f64 = 1e-10;

/// A norm of the residual relative to another norm: 0 if there is no residual, whatever the other norm is.
pub(crate) fn quotient(residual: f64, size: f64) -> f64 {
    // As for relative errors, this is the one quotient that division would leave undefined.
    if residual == 0.0 { 0.0 } else { residual / size }
}

/// The larger of two errors, or NaN if one of them is NaN, which `f64::max` would skip.
pub(crate) fn larger(largest: f64, x: f64) -> f64 {
    if x > largest || x.is_nan() { x } else { largest }
}

/// The largest of several errors, or NaN if one of them is NaN.
pub(crate) fn largest(errors: impl IntoIterator<Item = f64>) -> f64 {
    errors.into_iter().fold(0.0, larger)
}

/// ‖AX - B‖ / ‖B‖. Each entry of the difference is as if computed in twice the precision and rounded once: if X is
/// large, the rounding errors of plain sums may be as large as the difference itself, and may hide it.
pub(crate) fn solution_error(
    a: MatRef<'_, f64>,
    x: MatRef<'_, f64>,
    b: impl Fn(usize, usize) -> f64,
    kind: Norm,
) -> f64 {
    let shape = (a.nrows(), x.ncols());
    let entry = |i, j| compensated_sum_of_products(-b(i, j), (0..a.ncols()).map(|k| (a[(i, k)], x[(k, j)])));
    let difference = Mat::from_fn(shape.0, shape.1, entry);
    let size = norm(Mat::from_fn(shape.0, shape.1, b).as_ref(), kind);
    quotient(norm(difference.as_ref(), kind), size)
}

/// Checks that X solves AX = B to [`MAX_RESIDUAL`] by its [`solution_error`] in every norm. Otherwise returns the
/// largest of these errors.
///
/// This does not allocate for up to [`MAX_DIMENSION`] rows if plain sums are accurate enough to tell.
pub(crate) fn require_solution(
    a: MatRef<'_, f64>,
    x: MatRef<'_, f64>,
    b: impl Fn(usize, usize) -> f64 + Copy,
) -> Result<(), f64> {
    if solution_error_bound(a, x, b) <= MAX_RESIDUAL {
        return Ok(());
    }
    let error = largest(Norm::ALL.iter().map(|&kind| solution_error(a, x, b, kind)));
    if error <= MAX_RESIDUAL { Ok(()) } else { Err(error) }
}

/// A bound on the [`solution_error`] in every norm, from plain sums and a bound on their rounding errors. These are at
/// most (n + 1)/2 · ε (|A| |X|)ᵢⱼ each (Higham 2002, *Accuracy and Stability of Numerical Algorithms*, section 3.5).
/// NaN if a product leaves the range.
fn solution_error_bound(a: MatRef<'_, f64>, x: MatRef<'_, f64>, b: impl Fn(usize, usize) -> f64) -> f64 {
    let n = a.nrows();
    let (mut stack, mut heap) = ([[0.0; 2]; MAX_DIMENSION], Vec::new());
    let sums = if n <= MAX_DIMENSION {
        &mut stack[..n]
    } else {
        heap.resize(n, [0.0; 2]);
        &mut heap[..]
    };
    // This is twice what the sums here need, since there are other roundings, too.
    let rounding = (n + 1) as f64 * f64::EPSILON;
    // In units of the largest entry of B, squares stay in range.
    let entries = (0..x.ncols()).flat_map(|j| (0..n).map(move |i| (i, j)));
    let largest_of_b = entries.fold(0.0, |largest, (i, j)| f64::max(largest, b(i, j).abs()));
    let scale = if largest_of_b == 0.0 { 1.0 } else { 1.0 / largest_of_b };
    // The sum, the sum of squares and the largest value, both of the bounds and of the magnitudes of B.
    let (mut of_errors, mut of_b) = ([0.0; 3], [0.0; 3]);
    let add = |totals: &mut [f64; 3], x: f64| {
        *totals = [totals[0] + x, totals[1] + x * x, larger(totals[2], x)];
    };
    for j in 0..x.ncols() {
        for (i, sums) in sums.iter_mut().enumerate() {
            *sums = [-b(i, j), 0.0];
        }
        for k in 0..n {
            let factor = x[(k, j)];
            for (sums, entry) in sums.iter_mut().zip(a.col(k).iter()) {
                let product = entry * factor;
                *sums = [sums[0] + product, sums[1] + product.abs()];
            }
        }
        for (i, &[difference, magnitude]) in sums.iter().enumerate() {
            add(&mut of_errors, (difference.abs() + rounding * magnitude) * scale);
            add(&mut of_b, b(i, j).abs() * scale);
        }
    }
    let [sum, squares, max] = std::array::from_fn(|kind| quotient(of_errors[kind], of_b[kind]));
    largest([sum, squares.sqrt(), max])
}

/// The sum of a number and of products, as if computed in twice the precision and rounded once. A plain sum if a
/// product leaves the range.
///
/// # Reference
/// Ogita, Rump and Oishi (2005), *Accurate sum and dot product*, algorithm 5.3. <https://doi.org/10.1137/030601818>
fn compensated_sum_of_products(first: f64, factors: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let (mut sum, mut errors) = (first, 0.0);
    for (x, y) in factors.clone() {
        let product = x * y;
        let next = sum + product;
        // The exact rounding errors of the product and of the sum (Knuth's).
        let of_sum = next - sum;
        errors += x.mul_add(y, -product) + ((sum - (next - of_sum)) + (product - of_sum));
        sum = next;
    }
    let compensated = sum + errors;
    if compensated.is_finite() { compensated } else { factors.fold(first, |sum, (x, y)| sum + x * y) }
}

/// ‖QᵀQ - I‖ / ‖I‖: 0 for orthonormal columns, 1 for a zero matrix.
pub(crate) fn orthogonality_defect(q: MatRef<'_, f64>, kind: Norm) -> f64 {
    let n = q.ncols();
    relative_error(product(q.transpose(), q).as_ref(), Mat::identity(n, n).as_ref(), kind)
}

/// ‖AV - UD‖ / ‖A‖ for the diagonal matrix D of these entries.
pub(crate) fn pair_residual(
    a: MatRef<'_, f64>,
    v: MatRef<'_, f64>,
    u: MatRef<'_, f64>,
    diagonal: MatRef<'_, f64>,
    kind: Norm,
) -> f64 {
    let mut residual = product(a, v);
    for j in 0..residual.ncols() {
        for i in 0..residual.nrows() {
            residual[(i, j)] -= u[(i, j)] * diagonal[(0, j)];
        }
    }
    quotient(norm(residual.as_ref(), kind), norm(a, kind))
}

/// ‖AH - I‖ / ‖I‖ for a candidate H for the inverse of A.
///
/// # Errors
/// When A holds an entry that is not finite.
pub(crate) fn inverse_residual(a: MatRef<'_, f64>, h: MatRef<'_, f64>, kind: Norm) -> Result<f64, SolveError> {
    require_finite(a)?;
    Ok(solution_error(a, h, |i, j| if i == j { 1.0 } else { 0.0 }, kind))
}

/// The larger of ‖AV - VΛ‖ / ‖A‖ and ‖VᵀV - I‖ / ‖I‖ for a candidate with the eigenvalues Λ in its first row and the
/// eigenvectors V below.
///
/// # Errors
/// When A holds an entry that is not finite, or is not square.
///
/// # Panics
/// If the candidate is not of the shape of an answer.
pub(crate) fn eigenvector_residual(
    a: MatRef<'_, f64>,
    candidate: MatRef<'_, f64>,
    kind: Norm,
) -> Result<f64, SolveError> {
    require_finite(a)?;
    let n = require_square(a.shape())?;
    assert_eq!(candidate.shape(), (n + 1, n), "shapes of the candidate and of an answer");
    let (values, vectors) = candidate.split_at_row(1);
    Ok(largest([pair_residual(a, vectors, vectors, values, kind), orthogonality_defect(vectors, kind)]))
}

#[cfg(test)]
mod tests {
    use faer::{Scale, mat};

    use super::*;

    #[test]
    fn nan_is_the_largest_error() {
        assert!(largest([1.0, f64::NAN, 2.0]).is_nan());
        assert!(largest([f64::NAN, f64::INFINITY, 0.0]).is_nan());
        assert_eq!(largest([1.0, 3.0, 2.0]).to_bits(), 3.0_f64.to_bits());
    }

    #[test]
    fn no_rounding_error_hides_what_is_wrong() {
        // In plain sums, 1e16 + 1 is 1e16, so the residual would be 0.
        let (a, x) = (mat![[1e8, 1.0, 1.0]], mat![[1e8], [1.0], [-1e16]]);
        let error = |b: f64, kind| solution_error(a.as_ref(), x.as_ref(), |_, _| b, kind);
        for &kind in Norm::ALL {
            assert_eq!(error(1.0, kind).to_bits(), 0.0_f64.to_bits());
            assert_eq!(error(0.5, kind).to_bits(), 1.0_f64.to_bits());
        }
        // The product's own error: (1 + ε)² = 1 + 2ε + ε².
        let factor = 1.0 + f64::EPSILON;
        let found = compensated_sum_of_products(-1.0 - 2.0 * f64::EPSILON, [(factor, factor)].into_iter());
        assert_eq!(found.to_bits(), f64::EPSILON.powi(2).to_bits());
        let overflow = compensated_sum_of_products(1.0, [(1e200, 1e200)].into_iter());
        assert_eq!(overflow.to_bits(), f64::INFINITY.to_bits());
    }

    #[test]
    fn a_solution_is_checked_in_every_norm_and_unit() {
        for scale in [1e-200, 1.0, 1e200] {
            let a = Scale(scale) * mat![[2.0, 1.0], [1.0, 3.0]];
            let check = |x: Mat<f64>, b: f64| require_solution(a.as_ref(), x.as_ref(), |_, _| b);
            assert_eq!(check(mat![[2.0], [1.0]], 5.0 * scale), Ok(()));
            assert_eq!(check(mat![[0.0], [0.0]], 0.0), Ok(()));
            assert_eq!(check(mat![[0.0], [1.0]], 0.0), Err(f64::INFINITY));
            assert_eq!(check(mat![[0.0], [0.0]], 5.0 * scale), Err(1.0));
        }
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
