//! The QR decomposition.

use faer::prelude::*;
use faer::{Mat, MatRef, Scale};
use numformer_metrics::{Norm, norm};

use crate::residual::{largest, orthogonality_defect, quotient};
use crate::small::{power_of_two_scale, reshape};
use crate::{Instance, Problem, SolveError, require_finite, require_representable};

/// The thin QR decomposition of a matrix with at least as many rows as columns: from $r \times c$ to $(r + c) \times c$.
///
/// The first $r$ rows of the answer hold $Q$, with orthonormal columns, the last $c$ rows the upper triangular $R$, whose
/// diagonal is not negative: $A = QR$. Where the columns of $A$ are linearly independent, the answer is unique.
///
/// The error of a candidate is the largest of $\lVert QR - A \rVert / \lVert A \rVert$, $\lVert Q^\top Q - I \rVert /
/// \lVert I \rVert$ and, for the entries of $R$ below the diagonal, $\lVert L \rVert / \lVert A \rVert$; signs are free.
/// The algorithm is Householder's, by faer. Solving allocates.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{Problem, Qr};
///
/// let answer = Qr.solve(mat![[3.0, 1.0], [-4.0, 2.0]].as_ref())?;
/// assert!((answer - mat![[0.6, 0.8], [-0.8, 0.6], [5.0, -1.0], [0.0, 2.0]]).norm_max() < 1e-14);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Golub and Van Loan (2013), *Matrix Computations*, 4th edition, section 5.2.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Qr;

impl Problem for Qr {
    fn name(&self) -> &'static str {
        "qr"
    }

    fn output_shape(&self, (rows, columns): (usize, usize)) -> Result<(usize, usize), SolveError> {
        if rows < columns {
            return Err(SolveError::Shape { expected: "at least as many rows as columns", found: (rows, columns) });
        }
        Ok((rows + columns, columns))
    }

    fn output_bound(&self, (rows, _): (usize, usize), bound: f64) -> Option<f64> {
        // No entry of R exceeds the Euclidean norm of its column of A.
        Some(f64::max(1.0, (rows as f64).sqrt() * bound))
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let shape = self.output_shape(input.shape())?;
        require_finite(input)?;
        reshape(output, shape);
        let scale = power_of_two_scale(input);
        let decomposition = (Scale(scale) * input).qr();
        let (q, r) = (decomposition.compute_thin_Q(), decomposition.thin_R());
        let (mut left, mut right) = output.as_mut().split_at_row_mut(input.nrows());
        for j in 0..input.ncols() {
            // Column j of Q and row j of R change their signs together.
            left.rb_mut().col_mut(j).copy_from(Scale(1.0_f64.copysign(r[(j, j)])) * q.col(j));
            for i in 0..input.ncols() {
                let sign = 1.0_f64.copysign(r[(i, i)]);
                right[(i, j)] = if i <= j { sign * r[(i, j)] / scale } else { 0.0 };
            }
        }
        require_representable(output.as_ref())
    }

    fn error(&self, instance: Instance<'_>, candidate: MatRef<'_, f64>, kind: Norm) -> Result<f64, SolveError> {
        require_finite(instance.input)?;
        assert_eq!(candidate.shape(), instance.target.shape(), "shapes of the candidate and of the exact answer");
        let a = instance.input;
        let (q, r) = candidate.split_at_row(a.nrows());
        let n = a.ncols();
        let below = Mat::from_fn(n, n, |i, j| if i > j { r[(i, j)] } else { 0.0 });
        let size = norm(a, kind);
        Ok(largest([
            quotient(norm((q * r - a).as_ref(), kind), size),
            quotient(norm(below.as_ref(), kind), size),
            orthogonality_defect(q, kind),
        ]))
    }
}
