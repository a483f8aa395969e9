//! Functions of matrices: the exponential and the sign.

use faer::{Mat, MatRef, Scale};
use numformer_metrics::Norm;

use crate::residual::{larger, quotient, solution_error};
use crate::solve_error::require_square;
use crate::solvers::balance::balanced;
use crate::solvers::dense::{product, require_method, solution};
use crate::solvers::small::{largest_magnitude, power_of_two, power_of_two_centering, reshape};
use crate::{MAX_RESIDUAL, Magnitudes, Problem, SolveError, require_finite, require_representable};

use super::inverse::invert;

/// The exponential of a square matrix: A ↦ Σₖ Aᵏ / k!, from n × n to n × n.
///
/// A candidate is compared with the target. The algorithm is scaling and squaring with the Padé approximant of degree
/// 13, after rows and columns are brought to similar sizes. Each squaring may double the relative error. Matrices for
/// which it could exceed 10⁻¹⁰ are [`SolveError::Inaccurate`]; their 1-norm after that balancing is above about
/// 1.4 · 10⁶. Solving allocates.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{MatrixExponential, Problem};
///
/// let answer = MatrixExponential.solve(mat![[0.0, 1.0], [0.0, 0.0]].as_ref())?;
/// assert!((answer - mat![[1.0, 1.0], [0.0, 1.0]]).norm_max() < 1e-15);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Higham (2005), *The scaling and squaring method for the matrix exponential revisited*, algorithm 2.3.
/// <https://doi.org/10.1137/04061101X>
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct MatrixExponential;

/// The sign of a square matrix A, from n × n to n × n. It has the eigenvectors of A, and its eigenvalues are the signs
/// of the real parts of the eigenvalues of A.
///
/// It is posed on matrices without eigenvalues on the imaginary axis. A candidate is compared with the target. The
/// algorithm is Newton's iteration X ← (μX + (μX)⁻¹) / 2, scaled by norms. On matrices with eigenvalues on the
/// imaginary axis or too near it, the algorithm fails with [`SolveError::Singular`], [`SolveError::IllConditioned`],
/// [`SolveError::Inaccurate`] or [`SolveError::NotConverged`]. Solving allocates.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{MatrixSign, Problem};
///
/// let answer = MatrixSign.solve(mat![[3.0, 1.0], [0.0, -2.0]].as_ref())?;
/// assert!((answer - mat![[1.0, 0.4], [0.0, -1.0]]).norm_max() < 1e-14);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Higham (2008), *Functions of Matrices: Theory and Computation*, sections 5.3 and 5.5.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct MatrixSign;

/// The largest 1-norm at which the approximant of degree 13 is exact to rounding: Higham (2005), table 2.3.
const PADE_RADIUS: f64 = 5.371_920_351_148_152;

/// Coefficients of the numerator of that approximant, up to a common factor:
/// `(26 - k)! 13! / (26! k! (13 - k)!)`, Higham (2005), equation (2.2), times the integer that makes the last one 1.
const PADE: [f64; 14] = [
    64_764_752_532_480_000.0,
    32_382_376_266_240_000.0,
    7_771_770_303_897_600.0,
    1_187_353_796_428_800.0,
    129_060_195_264_000.0,
    10_559_470_521_600.0,
    670_442_572_800.0,
    33_522_128_640.0,
    1_323_241_920.0,
    40_840_800.0,
    960_960.0,
    16_380.0,
    182.0,
    1.0,
];

impl Problem for MatrixExponential {
    fn name(&self) -> &'static str {
        "matrix-exponential"
    }

    fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
        require_square(input)?;
        Ok(input)
    }

    fn output_magnitudes(&self, (rows, _): (usize, usize), entries: Magnitudes) -> Magnitudes {
        // The spectral norm of the exponential is at most the exponential of the spectral norm.
        let largest = entries.largest.map(|bound| (rows as f64 * bound).exp());
        Magnitudes::at_most(largest.filter(|largest| largest.is_finite()))
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let (n, _) = self.output_shape(input.shape())?;
        require_finite(input)?;
        require_method(input.shape())?;
        let (even, exponents) = balanced(input);
        // The matrix is halved until its 1-norm is in range.
        let size = even.col_iter().map(|column| column.norm_l1()).fold(0.0, f64::max);
        if size.is_infinite() {
            return Err(SolveError::Overflow);
        }
        let squarings = if size > PADE_RADIUS { (size / PADE_RADIUS).log2().ceil() as i32 } else { 0 };
        let residual = f64::EPSILON * f64::from(squarings).exp2();
        if residual > MAX_RESIDUAL {
            return Err(SolveError::Inaccurate { allowed: MAX_RESIDUAL, residual });
        }
        let a = Scale(power_of_two(-squarings)) * even;

        let identity = Mat::<f64>::identity(n, n);
        let times = |x: &Mat<f64>, y: &Mat<f64>| product(x.as_ref(), y.as_ref());
        let a2 = times(&a, &a);
        let a4 = times(&a2, &a2);
        let a6 = times(&a4, &a2);
        let polynomial = |high: &[f64; 3], low: &[f64; 4]| {
            let tail = Scale(high[0]) * &a6 + Scale(high[1]) * &a4 + Scale(high[2]) * &a2;
            let head = Scale(low[0]) * &a6 + Scale(low[1]) * &a4 + Scale(low[2]) * &a2 + Scale(low[3]) * &identity;
            times(&a6, &tail) + head
        };
        let odd = times(&a, &polynomial(&[PADE[13], PADE[11], PADE[9]], &[PADE[7], PADE[5], PADE[3], PADE[1]]));
        let even = polynomial(&[PADE[12], PADE[10], PADE[8]], &[PADE[6], PADE[4], PADE[2], PADE[0]]);
        let mut answer = solution((&even - &odd).as_ref(), (&even + &odd).as_ref());
        for _ in 0..squarings {
            answer = times(&answer, &answer);
        }
        reshape(output, (n, n));
        for (j, column) in output.col_iter_mut().enumerate() {
            for (i, entry) in column.iter_mut().enumerate() {
                *entry = answer[(i, j)] * power_of_two(exponents[i] - exponents[j]);
            }
        }
        require_representable(output.as_ref())
    }
}

/// The number of Newton steps allowed. Seven to ten are usual with scaling. More steps mean that eigenvalues are near
/// the imaginary axis: each further step doubles their distance from it, and the rounding errors with it. These stay
/// below 2²⁴⁻⁸ ε < 10⁻¹⁰.
const MAX_NEWTON_STEPS: usize = 24;

impl Problem for MatrixSign {
    fn name(&self) -> &'static str {
        "matrix-sign"
    }

    fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
        require_square(input)?;
        Ok(input)
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let (n, _) = self.output_shape(input.shape())?;
        require_finite(input)?;
        reshape(output, (n, n));
        // The sign does not depend on the scale. Large and small entries and their inverses must stay in range.
        let mut x = Scale(power_of_two_centering(input)) * input;
        let a = x.clone();
        let mut inverse = Mat::zeros(n, n);
        let mut previous_change = f64::INFINITY;
        for _ in 0..MAX_NEWTON_STEPS {
            invert(x.as_ref(), &mut inverse)?;
            // Brings the norms of X and its inverse together, as long as that matters.
            let scale = if previous_change > 1e-2 { inverse.norm_l2().sqrt() / x.norm_l2().sqrt() } else { 1.0 };
            let next = Scale(0.5 * scale) * &x + Scale(0.5 / scale) * &inverse;
            require_representable(next.as_ref())?;
            let change = (&next - &x).norm_l2() / next.norm_l2();
            x = next;
            // Convergence is quadratic: once the change is small, it is down to rounding when it no longer halves.
            if n == 0 || change <= f64::EPSILON || (change < 1e-6 && change > 0.5 * previous_change) {
                let residual = sign_residual(a.as_ref(), x.as_ref());
                if residual.is_nan() || residual > MAX_RESIDUAL {
                    return Err(SolveError::Inaccurate { allowed: MAX_RESIDUAL, residual });
                }
                output.copy_from(&x);
                return require_representable(output.as_ref());
            }
            previous_change = change;
        }
        Err(SolveError::NotConverged)
    }
}

/// How far S is from a square root of the identity that commutes with A. This is the larger of S² - I relative to S,
/// and of SA - AS relative to both, each measured by its largest entry.
fn sign_residual(a: MatRef<'_, f64>, s: MatRef<'_, f64>) -> f64 {
    let square = solution_error(s, s, |i, j| if i == j { 1.0 } else { 0.0 }, Norm::Max);
    let size = f64::max(1.0, largest_magnitude(s));
    let commutator = quotient(largest_magnitude((product(s, a) - product(a, s)).as_ref()), size * largest_magnitude(a));
    larger(square / size, commutator)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "one is exact")]
mod tests {
    use faer::mat;
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{assert_solved, assert_zero_is_wrong, mirrored, size, uniform, well_conditioned, wild};
    use crate::{Determinant, Eigenvectors, Trace};

    fn exponential(a: &Mat<f64>) -> Mat<f64> {
        MatrixExponential.solve(a.as_ref()).unwrap()
    }

    /// V f(λ) Vᵀ for a symmetric matrix.
    fn by_eigenvalues(a: &Mat<f64>, f: impl Fn(f64) -> f64) -> Mat<f64> {
        let decomposition = Eigenvectors::default().solve(a.as_ref()).unwrap();
        let (values, v) = decomposition.split_at_row(1);
        let scaled = Mat::from_fn(a.nrows(), a.ncols(), |i, j| v[(i, j)] * f(values[(0, j)]));
        scaled * v.transpose()
    }

    #[test]
    fn the_coefficients_of_the_approximant_have_their_ratios() {
        // Each coefficient is the next one times (27 - k) k / (14 - k).
        for k in 1..=13 {
            let ratio = (27 - k) as f64 * k as f64 / (14 - k) as f64;
            assert!((PADE[k - 1] / PADE[k] / ratio - 1.0).abs() < 1e-15, "{k}");
        }
        assert_eq!(PADE[13], 1.0);
    }

    #[test]
    fn exponentials_known_in_closed_form() {
        assert_eq!(MatrixExponential.solve(Mat::new().as_ref()).unwrap().shape(), (0, 0));
        assert!(size((exponential(&Mat::zeros(3, 3)) - Mat::<f64>::identity(3, 3)).as_ref()) < 1e-15);
        for x in [-700.0, -3.0, 1e-20, 0.1, 1.0, 50.0, 700.0] {
            let found = exponential(&mat![[x]])[(0, 0)];
            assert!((found / f64::exp(x) - 1.0).abs() < 1e-15 * f64::max(10.0, x.abs() * 4.0), "{x}: {found}");
            // A rotation by the angle x. For large angles, it loses the digits that the angle does not have.
            let rotation = exponential(&mat![[0.0, -x], [x, 0.0]]);
            let expected = mat![[x.cos(), -x.sin()], [x.sin(), x.cos()]];
            assert!(size((rotation - expected).as_ref()) < 1e-15 * f64::max(10.0, x.abs() * 8.0), "{x}");
        }
        assert_eq!(MatrixExponential.solve(mat![[800.0]].as_ref()), Err(SolveError::Overflow));
        // The squarings leave no digit of this angle.
        let error = MatrixExponential.solve(mat![[0.0, -1e100], [1e100, 0.0]].as_ref());
        assert!(matches!(error, Err(SolveError::Inaccurate { .. })), "{error:?}");
        assert!(MatrixExponential.solve(mat![[-1e6]].as_ref()).is_ok());
        assert_zero_is_wrong(&MatrixExponential, mat![[1.0, 2.0], [3.0, 4.0]].as_ref());
        assert_eq!(MatrixExponential.output_magnitudes((10, 10), Magnitudes::at_most(100.0)), Magnitudes::ANY);
    }

    /// The squarings would lose two more digits of a rotation in different units.
    #[test]
    fn units_of_rows_and_columns_do_not_matter() {
        for power in [-20, -1, 0, 3, 20] {
            let (unit, x) = (2.0_f64.powi(power), 1000.0_f64);
            let found = exponential(&mat![[0.0, -x * unit], [x / unit, 0.0]]);
            let expected = mat![[x.cos(), -x.sin() * unit], [x.sin() / unit, x.cos()]];
            for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let error = (found[(i, j)] - expected[(i, j)]).abs();
                assert!(error <= 1e-11 * expected[(i, j)].abs(), "{power}: {found:?} {expected:?}");
            }
        }
        let graded = mat![[697.1377138470484, -36.31317813610726], [1045109.7438080433, 151.5992056824941]];
        let product = exponential(&graded) * exponential(&(Scale(-1.0) * &graded));
        assert!(size((product - Mat::<f64>::identity(2, 2)).as_ref()) < 1e-7);
    }

    #[test]
    fn matrices_without_a_sign_are_rejected() {
        for a in [Mat::zeros(2, 2), mat![[0.0, -1.0], [1.0, 0.0]], mat![[1.0, 2.0], [2.0, 4.0]]] {
            let error = MatrixSign.solve(a.as_ref()).unwrap_err();
            let is_expected = matches!(error, SolveError::Singular { .. } | SolveError::NotConverged);
            assert!(is_expected, "{error}");
        }
        // Newton's first step leaves the range.
        assert!(MatrixSign.solve(mat![[0.0, 1.0, 0.0], [9e307, 0.0, 0.0], [0.0, 0.0, 10.0]].as_ref()).is_err());
        assert_eq!(MatrixSign.solve(Mat::new().as_ref()).unwrap().shape(), (0, 0));
        assert_eq!(MatrixSign.solve(mat![[-1e-300]].as_ref()), Ok(mat![[-1.0]]));
        assert_eq!(MatrixSign.solve(mat![[1e300]].as_ref()), Ok(mat![[1.0]]));
        for (large, small) in [(1e300, 1e-300), (f64::MAX, 1e-200), (1e100, 5e-324), (1e8, 1e-8)] {
            let answer = MatrixSign.solve(mat![[large, 0.0], [0.0, -small]].as_ref());
            assert_eq!(answer, Ok(mat![[1.0, 0.0], [0.0, -1.0]]), "{large:e}, {small:e}");
        }
        for problem in [&MatrixSign as &dyn Problem, &MatrixExponential] {
            assert!(matches!(problem.solve(Mat::zeros(2, 3).as_ref()), Err(SolveError::Shape { .. })));
            assert!(matches!(problem.solve(mat![[f64::NAN]].as_ref()), Err(SolveError::NotFinite { .. })));
        }
        assert_zero_is_wrong(&MatrixSign, mat![[3.0, 1.0], [0.0, -2.0]].as_ref());
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn the_exponential_of_the_negative_is_the_inverse(a in uniform(4, 4)) {
            let a = Scale(0.1) * &a;
            let product = exponential(&a) * exponential(&(Scale(-1.0) * &a));
            prop_assert!(size((product - Mat::<f64>::identity(4, 4)).as_ref()) <= 1e-12);
        }

        #[test]
        fn the_determinant_of_the_exponential_is_the_exponential_of_the_trace(a in uniform(4, 4)) {
            let a = Scale(0.1) * &a;
            let determinant = Determinant.solve(exponential(&a).as_ref()).unwrap()[(0, 0)];
            let trace = Trace.solve(a.as_ref()).unwrap()[(0, 0)];
            prop_assert!((determinant / trace.exp() - 1.0).abs() <= 1e-11);
        }

        #[test]
        fn functions_of_symmetric_matrices_are_those_of_their_eigenvalues(n in 1..8_usize, seed in uniform(8, 8)) {
            let a = mirrored(seed.get(..n, ..n));
            let expected = by_eigenvalues(&a, f64::exp);
            let answer = assert_solved(&MatrixExponential, a.as_ref(), 0.0);
            prop_assert!(size((&answer - &expected).as_ref()) <= 1e-12 * size(expected.as_ref()));
            if let Ok(answer) = MatrixSign.solve(a.as_ref()) {
                prop_assert!(size((answer - by_eigenvalues(&a, f64::signum)).as_ref()) <= 1e-9);
            }
        }

        #[test]
        fn the_sign_is_a_square_root_of_one_that_commutes(
            a in well_conditioned(), scale in prop_oneof![Just(1.0), Just(1e-150), Just(1e150)],
        ) {
            let answer = assert_solved(&MatrixSign, (Scale(scale) * &a).as_ref(), 0.0);
            let n = a.nrows();
            prop_assert!(size((&answer * &answer - Mat::<f64>::identity(n, n)).as_ref()) <= 1e-12);
            prop_assert!(size((&answer * &a - &a * &answer).as_ref()) <= 1e-11 * size(a.as_ref()));
            // Gershgorin's discs lie left or right of the axis, as the signs of the diagonal say.
            let expected: f64 = (0..n).map(|i| a[(i, i)].signum()).sum();
            prop_assert!((Trace.solve(answer.as_ref()).unwrap()[(0, 0)] - expected).abs() <= 1e-11);
        }

        #[test]
        fn an_answer_is_finite_or_there_is_none(a in wild(3, 3)) {
            for problem in [&MatrixSign as &dyn Problem, &MatrixExponential] {
                if let Ok(answer) = problem.solve(a.as_ref()) {
                    prop_assert!(require_finite(answer.as_ref()).is_ok());
                }
            }
        }
    }
}
