//! Matrices for the tests of the problems.

use faer::{Mat, MatRef, Scale};
use numformer_metrics::{Norm, norm};
use proptest::prelude::*;

use crate::{Instance, Magnitudes, Problem};

/// Matrices of this shape with entries uniform in (-10, 10).
pub(crate) fn uniform(rows: usize, columns: usize) -> impl Strategy<Value = Mat<f64>> {
    prop::collection::vec(-10.0..10.0, rows * columns)
        .prop_map(move |x: Vec<f64>| Mat::from_fn(rows, columns, |i, j| x[i * columns + j]))
}

/// Factors that bring matrices to the edges of the range of `f64` and leave room for products of two entries.
fn scales() -> impl Strategy<Value = f64> {
    prop_oneof![3 => Just(1.0), 1 => Just(1e-150), 1 => Just(1e150)]
}

/// Dimensions in every capacity of the direct methods and beyond.
fn dimensions() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 0..=8_usize, 2 => 9..=34_usize]
}

/// Matrices of every size, scale and rank, including zero and orthogonal ones.
pub(crate) fn general() -> impl Strategy<Value = Mat<f64>> {
    (dimensions(), dimensions(), scales()).prop_flat_map(|(rows, columns, scale)| {
        prop_oneof![
            4 => uniform(rows, columns),
            1 => low_rank(rows, columns),
            1 => Just(Mat::zeros(rows, columns)),
            1 => Just(Mat::identity(rows, columns)),
            1 => Just(Mat::full(rows, columns, 3.0)),
            // Few nonzero entries, which are small integers, for many exact ties and zeros.
            1 => sparse(rows, columns),
        ]
        .prop_map(move |a| Scale(scale) * a)
    })
}

/// Symmetric matrices of every size and scale, some with repeated eigenvalues.
pub(crate) fn symmetric() -> impl Strategy<Value = Mat<f64>> {
    (dimensions(), scales()).prop_flat_map(|(n, scale)| {
        prop_oneof![
            4 => uniform(n, n).prop_map(|a| mirrored(a.as_ref())),
            1 => low_rank(n, n).prop_map(|a| {
                let product = &a * a.transpose();
                mirrored(product.as_ref())
            }),
            1 => Just(Mat::zeros(n, n)),
            1 => (-10.0..10.0).prop_map(move |x: f64| Mat::from_fn(n, n, |i, j| if i == j { x } else { 0.0 })),
            1 => Just(Mat::full(n, n, 3.0)),
            1 => sparse(n, n).prop_map(|a| mirrored(a.as_ref())),
            // Wilkinson's: a tridiagonal matrix with pairs of nearly equal eigenvalues.
            1 => Just(Mat::from_fn(n, n, |i, j| match i.abs_diff(j) {
                0 => (i as f64 - (n as f64 - 1.0) / 2.0).abs(),
                1 => 1.0,
                _ => 0.0,
            })),
        ]
        .prop_map(move |a| Scale(scale) * a)
    })
}

/// Square matrices of at most twenty rows with a condition number below about 100: diagonally dominant ones.
pub(crate) fn well_conditioned() -> impl Strategy<Value = Mat<f64>> {
    (0..=20_usize).prop_flat_map(|n| {
        (uniform(n, n), prop::collection::vec(any::<bool>(), n)).prop_map(move |(a, is_negative)| {
            let dominant = |i: usize| (10.0 * n as f64 + 1.0) * if is_negative[i] { -1.0 } else { 1.0 };
            Mat::from_fn(n, n, |i, j| if i == j { dominant(i) } else { a[(i, j)] })
        })
    })
}

/// The symmetric matrix with the lower triangle of `a`.
pub(crate) fn mirrored(a: MatRef<'_, f64>) -> Mat<f64> {
    Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[(i.max(j), i.min(j))])
}

fn low_rank(rows: usize, columns: usize) -> impl Strategy<Value = Mat<f64>> {
    (1..=2_usize)
        .prop_flat_map(move |rank| (uniform(rows, rank), uniform(rank, columns)).prop_map(|(left, right)| left * right))
}

fn sparse(rows: usize, columns: usize) -> impl Strategy<Value = Mat<f64>> {
    let entry = prop_oneof![3 => Just(0.0), 1 => (-2..=2_i32).prop_map(f64::from)];
    prop::collection::vec(entry, rows * columns)
        .prop_map(move |x: Vec<f64>| Mat::from_fn(rows, columns, |i, j| x[i * columns + j]))
}

/// Matrices whose entries differ by hundreds of orders of magnitude.
pub(crate) fn wild(rows: usize, columns: usize) -> impl Strategy<Value = Mat<f64>> {
    let entry = prop_oneof![
        1 => Just(0.0),
        4 => numformer_testkit::strategies::log_uniform(-320..=307),
        1 => numformer_testkit::strategies::log_uniform(-2..=2),
        1 => numformer_testkit::strategies::finite(),
    ];
    prop::collection::vec(entry, rows * columns)
        .prop_map(move |x: Vec<f64>| Mat::from_fn(rows, columns, |i, j| x[i * columns + j]))
}

/// The largest magnitude of an entry.
pub(crate) fn size(a: MatRef<'_, f64>) -> f64 {
    norm(a, Norm::Max)
}

/// Checks that the answer has the right shape, that it replaces a buffer of another shape, and that it meets the
/// problem's own measure in every norm. Returns the answer.
pub(crate) fn assert_solved(problem: &impl Problem, input: MatRef<'_, f64>, tolerance: f64) -> Mat<f64> {
    let answer = problem.solve(input).expect("an answer");
    assert_eq!(Ok(answer.shape()), problem.output_shape(input.shape()));
    let mut buffer = Mat::full(2, 3, f64::NAN);
    problem.solve_into(input, &mut buffer).expect("the same answer");
    assert_eq!(buffer, answer);
    let instance = Instance { input, target: answer.as_ref() };
    for &kind in Norm::ALL {
        let error = problem.error(instance, answer.as_ref(), kind).expect("finite input");
        assert!(error <= tolerance, "{}: {kind} error {error:e} of the answer to {input:?}", problem.name());
    }
    if let Some(bound) = problem.output_magnitudes(input.shape(), Magnitudes::at_most(size(input))).largest {
        assert!(size(answer.as_ref()) <= bound * (1.0 + 1e-12), "{}: {bound:e}", problem.name());
    }
    answer
}

/// Asserts that a zero answer has an error of at least about one in every norm.
pub(crate) fn assert_zero_is_wrong(problem: &impl Problem, input: MatRef<'_, f64>) {
    let target = problem.solve(input).expect("an answer");
    let zero = Mat::zeros(target.nrows(), target.ncols());
    for &kind in Norm::ALL {
        let error = problem.error(Instance { input, target: target.as_ref() }, zero.as_ref(), kind).expect("finite");
        assert!(error >= 1.0 - 1e-12, "{}: {kind} error {error:e}", problem.name());
    }
}
