//! Eigenvalues and eigenvectors of a symmetric matrix.

use crate::SolveError;

use super::{NEGLIGIBLE_SQUARE, Square, add_multiple, dot, identity, rotate, two_rows};

/// The number of QL steps allowed for each eigenvalue. Two or three are usual; thirty is the customary limit.
const MAX_STEPS: usize = 30;

/// Eigenvalues of the symmetric matrix in the leading `n` rows and columns of `a`, in ascending order. Its eigenvectors
/// are written into the rows of `vectors`, if it is given.
///
/// The algorithm is Householder's reduction to tridiagonal form, then implicit QL steps with Wilkinson's shift. Entries
/// should be of order 1. `a` is overwritten.
///
/// # Errors
/// When it takes too many steps ([`SolveError::NotConverged`]).
///
/// # Reference
/// Golub and Van Loan (2013), *Matrix Computations*, 4th edition, sections 8.3.1 and 8.3.5.
pub(crate) fn symmetric_eigen<const N: usize>(
    a: &mut Square<N>,
    n: usize,
    mut vectors: Option<&mut Square<N>>,
) -> Result<[f64; N], SolveError> {
    let (mut diagonal, mut off_diagonal) = ([0.0; N], [0.0; N]);
    if n == 0 {
        return Ok(diagonal);
    }
    if let Some(vectors) = vectors.as_deref_mut() {
        *vectors = identity(n);
    }
    tridiagonalise(a, n, &mut diagonal, &mut off_diagonal, vectors.as_deref_mut());
    diagonalise(n, &mut diagonal, &mut off_diagonal, vectors.as_deref_mut())?;
    sort(n, &mut diagonal, vectors);
    Ok(diagonal)
}

/// Reduces `a` to the tridiagonal T = QᵀAQ with Householder's reflections H = I - τvvᵀ, and multiplies `vectors` by Qᵀ
/// from the left. `off_diagonal[k]` stands between `diagonal[k]` and `diagonal[k + 1]`.
fn tridiagonalise<const N: usize>(
    a: &mut Square<N>,
    n: usize,
    diagonal: &mut [f64; N],
    off_diagonal: &mut [f64; N],
    mut vectors: Option<&mut Square<N>>,
) {
    for k in 0..n - 1 {
        diagonal[k] = a[k][k];
        // Row k right of the diagonal becomes a multiple of the first unit vector.
        let mut v = a[k];
        v[..=k].fill(0.0);
        let head = v[k + 1];
        v[k + 1] = 0.0;
        let square = dot(&v, &v);
        if square < NEGLIGIBLE_SQUARE {
            off_diagonal[k] = head;
            continue;
        }
        let length = -(head * head + square).sqrt().copysign(head);
        off_diagonal[k] = length;
        let tau = (length - head) / length;
        let factor = 1.0 / (head - length);
        v.iter_mut().for_each(|x| *x *= factor);
        v[k + 1] = 1.0;

        // With p = τ A v and w = p - τ/2 (pᵀv) v, the reflected matrix is A - v wᵀ - w vᵀ.
        let mut w = [0.0; N];
        for i in k + 1..n {
            add_multiple(&mut w, tau * v[i], &a[i]);
        }
        w[..=k].fill(0.0);
        let correction = -0.5 * tau * dot(&w, &v);
        add_multiple(&mut w, correction, &v);
        for i in k + 1..n {
            let (v_i, w_i) = (v[i], w[i]);
            for j in 0..N {
                a[i][j] -= v_i * w[j] + w_i * v[j];
            }
        }
        if let Some(vectors) = vectors.as_deref_mut() {
            let mut product = [0.0; N];
            for i in k + 1..n {
                add_multiple(&mut product, tau * v[i], &vectors[i]);
            }
            for i in k + 1..n {
                add_multiple(&mut vectors[i], -v[i], &product);
            }
        }
    }
    diagonal[n - 1] = a[n - 1][n - 1];
}

/// Reduces a tridiagonal matrix to its eigenvalues, and rotates the rows of `vectors` with it.
fn diagonalise<const N: usize>(
    n: usize,
    diagonal: &mut [f64; N],
    off_diagonal: &mut [f64; N],
    mut vectors: Option<&mut Square<N>>,
) -> Result<(), SolveError> {
    for first in 0..n {
        for step in 0.. {
            // The leading block that no negligible entry divides.
            let negligible = |k: &usize| {
                let size = diagonal[*k].abs() + diagonal[*k + 1].abs();
                off_diagonal[*k].abs() <= f64::EPSILON * size || off_diagonal[*k].powi(2) < NEGLIGIBLE_SQUARE
            };
            let last = (first..n - 1).find(negligible).unwrap_or(n - 1);
            if last == first {
                break;
            }
            if step == MAX_STEPS {
                return Err(SolveError::NotConverged);
            }
            if step == 0 && diagonal[last].abs() < diagonal[first].abs() {
                // The steps find eigenvalues from the first row on. They find small ones accurately only if these come
                // first.
                reverse(first, last, diagonal, off_diagonal, vectors.as_deref_mut());
            }
            ql_step(first, last, diagonal, off_diagonal, vectors.as_deref_mut());
        }
    }
    Ok(())
}

/// Reverses the order of the rows and columns of a block.
fn reverse<const N: usize>(
    first: usize,
    last: usize,
    diagonal: &mut [f64; N],
    off_diagonal: &mut [f64; N],
    vectors: Option<&mut Square<N>>,
) {
    diagonal[first..=last].reverse();
    off_diagonal[first..last].reverse();
    if let Some(vectors) = vectors {
        vectors[first..=last].reverse();
    }
}

/// One implicit QL step on the block from `first` to `last`.
fn ql_step<const N: usize>(
    first: usize,
    last: usize,
    diagonal: &mut [f64; N],
    off_diagonal: &mut [f64; N],
    mut vectors: Option<&mut Square<N>>,
) {
    // Wilkinson's shift: the eigenvalue of the leading 2x2 block that is nearer to its first entry.
    let half = (diagonal[first + 1] - diagonal[first]) / (2.0 * off_diagonal[first]);
    let root = if half.abs() < 1e100 { (half * half + 1.0).sqrt() } else { half.abs() };
    let shift = diagonal[first] - off_diagonal[first] / (half + root.copysign(half));

    // The bulge moves up from the last row. `g` is the entry that is rotated next, and `p` is what the diagonal still
    // gains.
    let mut g = diagonal[last] - shift;
    let (mut sine, mut cosine, mut p) = (1.0, 1.0, 0.0);
    for i in (first..last).rev() {
        let f = sine * off_diagonal[i];
        let b = cosine * off_diagonal[i];
        let square = f * f + g * g;
        if square < NEGLIGIBLE_SQUARE {
            // The rows above i + 1 have separated from those below. The previous rotation also changed the entry
            // between them, whose sign may have changed.
            off_diagonal[i] = b;
            off_diagonal[i + 1] = 0.0;
            diagonal[i + 1] -= p;
            off_diagonal[last] = 0.0;
            return;
        }
        let length = square.sqrt();
        let inverse = 1.0 / length;
        off_diagonal[i + 1] = length;
        (sine, cosine) = (f * inverse, g * inverse);
        let rest = diagonal[i + 1] - p;
        let r = (diagonal[i] - rest) * sine + 2.0 * cosine * b;
        p = sine * r;
        diagonal[i + 1] = rest + p;
        g = cosine * r - b;
        if let Some(vectors) = vectors.as_deref_mut() {
            let (upper, lower) = two_rows(vectors, i, i + 1);
            rotate(upper, lower, cosine, sine);
        }
    }
    diagonal[first] -= p;
    off_diagonal[first] = g;
    off_diagonal[last] = 0.0;
}

/// Brings the eigenvalues into ascending order, and the vectors with them.
fn sort<const N: usize>(n: usize, values: &mut [f64; N], mut vectors: Option<&mut Square<N>>) {
    for i in 0..n {
        let smallest = (i + 1..n).fold(i, |smallest, j| if values[j] < values[smallest] { j } else { smallest });
        if smallest != i {
            values.swap(i, smallest);
            if let Some(vectors) = vectors.as_deref_mut() {
                vectors.swap(i, smallest);
            }
        }
    }
}
