//! Products and solutions of systems by faer, or by other means on processors where its products do not run (see
//! [`faer_limit`]).

use faer::prelude::Solve;
use faer::{Mat, MatRef};
use numformer_metrics::faer_limit;

use crate::SolveError;
use crate::solvers::small::{self, Lu, rows_of, with_capacity};

/// Checks that faer or [`small`] has a method for matrices of this shape on this processor.
pub(crate) fn require_method(shape: (usize, usize)) -> Result<(), SolveError> {
    require_within(shape, faer_limit().map(|_| small::MAX_DIMENSION))
}

/// Checks that faer decomposes matrices of this shape on this processor.
pub(crate) fn require_faer(shape: (usize, usize)) -> Result<(), SolveError> {
    require_within(shape, faer_limit())
}

fn require_within((rows, columns): (usize, usize), limit: Option<usize>) -> Result<(), SolveError> {
    let found = rows.max(columns);
    match limit {
        Some(limit) if found > limit => Err(SolveError::Processor { limit, found }),
        _ => Ok(()),
    }
}

/// The product of two matrices.
pub(crate) fn product(left: MatRef<'_, f64>, right: MatRef<'_, f64>) -> Mat<f64> {
    if faer_limit().is_none() { left * right } else { product_by_columns(left, right) }
}

/// Computes a product column by column: products with one vector run on every processor.
fn product_by_columns(left: MatRef<'_, f64>, right: MatRef<'_, f64>) -> Mat<f64> {
    let mut product = Mat::zeros(left.nrows(), right.ncols());
    for (mut to, column) in product.col_iter_mut().zip(right.col_iter()) {
        to.copy_from(left * column);
    }
    product
}

/// The solution X of AX = B, where A is square and B has at most as many columns. There must be
/// [a method](require_method) for their shapes.
pub(crate) fn solution(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let large = || a.partial_piv_lu().solve(b);
    if faer_limit().is_none() { large() } else { with_capacity!(a.nrows(), small_solution(a, b), else large()) }
}

fn small_solution<const N: usize>(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let solution = Lu::<N>::new(rows_of(a, 1.0), a.nrows()).solve(&rows_of(b, 1.0));
    Mat::from_fn(b.nrows(), b.ncols(), |i, j| solution[i][j])
}

#[cfg(test)]
mod tests {
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{size, uniform, well_conditioned};

    #[test]
    fn limits_are_told() {
        assert_eq!(require_within((16, 3), Some(16)), Ok(()));
        assert_eq!(require_within((3, 17), Some(16)), Err(SolveError::Processor { limit: 16, found: 17 }));
        assert_eq!(require_within((1000, 1000), None), Ok(()));
    }

    proptest! {
        #![proptest_config(cases(32))]

        #[test]
        fn columns_give_the_product(
            (a, b) in (0_usize..24, 0_usize..24, 0_usize..24).prop_flat_map(|(m, k, n)| (uniform(m, k), uniform(k, n))),
        ) {
            let (by_columns, expected) = (product_by_columns(a.as_ref(), b.as_ref()), &a * &b);
            prop_assert_eq!(by_columns.shape(), expected.shape());
            prop_assert!(size((by_columns - expected).as_ref()) <= 1e-14 * size(a.as_ref()) * size(b.as_ref()));
        }

        #[test]
        fn both_methods_solve_systems(
            (a, b) in well_conditioned().prop_flat_map(|a| { let n = a.nrows(); (Just(a), uniform(n, n)) }),
        ) {
            let by_faer = a.partial_piv_lu().solve(&b);
            let by_ours = with_capacity!(a.nrows(), small_solution(a.as_ref(), b.as_ref()), else by_faer.clone());
            prop_assert!(size((&by_ours - &by_faer).as_ref()) <= 1e-12 * size(by_faer.as_ref()));
            prop_assert!(size((&a * by_ours - &b).as_ref()) <= 1e-11 * size(b.as_ref()));
        }
    }
}
