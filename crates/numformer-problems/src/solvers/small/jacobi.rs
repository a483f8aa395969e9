//! Singular values and singular vectors.

use crate::SolveError;

use super::{NEGLIGIBLE_SQUARE, Square, add_multiple, dot, euclidean_norm, identity, rotate, two_rows};

/// The number of sweeps over all pairs of columns that are allowed. Five to eight are usual, and a few more for a
/// deficient rank.
const MAX_SWEEPS: usize = 60;

/// Columns shorter than this have no direction that can be trusted. Their singular vectors are chosen anew, orthogonal
/// to the others. This length is far above the norm at which pairs are skipped (10⁻¹⁴⁵, from a square that is updated
/// through a sweep with some error), so that every column that keeps its direction was made orthogonal to the others.
/// It is also far below rounding errors.
const SHORTEST_DIRECTION: f64 = 1e-140;

/// Singular values of a matrix with `length` rows and `count` ≤ `length` columns, in descending order, where row `j` of
/// `columns` holds column j.
///
/// On return, the rows of `columns` are the left singular vectors, even if a singular value is zero, and the rows of
/// `right`, if it is given, are the right singular vectors. Without `right`, the final contents of
/// `columns` are of no use. Entries should be of order 1.
///
/// The algorithm is Hestenes's one-sided Jacobi method: it rotates columns in pairs until all are orthogonal, and puts
/// the longer column of each pair first (de Rijk 1989).
///
/// # Errors
/// When it takes too many sweeps ([`SolveError::NotConverged`]).
///
/// # Reference
/// Golub and Van Loan (2013), *Matrix Computations*, 4th edition, section 8.6.5; Demmel and Veselić (1992), *Jacobi's
/// method is more accurate than QR*, for the stopping criterion.
pub(crate) fn singular_value_decomposition<const N: usize>(
    columns: &mut Square<N>,
    length: usize,
    count: usize,
    mut right: Option<&mut Square<N>>,
) -> Result<[f64; N], SolveError> {
    if let Some(right) = right.as_deref_mut() {
        *right = identity(count);
    }
    orthogonalise(columns, length, count, right.as_deref_mut())?;

    let mut values = [0.0; N];
    for (value, column) in values.iter_mut().zip(&*columns).take(count) {
        *value = euclidean_norm(column);
    }
    for i in 0..count {
        let largest = (i + 1..count).fold(i, |largest, j| if values[j] > values[largest] { j } else { largest });
        if largest != i {
            values.swap(i, largest);
            columns.swap(i, largest);
            if let Some(right) = right.as_deref_mut() {
                right.swap(i, largest);
            }
        }
    }
    if right.is_some() {
        for j in 0..count {
            if values[j] >= SHORTEST_DIRECTION {
                let factor = 1.0 / values[j];
                columns[j].iter_mut().for_each(|x| *x *= factor);
            } else {
                complete(columns, length, j);
            }
        }
    }
    Ok(values)
}

/// Rotates columns in pairs until all are orthogonal, and the rows of `right` with them.
fn orthogonalise<const N: usize>(
    columns: &mut Square<N>,
    length: usize,
    count: usize,
    mut right: Option<&mut Square<N>>,
) -> Result<(), SolveError> {
    // A dot product of `length` terms has a rounding error of this size.
    let tolerance = f64::EPSILON * length as f64;
    for _ in 0..MAX_SWEEPS {
        let mut changed = false;
        // Squares of the norms, updated through the sweep.
        let mut squares = [0.0; N];
        for (square, column) in squares.iter_mut().zip(&*columns).take(count) {
            *square = dot(column, column);
        }
        for p in 0..count.saturating_sub(1) {
            for q in p + 1..count {
                // The longer column comes first. This takes fewer sweeps, and singular values come out in descending
                // order.
                if squares[p] < squares[q] {
                    // Some pair of columns has not met in this sweep.
                    changed = true;
                    squares.swap(p, q);
                    columns.swap(p, q);
                    if let Some(right) = right.as_deref_mut() {
                        right.swap(p, q);
                    }
                }
                let (alpha, beta) = (squares[p], squares[q]);
                if beta < NEGLIGIBLE_SQUARE {
                    continue;
                }
                let gamma = dot(&columns[p], &columns[q]);
                if gamma.abs() <= tolerance * (alpha.sqrt() * beta.sqrt()) {
                    continue;
                }
                changed = true;
                // The smaller angle that makes the two columns orthogonal.
                let zeta = (beta - alpha) / (2.0 * gamma);
                let tangent = if zeta.abs() < 1e100 {
                    1.0 / (zeta + (1.0 + zeta * zeta).sqrt().copysign(zeta))
                } else {
                    0.5 / zeta
                };
                let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
                let sine = cosine * tangent;
                let (x, y) = two_rows(columns, p, q);
                rotate(x, y, cosine, sine);
                let change = tangent * gamma;
                squares[p] = alpha - change;
                // A difference that lost digits is computed again.
                squares[q] = if beta + change > 0.1 * beta { beta + change } else { dot(y, y) };
                if let Some(right) = right.as_deref_mut() {
                    let (x, y) = two_rows(right, p, q);
                    rotate(x, y, cosine, sine);
                }
            }
        }
        if !changed {
            return Ok(());
        }
    }
    Err(SolveError::NotConverged)
}

/// Makes row `j` a unit vector orthogonal to the rows above, which are orthonormal.
fn complete<const N: usize>(rows: &mut Square<N>, length: usize, j: usize) {
    let mut best = ([0.0; N], 0.0);
    for k in 0..length {
        let mut candidate = [0.0; N];
        candidate[k] = 1.0;
        for row in &rows[..j] {
            let projection = dot(row, &candidate);
            add_multiple(&mut candidate, -projection, row);
        }
        let norm = euclidean_norm(&candidate);
        if norm > best.1 {
            best = (candidate, norm);
        }
    }
    // There are fewer rows above than dimensions, so at least 1 / √length of the length of some unit vector is left.
    // That is too much for rounding errors to matter.
    rows[j] = best.0.map(|x| x / best.1);
}
