//! Cholesky's decomposition.

use faer::{Mat, MatRef};

use super::eigen::require_square;
use crate::small::{power_of_two_scale, require_symmetric, reshape};
use crate::{Problem, SolveError, require_finite};

/// The Cholesky factor of a symmetric positive definite matrix: the lower triangular $L$ with a positive diagonal and
/// $LL^\top = A$, from $n \times n$ to $n \times n$.
///
/// Posed on matrices that are symmetric up to rounding, of which the lower triangle is read; one with a pivot that is not
/// positive is [`SolveError::NotPositiveDefinite`]. The factor is unique, so a candidate is compared with the target.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{Cholesky, Problem};
///
/// assert_eq!(Cholesky.solve(mat![[4.0, 2.0], [2.0, 10.0]].as_ref())?, mat![[2.0, 0.0], [1.0, 3.0]]);
/// let error = Cholesky.solve(mat![[1.0, 2.0], [2.0, 3.0]].as_ref()).unwrap_err();
/// assert_eq!(error.to_string(), "expected a positive definite matrix, found pivot -1 in row 2");
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Golub and Van Loan (2013), *Matrix Computations*, 4th edition, section 4.2.3.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Cholesky;

impl Problem for Cholesky {
    fn name(&self) -> &'static str {
        "cholesky"
    }

    fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
        require_square(input)?;
        Ok(input)
    }

    fn output_bound(&self, _: (usize, usize), bound: f64) -> Option<f64> {
        // The squares of row i of L add up to entry (i, i) of A.
        Some(bound.sqrt())
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let (n, _) = self.output_shape(input.shape())?;
        require_finite(input)?;
        require_symmetric(input)?;
        reshape(output, (n, n));
        // A power of four, whose root is exact; within the range for matrices at its edges too.
        let scale = power_of_two_scale(input);
        let root = scale.sqrt().to_bits() & !((1 << 52) - 1);
        let root = f64::from_bits(root);
        for j in 0..n {
            for i in 0..n {
                let above: f64 = (0..j.min(i)).map(|k| output[(i, k)] * output[(j, k)]).sum();
                let rest = input[(i, j)] * root * root - above;
                output[(i, j)] = match i.cmp(&j) {
                    std::cmp::Ordering::Less => 0.0,
                    std::cmp::Ordering::Equal if rest > 0.0 => rest.sqrt(),
                    std::cmp::Ordering::Equal => {
                        return Err(SolveError::NotPositiveDefinite { row: i, pivot: rest / root / root });
                    }
                    std::cmp::Ordering::Greater => rest / output[(j, j)],
                };
            }
        }
        for j in 0..n {
            for i in j..n {
                output[(i, j)] /= root;
            }
        }
        Ok(())
    }
}
