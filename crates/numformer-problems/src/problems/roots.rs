//! Roots of polynomials.

use faer::{Mat, MatRef};
use numformer_metrics::{Norm, relative_error};

use crate::residual::largest;
use crate::solvers::dense::require_faer;
use crate::solvers::small::reshape;
use crate::{MAX_RESIDUAL, Problem, SolveError, require_finite, require_representable};

/// The complex roots of a real polynomial of degree n: from 1 × (n + 1) to n × 2.
///
/// The input holds the coefficients, beginning with that of the highest power, which must not be zero. The answer holds
/// the roots, each as often as its multiplicity. Each row holds the real and the imaginary part of a root. The rows are
/// in descending order of the real part and, for equal real parts, of the imaginary part. Roots that are not real come
/// in pairs that are conjugate to the last bit.
///
/// The error of a candidate is the backward error: the error of the polynomial with the candidate's roots and the
/// leading coefficient of the input, relative to the other coefficients of the input. The order of the roots does not
/// matter. Multiple roots, which no computation finds accurately, are treated as leniently as they deserve. The leading
/// coefficient does not count, since a candidate cannot miss it, so a zero answer has an error of 1.
///
/// The algorithm computes the eigenvalues of the companion matrix, by faer. Answers with a backward error above
/// [`MAX_RESIDUAL`] in any norm are [`SolveError::Inaccurate`]. Solving allocates.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{PolynomialRoots, Problem};
///
/// // 2 (x - 3) (x² + 1)
/// let answer = PolynomialRoots.solve(mat![[2.0, -6.0, 2.0, -6.0]].as_ref())?;
/// assert!((answer - mat![[3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).norm_max() < 1e-14);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Golub and Van Loan (2013), *Matrix Computations*, 4th edition, section 7.4.6, for the companion matrix.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct PolynomialRoots;

impl Problem for PolynomialRoots {
    fn name(&self) -> &'static str {
        "polynomial-roots"
    }

    fn input_shape(&self, (_, columns): (usize, usize)) -> (usize, usize) {
        (1, columns)
    }

    fn output_shape(&self, (rows, columns): (usize, usize)) -> Result<(usize, usize), SolveError> {
        if rows != 1 || columns == 0 {
            return Err(SolveError::Shape { expected: "a row of at least one coefficient", found: (rows, columns) });
        }
        Ok((columns - 1, 2))
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let shape = self.output_shape(input.shape())?;
        require_finite(input)?;
        let coefficients: Vec<f64> = input.row(0).iter().copied().collect();
        if coefficients[0] == 0.0 {
            return Err(SolveError::ZeroLeadingCoefficient);
        }
        let mut roots = roots_of(&coefficients)?;
        roots.sort_by(|x, y| y.0.total_cmp(&x.0).then(y.1.total_cmp(&x.1)));
        reshape(output, shape);
        for (i, (re, im)) in roots.into_iter().enumerate() {
            (output[(i, 0)], output[(i, 1)]) = (re, im);
        }
        require_representable(output.as_ref())?;
        let residual = largest(Norm::ALL.iter().map(|&norm| backward_error(input, output.as_ref(), norm)));
        if residual.is_nan() || residual > MAX_RESIDUAL {
            return Err(SolveError::Inaccurate { allowed: MAX_RESIDUAL, residual });
        }
        Ok(())
    }

    fn residual(
        &self,
        input: MatRef<'_, f64>,
        candidate: MatRef<'_, f64>,
        norm: Norm,
    ) -> Result<Option<f64>, SolveError> {
        require_finite(input)?;
        assert_eq!(candidate.shape(), self.output_shape(input.shape())?, "shapes of the candidate and of an answer");
        Ok(Some(backward_error(input, candidate, norm)))
    }
}

/// Real and imaginary parts of the roots. The first coefficient is not zero.
fn roots_of(coefficients: &[f64]) -> Result<Vec<(f64, f64)>, SolveError> {
    // Trailing zeros are roots at zero.
    let last = coefficients.iter().rposition(|&x| x != 0.0).unwrap_or(0);
    let degree = last;
    let mut roots = vec![(0.0, 0.0); coefficients.len() - 1 - last];
    if degree == 0 {
        return Ok(roots);
    }
    // In units of the geometric mean of their magnitudes, rounded to a power of two, roots are of order 1.
    let mean = ((coefficients[last].abs().log2() - coefficients[0].abs().log2()) / degree as f64).round();
    let monic: Vec<f64> = (1..=degree).map(|k| coefficients[k] / coefficients[0] * (-mean * k as f64).exp2()).collect();
    if !monic.iter().all(|x| x.is_finite()) {
        return Err(SolveError::Overflow);
    }
    require_faer((degree, degree))?;
    let companion = Mat::from_fn(degree, degree, |i, j| match i {
        0 => -monic[j],
        _ if i == j + 1 => 1.0,
        _ => 0.0,
    });
    let eigenvalues =
        companion.eigenvalues().map_err(|faer::linalg::solvers::EvdError::NoConvergence| SolveError::NotConverged)?;
    let unit = mean.exp2();
    for root in eigenvalues {
        if root.im == 0.0 {
            roots.push((root.re * unit, 0.0));
        } else if root.im > 0.0 {
            roots.extend([(root.re * unit, root.im * unit), (root.re * unit, -root.im * unit)]);
        }
    }
    if roots.len() + 1 == coefficients.len() { Ok(roots) } else { Err(SolveError::NotConverged) }
}

/// The error of the polynomial with these roots and the leading coefficient of the input, relative to all other
/// coefficients.
fn backward_error(input: MatRef<'_, f64>, roots: MatRef<'_, f64>, norm: Norm) -> f64 {
    let columns = input.ncols();
    // Real and imaginary parts of the coefficients, in two rows.
    let mut found = Mat::<f64>::zeros(2, columns);
    found[(0, 0)] = input[(0, 0)];
    for (i, (re, im)) in leja_order(roots).into_iter().enumerate() {
        // Multiplies by x - z: each coefficient loses z times the one before.
        for k in (1..=i + 1).rev() {
            let (a, b) = (found[(0, k - 1)], found[(1, k - 1)]);
            found[(0, k)] -= a * re - b * im;
            found[(1, k)] -= a * im + b * re;
        }
    }
    let expected = Mat::from_fn(2, columns - 1, |i, j| if i == 0 { input[(0, j + 1)] } else { 0.0 });
    relative_error(found.subcols(1, columns - 1), expected.as_ref(), norm)
}

/// The roots in Leja's order: each is as far from those before it as possible, by the product of the distances.
///
/// If thirty roots on a circle are multiplied in descending order, the partial products have coefficients a million
/// times as large as those of the whole polynomial, and the same factor is lost to rounding.
///
/// # Reference
/// Calvetti and Reichel (2003), *On the evaluation of polynomial coefficients*.
/// <https://doi.org/10.1023/A:1025555803588>
fn leja_order(roots: MatRef<'_, f64>) -> Vec<(f64, f64)> {
    let mut ordered: Vec<(f64, f64)> = (0..roots.nrows()).map(|i| (roots[(i, 0)], roots[(i, 1)])).collect();
    // Logarithms of the products of the distances to the roots before. For the first root, logarithms of the
    // magnitudes.
    let mut distances: Vec<f64> = ordered.iter().map(|root| root.0.hypot(root.1).ln()).collect();
    for next in 0..ordered.len() {
        let farthest =
            (next + 1..ordered.len()).fold(next, |best, i| if distances[i] > distances[best] { i } else { best });
        ordered.swap(next, farthest);
        distances.swap(next, farthest);
        let (re, im) = ordered[next];
        for i in next + 1..ordered.len() {
            let distance = (ordered[i].0 - re).hypot(ordered[i].1 - im).ln();
            distances[i] = if next == 0 { distance } else { distances[i] + distance };
        }
    }
    ordered
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "sums of opposite numbers are exact")]
mod tests {
    use faer::{Scale, mat};
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::Instance;
    use crate::testing::{assert_solved, assert_zero_is_wrong, size, uniform, wild};

    #[test]
    fn input_is_checked() {
        assert_eq!(PolynomialRoots.input_shape((5, 5)), (1, 5));
        for shape in [(2, 3), (0, 3), (1, 0)] {
            let expected = SolveError::Shape { expected: "a row of at least one coefficient", found: shape };
            assert_eq!(PolynomialRoots.solve(Mat::zeros(shape.0, shape.1).as_ref()), Err(expected));
        }
        let error = PolynomialRoots.solve(mat![[0.0, 1.0]].as_ref());
        assert_eq!(error, Err(SolveError::ZeroLeadingCoefficient));
        assert!(matches!(PolynomialRoots.solve(mat![[f64::NAN]].as_ref()), Err(SolveError::NotFinite { .. })));
        assert_eq!(PolynomialRoots.solve(mat![[3.0]].as_ref()).unwrap().shape(), (0, 2));
    }

    #[test]
    fn roots_are_repeated_and_sorted() {
        // (x - 1)(x + 1) x², and 2x - 3.
        let answer = assert_solved(&PolynomialRoots, mat![[1.0, 0.0, -1.0, 0.0, 0.0]].as_ref(), 1e-15);
        assert!(size((answer - mat![[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [-1.0, 0.0]]).as_ref()) < 1e-15);
        assert_eq!(PolynomialRoots.solve(mat![[2.0, -3.0]].as_ref()), Ok(mat![[1.5, 0.0]]));
        // (x - 1)^4, whose computed roots are off by 1e-4, but not in the backward error.
        assert_solved(&PolynomialRoots, mat![[1.0, -4.0, 6.0, -4.0, 1.0]].as_ref(), 1e-13);
    }

    /// Multiplied in the order of the answer, the roots of unity of degree 60 would have no correct digit.
    #[test]
    fn many_roots_are_multiplied_accurately() {
        for n in [30, 60] {
            // x^n - 1, and a polynomial whose coefficients are all alike.
            let unity = Mat::from_fn(1, n + 1, |_, j| {
                if j == 0 {
                    1.0
                } else if j == n {
                    -1.0
                } else {
                    0.0
                }
            });
            assert_solved(&PolynomialRoots, unity.as_ref(), 1e-12);
            let alternating = Mat::from_fn(1, n + 1, |_, j| if j % 3 == 0 { -1.0 } else { 1.0 });
            assert_solved(&PolynomialRoots, alternating.as_ref(), 1e-11);
        }
    }

    #[test]
    fn roots_of_extreme_size_are_found() {
        let answer = PolynomialRoots.solve(mat![[1.0, 0.0, -1e200]].as_ref()).unwrap();
        assert!(size((answer - mat![[1e100, 0.0], [-1e100, 0.0]]).as_ref()) < 1e85);
        let answer = PolynomialRoots.solve(mat![[1e150, 0.0, 1e-150]].as_ref()).unwrap();
        assert!(size((answer - mat![[0.0, 1e-150], [0.0, -1e-150]]).as_ref()) < 1e-164);
    }

    #[test]
    fn zeros_are_wrong_and_the_order_is_free() {
        let input = mat![[2.0, -6.0, 2.0, -6.0]];
        let target = PolynomialRoots.solve(input.as_ref()).unwrap();
        let instance = Instance { input: input.as_ref(), target: target.as_ref() };
        let exchanged = Mat::from_fn(3, 2, |i, j| target[(2 - i, j)]);
        assert!(PolynomialRoots.error(instance, exchanged.as_ref(), Norm::L1).unwrap() < 1e-14);
        // All but the leading coefficient are missing, however large that is.
        for input in [&input, &mat![[1e-20, 1.0]], &mat![[10.0, 0.01, -0.03]]] {
            assert_zero_is_wrong(&PolynomialRoots, input.as_ref());
        }
        // One root of three moved by 1%: 2(x - 3.03)(x² + 1), where 0.06 x² and 0.06 are off.
        let moved = mat![[3.03, 0.0], [0.0, 1.0], [0.0, -1.0]];
        let error = PolynomialRoots.error(instance, moved.as_ref(), Norm::L1).unwrap();
        assert!((error - 0.12 / 14.0).abs() < 1e-12, "{error}");
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn answers_meet_their_own_measure(n in 1..12_usize, seed in uniform(1, 12)) {
            prop_assume!(seed[(0, 0)].abs() > 1e-3);
            let input = Mat::from_fn(1, n + 1, |_, j| seed[(0, j)]);
            let answer = assert_solved(&PolynomialRoots, input.as_ref(), 1e-10);
            for i in 1..answer.nrows() {
                prop_assert!((answer[(i - 1, 0)], answer[(i - 1, 1)]) >= (answer[(i, 0)], answer[(i, 1)]));
            }
            // The coefficient after the leading one is minus the leading one times the sum of the roots.
            let [re, im] = [0, 1].map(|j| answer.col(j).iter().sum::<f64>());
            prop_assert!((re * input[(0, 0)] + input[(0, 1)]).abs() <= 1e-10 * size(input.as_ref()));
            prop_assert_eq!(im, 0.0);
        }

        #[test]
        fn the_roots_that_a_polynomial_was_made_of_are_found(mut roots in prop::collection::vec(-30..30_i32, 1..6)) {
            roots.sort_unstable_by(|x, y| y.cmp(x));
            roots.dedup();
            let mut coefficients = vec![1.0];
            for &root in &roots {
                coefficients.push(0.0);
                for k in (1..coefficients.len()).rev() {
                    coefficients[k] -= f64::from(root) * coefficients[k - 1];
                }
            }
            let input = Mat::from_fn(1, coefficients.len(), |_, j| coefficients[j]);
            let answer = PolynomialRoots.solve(input.as_ref()).unwrap();
            for (i, root) in roots.iter().enumerate() {
                prop_assert!((answer[(i, 0)] - f64::from(*root)).abs() < 1e-6, "{:?}", answer);
            }
        }

        #[test]
        fn multiples_have_the_same_roots(seed in uniform(1, 6), k in -500..500_i32) {
            prop_assume!(seed[(0, 0)].abs() > 1e-3);
            let scaled = Scale(2.0_f64.powi(k)) * &seed;
            prop_assert_eq!(PolynomialRoots.solve(scaled.as_ref()), PolynomialRoots.solve(seed.as_ref()));
        }

        #[test]
        fn an_answer_is_finite_or_there_is_none(input in wild(1, 5)) {
            if let Ok(answer) = PolynomialRoots.solve(input.as_ref()) {
                prop_assert!(require_finite(answer.as_ref()).is_ok());
            }
        }
    }
}
