//! The determinant and the trace.

use faer::{Mat, MatRef};

use crate::solve_error::require_square;
use crate::solvers::dense::{product, require_method};
use crate::solvers::small::{
    Lu, power_of_two, power_of_two_scale, reshape, scaled_columns, scaled_columns_of_large, with_capacity,
};
use crate::{Magnitudes, Problem, SolveError, require_finite, require_representable};

use super::inverse::invert;

/// The determinant of a square matrix: from n × n to 1 × 1.
///
/// A candidate is compared with the target. The algorithm is LU decomposition with partial pivoting. A determinant
/// below the range of `f64` is rounded to zero, and one above it is [`SolveError::Overflow`]. A determinant that is no
/// larger than a bound on its rounding errors is set to zero, for example that of a singular matrix of integers.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{Determinant, Problem};
///
/// assert_eq!(Determinant.solve(mat![[4.0, 2.0], [1.0, 3.0]].as_ref())?, mat![[10.0]]);
/// assert_eq!(Determinant.solve(mat![[0.1, 0.3], [0.2, 0.6]].as_ref())?, mat![[0.0]]);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Golub and Van Loan (2013), *Matrix Computations*, 4th edition, section 3.2; Higham (2002), *Accuracy and Stability
/// of Numerical Algorithms*, theorem 9.3, for the rounding errors.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Determinant;

/// The trace of a square matrix: from n × n to 1 × 1.
///
/// A candidate is compared with the target.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{Problem, Trace};
///
/// assert_eq!(Trace.solve(mat![[4.0, 2.0], [1.0, 3.0]].as_ref())?, mat![[7.0]]);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace;

impl Problem for Determinant {
    fn name(&self) -> &'static str {
        "determinant"
    }

    fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
        require_square(input)?;
        Ok((1, 1))
    }

    fn output_magnitudes(&self, (rows, _): (usize, usize), entries: Magnitudes) -> Magnitudes {
        // Hadamard's bound is the product of the Euclidean norms of the columns. It is at least 1 here, as for the
        // empty matrix, so that larger matrices have no smaller bound.
        let largest = entries.largest.map(|bound| (bound * (rows as f64).sqrt()).max(1.0).powi(rows as i32));
        Magnitudes::at_most(largest.filter(|largest| largest.is_finite()))
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let shape = self.output_shape(input.shape())?;
        require_finite(input)?;
        require_method(input.shape())?;
        reshape(output, shape);
        let mut found = determinant(input);
        if !found.value.is_larger_than(found.bound.times(DIGITS)) {
            // The transpose has other pivots, which may suit its rows better.
            let of_transpose = determinant(input.transpose());
            if found.bound.is_larger_than(of_transpose.bound) {
                found = of_transpose;
            }
        }
        // The bound grows faster with the dimension than the errors do. A matrix with a trustworthy inverse is not
        // singular, and its pivots have the digits that the inverse has.
        let is_zero = !found.value.is_larger_than(found.bound)
            && invert(input, &mut Mat::zeros(input.nrows(), input.ncols())).is_err();
        output[(0, 0)] = if is_zero { 0.0 } else { found.value.to_f64() };
        require_representable(output.as_ref())
    }
}

impl Problem for Trace {
    fn name(&self) -> &'static str {
        "trace"
    }

    fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
        require_square(input)?;
        Ok((1, 1))
    }

    fn output_magnitudes(&self, (rows, _): (usize, usize), entries: Magnitudes) -> Magnitudes {
        Magnitudes::at_most(entries.largest.map(|bound| rows as f64 * bound))
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let shape = self.output_shape(input.shape())?;
        require_finite(input)?;
        reshape(output, shape);
        // The entries are scaled, so that no partial sum overflows unless the trace does.
        let scale = power_of_two_scale(input.diagonal().column_vector().as_mat());
        output[(0, 0)] = (0..input.nrows()).map(|i| scale * input[(i, i)]).sum::<f64>() / scale;
        require_representable(output.as_ref())
    }
}

/// A determinant that exceeds the bound on its rounding errors this many times is good enough.
const DIGITS: f64 = 1e10;

/// A determinant that elimination has found.
struct Found {
    value: WideProduct,
    /// A bound on its rounding errors.
    bound: WideProduct,
}

fn determinant(input: MatRef<'_, f64>) -> Found {
    with_capacity!(input.nrows(), small_determinant(input), else large_determinant(input))
}

fn small_determinant<const N: usize>(input: MatRef<'_, f64>) -> Found {
    let n = input.nrows();
    let (a, scales) = scaled_columns::<N>(input);
    let lu = Lu::new(a, n);
    let value = lu.pivots().fold(WideProduct::ONE, WideProduct::times);
    Found { value, bound: rounding_bound(lu.row_norms(&a)) }.divided_by(&scales[..n])
}

fn large_determinant(input: MatRef<'_, f64>) -> Found {
    let n = input.nrows();
    let (a, scales) = scaled_columns_of_large(input);
    let lu = a.partial_piv_lu();
    // The sign of a permutation: each cycle of even length changes it.
    let permutation = lu.P().arrays().0;
    let mut seen = vec![false; permutation.len()];
    let mut sign = 1.0;
    for start in 0..permutation.len() {
        let mut length = 0;
        let mut at = start;
        while !seen[at] {
            seen[at] = true;
            at = permutation[at];
            length += 1;
        }
        if length > 0 && length % 2 == 0 {
            sign = -sign;
        }
    }
    let (l, u) = (lu.L(), lu.U());
    let pivots = (0..n).map(|i| u[(i, i)]);
    // The entries after a zero pivot were divided by it.
    if pivots.clone().any(|pivot| pivot == 0.0) {
        let zero = WideProduct::ONE.times(0.0);
        return Found { value: zero, bound: zero };
    }
    let value = pivots.fold(WideProduct::ONE.times(sign), WideProduct::times);
    let magnitudes = |x: MatRef<'_, f64>| Mat::from_fn(n, n, |i, j| x[(i, j)].abs());
    let (permuted, bounds) = (product(l, u), product(magnitudes(l).as_ref(), magnitudes(u).as_ref()));
    let bound = rounding_bound((0..n).map(|i| (permuted.row(i).norm_l2(), bounds.row(i).norm_l2())));
    Found { value, bound }.divided_by(&scales)
}

impl Found {
    /// The same for the matrix before its columns were multiplied by these powers of two.
    fn divided_by(self, scales: &[f64]) -> Self {
        Self { value: self.value.divided_by(scales), bound: self.bound.divided_by(scales) }
    }
}

/// A bound on the rounding errors of a determinant, from the Euclidean norms of the rows of PA and of |L| |U|.
///
/// Elimination finds the determinant of A + E with |E| ≤ (n/2) ε Pᵀ|L| |U|. The bound leaves as much again for the
/// rounding of the entries and of the product of the pivots. The columns are scaled, so their units do not matter; the
/// units of the rows cancel. To first order, row i of E changes the determinant by at most its norm times the norms of
/// the other rows of A, as in Hadamard's inequality.
fn rounding_bound(row_norms: impl Iterator<Item = (f64, f64)>) -> WideProduct {
    let (mut product, mut sum, mut n) = (WideProduct::ONE, 0.0, 0);
    for (of_row, of_bound) in row_norms {
        product = product.times(of_row);
        sum += of_bound / of_row;
        n += 1;
    }
    product.times(f64::from(n) * f64::EPSILON * sum)
}

/// A product of finite numbers, with an exponent of its own so that no partial product leaves the range of `f64`.
#[derive(Copy, Clone, Debug)]
struct WideProduct {
    /// Zero, or of magnitude in `[1, 2)`.
    significand: f64,
    /// The power of two it is multiplied by.
    exponent: i64,
}

impl WideProduct {
    const ONE: Self = Self { significand: 1.0, exponent: 0 };

    fn times(self, factor: f64) -> Self {
        // Subnormal numbers first become normal ones.
        let (factor, shift) = if factor.is_subnormal() { (factor * power_of_two(54), -54) } else { (factor, 0) };
        let (a, e) = split(factor);
        let (significand, carry) = split(self.significand * a);
        Self { significand, exponent: self.exponent + e + carry + shift }
    }

    /// The product divided by powers of two.
    fn divided_by(self, powers: &[f64]) -> Self {
        Self { exponent: self.exponent - powers.iter().map(|&power| split(power).1).sum::<i64>(), ..self }
    }

    /// Whether the magnitude of this product is larger than that of `other`, which must not be zero.
    fn is_larger_than(self, other: Self) -> bool {
        self.significand != 0.0 && (self.exponent, self.significand.abs()) > (other.exponent, other.significand.abs())
    }

    fn to_f64(self) -> f64 {
        // This takes two steps, since a single factor may be out of range although the result is not.
        let exponent = self.exponent.clamp(-2200, 2200) as i32;
        let half = exponent / 2;
        self.significand * power_of_two(half.clamp(-1022, 1023)) * power_of_two((exponent - half).clamp(-1022, 1023))
    }
}

/// A number of magnitude in `[1, 2)` and the exponent of the power of two to multiply it by. Zero, infinities and NaN
/// stay as they are.
fn split(x: f64) -> (f64, i64) {
    if x == 0.0 || !x.is_finite() {
        return (x, 0);
    }
    let exponent = ((x.to_bits() >> 52) & 0x7ff) as i64 - 1023;
    (x * power_of_two(-exponent as i32), exponent)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "determinants of these matrices are exact")]
mod tests {
    use faer::{Scale, mat};
    use numformer_testkit::cases;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::testing::{assert_solved, assert_zero_is_wrong, size, uniform, well_conditioned, wild};
    use crate::{Eigenvalues, Inversion, Law, LowRank};

    /// The bound on determinants of matrices of this shape.
    fn largest(shape: (usize, usize), bound: f64) -> f64 {
        Determinant.output_magnitudes(shape, Magnitudes::at_most(bound)).largest.expect("no overflow")
    }

    fn determinant(a: &Mat<f64>) -> f64 {
        Determinant.solve(a.as_ref()).unwrap()[(0, 0)]
    }

    #[test]
    fn permutations_have_the_determinant_of_their_sign() {
        // Cycles of every length; a cycle of even length is an odd permutation.
        for n in (1..=9).chain([33, 40]) {
            let cycle = Mat::from_fn(n, n, |i, j| if (i + 1) % n == j { 1.0 } else { 0.0 });
            assert_eq!(determinant(&cycle), if n % 2 == 0 { -1.0 } else { 1.0 }, "{n}");
        }
        assert_eq!(determinant(&Mat::new()), 1.0);
        assert_eq!(determinant(&Mat::zeros(3, 3)), 0.0);
        assert_eq!(determinant(&Mat::zeros(40, 40)), 0.0);
        assert_eq!(Trace.solve(Mat::new().as_ref()), Ok(mat![[0.0]]));
    }

    #[test]
    fn only_the_result_must_be_in_range() {
        // Partial products of the pivots leave the range in both directions.
        let pivots = [1e-200, 1e-200, 1e200, 1e200, 3.0];
        let diagonal = Mat::from_fn(5, 5, |i, j| if i == j { pivots[i] } else { 0.0 });
        assert!((determinant(&diagonal) - 3.0).abs() < 1e-14);
        assert_eq!(Determinant.solve((Scale(1e200) * Mat::<f64>::identity(2, 2)).as_ref()), Err(SolveError::Overflow));
        assert_eq!(determinant(&(Scale(1e-200) * Mat::<f64>::identity(2, 2))), 0.0);
        assert_eq!(determinant(&mat![[5e-324]]), 5e-324);
        assert_eq!(determinant(&mat![[f64::MAX]]), f64::MAX);
        assert_eq!(
            Trace.solve(mat![[1e308, 0.0, 0.0], [0.0, 1e308, 0.0], [0.0, 0.0, -1e308]].as_ref()),
            Ok(mat![[1e308]])
        );
        assert_eq!(Trace.solve((Scale(f64::MAX) * Mat::<f64>::identity(2, 2)).as_ref()), Err(SolveError::Overflow));
        assert_eq!(Determinant.output_magnitudes((200, 200), Magnitudes::at_most(1e10)), Magnitudes::ANY);
    }

    #[test]
    fn elimination_at_the_end_of_the_range_does_not_overflow() {
        // The second pivot is twice the largest number; the determinant, scaled into range, is 2.
        let a = mat![[1e308, 1e308], [-1e308, 1e308]];
        assert_eq!(Determinant.solve(a.as_ref()), Err(SolveError::Overflow));
        let a = mat![[1e308, 1e308, 0.0], [-1e308, 1e308, 0.0], [0.0, 0.0, 1e-316]];
        assert_eq!(Determinant.solve(a.as_ref()).map(|x| x[(0, 0)].is_finite()), Ok(true));
    }

    #[test]
    fn what_rounding_leaves_of_a_zero_is_zero() {
        let singular = [
            mat![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]],
            mat![[0.1, 0.3], [0.2, 0.6]],
            mat![[3.0, 2.0, 1.0], [2.0, 2.0, 0.0], [1.0, 0.0, 1.0]],
            Mat::from_fn(40, 40, |i, j| (i + j) as f64),
        ];
        for a in singular {
            let n = a.nrows();
            assert_eq!(determinant(&a), 0.0, "{a:?}");
            // The result holds for any units of rows and columns.
            let graded = Mat::from_fn(n, n, |i, j| a[(i, j)] * 3_f64.powi(7 * i as i32 - 5 * j as i32));
            assert_eq!(determinant(&graded), 0.0, "{graded:?}");
        }
        // Small determinants that are not noise.
        assert_eq!(determinant(&mat![[1.0, 1e-16], [1.0, 2e-16]]), 1e-16);
        assert_eq!(determinant(&mat![[1e-16, 2e-16], [1.0, 1.0]]), -1e-16);
        assert!((determinant(&mat![[1e16, 1.0], [1.0, 2e-16]]) - 1.0).abs() < 1e-12);
        assert_eq!(determinant(&mat![[1.0, 1e-200], [1e-200, 1e-200]]), 1e-200);
        // Elimination multiplies rounding errors here, but elimination of the transpose does not.
        let graded = mat![[1.0, 1.0, 0.0], [0.0, 6.73e-16, 0.0], [0.0, 1.05e-15, 1.0]];
        assert!((determinant(&graded) / 6.73e-16 - 1.0).abs() < 1e-12);
        assert!((determinant(&graded.transpose().to_owned()) / 6.73e-16 - 1.0).abs() < 1e-12);
    }

    /// Computes the determinant by elimination without fractions, in integers.
    fn exact_determinant(a: &Mat<f64>) -> i128 {
        let n = a.nrows();
        let mut rows: Vec<Vec<i128>> = a.row_iter().map(|row| row.iter().map(|&x| x as i128).collect()).collect();
        let (mut previous, mut sign) = (1, 1);
        for k in 0..n {
            let Some(pivot) = (k..n).find(|&i| rows[i][k] != 0) else { return 0 };
            if pivot != k {
                rows.swap(pivot, k);
                sign = -sign;
            }
            for i in k + 1..n {
                for j in k + 1..n {
                    rows[i][j] = (rows[i][j] * rows[k][k] - rows[i][k] * rows[k][j]) / previous;
                }
            }
            previous = rows[k][k];
        }
        sign * previous
    }

    #[test]
    fn determinants_of_integers_of_every_rank_are_theirs() {
        for (n, bound) in [(2, 10.0), (3, 99.0), (5, 10.0), (5, 20.0), (5, 100.0), (5, 999.0), (7, 50.0)] {
            let law = LowRank::new(n, n, bound).unwrap();
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            for _ in 0..1000 {
                let a = Law::sample(&law, &mut rng);
                let (found, expected) = (determinant(&a), exact_determinant(&a) as f64);
                // Zero exactly, or right to many digits.
                assert!((found - expected).abs() <= 1e-9 * expected.abs(), "{found} and {expected} of {a:?}");
            }
        }
    }

    #[test]
    fn bounds_grow_with_the_dimension() {
        for bound in [1e-3, 0.5, 1.0, 10.0] {
            let bounds: Vec<f64> = (0..9).map(|n| largest((n, n), bound)).collect();
            assert!(bounds.is_sorted(), "{bounds:?}");
        }
    }

    #[test]
    fn input_is_checked() {
        for problem in [&Determinant as &dyn Problem, &Trace] {
            assert!(matches!(problem.solve(Mat::zeros(2, 3).as_ref()), Err(SolveError::Shape { .. })));
            assert!(matches!(problem.solve(mat![[f64::NAN]].as_ref()), Err(SolveError::NotFinite { .. })));
        }
        assert_zero_is_wrong(&Determinant, mat![[4.0, 2.0], [1.0, 3.0]].as_ref());
        assert_zero_is_wrong(&Trace, mat![[4.0, 2.0], [1.0, 3.0]].as_ref());
    }

    /// For large matrices, the bound exceeds the determinant, although the determinant has many digits.
    #[test]
    fn large_determinants_are_not_zero() {
        for n in [32, 40, 48, 64, 90] {
            for seed in 0..20 {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let a = Mat::from_fn(n, n, |_, _| rng.random_range(-1.0..1.0_f64));
                // The transpose has other pivots and other rounding errors.
                let (found, expected) = (determinant(&a), a.transpose().to_owned().determinant());
                assert!((found - expected).abs() <= 1e-9 * expected.abs(), "{n}, {seed}: {found:e} {expected:e}");
            }
        }
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn determinants_agree_with_faer(n in 0..36_usize, seed in uniform(36, 36)) {
            let a = Mat::from_fn(n, n, |i, j| seed[(i, j)]);
            let found = assert_solved(&Determinant, a.as_ref(), 0.0)[(0, 0)];
            let bound = largest((n, n), 10.0);
            prop_assert!((found - a.determinant()).abs() <= 1e-13 * bound, "{}", a.determinant());
        }

        #[test]
        fn the_determinant_is_alternating_and_homogeneous(a in uniform(5, 5), factor in -3.0..3.0_f64) {
            let exchanged = Mat::from_fn(5, 5, |i, j| a[([1, 0, 2, 3, 4][i], j)]);
            let first_scaled = Mat::from_fn(5, 5, |i, j| if i == 0 { factor * a[(i, j)] } else { a[(i, j)] });
            let bound = largest((5, 5), 10.0);
            prop_assert!((determinant(&exchanged) + determinant(&a)).abs() <= 1e-14 * bound);
            prop_assert!((determinant(&first_scaled) - factor * determinant(&a)).abs() <= 1e-14 * bound);
            prop_assert!((determinant(&a.transpose().to_owned()) - determinant(&a)).abs() <= 1e-14 * bound);
        }

        #[test]
        fn the_inverse_has_the_reciprocal_determinant(a in well_conditioned()) {
            let inverse = Inversion::default().solve(a.as_ref()).unwrap();
            prop_assert!((determinant(&a) * determinant(&inverse) - 1.0).abs() <= 1e-12);
        }

        #[test]
        fn the_determinant_of_a_symmetric_matrix_is_the_product_of_its_eigenvalues(a in uniform(4, 4)) {
            let a = crate::testing::mirrored(a.as_ref());
            let product: f64 = Eigenvalues.solve(a.as_ref()).unwrap().col(0).iter().product();
            prop_assert!((product - determinant(&a)).abs() <= 1e-13 * 20_f64.powi(4));
        }

        #[test]
        fn the_trace_is_linear(a in uniform(4, 4), b in uniform(4, 4)) {
            let trace = |x: &Mat<f64>| assert_solved(&Trace, x.as_ref(), 0.0)[(0, 0)];
            prop_assert!((trace(&(&a + &b)) - trace(&a) - trace(&b)).abs() <= 1e-13 * size(a.as_ref()).max(1.0));
        }

        #[test]
        fn an_answer_is_finite_or_there_is_none(a in wild(4, 4)) {
            for problem in [&Determinant as &dyn Problem, &Trace] {
                match problem.solve(a.as_ref()) {
                    Ok(answer) => prop_assert!(answer[(0, 0)].is_finite()),
                    Err(error) => prop_assert_eq!(error, SolveError::Overflow),
                }
            }
        }
    }
}
