//! Eigenvalues and eigenvectors of symmetric matrices.

use faer::prelude::ReborrowMut;
use faer::{Mat, MatRef, Scale, Side};
use numformer_metrics::Norm;
use serde::{Deserialize, Serialize};

use crate::comparison::diagonal_of_first_row;
use crate::residual::{largest, orthogonality_defect, pair_residual};
use crate::small::{power_of_two_scale, require_symmetric, reshape, rows_of, symmetric_eigen, with_capacity};
use crate::{Instance, Problem, ReferenceComparison, SolveError, require_finite, require_representable};

/// The eigenvalues of a symmetric matrix, in descending order: from $n \times n$ to $n \times 1$.
///
/// Posed on matrices that are symmetric up to rounding (to $\sqrt\varepsilon$ relative to the largest entry); the rest is
/// [`SolveError::NotSymmetric`]. A candidate is compared with the target.
///
/// The algorithm is Householder's reduction and implicit QL steps up to $n = 32$, faer's above.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{Eigenvalues, Problem};
///
/// let answer = Eigenvalues.solve(mat![[2.0, 1.0], [1.0, 2.0]].as_ref())?;
/// assert!((answer[(0, 0)] - 3.0).abs() < 1e-14);
/// assert!((answer[(1, 0)] - 1.0).abs() < 1e-14);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*, section 4.4. <https://arxiv.org/abs/2112.01898>
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Eigenvalues;

/// The signs of singular vectors and eigenvectors, which the matrix leaves open.
///
/// Configuration files call these `as_computed` and `canonical`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signs {
    /// As the algorithm leaves them: a function of the input, but of no simple form. The program of the paper's authors
    /// takes them so.
    #[default]
    AsComputed,
    /// The first entry of each eigenvector, or left singular vector, is positive. Entries below $10^{-10}$, which may be
    /// zeros before rounding, are passed over.
    Canonical,
}

impl Signs {
    /// What counts as zero in a unit vector: far above rounding errors, far below what three digits show.
    const ZERO: f64 = 1e-10;

    /// The factor, 1 or -1, for a vector with these entries.
    pub(crate) fn factor<'a>(self, vector: impl IntoIterator<Item = &'a f64>) -> f64 {
        match self {
            Self::AsComputed => 1.0,
            Self::Canonical => {
                vector.into_iter().find(|x| x.abs() > Self::ZERO).map_or(1.0, |first| 1.0_f64.copysign(*first))
            }
        }
    }
}

/// Eigenvalues and eigenvectors of a symmetric matrix: from $n \times n$ to $(n + 1) \times n$.
///
/// The first row of the answer holds the eigenvalues in ascending order, the rows below the orthogonal matrix $V$ whose
/// columns are the eigenvectors: $AV = V \mathrm{diag}(\lambda)$. Which inputs are symmetric, and the algorithm, are as for
/// [`Eigenvalues`].
///
/// The error of a candidate is the larger of $\lVert AV - V \mathrm{diag}(\lambda) \rVert / \lVert A \rVert$ and
/// $\lVert V^\top V - I \rVert / \lVert I \rVert$, so that signs, the order of the pairs and the basis of an eigenspace
/// are free. The [comparison of the reference](Problem::reference_comparison) is that of $V^\top A V$ with
/// $\mathrm{diag}(\lambda)$: it asks nothing of $V$ alone, and a zero answer is perfect.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_metrics::Norm;
/// use numformer_problems::{Eigenvectors, Instance, Problem, Signs};
///
/// let problem = Eigenvectors { signs: Signs::Canonical };
/// let input = mat![[2.0, 1.0], [1.0, 2.0]];
/// let answer = problem.solve(input.as_ref())?;
/// let expected = mat![[1.0, 3.0], [0.5_f64.sqrt(), 0.5_f64.sqrt()], [-0.5_f64.sqrt(), 0.5_f64.sqrt()]];
/// assert!((&answer - &expected).norm_max() < 1e-14);
/// let instance = Instance { input: input.as_ref(), target: answer.as_ref() };
/// assert!(problem.error(instance, expected.as_ref(), Norm::L1)? < 1e-14);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*, section 4.5. <https://arxiv.org/abs/2112.01898>
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Eigenvectors {
    /// The signs of the eigenvectors in the answers; candidates may have others.
    pub signs: Signs,
}

impl Problem for Eigenvalues {
    fn name(&self) -> &'static str {
        "eigenvalues"
    }

    fn task_letter(&self) -> &'static str {
        "E"
    }

    fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
        Ok((require_square(input)?, 1))
    }

    fn output_bound(&self, (rows, _): (usize, usize), bound: f64) -> Option<f64> {
        // No eigenvalue exceeds the largest sum of magnitudes in a row.
        Some(rows as f64 * bound)
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let shape = self.output_shape(input.shape())?;
        require_finite(input)?;
        require_symmetric(input)?;
        reshape(output, shape);
        let scale = power_of_two_scale(input);
        with_capacity!(shape.0, small_eigenvalues(input, scale, output), else large_eigenvalues(input, scale, output))?;
        require_representable(output.as_ref())
    }
}

impl Problem for Eigenvectors {
    fn name(&self) -> &'static str {
        "eigenvectors"
    }

    fn task_letter(&self) -> &'static str {
        "F"
    }

    fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
        let n = require_square(input)?;
        Ok((n + 1, n))
    }

    fn output_bound(&self, input: (usize, usize), bound: f64) -> Option<f64> {
        Eigenvalues.output_bound(input, bound).map(|largest| largest.max(1.0))
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let shape = self.output_shape(input.shape())?;
        require_finite(input)?;
        require_symmetric(input)?;
        reshape(output, shape);
        let (n, scale) = (shape.1, power_of_two_scale(input));
        with_capacity!(
            n,
            small_eigenvectors(input, scale, self.signs, output),
            else large_eigenvectors(input, scale, self.signs, output)
        )?;
        require_representable(output.as_ref())
    }

    fn error(&self, instance: Instance<'_>, candidate: MatRef<'_, f64>, norm: Norm) -> Result<f64, SolveError> {
        require_finite(instance.input)?;
        assert_eq!(candidate.shape(), instance.target.shape(), "shapes of the candidate and of the exact answer");
        let (values, vectors) = candidate.split_at_row(1);
        Ok(largest([
            pair_residual(instance.input, vectors, vectors, values, norm),
            orthogonality_defect(vectors, norm),
        ]))
    }

    fn reference_comparison(
        &self,
        instance: Instance<'_>,
        candidate: MatRef<'_, f64>,
    ) -> Result<ReferenceComparison, SolveError> {
        require_finite(instance.input)?;
        let (values, vectors) = candidate.split_at_row(1);
        let found = vectors.transpose() * instance.input * vectors;
        Ok(ReferenceComparison::new(found, diagonal_of_first_row(values)))
    }
}

/// The number of rows of a square matrix.
pub(crate) fn require_square((rows, columns): (usize, usize)) -> Result<usize, SolveError> {
    if rows != columns {
        return Err(SolveError::Shape { expected: "a square matrix", found: (rows, columns) });
    }
    Ok(rows)
}

fn small_eigenvalues<const N: usize>(
    input: MatRef<'_, f64>,
    scale: f64,
    output: &mut Mat<f64>,
) -> Result<(), SolveError> {
    let n = input.nrows();
    let values = symmetric_eigen::<N>(&mut symmetric_rows_of(input, scale), n, None)?;
    for i in 0..n {
        output[(i, 0)] = values[n - 1 - i] / scale;
    }
    Ok(())
}

fn small_eigenvectors<const N: usize>(
    input: MatRef<'_, f64>,
    scale: f64,
    signs: Signs,
    output: &mut Mat<f64>,
) -> Result<(), SolveError> {
    let n = input.nrows();
    let mut vectors = [[0.0; N]; N];
    let values = symmetric_eigen(&mut symmetric_rows_of(input, scale), n, Some(&mut vectors))?;
    for j in 0..n {
        let sign = signs.factor(&vectors[j][..n]);
        output[(0, j)] = values[j] / scale;
        for i in 0..n {
            output[(i + 1, j)] = sign * vectors[j][i];
        }
    }
    Ok(())
}

/// The symmetric part of the matrix times `scale`.
fn symmetric_rows_of<const N: usize>(matrix: MatRef<'_, f64>, scale: f64) -> [[f64; N]; N] {
    let mut rows: [[f64; N]; N] = rows_of(matrix, scale);
    for i in 1..matrix.nrows() {
        for j in 0..i {
            let mean = 0.5 * (rows[i][j] + rows[j][i]);
            (rows[i][j], rows[j][i]) = (mean, mean);
        }
    }
    rows
}

/// The symmetric part of the matrix times `scale`.
pub(crate) fn symmetric_part(matrix: MatRef<'_, f64>, scale: f64) -> Mat<f64> {
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| 0.5 * (scale * matrix[(i, j)] + scale * matrix[(j, i)]))
}

fn large_eigenvalues(input: MatRef<'_, f64>, scale: f64, output: &mut Mat<f64>) -> Result<(), SolveError> {
    let ascending = symmetric_part(input, scale)
        .self_adjoint_eigenvalues(Side::Lower)
        .map_err(|faer::linalg::solvers::EvdError::NoConvergence| SolveError::NotConverged)?;
    for (i, value) in ascending.iter().rev().enumerate() {
        output[(i, 0)] = value / scale;
    }
    Ok(())
}

fn large_eigenvectors(
    input: MatRef<'_, f64>,
    scale: f64,
    signs: Signs,
    output: &mut Mat<f64>,
) -> Result<(), SolveError> {
    let decomposition = symmetric_part(input, scale)
        .self_adjoint_eigen(Side::Lower)
        .map_err(|faer::linalg::solvers::EvdError::NoConvergence| SolveError::NotConverged)?;
    let (mut values, mut vectors) = output.as_mut().split_at_row_mut(1);
    for (j, (value, vector)) in decomposition.S().column_vector().iter().zip(decomposition.U().col_iter()).enumerate() {
        values[(0, j)] = value / scale;
        vectors.rb_mut().col_mut(j).copy_from(Scale(signs.factor(vector.iter())) * vector);
    }
    Ok(())
}
