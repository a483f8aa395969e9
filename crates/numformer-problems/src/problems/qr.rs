//! The QR decomposition.

use faer::prelude::*;
use faer::{Mat, MatRef, Scale};
use numformer_metrics::{Norm, norm};

use crate::residual::{largest, orthogonality_defect, quotient};
use crate::solvers::dense::{product, require_faer};
use crate::solvers::small::{power_of_two_scale, reshape};
use crate::{Magnitudes, Problem, SolveError, require_finite, require_representable};

/// The thin QR decomposition of a matrix with at least as many rows as columns: from r × c to (r + c) × c.
///
/// The first r rows of the answer hold Q, which has orthonormal columns. The last c rows hold the upper triangular R,
/// whose diagonal is not negative. Then A = QR. If the columns of A are linearly independent, the answer is unique.
///
/// The error of a candidate is the largest of ‖QR - A‖ / ‖A‖, ‖QᵀQ - I‖ / ‖I‖ and ‖L‖ / ‖A‖, where L holds the entries
/// of R below the diagonal. Signs are free. The algorithm is Householder's, by faer. Solving allocates.
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

    fn output_magnitudes(&self, (rows, _): (usize, usize), entries: Magnitudes) -> Magnitudes {
        // No entry of R exceeds the Euclidean norm of its column of A.
        Magnitudes::at_most(entries.largest.map(|bound| f64::max(1.0, (rows as f64).sqrt() * bound)))
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let shape = self.output_shape(input.shape())?;
        require_finite(input)?;
        require_faer(input.shape())?;
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

    fn residual(
        &self,
        input: MatRef<'_, f64>,
        candidate: MatRef<'_, f64>,
        kind: Norm,
    ) -> Result<Option<f64>, SolveError> {
        require_finite(input)?;
        assert_eq!(candidate.shape(), self.output_shape(input.shape())?, "shapes of the candidate and of an answer");
        let a = input;
        let (q, r) = candidate.split_at_row(a.nrows());
        let n = a.ncols();
        let below = Mat::from_fn(n, n, |i, j| if i > j { r[(i, j)] } else { 0.0 });
        let size = norm(a, kind);
        Ok(Some(largest([
            quotient(norm((product(q, r) - a).as_ref(), kind), size),
            quotient(norm(below.as_ref(), kind), size),
            orthogonality_defect(q, kind),
        ])))
    }
}

#[cfg(test)]
mod tests {
    use faer::mat;
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{assert_solved, assert_zero_is_wrong, general, uniform, wild};
    use crate::{Determinant, Instance};

    fn tall(a: Mat<f64>) -> Mat<f64> {
        if a.nrows() < a.ncols() { a.transpose().to_owned() } else { a }
    }

    #[test]
    fn input_is_checked() {
        let expected = SolveError::Shape { expected: "at least as many rows as columns", found: (2, 3) };
        assert_eq!(Qr.solve(Mat::zeros(2, 3).as_ref()), Err(expected));
        assert!(matches!(Qr.solve(mat![[f64::NAN]].as_ref()), Err(SolveError::NotFinite { .. })));
        assert_eq!(Qr.solve(Mat::zeros(3, 0).as_ref()).unwrap().shape(), (3, 0));
        assert_zero_is_wrong(&Qr, mat![[3.0, 1.0], [-4.0, 2.0]].as_ref());
    }

    #[test]
    fn a_full_right_factor_is_wrong() {
        // The identity times the matrix itself: orthogonal, but not triangular.
        let input = mat![[3.0, 1.0], [-4.0, 2.0]];
        let target = Qr.solve(input.as_ref()).unwrap();
        let candidate = mat![[1.0, 0.0], [0.0, 1.0], [3.0, 1.0], [-4.0, 2.0]];
        let instance = Instance { input: input.as_ref(), target: target.as_ref() };
        assert_eq!(Qr.error(instance, candidate.as_ref(), Norm::L1), Ok(0.4));
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn answers_meet_their_own_measure(a in general()) {
            let a = tall(a);
            let answer = assert_solved(&Qr, a.as_ref(), 1e-12);
            let r = answer.get(a.nrows().., ..);
            for i in 0..a.ncols() {
                prop_assert!(r[(i, i)] >= 0.0);
                prop_assert!((0..i).all(|j| r[(i, j)] == 0.0));
            }
        }

        #[test]
        fn the_determinant_has_the_magnitude_of_the_diagonal_product(a in uniform(5, 5)) {
            let answer = Qr.solve(a.as_ref()).unwrap();
            let product: f64 = (0..5).map(|i| answer[(5 + i, i)]).product();
            let determinant = Determinant.solve(a.as_ref()).unwrap()[(0, 0)];
            prop_assert!((product - determinant.abs()).abs() <= 1e-12 * 23_f64.powi(5));
        }

        #[test]
        fn an_answer_is_finite_or_there_is_none(a in wild(4, 3)) {
            match Qr.solve(a.as_ref()) {
                Ok(answer) => {
                    prop_assert!(require_finite(answer.as_ref()).is_ok());
                    prop_assert!(orthogonality_defect(answer.get(..4, ..), Norm::Max) <= 1e-12);
                }
                Err(error) => prop_assert_eq!(error, SolveError::Overflow),
            }
        }
    }
}
