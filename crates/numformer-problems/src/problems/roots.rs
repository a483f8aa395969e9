//! Roots of polynomials.

use faer::{Mat, MatRef};
use numformer_metrics::{Norm, relative_error};

use crate::small::reshape;
use crate::{Instance, Problem, SolveError, require_finite, require_representable};

/// The complex roots of a real polynomial of degree $n$: from $1 \times (n + 1)$ to $n \times 2$.
///
/// The input holds the coefficients, that of the highest power first, and that one not zero. The answer holds the roots,
/// each as often as it is one: a row with its real and its imaginary part, in descending order of the real part and, for
/// equal ones, of the imaginary part. Roots that are not real come in pairs that are conjugate to the last bit.
///
/// The error of a candidate is that of the polynomial with its roots and the leading coefficient of the input, relative to
/// the input: the backward error, for which the order does not matter, and which treats multiple roots, that no
/// computation finds accurately, as leniently as they deserve.
///
/// The algorithm takes the eigenvalues of the companion matrix, by faer. Answers with a backward error above $10^{-10}$ in
/// the Frobenius norm are [`SolveError::IllConditioned`]. Solving allocates.
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

/// The largest backward error of an answer.
const MAX_BACKWARD_ERROR: f64 = 1e-10;

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
        let residual = backward_error(input, output.as_ref(), Norm::Frobenius);
        // NaN is no small residual.
        if !(residual <= MAX_BACKWARD_ERROR) {
            return Err(SolveError::IllConditioned { allowed: MAX_BACKWARD_ERROR, residual });
        }
        Ok(())
    }

    fn error(&self, instance: Instance<'_>, candidate: MatRef<'_, f64>, norm: Norm) -> Result<f64, SolveError> {
        require_finite(instance.input)?;
        assert_eq!(candidate.shape(), instance.target.shape(), "shapes of the candidate and of the exact answer");
        Ok(backward_error(instance.input, candidate, norm))
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

/// The relative error of the polynomial with these roots and the leading coefficient of the input.
fn backward_error(input: MatRef<'_, f64>, roots: MatRef<'_, f64>, norm: Norm) -> f64 {
    let columns = input.ncols();
    // Real and imaginary parts of the coefficients, in two rows.
    let mut found = Mat::<f64>::zeros(2, columns);
    found[(0, 0)] = input[(0, 0)];
    for i in 0..roots.nrows() {
        let (re, im) = (roots[(i, 0)], roots[(i, 1)]);
        // Times x - z: each coefficient loses z times the one before.
        for k in (1..=i + 1).rev() {
            let (a, b) = (found[(0, k - 1)], found[(1, k - 1)]);
            found[(0, k)] -= a * re - b * im;
            found[(1, k)] -= a * im + b * re;
        }
    }
    let expected = Mat::from_fn(2, columns, |i, j| if i == 0 { input[(0, j)] } else { 0.0 });
    relative_error(found.as_ref(), expected.as_ref(), norm)
}
