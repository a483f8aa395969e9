//! Solving the paper's problems allocates nothing once the buffer is large enough, up to 32 rows.

use faer::Mat;
use numformer_problems::{
    Addition, Cholesky, Determinant, Eigenvalues, Eigenvectors, Inversion, MatrixVector, Multiplication, Problem,
    SingularValues, Svd, SymmetricInversion, Trace, Transpose,
};

#[test]
fn a_warm_buffer_is_enough() {
    let problems: [&dyn Problem; 13] = [
        &Transpose,
        &Addition,
        &MatrixVector::default(),
        &Multiplication::default(),
        &Eigenvalues,
        &Eigenvectors::default(),
        &Inversion::default(),
        &SymmetricInversion::default(),
        &SingularValues,
        &Svd::default(),
        &Determinant,
        &Trace,
        &Cholesky,
    ];
    for problem in problems {
        for n in [1, 5, 10, 20, 32] {
            let (rows, columns) = problem.input_shape((n, n));
            // The input is symmetric and positive definite if it is square.
            let input =
                Mat::from_fn(rows, columns, |i, j| if i == j { n as f64 } else { 1.0 / (1 + i.abs_diff(j)) as f64 });
            let mut output = Mat::new();
            let mut solve = || problem.solve_into(input.as_ref(), &mut output).expect("a well-conditioned matrix");
            solve();
            assert_eq!(allocation_counter::measure(solve).count_total, 0, "{}, {n}", problem.name());
        }
    }
}
