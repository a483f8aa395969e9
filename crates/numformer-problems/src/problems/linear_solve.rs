//! Systems of linear equations.

use faer::prelude::*;
use faer::{Mat, MatRef, Scale};
use numformer_metrics::{Norm, relative_error};

use super::inverse::invert;
use crate::small::{Lu, power_of_two_scale, reshape, rows_of, with_capacity};
use crate::{Instance, Problem, SolveError, require_finite, require_representable};

/// The solution of a system of linear equations: $[A \mid b] \mapsto A^{-1} b$, from $n \times (n + 1)$ to $n \times 1$.
///
/// Posed on the matrices that [`Inversion`](crate::Inversion) is posed on. The error of a candidate $x$ is the residual
/// $\lVert Ax - b \rVert / \lVert b \rVert$. Solving allocates.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{LinearSolve, Problem};
///
/// let answer = LinearSolve.solve(mat![[2.0, 0.0, 6.0], [1.0, 4.0, 11.0]].as_ref())?;
/// assert_eq!(answer, mat![[3.0], [2.0]]);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Golub and Van Loan (2013), *Matrix Computations*, 4th edition, section 3.4.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct LinearSolve;

impl Problem for LinearSolve {
    fn name(&self) -> &'static str {
        "linear-solve"
    }

    fn input_shape(&self, (rows, columns): (usize, usize)) -> (usize, usize) {
        (rows, columns + 1)
    }

    fn output_shape(&self, (rows, columns): (usize, usize)) -> Result<(usize, usize), SolveError> {
        if columns != rows + 1 {
            return Err(SolveError::Shape { expected: "one column more than rows", found: (rows, columns) });
        }
        Ok((rows, 1))
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let shape = self.output_shape(input.shape())?;
        require_finite(input)?;
        reshape(output, shape);
        let (a, b) = input.split_at_col(shape.0);
        // The inverse says whether to trust the solution.
        invert(a, &mut Mat::zeros(shape.0, shape.0))?;
        with_capacity!(shape.0, small_solution(a, b, output), else large_solution(a, b, output));
        require_representable(output.as_ref())
    }

    fn error(&self, instance: Instance<'_>, candidate: MatRef<'_, f64>, norm: Norm) -> Result<f64, SolveError> {
        require_finite(instance.input)?;
        let (a, b) = instance.input.split_at_col(instance.input.nrows());
        Ok(relative_error((a * candidate).as_ref(), b, norm))
    }
}

fn small_solution<const N: usize>(a: MatRef<'_, f64>, b: MatRef<'_, f64>, output: &mut Mat<f64>) {
    let n = a.nrows();
    let (scale, scale_b) = (power_of_two_scale(a), power_of_two_scale(b));
    let solution = Lu::<N>::new(rows_of(a, scale), n).solve(&rows_of(b, scale_b));
    for i in 0..n {
        output[(i, 0)] = solution[i][0] / scale_b * scale;
    }
}

fn large_solution(a: MatRef<'_, f64>, b: MatRef<'_, f64>, output: &mut Mat<f64>) {
    let (scale, scale_b) = (power_of_two_scale(a), power_of_two_scale(b));
    let solution = (Scale(scale) * a).partial_piv_lu().solve(Scale(scale_b) * b);
    for i in 0..a.nrows() {
        output[(i, 0)] = solution[(i, 0)] / scale_b * scale;
    }
}
