//! Direct methods for small matrices: on the stack, without allocation.
//!
//! A matrix of at most `N` rows and columns is stored in the leading part of an array of `N` rows of `N` entries. The
//! rest is zero, so that loops over whole rows have a length that the compiler knows. Above [`MAX_DIMENSION`], the
//! problems use faer, against which these methods are also tested.

mod jacobi;
mod lu;
mod tridiagonal;

use faer::{Mat, MatRef};

use crate::SolveError;

pub(crate) use jacobi::singular_value_decomposition;
pub(crate) use lu::Lu;
pub(crate) use tridiagonal::symmetric_eigen;

/// The largest number of rows and columns for the methods of this module.
///
/// The paper's largest matrices have 20; from about 50 on, blocked algorithms would be faster.
pub(crate) const MAX_DIMENSION: usize = 32;

/// `N` rows of `N` entries.
pub(crate) type Square<const N: usize> = [[f64; N]; N];

/// A sum of squares of scaled numbers that is below this counts as zero. Its relative error is larger than that of
/// rounding, since its terms may be subnormal (2⁻¹⁰²² ≈ 10⁻³⁰⁸, and 10⁻³⁰⁸ / ε ≈ 10⁻²⁹²).
const NEGLIGIBLE_SQUARE: f64 = 1e-290;

/// Calls a method with the smallest capacity that holds `n` rows and columns, or evaluates the last expression if there
/// is none.
macro_rules! with_capacity {
    ($n:expr, $method:ident($($argument:expr),*), else $large:expr) => {
        match $n {
            0..=4 => $method::<4>($($argument),*),
            5..=6 => $method::<6>($($argument),*),
            7..=8 => $method::<8>($($argument),*),
            9..=12 => $method::<12>($($argument),*),
            13..=20 => $method::<20>($($argument),*),
            21..=$crate::solvers::small::MAX_DIMENSION => $method::<{ $crate::solvers::small::MAX_DIMENSION }>($($argument),*),
            _ => $large,
        }
    };
}
pub(crate) use with_capacity;

/// An array with these entries in its first rows and columns, and zeros in the others.
pub(crate) fn from_fn<const N: usize>(
    (rows, columns): (usize, usize),
    entry: impl Fn(usize, usize) -> f64,
) -> Square<N> {
    let mut array = [[0.0; N]; N];
    for (i, row) in array.iter_mut().enumerate().take(rows) {
        for (j, x) in row.iter_mut().enumerate().take(columns) {
            *x = entry(i, j);
        }
    }
    array
}

/// The matrix times `scale`, with its rows in the rows of the array.
pub(crate) fn rows_of<const N: usize>(matrix: MatRef<'_, f64>, scale: f64) -> Square<N> {
    from_fn(matrix.shape(), |i, j| scale * matrix[(i, j)])
}

/// Entry `(i, j)` of the symmetric part of the matrix times `scale`.
pub(crate) fn symmetric_entry(matrix: MatRef<'_, f64>, scale: f64, i: usize, j: usize) -> f64 {
    // Both terms are less than 2 after scaling, so the sum does not overflow.
    0.5 * (scale * matrix[(i, j)] + scale * matrix[(j, i)])
}

/// The identity with `n` rows.
pub(crate) fn identity<const N: usize>(n: usize) -> Square<N> {
    from_fn((n, n), |i, j| if i == j { 1.0 } else { 0.0 })
}

/// Two different rows, the first one above the second.
fn two_rows<const N: usize>(rows: &mut Square<N>, upper: usize, lower: usize) -> (&mut [f64; N], &mut [f64; N]) {
    let (head, tail) = rows.split_at_mut(lower);
    (&mut head[upper], &mut tail[0])
}

/// xᵀy, in four partial sums, so that the processor adds in parallel.
fn dot<const N: usize>(x: &[f64; N], y: &[f64; N]) -> f64 {
    let mut sums = [0.0; 4];
    let (quads_x, rest_x) = x.as_chunks::<4>();
    let (quads_y, rest_y) = y.as_chunks::<4>();
    for (x, y) in quads_x.iter().zip(quads_y) {
        for lane in 0..4 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    for (lane, (x, y)) in rest_x.iter().zip(rest_y).enumerate() {
        sums[lane] += x * y;
    }
    (sums[0] + sums[2]) + (sums[1] + sums[3])
}

/// ‖x‖₂, for entries of any size.
fn euclidean_norm<const N: usize>(x: &[f64; N]) -> f64 {
    let square = dot(x, x);
    if square >= NEGLIGIBLE_SQUARE {
        return square.sqrt();
    }
    let largest = x.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
    if largest < f64::MIN_POSITIVE {
        return largest;
    }
    let scaled = x.map(|x| x / largest);
    largest * dot(&scaled, &scaled).sqrt()
}

/// y ← y + αx.
fn add_multiple<const N: usize>(y: &mut [f64; N], alpha: f64, x: &[f64; N]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += alpha * x;
    }
}

/// Applies the plane rotation with this cosine and sine to two vectors: (x, y) ← (cx - sy, sx + cy).
fn rotate<const N: usize>(x: &mut [f64; N], y: &mut [f64; N], cosine: f64, sine: f64) {
    for (x, y) in x.iter_mut().zip(y) {
        (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
    }
}

/// A power of two that brings the largest magnitude of the entries into `[1, 2)`; 1 for a zero matrix. All entries must
/// be finite.
///
/// Multiplying by it is exact, so solvers need not consider the range of `f64`, and answers to A and 2ᵏA agree bit for
/// bit. If the largest magnitude is subnormal, it is brought as near as one exact multiplication can.
pub(crate) fn power_of_two_scale(matrix: MatRef<'_, f64>) -> f64 {
    let largest = largest_magnitude(matrix);
    if largest == 0.0 {
        return 1.0;
    }
    // The exponent field of a finite number, 0 for a subnormal one; the reciprocal of the power has the exponent -e.
    let exponent = (largest.to_bits() >> 52) as i32 - 1023;
    power_of_two((-exponent).min(1023))
}

/// A power of two that brings the largest and the smallest magnitude of the entries that are not zero to equal
/// distances from 1, so that a matrix and the inverses of its entries are in range; 1 for a zero matrix.
pub(crate) fn power_of_two_centering(matrix: MatRef<'_, f64>) -> f64 {
    let magnitudes = matrix.col_iter().flat_map(|column| column.iter()).map(|x| x.abs()).filter(|&x| x > 0.0);
    let (smallest, largest) =
        magnitudes.fold((f64::INFINITY, 0.0), |(smallest, largest), x| (f64::min(smallest, x), f64::max(largest, x)));
    if largest == 0.0 {
        return 1.0;
    }
    let exponent = |x: f64| x.log2().floor() as i32;
    power_of_two((-(exponent(smallest) + exponent(largest)).div_euclid(2)).clamp(-1023, 1023))
}

/// A power of two for each column, which brings its largest magnitude into `[1, 2)`; 1 for a zero column.
///
/// Elimination with partial pivoting takes the same steps on columns scaled in this way, to the last bit. It stays in
/// range, since each of its steps at most doubles the entries.
pub(crate) fn column_scales(matrix: MatRef<'_, f64>) -> impl Iterator<Item = f64> {
    (0..matrix.ncols()).map(move |j| power_of_two_scale(matrix.subcols(j, 1)))
}

/// The first rows and columns of the array hold the matrix with its columns scaled by [`column_scales`].
pub(crate) fn scaled_columns<const N: usize>(matrix: MatRef<'_, f64>) -> (Square<N>, [f64; N]) {
    let mut scales = [1.0; N];
    for (scale, of_column) in scales.iter_mut().zip(column_scales(matrix)) {
        *scale = of_column;
    }
    (from_fn(matrix.shape(), |i, j| scales[j] * matrix[(i, j)]), scales)
}

/// Does the same as [`scaled_columns`] for matrices of any size.
pub(crate) fn scaled_columns_of_large(matrix: MatRef<'_, f64>) -> (Mat<f64>, Vec<f64>) {
    let scales: Vec<f64> = column_scales(matrix).collect();
    (Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| scales[j] * matrix[(i, j)]), scales)
}

/// 2ᵏ for -1023 ≤ k ≤ 1023.
pub(crate) fn power_of_two(k: i32) -> f64 {
    debug_assert!((-1023..=1023).contains(&k), "the exponent of a normal number or its negative: {k}");
    // The exponent field; the smallest power is subnormal, with one bit in the fraction.
    if k == -1023 { 0.5 * f64::MIN_POSITIVE } else { f64::from_bits(((k + 1023) as u64) << 52) }
}

/// The largest magnitude of the entries; 0 for a matrix without entries.
pub(crate) fn largest_magnitude(matrix: MatRef<'_, f64>) -> f64 {
    matrix.col_iter().flat_map(|column| column.iter()).fold(0.0, |largest, x| x.abs().max(largest))
}

/// The relative difference between an entry and its mirror image that counts as rounding. It is far above the rounding
/// errors of the sums that an entry may come from, and far below what [`MAX_RESIDUAL`](crate::MAX_RESIDUAL) admits.
const SYMMETRY_TOLERANCE: f64 = 1e-12;

/// Checks that a square matrix of finite entries is symmetric up to rounding.
///
/// The difference of each pair is compared with the pair's own size, so that a large entry elsewhere hides nothing. A
/// pair that differs from zero only by rounding has no size of its own. It may differ by n ε √(rᵢ rⱼ), the rounding
/// error of a sum of products of entries of its rows, where rᵢ and rⱼ are the largest entries of these rows.
pub(crate) fn require_symmetric(matrix: MatRef<'_, f64>) -> Result<(), SolveError> {
    let n = matrix.nrows();
    for i in 1..n {
        for j in 0..i {
            let (value, mirrored) = (matrix[(i, j)], matrix[(j, i)]);
            // The values are halved, so that the difference does not overflow.
            let difference = 2.0 * (0.5 * value - 0.5 * mirrored).abs();
            if difference <= SYMMETRY_TOLERANCE * f64::max(value.abs(), mirrored.abs()) {
                continue;
            }
            let root_of_row = |i: usize| largest_magnitude(matrix.subrows(i, 1)).sqrt();
            if difference > n as f64 * f64::EPSILON * root_of_row(i) * root_of_row(j) {
                return Err(SolveError::NotSymmetric { row: i, column: j, value, mirrored });
            }
        }
    }
    Ok(())
}

/// Gives the matrix these rows and columns; its entries are then unspecified.
pub(crate) fn reshape(matrix: &mut Mat<f64>, (rows, columns): (usize, usize)) {
    if matrix.shape() != (rows, columns) {
        matrix.resize_with(rows, columns, |_, _| 0.0);
    }
}

#[cfg(test)]
mod tests {
    use faer::mat;

    use super::*;

    #[test]
    fn scaled_entries_are_near_one() {
        for x in [1.0, 1.999, 2.0, 0.3, 1e-150, 1e150, f64::MIN_POSITIVE, f64::MAX] {
            let scale = power_of_two_scale(mat![[0.0, -x]].as_ref());
            assert!((1.0..2.0).contains(&(scale * x)), "{x:e}: {scale:e}");
            assert_eq!((scale * x / scale).to_bits(), x.to_bits());
        }
        assert_eq!(power_of_two_scale(mat![[0.0, 0.0]].as_ref()).to_bits(), 1.0_f64.to_bits());
        assert_eq!(power_of_two_scale(Mat::new().as_ref()).to_bits(), 1.0_f64.to_bits());
        // The smallest number of all is 2^-1074.
        let scale = power_of_two_scale(mat![[5e-324]].as_ref());
        assert_eq!((scale * 5e-324).to_bits(), 2.0_f64.powi(-51).to_bits());
    }

    #[test]
    fn powers_are_exact() {
        for k in -1023..=1023 {
            assert_eq!(power_of_two(k).to_bits(), 2.0_f64.powi(k).to_bits(), "{k}");
        }
    }

    #[test]
    fn rounding_is_symmetric_and_noise_is_not() {
        assert_eq!(require_symmetric(mat![[1.0, 2.0], [2.0 * (1.0 + 1e-15), 4.0]].as_ref()), Ok(()));
        let expected = SolveError::NotSymmetric { row: 1, column: 0, value: 2.001, mirrored: 2.0 };
        assert_eq!(require_symmetric(mat![[1.0, 2.0], [2.001, 4.0]].as_ref()), Err(expected));
        let huge = f64::MAX;
        assert!(require_symmetric(mat![[1.0, huge], [-huge, 4.0]].as_ref()).is_err());
        // What rounding in a sum of products leaves of a zero.
        let noise = f64::EPSILON;
        assert_eq!(require_symmetric(mat![[1.0, noise], [-0.5 * noise, 1.0]].as_ref()), Ok(()));
    }

    #[test]
    fn asymmetry_does_not_hide_beside_a_large_entry() {
        for large in [1e3, 1e8, 1e16, 1e300] {
            let at = |row, column, value, mirrored| Err(SolveError::NotSymmetric { row, column, value, mirrored });
            let beside = mat![[large, 0.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]];
            assert_eq!(require_symmetric(beside.as_ref()), at(2, 1, 0.0, 0.5));
            let coupled = mat![[large, 1.0, 0.0], [1.0, 1.0, 1e-9], [0.0, -1e-9, 1.0]];
            assert_eq!(require_symmetric(coupled.as_ref()), at(2, 1, -1e-9, 1e-9));
        }
    }

    #[test]
    fn a_dot_product_has_every_term() {
        let (x, y) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6]);
        assert_eq!(dot(&x, &y).to_bits(), 7_654_321.0_f64.to_bits());
    }
}
