//! Singular values and singular vectors.

use faer::prelude::ReborrowMut;
use faer::{Mat, MatRef, Scale};
use numformer_metrics::Norm;

use super::eigen::Signs;
use crate::comparison::diagonal_of_first_row;
use crate::residual::{largest, orthogonality_defect, pair_residual, quotient};
use crate::small::{power_of_two_scale, reshape, rows_of, singular_value_decomposition, with_capacity};
use crate::{Instance, Problem, ReferenceComparison, SolveError, require_finite, require_representable};

/// The singular values of a matrix, in descending order: from $r \times c$ to $\min(r, c) \times 1$.
///
/// A candidate is compared with the target. The algorithm is Hestenes's one-sided Jacobi method up to 32 rows and columns,
/// faer's above.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{Problem, SingularValues};
///
/// let answer = SingularValues.solve(mat![[0.0, -2.0, 0.0], [3.0, 0.0, 4.0]].as_ref())?;
/// assert_eq!(answer, mat![[5.0], [2.0]]);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*, section 4.7. <https://arxiv.org/abs/2112.01898>
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct SingularValues;

/// The thin singular value decomposition of a matrix: from $r \times c$ to $(1 + r + c) \times k$, $k = \min(r, c)$.
///
/// The first row of the answer holds the singular values in descending order, the next $r$ rows the left singular vectors
/// $U$, the last $c$ rows the right singular vectors $V$, as columns: $A = U \mathrm{diag}(\sigma) V^\top$. The algorithm
/// is as for [`SingularValues`].
///
/// The error of a candidate is the largest of $\lVert AV - U \mathrm{diag}(\sigma) \rVert / \lVert A \rVert$,
/// $\lVert A^\top U - V \mathrm{diag}(\sigma) \rVert / \lVert A \rVert$, $\lVert U^\top U - I \rVert / \lVert I \rVert$,
/// $\lVert V^\top V - I \rVert / \lVert I \rVert$ and, since singular values are not negative,
/// $\lVert \sigma - |\sigma| \rVert / \lVert A \rVert$: common signs of the pairs, their order and the bases of their spaces
/// are free. The [comparison of the reference](Problem::reference_comparison) is that of $U^\top A V$ with
/// $\mathrm{diag}(\sigma)$: it asks nothing of $U$ and $V$ alone, and a zero answer is perfect.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{Problem, Signs, Svd};
///
/// let problem = Svd { signs: Signs::Canonical };
/// let answer = problem.solve(mat![[0.0, -2.0, 0.0], [3.0, 0.0, 4.0]].as_ref())?;
/// let (singular_values, vectors) = answer.split_at_row(1);
/// let (u, v) = vectors.split_at_row(2);
/// assert_eq!(singular_values, mat![[5.0, 2.0]]);
/// assert_eq!(u, mat![[0.0, 1.0], [1.0, 0.0]]);
/// assert!((v - mat![[0.6, 0.0], [0.0, -1.0], [0.8, 0.0]]).norm_max() < 1e-15);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*, section 4.7. <https://arxiv.org/abs/2112.01898>
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Svd {
    /// The signs of the pairs of singular vectors in the answers; candidates may have others.
    pub signs: Signs,
}

impl Problem for SingularValues {
    fn name(&self) -> &'static str {
        "singular-values"
    }

    fn output_shape(&self, (rows, columns): (usize, usize)) -> Result<(usize, usize), SolveError> {
        Ok((rows.min(columns), 1))
    }

    fn output_bound(&self, (rows, columns): (usize, usize), bound: f64) -> Option<f64> {
        // No singular value exceeds the Frobenius norm.
        Some(((rows * columns) as f64).sqrt() * bound)
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let shape = self.output_shape(input.shape())?;
        require_finite(input)?;
        reshape(output, shape);
        let (larger, scale) = (input.nrows().max(input.ncols()), power_of_two_scale(input));
        with_capacity!(
            larger,
            small_singular_values(input, scale, output),
            else large_singular_values(input, scale, output)
        )?;
        require_representable(output.as_ref())
    }
}

impl Problem for Svd {
    fn name(&self) -> &'static str {
        "svd"
    }

    fn output_shape(&self, (rows, columns): (usize, usize)) -> Result<(usize, usize), SolveError> {
        Ok((1 + rows + columns, rows.min(columns)))
    }

    fn output_bound(&self, input: (usize, usize), bound: f64) -> Option<f64> {
        SingularValues.output_bound(input, bound).map(|largest| largest.max(1.0))
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let shape = self.output_shape(input.shape())?;
        require_finite(input)?;
        reshape(output, shape);
        let (larger, scale) = (input.nrows().max(input.ncols()), power_of_two_scale(input));
        with_capacity!(
            larger,
            small_svd(input, scale, self.signs, output),
            else large_svd(input, scale, self.signs, output)
        )?;
        require_representable(output.as_ref())
    }

    fn error(&self, instance: Instance<'_>, candidate: MatRef<'_, f64>, norm: Norm) -> Result<f64, SolveError> {
        require_finite(instance.input)?;
        assert_eq!(candidate.shape(), instance.target.shape(), "shapes of the candidate and of the exact answer");
        let a = instance.input;
        let (values, vectors) = candidate.split_at_row(1);
        let (u, v) = vectors.split_at_row(a.nrows());
        let negative = Mat::from_fn(1, values.ncols(), |_, j| values[(0, j)] - values[(0, j)].abs());
        Ok(largest([
            pair_residual(a, v, u, values, norm),
            pair_residual(a.transpose(), u, v, values, norm),
            orthogonality_defect(u, norm),
            orthogonality_defect(v, norm),
            quotient(numformer_metrics::norm(negative.as_ref(), norm), numformer_metrics::norm(a, norm)),
        ]))
    }

    fn reference_comparison(
        &self,
        instance: Instance<'_>,
        candidate: MatRef<'_, f64>,
    ) -> Result<ReferenceComparison, SolveError> {
        require_finite(instance.input)?;
        let (values, vectors) = candidate.split_at_row(1);
        let (u, v) = vectors.split_at_row(instance.input.nrows());
        Ok(ReferenceComparison::new(u.transpose() * instance.input * v, diagonal_of_first_row(values)))
    }
}

fn small_singular_values<const N: usize>(
    input: MatRef<'_, f64>,
    scale: f64,
    output: &mut Mat<f64>,
) -> Result<(), SolveError> {
    // The method takes a matrix with at least as many rows as columns, columns in the rows of the array.
    let tall = if input.nrows() < input.ncols() { input.transpose() } else { input };
    let mut columns = rows_of::<N>(tall.transpose(), scale);
    let values = singular_value_decomposition(&mut columns, tall.nrows(), tall.ncols(), None)?;
    for (i, value) in values.iter().enumerate().take(tall.ncols()) {
        output[(i, 0)] = value / scale;
    }
    Ok(())
}

fn small_svd<const N: usize>(
    input: MatRef<'_, f64>,
    scale: f64,
    signs: Signs,
    output: &mut Mat<f64>,
) -> Result<(), SolveError> {
    let (rows, columns) = input.shape();
    let is_wide = rows < columns;
    let tall = if is_wide { input.transpose() } else { input };
    let mut left = rows_of::<N>(tall.transpose(), scale);
    let mut right = [[0.0; N]; N];
    let values = singular_value_decomposition(&mut left, tall.nrows(), tall.ncols(), Some(&mut right))?;
    // The singular vectors of the transpose are those of the matrix, exchanged.
    let (u, v) = if is_wide { (&right, &left) } else { (&left, &right) };
    for j in 0..tall.ncols() {
        let sign = signs.factor(&u[j][..rows]);
        output[(0, j)] = values[j] / scale;
        for i in 0..rows {
            output[(1 + i, j)] = sign * u[j][i];
        }
        for i in 0..columns {
            output[(1 + rows + i, j)] = sign * v[j][i];
        }
    }
    Ok(())
}

fn large_singular_values(input: MatRef<'_, f64>, scale: f64, output: &mut Mat<f64>) -> Result<(), SolveError> {
    let values = (Scale(scale) * input)
        .singular_values()
        .map_err(|faer::linalg::solvers::SvdError::NoConvergence| SolveError::NotConverged)?;
    for (i, value) in values.iter().enumerate() {
        output[(i, 0)] = value / scale;
    }
    Ok(())
}

fn large_svd(input: MatRef<'_, f64>, scale: f64, signs: Signs, output: &mut Mat<f64>) -> Result<(), SolveError> {
    let decomposition = (Scale(scale) * input)
        .thin_svd()
        .map_err(|faer::linalg::solvers::SvdError::NoConvergence| SolveError::NotConverged)?;
    let (mut values, vectors) = output.as_mut().split_at_row_mut(1);
    let (mut u, mut v) = vectors.split_at_row_mut(input.nrows());
    for (j, value) in decomposition.S().column_vector().iter().enumerate() {
        let left = decomposition.U().col(j);
        let sign = Scale(signs.factor(left.iter()));
        values[(0, j)] = value / scale;
        u.rb_mut().col_mut(j).copy_from(sign * left);
        v.rb_mut().col_mut(j).copy_from(sign * decomposition.V().col(j));
    }
    Ok(())
}
