//! Integer matrices of every rank.

use faer::Mat;
use rand::{Rng, RngCore};

use super::impl_distribution;
use crate::law_error::require_dimension;
use crate::{Law, LawError, MAX_DIMENSION};

/// Products LR of an r × k and a k × c matrix of integers, where k is uniform in 0, …, min(r, c). They have rank k, or
/// less if the factors happen to have lower rank.
///
/// A matrix of independent real entries has full rank, and a matrix of low rank gets full rank when its entries are
/// rounded to a few digits. The matrices of this law hold integers of at most the bound A. They are written exactly if
/// they have no more digits than the encoding. The entries of the factors are uniform in -m, …, m with
/// m = ⌊√(A / min(r, c))⌋.
///
/// # Examples
/// ```
/// use numformer_problems::{LowRank, Problem, Rank};
/// use rand::{Rng, SeedableRng};
///
/// let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
/// let law = LowRank::new(5, 5, 20.0)?;
/// let ranks: Vec<f64> = (0..100).map(|_| Rank.solve(rng.sample(&law).as_ref()).unwrap()[(0, 0)]).collect();
/// assert!((0..=5).all(|rank| ranks.contains(&f64::from(rank))));
/// # Ok::<(), numformer_problems::LawError>(())
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct LowRank {
    rows: usize,
    columns: usize,
    /// The largest entry of the factors.
    largest: i64,
}

impl LowRank {
    /// The law of matrices of this shape with integer entries in `[-bound, bound]`.
    ///
    /// # Errors
    /// When a dimension is not in `1..=`[`MAX_DIMENSION`], the bound is smaller than the smaller dimension, so that
    /// only zero factors would keep to it, or the bound is larger than 2⁵³, above which integers are not exact.
    pub fn new(rows: usize, columns: usize, bound: f64) -> Result<Self, LawError> {
        require_dimension("rows", rows)?;
        require_dimension("columns", columns)?;
        let terms = rows.min(columns) as f64;
        if !(terms..=MAX_EXACT).contains(&bound) {
            return Err(LawError::IntegerBound { smallest: terms, largest: MAX_EXACT, found: bound });
        }
        Ok(Self { rows, columns, largest: (bound / terms).sqrt() as i64 })
    }
}

/// 2⁵³: all integers up to here are exact in `f64`.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

impl Law for LowRank {
    fn sample_into(&self, rng: &mut dyn RngCore, matrix: &mut Mat<f64>) {
        let (rows, columns) = (self.rows, self.columns);
        matrix.resize_with(rows, columns, |_, _| 0.0);
        matrix.fill(0.0);
        let mut left = [0.0; MAX_DIMENSION];
        let rank = rng.random_range(0..=rows.min(columns));
        let mut integer = || rng.random_range(-self.largest..=self.largest) as f64;
        // The product is the sum over k of a column of L times a row of R.
        for _ in 0..rank {
            left[..rows].fill_with(&mut integer);
            for j in 0..columns {
                let right = integer();
                for (sum, x) in matrix.col_as_slice_mut(j).iter_mut().zip(&left) {
                    *sum += x * right;
                }
            }
        }
    }

    fn max_shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    fn bound(&self) -> Option<f64> {
        Some(self.rows.min(self.columns) as f64 * (self.largest * self.largest) as f64)
    }

    fn smallest(&self) -> f64 {
        1.0
    }
}

impl_distribution!(LowRank);

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::test_support::{entries, require_pure_sampling};
    use super::*;
    use crate::{Problem, Rank};

    #[test]
    fn parameters_are_checked() {
        let message = |rows, columns, bound| LowRank::new(rows, columns, bound).unwrap_err().to_string();
        assert_eq!(message(0, 5, 10.0), "expected 1 to 100 rows, found 0");
        assert_eq!(message(5, 101, 10.0), "expected 1 to 100 columns, found 101");
        let expected = "expected a bound from 20 to 9007199254740992 on products of integers, found 10";
        assert_eq!(message(20, 30, 10.0), expected);
        assert!(LowRank::new(5, 5, f64::NAN).is_err() && LowRank::new(5, 5, f64::INFINITY).is_err());
    }

    #[test]
    fn samples_depend_on_law_and_generator_alone() {
        require_pure_sampling(&LowRank::new(5, 7, 500.0).unwrap());
    }

    #[test]
    fn entries_are_integers_within_the_bound() {
        for (rows, columns, bound) in [(1, 1, 1.0), (5, 5, 10.0), (3, 8, 100.0), (20, 20, 999.0)] {
            let law = LowRank::new(rows, columns, bound).unwrap();
            assert!(law.bound().unwrap() <= bound);
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            for x in (0..50).flat_map(|_| entries(&Law::sample(&law, &mut rng))) {
                assert!(x.abs() <= law.bound().unwrap() && x.fract().abs() < f64::EPSILON, "{x}");
            }
        }
    }

    /// Factors of large integers have full rank, except with a small probability.
    #[test]
    fn every_rank_is_as_likely() {
        let law = LowRank::new(4, 6, 4e6).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut counts = [0_u32; 5];
        for _ in 0..2000 {
            counts[Rank.solve(Law::sample(&law, &mut rng).as_ref()).unwrap()[(0, 0)] as usize] += 1;
        }
        // 400 each, with a standard deviation of 18.
        assert!(counts.iter().all(|count| count.abs_diff(400) < 80), "{counts:?}");
    }
}
