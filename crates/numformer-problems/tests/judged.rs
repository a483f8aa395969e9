//! Every answer that a solver returns is accepted by its problem's own judge, and has the properties that algebra gives
//! exact answers. The entries of the matrices are spread over up to sixteen decades.

use faer::{Mat, MatRef};
use numformer_metrics::{Norm, norm};
use numformer_problems::{
    Addition, Cholesky, Determinant, Eigenvalues, Eigenvectors, InverseJudgement, Inversion, LeftFactor, LinearSolve,
    MAX_RESIDUAL, MatrixExponential, MatrixSign, MatrixVector, Multiplication, PolynomialRoots, Problem, Qr, Rank,
    Signs, SingularValues, SolveError, Svd, SymmetricFunction, SymmetricInversion, Trace, Transpose,
};
use numformer_problems::{Instance, require_finite};
use numformer_testkit::cases;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

/// Numbers of either sign, with magnitudes spread over `decades` below a power of ten, and with zeros among them.
fn spread(decades: f64) -> impl Strategy<Value = f64> {
    prop_oneof![
        1 => Just(0.0),
        8 => (any::<bool>(), -decades..=0.0_f64).prop_map(|(negative, exponent)| {
            let magnitude = 10_f64.powf(exponent);
            if negative { -magnitude } else { magnitude }
        }),
        // Few digits, as tokens have: exact ties and cancellations.
        2 => (-99..=99_i32).prop_map(f64::from),
    ]
}

/// Matrices of this shape: independent entries, entries times a power of ten for each row and each column, and products
/// of such matrices that have low rank up to rounding.
fn matrices(rows: usize, columns: usize) -> impl Strategy<Value = Mat<f64>> {
    let full = move |decades| {
        prop::collection::vec(spread(decades), rows * columns)
            .prop_map(move |x: Vec<f64>| Mat::from_fn(rows, columns, |i, j| x[i * columns + j]))
    };
    let graded = (full(1.0), prop::collection::vec(-8.0..8.0_f64, rows + columns)).prop_map(move |(a, exponents)| {
        Mat::from_fn(rows, columns, |i, j| a[(i, j)] * 10_f64.powf(0.5 * (exponents[i] + exponents[rows + j])))
    });
    let low_rank =
        (1..=3_usize, prop::collection::vec(spread(4.0), 3 * (rows + columns))).prop_map(move |(rank, x)| {
            Mat::from_fn(rows, columns, |i, j| (0..rank).map(|k| x[3 * i + k] * x[3 * (rows + j) + k]).sum())
        });
    let units = prop_oneof![6 => Just(1.0), 1 => Just(1e-100), 1 => Just(1e100)];
    let any = prop_oneof![
        3 => (0.0..=16.0_f64).prop_flat_map(full),
        2 => graded,
        1 => low_rank,
    ];
    (any, units).prop_map(|(a, unit)| faer::Scale(unit) * a)
}

/// Dimensions that are frequent in use and, now and then, dimensions in every capacity of the solvers.
fn dimension() -> impl Strategy<Value = usize> {
    prop_oneof![12 => 1..=5_usize, 3 => 6..=12_usize, 1 => 13..=34_usize]
}

fn square() -> impl Strategy<Value = Mat<f64>> {
    dimension().prop_flat_map(|n| matrices(n, n))
}

fn rectangular() -> impl Strategy<Value = Mat<f64>> {
    (dimension(), dimension()).prop_flat_map(|(rows, columns)| matrices(rows, columns))
}

/// Matrices with `extra` more columns than rows.
fn wider(extra: usize) -> impl Strategy<Value = Mat<f64>> {
    dimension().prop_flat_map(move |n| matrices(n, n + extra))
}

/// Symmetric matrices, some of them only up to rounding.
fn symmetric() -> impl Strategy<Value = Mat<f64>> {
    (square(), prop_oneof![3 => Just(0.0), 1 => -4.0..4.0_f64]).prop_map(|(a, ulps)| {
        Mat::from_fn(a.nrows(), a.ncols(), |i, j| {
            a[(i.max(j), i.min(j))] * if i > j { 1.0 + ulps * f64::EPSILON } else { 1.0 }
        })
    })
}

/// MMᵀ, which is positive definite if M has full rank, in half of the cases with a multiple of the identity added.
fn gramian() -> impl Strategy<Value = Mat<f64>> {
    (square(), prop_oneof![Just(0.0), 0.0..1.0_f64]).prop_map(|(m, shift)| {
        let product = &m * m.transpose();
        let largest = norm(product.as_ref(), Norm::Max);
        Mat::from_fn(m.nrows(), m.nrows(), |i, j| {
            product[(i.max(j), i.min(j))] + if i == j { shift * largest } else { 0.0 }
        })
    })
}

/// The answer, if there is one, after a check by the problem's own judge.
fn judged(problem: &dyn Problem, input: MatRef<'_, f64>) -> Result<Option<Mat<f64>>, TestCaseError> {
    let answer = match problem.solve(input) {
        Ok(answer) => answer,
        Err(error @ (SolveError::Shape { .. } | SolveError::NotFinite { .. } | SolveError::NotSymmetric { .. })) => {
            return Err(TestCaseError::fail(format!("{}: {error}", problem.name())));
        }
        Err(_) => return Ok(None),
    };
    prop_assert!(require_finite(answer.as_ref()).is_ok());
    let instance = Instance { input, target: answer.as_ref() };
    for &kind in Norm::ALL {
        let error = problem.error(instance, answer.as_ref(), kind).expect("a finite input");
        prop_assert!(error <= MAX_RESIDUAL, "{}: {kind} error {error:e} of {answer:?}", problem.name());
    }
    Ok(Some(answer))
}

/// The same for inputs that must have an answer.
fn always_judged(problem: &dyn Problem, input: MatRef<'_, f64>) -> Result<Mat<f64>, TestCaseError> {
    judged(problem, input)?.ok_or_else(|| TestCaseError::fail(format!("{}: no answer", problem.name())))
}

fn assert_near(found: MatRef<'_, f64>, expected: MatRef<'_, f64>, allowed: f64) -> TestCaseResult {
    let distance = norm((found - expected).as_ref(), Norm::Max);
    prop_assert!(distance <= allowed, "{found:?} is {distance:e} from {expected:?}, allowed {allowed:e}");
    Ok(())
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn transpose(a in rectangular()) {
        let answer = always_judged(&Transpose, a.as_ref())?;
        prop_assert_eq!(answer.transpose(), a.as_ref());
    }

    #[test]
    fn addition(a in dimension().prop_flat_map(|n| matrices(n, 2 * n))) {
        let answer = always_judged(&Addition, a.as_ref())?;
        let (left, right) = a.as_ref().split_at_col(a.ncols() / 2);
        assert_near(answer.as_ref(), (right + left).as_ref(), 0.0)?;
    }

    #[test]
    fn products(a in dimension().prop_flat_map(|n| matrices(n, 2 * n)), b in wider(1)) {
        for left in [LeftFactor::Plain, LeftFactor::Transposed] {
            for (problem, input) in [(&Multiplication { left } as &dyn Problem, &a), (&MatrixVector { left }, &b)] {
                let answer = always_judged(problem, input.as_ref())?;
                let (x, y) = input.as_ref().split_at_col(input.nrows());
                // The same terms, summed in another way.
                let x = if left == LeftFactor::Plain { x } else { x.transpose() };
                let allowed = 1e-15 * input.nrows() as f64 * norm(x, Norm::Frobenius) * norm(y, Norm::Frobenius);
                assert_near(answer.as_ref(), (x * y).as_ref(), allowed)?;
            }
        }
    }

    #[test]
    fn trace(a in square()) {
        let answer = always_judged(&Trace, a.as_ref())?;
        let magnitudes: f64 = (0..a.nrows()).map(|i| a[(i, i)].abs()).sum();
        let reversed: f64 = (0..a.nrows()).rev().map(|i| a[(i, i)]).sum();
        prop_assert!((answer[(0, 0)] - reversed).abs() <= 1e-14 * magnitudes);
    }

    #[test]
    fn determinant(a in square()) {
        let Some(answer) = judged(&Determinant, a.as_ref())? else { return Ok(()) };
        // The transpose with its last two rows exchanged is eliminated in another way and has the opposite determinant.
        let n = a.nrows();
        let exchanged = Mat::from_fn(n, n, |i, j| a[(j, if n > 1 && i >= n - 2 { 2 * n - 3 - i } else { i })]);
        let sign = if n > 1 { -1.0 } else { 1.0 };
        let Some(other) = judged(&Determinant, exchanged.as_ref())? else { return Ok(()) };
        // Elimination is exact relative to Hadamard's bound, the product of the norms of the rows, after the columns
        // are brought to the same size. This is its decimal logarithm, since the bound may be out of range.
        let bound = |a: MatRef<'_, f64>| {
            let sizes: Vec<f64> = a.col_iter().map(|column| column.norm_max()).collect();
            let scaled = Mat::from_fn(n, n, |i, j| if sizes[j] == 0.0 { 0.0 } else { a[(i, j)] / sizes[j] });
            scaled.row_iter().map(|row| row.norm_l2().log10()).chain(sizes.iter().map(|size| size.log10())).sum::<f64>()
        };
        let largest = 10_f64.powf(bound(a.as_ref()).max(bound(a.transpose())));
        let difference = (answer[(0, 0)] - sign * other[(0, 0)]).abs();
        prop_assert!(difference == 0.0 || difference <= 1e-10 * largest, "{difference:e} of {largest:e}");
    }

    #[test]
    fn rank(a in rectangular()) {
        let answer = always_judged(&Rank, a.as_ref())?;
        let values = always_judged(&SingularValues, a.as_ref())?;
        // No value may be at the limit, where rounding decides.
        let limit = a.nrows().max(a.ncols()) as f64 * f64::EPSILON * values[(0, 0)];
        let is_clear = (0..values.nrows()).all(|i| !(0.5 * limit..=2.0 * limit).contains(&values[(i, 0)]));
        if is_clear {
            prop_assert_eq!(always_judged(&Rank, a.transpose())?, answer);
        }
    }

    #[test]
    fn eigenvectors_and_eigenvalues(a in symmetric()) {
        for signs in [Signs::AsComputed, Signs::Canonical] {
            let answer = always_judged(&Eigenvectors { signs }, a.as_ref())?;
            let values = always_judged(&Eigenvalues, a.as_ref())?;
            let ascending = Mat::from_fn(1, a.ncols(), |_, j| values[(a.ncols() - 1 - j, 0)]);
            let allowed = 1e-13 * norm(a.as_ref(), Norm::Frobenius);
            assert_near(answer.subrows(0, 1), ascending.as_ref(), allowed)?;
        }
    }

    #[test]
    fn singular_vectors_and_values(a in rectangular()) {
        for signs in [Signs::AsComputed, Signs::Canonical] {
            let answer = always_judged(&Svd { signs }, a.as_ref())?;
            let values = always_judged(&SingularValues, a.as_ref())?;
            assert_near(answer.subrows(0, 1), values.transpose(), 1e-13 * norm(a.as_ref(), Norm::Frobenius))?;
        }
    }

    #[test]
    fn qr(a in rectangular()) {
        let tall = if a.nrows() < a.ncols() { a.transpose() } else { a.as_ref() };
        always_judged(&Qr, tall)?;
    }

    #[test]
    fn cholesky(a in gramian()) {
        if let Some(factor) = judged(&Cholesky, a.as_ref())? {
            let allowed = 1e-14 * a.nrows() as f64 * norm(a.as_ref(), Norm::Max);
            assert_near((&factor * factor.transpose()).as_ref(), a.as_ref(), allowed)?;
        }
    }

    #[test]
    fn inversion(a in square()) {
        let [by_residual, by_target] = [InverseJudgement::Residual, InverseJudgement::Target]
            .map(|judgement| judged(&Inversion { judgement }, a.as_ref()));
        prop_assert_eq!(by_residual?, by_target?);
    }

    #[test]
    fn symmetric_inversion(a in prop_oneof![symmetric(), gramian()]) {
        // The inverse has a small residual under either judgement.
        for judgement in [InverseJudgement::Residual, InverseJudgement::Target] {
            if let Some(answer) = judged(&SymmetricInversion { judgement }, a.as_ref())? {
                let instance = Instance { input: a.as_ref(), target: answer.as_ref() };
                let error = Inversion::default().error(instance, answer.as_ref(), Norm::L1).expect("a finite input");
                prop_assert!(error <= MAX_RESIDUAL, "{error:e}");
            }
        }
    }

    #[test]
    fn linear_solve(a in wider(1)) {
        judged(&LinearSolve, a.as_ref())?;
    }

    #[test]
    fn matrix_sign(a in square()) {
        let Some(sign) = judged(&MatrixSign, a.as_ref())? else { return Ok(()) };
        let (n, size) = (a.nrows(), norm(sign.as_ref(), Norm::Max).max(1.0));
        assert_near((&sign * &sign).as_ref(), Mat::identity(n, n).as_ref(), 10.0 * MAX_RESIDUAL * size)?;
        // The trace is an integer: the number of eigenvalues on the right minus the number on the left.
        let trace: f64 = (0..n).map(|i| sign[(i, i)]).sum();
        prop_assert!((trace - trace.round()).abs() <= 1e-7 * size && trace.abs() <= n as f64 + 0.5, "{trace}");
        if let Some(negative) = judged(&MatrixSign, (faer::Scale(-1.0) * &a).as_ref())? {
            assert_near(negative.as_ref(), (faer::Scale(-1.0) * &sign).as_ref(), 1e-6 * size)?;
        }
    }

    #[test]
    fn matrix_exponential(a in square()) {
        // Its product with the exponential of the negative is the identity, up to the rounding errors of the two.
        if let Some(answer) = judged(&MatrixExponential, a.as_ref())?
            && let Some(inverse) = judged(&MatrixExponential, (faer::Scale(-1.0) * &a).as_ref())?
        {
            let n = a.nrows();
            let sizes = norm(answer.as_ref(), Norm::Frobenius) * norm(inverse.as_ref(), Norm::Frobenius);
            if sizes.is_finite() {
                assert_near((&answer * &inverse).as_ref(), Mat::identity(n, n).as_ref(), 1e-8 * sizes)?;
            }
        }
    }

    #[test]
    fn symmetric_functions(a in square()) {
        let symmetric = &a + a.transpose();
        let positive = &a * a.transpose();
        let n = a.nrows();
        if let Some(root) = judged(&SymmetricFunction::SquareRoot, positive.as_ref())? {
            assert_near((&root * &root).as_ref(), positive.as_ref(), 1e-8 * norm(positive.as_ref(), Norm::Max))?;
        }
        if let Some(logarithm) = judged(&SymmetricFunction::Logarithm, positive.as_ref())?
            && let Some(again) = judged(&MatrixExponential, logarithm.as_ref())?
        {
            assert_near(again.as_ref(), positive.as_ref(), 1e-6 * norm(positive.as_ref(), Norm::Max))?;
        }
        if let Some(sine) = judged(&SymmetricFunction::Sine, symmetric.as_ref())?
            && let Some(cosine) = judged(&SymmetricFunction::Cosine, symmetric.as_ref())?
        {
            let sum = &sine * &sine + &cosine * &cosine;
            assert_near(sum.as_ref(), Mat::identity(n, n).as_ref(), 1e-8)?;
        }
    }

    #[test]
    fn polynomial_roots(a in (1..=20_usize).prop_flat_map(|columns| matrices(1, columns))) {
        judged(&PolynomialRoots, a.as_ref())?;
    }
}
