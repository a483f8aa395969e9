//! Systems of linear equations.

use faer::prelude::*;
use faer::{Mat, MatRef, Scale};
use numformer_metrics::Norm;

use crate::residual::{require_solution, solution_error};
use crate::solvers::small::{
    Lu, power_of_two_scale, reshape, rows_of, scaled_columns, scaled_columns_of_large, with_capacity,
};
use crate::{Problem, SolveError, require_finite, require_representable};

use super::inverse::{invert, rejection};

/// The solution of a system of linear equations: `[A | b]` ↦ A⁻¹b, from n × (n + 1) to n × 1.
///
/// It is posed on the matrices that [`Inversion`](crate::Inversion) is posed on. The error of a candidate x is the
/// residual ‖Ax - b‖ / ‖b‖. If the residual of the solution itself is above [`MAX_RESIDUAL`](crate::MAX_RESIDUAL),
/// because A takes it to a much smaller b, solving fails with [`SolveError::IllConditioned`]. Solving allocates.
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
        // If the inverse can be trusted, only one solution is near enough.
        invert(a, &mut Mat::zeros(shape.0, shape.0))?;
        with_capacity!(shape.0, small_solution(a, b, output), else large_solution(a, b, output));
        require_representable(output.as_ref())?;
        require_solution(a, output.as_ref(), |i, _| b[(i, 0)]).map_err(|residual| rejection(a, residual))
    }

    fn residual(
        &self,
        input: MatRef<'_, f64>,
        candidate: MatRef<'_, f64>,
        norm: Norm,
    ) -> Result<Option<f64>, SolveError> {
        require_finite(input)?;
        assert_eq!(candidate.shape(), self.output_shape(input.shape())?, "shapes of the candidate and of an answer");
        let (a, b) = input.split_at_col(input.nrows());
        Ok(Some(solution_error(a, candidate, |i, _| b[(i, 0)], norm)))
    }
}

// The solution for A is D times that for AD, for the diagonal matrix D that scales the columns.

fn small_solution<const N: usize>(a: MatRef<'_, f64>, b: MatRef<'_, f64>, output: &mut Mat<f64>) {
    let n = a.nrows();
    let scale_b = power_of_two_scale(b);
    let (a, scales) = scaled_columns::<N>(a);
    let solution = Lu::new(a, n).solve(&rows_of(b, scale_b));
    for i in 0..n {
        output[(i, 0)] = solution[i][0] / scale_b * scales[i];
    }
}

fn large_solution(a: MatRef<'_, f64>, b: MatRef<'_, f64>, output: &mut Mat<f64>) {
    let scale_b = power_of_two_scale(b);
    let (a, scales) = scaled_columns_of_large(a);
    let solution = a.partial_piv_lu().solve(Scale(scale_b) * b);
    for (i, scale) in scales.into_iter().enumerate() {
        output[(i, 0)] = solution[(i, 0)] / scale_b * scale;
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "one division is exact")]
mod tests {
    use faer::mat;
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::Inversion;
    use crate::testing::{assert_solved, assert_zero_is_wrong, size, uniform, well_conditioned, wild};

    fn side_by_side(a: &Mat<f64>, b: impl Fn(usize) -> f64) -> Mat<f64> {
        let n = a.nrows();
        Mat::from_fn(n, n + 1, |i, j| if j < n { a[(i, j)] } else { b(i) })
    }

    #[test]
    fn input_is_checked() {
        assert_eq!(LinearSolve.input_shape((3, 3)), (3, 4));
        let expected = SolveError::Shape { expected: "one column more than rows", found: (3, 3) };
        assert_eq!(LinearSolve.solve(Mat::zeros(3, 3).as_ref()), Err(expected));
        let singular = LinearSolve.solve(mat![[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]].as_ref());
        assert!(matches!(singular, Err(SolveError::Singular { .. })), "{singular:?}");
        assert!(matches!(LinearSolve.solve(mat![[1.0, f64::NAN]].as_ref()), Err(SolveError::NotFinite { .. })));
        assert_eq!(LinearSolve.solve(mat![[1e-200, 1e200]].as_ref()), Err(SolveError::Overflow));
        assert_eq!(LinearSolve.solve(mat![[1e-200, 1e-300]].as_ref()).unwrap()[(0, 0)], 1e-300 / 1e-200);
        assert_eq!(LinearSolve.solve(Mat::zeros(0, 1).as_ref()).unwrap().shape(), (0, 1));
        assert_zero_is_wrong(&LinearSolve, mat![[2.0, 0.0, 6.0], [1.0, 4.0, 11.0]].as_ref());
    }

    /// Solutions are so large that the right-hand side is lost in the rounding errors of Ax, and so are inverses.
    #[test]
    fn no_answer_is_accepted_that_its_judge_rejects() {
        let is_expected =
            |error: &SolveError| matches!(error, SolveError::Singular { .. } | SolveError::IllConditioned { .. });
        for input in [mat![[1e8, 1e8, 1.0], [0.0, 1e-8, 3.0]], mat![[1e5, 1e5, 1.0], [0.0, 1e-5, 2.0]]] {
            let error = LinearSolve.solve(input.as_ref()).unwrap_err();
            assert!(is_expected(&error), "{error}");
        }
        let a = mat![[-1_108_513.407_615_376_2, 23_527_799.899_292_395], [0.0, 6.452_223_267_045_945e-9]];
        let error = Inversion::default().solve(a.as_ref()).unwrap_err();
        assert!(is_expected(&error), "{error}");
        // A large solution alone is no reason to fail.
        assert_solved(&LinearSolve, mat![[1e8, 0.0, 1.0], [0.0, 1e-8, 3.0]].as_ref(), 1e-15);
    }

    #[test]
    fn larger_systems_are_solved_too() {
        let a = Mat::from_fn(40, 40, |i, j| if i == j { 50.0 } else { ((i * j) % 7) as f64 / 7.0 });
        assert_solved(&LinearSolve, side_by_side(&a, |i| i as f64 - 5.0).as_ref(), 1e-13);
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn answers_meet_their_own_measure(
            a in well_conditioned(), b in uniform(20, 1), scale in prop_oneof![Just(1.0), Just(1e-150), Just(1e150)],
        ) {
            let input = side_by_side(&(Scale(scale) * &a), |i| b[(i, 0)]);
            assert_solved(&LinearSolve, input.as_ref(), 1e-13);
        }

        #[test]
        fn solutions_for_unit_vectors_are_columns_of_the_inverse(a in well_conditioned(), column in 0..8_usize) {
            if a.nrows() == 0 {
                return Ok(());
            }
            let column = column % a.nrows();
            let answer = LinearSolve.solve(side_by_side(&a, |i| if i == column { 1.0 } else { 0.0 }).as_ref()).unwrap();
            let inverse = Inversion::default().solve(a.as_ref()).unwrap();
            prop_assert!(size((&answer - inverse.get(.., column..column + 1)).as_ref()) <= 1e-13 * size(inverse.as_ref()));
        }

        #[test]
        fn an_answer_is_finite_or_there_is_none(input in wild(3, 4)) {
            if let Ok(answer) = LinearSolve.solve(input.as_ref()) {
                prop_assert!(require_finite(answer.as_ref()).is_ok());
            }
        }
    }
}
