//! Scaling of matrices to rows and columns of similar sizes.

use faer::{Mat, MatRef};

use crate::solvers::small::power_of_two;

/// The number of sweeps over all rows after which scaling ends, even if more could be gained.
const MAX_SWEEPS: usize = 64;

/// D⁻¹AD and the exponents of the powers of two in the diagonal matrix D, chosen so that each row is about as large as
/// the column with the same index. Nothing is rounded unless an entry falls below the normal numbers.
///
/// # Reference
/// Parlett and Reinsch (1969), *Balancing a matrix for calculation of eigenvalues and eigenvectors*.
/// <https://doi.org/10.1007/BF02165404>
pub(crate) fn balanced(matrix: MatRef<'_, f64>) -> (Mat<f64>, Vec<i32>) {
    /// Keeps the diagonal in range, and also the quotients of any two of its entries.
    const LARGEST: i32 = 500;
    let n = matrix.nrows();
    let mut balanced = matrix.to_owned();
    let mut exponents = vec![0; n];
    for _ in 0..MAX_SWEEPS {
        let mut has_changed = false;
        for i in 0..n {
            // Entries are divided by 2n, so that sums do not overflow.
            let sum = |entries: &mut dyn Iterator<Item = f64>| entries.map(|x| x.abs() / (2 * n) as f64).sum::<f64>();
            let row = sum(&mut (0..n).filter(|j| *j != i).map(|j| balanced[(i, j)]));
            let column = sum(&mut (0..n).filter(|j| *j != i).map(|j| balanced[(j, i)]));
            if row == 0.0 || column == 0.0 {
                continue;
            }
            let exponent = (0.5 * (row.log2() - column.log2())).round() as i32;
            let exponent = exponent.clamp(-LARGEST - exponents[i], LARGEST - exponents[i]);
            let (factor, inverse) = (power_of_two(exponent), power_of_two(-exponent));
            // A step that gains little is skipped, since it might be undone and repeated forever.
            if column * factor + row * inverse >= 0.95 * (row + column) {
                continue;
            }
            has_changed = true;
            exponents[i] += exponent;
            for j in (0..n).filter(|j| *j != i) {
                balanced[(j, i)] *= factor;
                balanced[(i, j)] *= inverse;
            }
        }
        if !has_changed {
            break;
        }
    }
    (balanced, exponents)
}

#[cfg(test)]
mod tests {
    use faer::mat;
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{size, uniform};

    #[test]
    fn rows_and_columns_become_alike() {
        let (even, exponents) = balanced(mat![[1.0, 1024.0], [1.0, 2.0]].as_ref());
        assert_eq!(even, mat![[1.0, 32.0], [32.0, 2.0]]);
        assert_eq!(exponents[0] - exponents[1], 5);
        // Symmetric, triangular and empty matrices have nothing to gain.
        for a in [mat![[1.0, -3.0], [-3.0, 1e100]], mat![[1.0, 1e10], [0.0, 2.0]], Mat::new()] {
            let (same, exponents) = balanced(a.as_ref());
            assert_eq!(same, a);
            assert!(exponents.iter().all(|exponent| *exponent == 0));
        }
        let (even, _) = balanced(mat![[0.0, 1e300], [1e-300, 0.0]].as_ref());
        assert!(even[(0, 1)] / even[(1, 0)] <= 4.0 && even[(1, 0)] / even[(0, 1)] <= 4.0, "{even:?}");
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn scaling_is_found_and_exact(a in uniform(5, 5), powers in prop::collection::vec(-30..30_i32, 5)) {
            let scaled = |exponents: &[i32], a: &Mat<f64>| {
                Mat::from_fn(5, 5, |i, j| a[(i, j)] * power_of_two(exponents[j] - exponents[i]))
            };
            let graded = scaled(&powers, &a);
            let (even, exponents) = balanced(graded.as_ref());
            prop_assert_eq!(&scaled(&exponents, &graded), &even);
            prop_assert!(size(even.as_ref()) <= 4.0 * size(a.as_ref()));
        }
    }
}
