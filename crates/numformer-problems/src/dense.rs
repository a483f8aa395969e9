//! Products and systems by faer, on every processor: see [`faer_multiplies`].

use faer::linalg::solvers::PartialPivLu;
use faer::prelude::Solve;
use faer::{Mat, MatRef};
use numformer_metrics::faer_multiplies;

use crate::SolveError;

/// The largest number of rows and columns that faer decomposes on every processor.
const LIMIT: usize = 32;

/// Checks that this processor decomposes matrices of this shape.
pub(crate) fn require_decomposable((rows, columns): (usize, usize)) -> Result<(), SolveError> {
    let found = rows.max(columns);
    if found <= LIMIT || faer_multiplies() { Ok(()) } else { Err(SolveError::Processor { limit: LIMIT, found }) }
}

/// The product of two matrices.
pub(crate) fn product(left: MatRef<'_, f64>, right: MatRef<'_, f64>) -> Mat<f64> {
    if faer_multiplies() { left * right } else { product_by_columns(left, right) }
}

/// Products with one vector run on every processor.
fn product_by_columns(left: MatRef<'_, f64>, right: MatRef<'_, f64>) -> Mat<f64> {
    let mut product = Mat::zeros(left.nrows(), right.ncols());
    for (mut to, column) in product.col_iter_mut().zip(right.col_iter()) {
        to.copy_from(left * column);
    }
    product
}

/// The solution $X$ of $AX = B$ for a matrix in factors.
pub(crate) fn solution(factors: &PartialPivLu<f64>, right: MatRef<'_, f64>) -> Mat<f64> {
    if faer_multiplies() { factors.solve(right) } else { solution_by_columns(factors, right) }
}

fn solution_by_columns(factors: &PartialPivLu<f64>, right: MatRef<'_, f64>) -> Mat<f64> {
    let mut solution = right.to_owned();
    for column in solution.col_iter_mut() {
        factors.solve_in_place(column.as_mat_mut());
    }
    solution
}

#[cfg(test)]
mod tests {
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{size, uniform, well_conditioned};

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
        fn columns_give_the_solution(
            (a, b) in well_conditioned().prop_flat_map(|a| { let n = a.nrows(); (Just(a), uniform(n, 40)) }),
        ) {
            let factors = a.partial_piv_lu();
            let (by_columns, expected) = (solution_by_columns(&factors, b.as_ref()), factors.solve(&b));
            prop_assert!(size((&by_columns - &expected).as_ref()) <= 1e-12 * size(expected.as_ref()));
            prop_assert!(size((&a * by_columns - &b).as_ref()) <= 1e-11 * size(b.as_ref()));
        }
    }
}
