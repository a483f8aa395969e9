//! The rank.

use faer::{Mat, MatRef};

use crate::solvers::small::reshape;
use crate::{Magnitudes, Problem, SolveError};

use super::svd::scaled_singular_values;

/// The numerical rank of a matrix: from r × c to 1 × 1.
///
/// This is the number of singular values above max(r, c) ε σ₁, where σ₁ is the largest. Rounding the entries could not
/// have made such values of zeros. A candidate is compared with the target. Solving allocates.
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_problems::{Problem, Rank};
///
/// assert_eq!(Rank.solve(mat![[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]].as_ref())?, mat![[1.0]]);
/// # Ok::<(), numformer_problems::SolveError>(())
/// ```
///
/// # Reference
/// Golub and Van Loan (2013), *Matrix Computations*, 4th edition, section 5.4.1.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Rank;

impl Problem for Rank {
    fn name(&self) -> &'static str {
        "rank"
    }

    fn output_shape(&self, _: (usize, usize)) -> Result<(usize, usize), SolveError> {
        Ok((1, 1))
    }

    fn output_magnitudes(&self, (rows, columns): (usize, usize), entries: Magnitudes) -> Magnitudes {
        Magnitudes::at_most(entries.largest.map(|_| rows.min(columns) as f64))
    }

    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        let values = scaled_singular_values(input)?;
        let limit = input.nrows().max(input.ncols()) as f64 * f64::EPSILON;
        let largest = if values.nrows() == 0 { 0.0 } else { values[(0, 0)] };
        let rank = (0..values.nrows()).filter(|&i| values[(i, 0)] > limit * largest).count();
        reshape(output, (1, 1));
        output[(0, 0)] = rank as f64;
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "ranks are small integers")]
mod tests {
    use faer::mat;
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{assert_solved, assert_zero_is_wrong, general, uniform};

    fn rank(a: MatRef<'_, f64>) -> f64 {
        Rank.solve(a).unwrap()[(0, 0)]
    }

    #[test]
    fn ranks_are_counted() {
        for (a, expected) in [
            (Mat::new(), 0.0),
            (Mat::zeros(3, 0), 0.0),
            (Mat::zeros(3, 4), 0.0),
            (Mat::full(3, 4, 2.0), 1.0),
            (Mat::identity(4, 3), 3.0),
            (mat![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]], 2.0),
            (Mat::full(3, 3, 1e308), 1.0),
            (Mat::full(3, 40, -f64::MAX), 1.0),
            (Mat::full(3, 3, 5e-324), 1.0),
            (mat![[f64::MAX, f64::MAX], [f64::MAX, -f64::MAX]], 2.0),
        ] {
            assert_eq!(rank(a.as_ref()), expected);
        }
        assert_zero_is_wrong(&Rank, mat![[1.0, 2.0]].as_ref());
        assert!(matches!(Rank.solve(mat![[f64::NAN]].as_ref()), Err(SolveError::NotFinite { .. })));
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn a_product_has_the_rank_of_its_factors(rank_of_factors in 0..=4_usize, seed in uniform(6, 11)) {
            let (left, right) = (seed.get(.., ..rank_of_factors), seed.get(..rank_of_factors, 4..));
            prop_assert_eq!(rank((left * right).as_ref()), rank_of_factors as f64);
        }

        #[test]
        fn the_transpose_has_the_same_rank(a in general()) {
            let answer = assert_solved(&Rank, a.as_ref(), 0.0);
            prop_assert_eq!(rank(a.transpose()), answer[(0, 0)]);
        }
    }
}
