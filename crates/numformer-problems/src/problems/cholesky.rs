//! Cholesky's decomposition.

use faer::{Mat, MatRef};

use crate::solve_error::require_square;
use crate::solvers::small::{power_of_two_scale, require_symmetric, reshape, symmetric_entry};
use crate::{Magnitudes, Problem, SolveError, require_finite};

/// The Cholesky factor of a symmetric positive definite matrix: the lower triangular L with a positive diagonal and
/// LLᵀ = A, from n × n to n × n.
///
/// It is posed on matrices that are symmetric up to rounding. A matrix with a pivot that is not positive, or is
/// positive only by rounding, is [`SolveError::NotPositiveDefinite`]. The factor is unique, so a candidate is compared
/// with the target.
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

    fn output_magnitudes(&self, _: (usize, usize), entries: Magnitudes) -> Magnitudes {
        // The squares of row i of L add up to entry (i, i) of A.
        Magnitudes::at_most(entries.largest.map(f64::sqrt))
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let (n, _) = self.output_shape(input.shape())?;
        require_finite(input)?;
        require_symmetric(input)?;
        reshape(output, (n, n));
        // A power of four, whose root is exact. It stays in range even for matrices at the edges of the range.
        let scale = power_of_two_scale(input);
        let root = scale.sqrt().to_bits() & !((1 << 52) - 1);
        let root = f64::from_bits(root);
        for j in 0..n {
            for i in 0..n {
                let above: f64 = (0..j.min(i)).map(|k| output[(i, k)] * output[(j, k)]).sum();
                let entry = symmetric_entry(input, root * root, i, j);
                let rest = entry - above;
                output[(i, j)] = match i.cmp(&j) {
                    std::cmp::Ordering::Less => 0.0,
                    // This is the accuracy of a sum of j + 1 terms that add up to the entry.
                    std::cmp::Ordering::Equal if rest > (j + 1) as f64 * f64::EPSILON * entry => rest.sqrt(),
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

#[cfg(test)]
mod tests {
    use faer::{Scale, mat};
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::Determinant;
    use crate::testing::{assert_solved, assert_zero_is_wrong, mirrored, size, uniform, wild};

    /// MMᵀ + I with up to eight rows.
    fn positive_definite() -> impl Strategy<Value = Mat<f64>> {
        (0..=8_usize).prop_flat_map(|n| {
            uniform(n, n).prop_map(move |m| mirrored((&m * m.transpose() + Mat::<f64>::identity(n, n)).as_ref()))
        })
    }

    #[test]
    fn matrices_without_a_factor_are_rejected() {
        let error = Cholesky.solve(mat![[1.0, 0.0], [0.0, 0.0]].as_ref()).unwrap_err();
        assert_eq!(error, SolveError::NotPositiveDefinite { row: 1, pivot: 0.0 });
        // What rounding leaves of a zero pivot does not count as a pivot.
        let error = Cholesky.solve(mat![[0.01, 0.03], [0.03, 0.09]].as_ref()).unwrap_err();
        assert!(matches!(error, SolveError::NotPositiveDefinite { row: 1, .. }), "{error}");
        assert!(matches!(Cholesky.solve(mat![[1.0, 2.0], [3.0, 9.0]].as_ref()), Err(SolveError::NotSymmetric { .. })));
        assert!(matches!(Cholesky.solve(mat![[f64::INFINITY]].as_ref()), Err(SolveError::NotFinite { .. })));
        assert!(matches!(Cholesky.solve(Mat::zeros(1, 2).as_ref()), Err(SolveError::Shape { .. })));
        assert_eq!(Cholesky.solve(Mat::new().as_ref()).unwrap().shape(), (0, 0));
        assert_zero_is_wrong(&Cholesky, mat![[4.0, 2.0], [2.0, 10.0]].as_ref());
    }

    #[test]
    fn the_edges_of_the_range_have_roots() {
        for x in [f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e300, 1e-300] {
            let answer = Cholesky.solve(mat![[x]].as_ref()).unwrap()[(0, 0)];
            assert!((answer / x.sqrt() - 1.0).abs() < 1e-15, "{x:e}: {answer:e}");
        }
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn the_factor_is_lower_triangular_and_gives_the_matrix(
            a in positive_definite(), scale in prop_oneof![Just(1.0), Just(1e-150), Just(1e150)],
        ) {
            let a = Scale(scale) * &a;
            let factor = assert_solved(&Cholesky, a.as_ref(), 0.0);
            prop_assert!(size((&factor * factor.transpose() - &a).as_ref()) <= 1e-14 * size(a.as_ref()));
            for j in 0..a.ncols() {
                prop_assert!(factor[(j, j)] > 0.0);
                prop_assert!((0..j).all(|i| factor[(i, j)] == 0.0));
            }
        }

        #[test]
        fn the_determinant_is_the_square_of_the_diagonal_product(a in positive_definite()) {
            let factor = Cholesky.solve(a.as_ref()).unwrap();
            let product: f64 = (0..a.ncols()).map(|i| factor[(i, i)]).product();
            let determinant = Determinant.solve(a.as_ref()).unwrap()[(0, 0)];
            // The error is relative to Hadamard's bound, because of the rounding errors of small determinants.
            let bound: f64 = (0..a.ncols()).map(|i| a[(i, i)]).product();
            prop_assert!((product * product - determinant).abs() <= 1e-13 * bound);
        }

        #[test]
        fn an_answer_is_finite_or_there_is_none(a in wild(3, 3)) {
            if let Ok(answer) = Cholesky.solve(mirrored(a.as_ref()).as_ref()) {
                prop_assert!(require_finite(answer.as_ref()).is_ok());
            }
        }
    }
}
