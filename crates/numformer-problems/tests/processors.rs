//! Every problem has an answer on every processor up to 16 rows and columns, and most problems up to 32. Above that, a
//! processor that lacks something gives an error that says so.
//!
//! It is worth running these tests under an emulator: run `cargo test --workspace --test processors` with
//! `CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER='qemu-x86_64 -cpu Opteron_G5'` in the environment.

use faer::{Mat, MatRef};
use numformer_metrics::{Norm, faer_limit};
use numformer_problems::{
    Addition, Cholesky, Determinant, Eigenvalues, Eigenvectors, Instance, Inversion, Law, LinearSolve, MAX_RESIDUAL,
    MatrixExponential, MatrixSign, MatrixVector, Multiplication, PolynomialRoots, Problem, Qr, Rank,
    ReferenceComparison, SingularValues, SolveError, Spectrum, Svd, SymmetricFunction, SymmetricInversion,
    SymmetricSpectrum, Trace, Transpose, steps_to_refine,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const DIMENSIONS: [usize; 6] = [4, 16, 17, 20, 32, 40];

fn uniform(rows: usize, columns: usize) -> Mat<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(rows as u64);
    Mat::from_fn(rows, columns, |_, _| rng.random_range(-1.0..1.0))
}

/// A symmetric and positive definite matrix.
fn gramian(n: usize) -> Mat<f64> {
    let a = uniform(n, n);
    Mat::from_fn(n, n, |i, j| {
        let (i, j) = (i.min(j), i.max(j));
        (0..n).map(|k| a[(i, k)] * a[(j, k)]).sum::<f64>() + if i == j { 0.5 } else { 0.0 }
    })
}

fn solves(problem: &dyn Problem, input: MatRef<'_, f64>) {
    let name = problem.name();
    let target = match problem.solve(input) {
        Ok(target) => target,
        Err(SolveError::Processor { limit, .. }) => {
            assert!(faer_limit().is_some() && input.nrows().max(input.ncols()) > limit, "{name}: {:?}", input.shape());
            return;
        }
        Err(error) => panic!("{name}: {error}"),
    };
    for norm in [Norm::L1, Norm::Frobenius, Norm::Max] {
        if let Some(residual) = problem.residual(input, target.as_ref(), norm).expect("a shape of the problem's") {
            assert!(residual <= MAX_RESIDUAL, "{name}: {residual:e}");
        }
    }
    let instance = Instance { input, target: target.as_ref() };
    let comparison = ReferenceComparison::of(problem, instance, target.as_ref()).expect("a shape of the problem's");
    assert!(comparison.error(Norm::Max) <= 1e-6, "{name} at {:?}", input.shape());
    if let Some(deviations) = problem.analysis().and_then(|analysis| analysis.deviations(instance, target.as_ref())) {
        assert!(deviations.properties.iter().all(|(_, deviation)| *deviation <= 1e-9), "{name}: {deviations:?}");
    }
    if let Some(refinement) = problem.analysis().and_then(|analysis| analysis.refinement()) {
        let steps = steps_to_refine(refinement, input, &target * faer::Scale(1.0 + 1e-4));
        assert!(steps.is_some_and(|steps| (1..4).contains(&steps)), "{name}: {steps:?}");
    }
}

#[test]
fn every_problem_is_solved_and_judged() {
    for n in DIMENSIONS {
        let (square, symmetric) = (uniform(n, n), gramian(n));
        let of_squares: [&dyn Problem; 9] = [
            &Transpose,
            &Trace,
            &Determinant,
            &Rank,
            &Inversion::default(),
            &MatrixExponential,
            &Qr,
            &SingularValues,
            &Svd::default(),
        ];
        for problem in of_squares {
            solves(problem, square.as_ref());
        }
        let of_symmetric: [&dyn Problem; 5] =
            [&Eigenvalues, &Eigenvectors::default(), &SymmetricInversion::default(), &Cholesky, &MatrixSign];
        for problem in of_symmetric {
            solves(problem, symmetric.as_ref());
        }
        for function in SymmetricFunction::ALL {
            solves(&function, symmetric.as_ref());
        }
        let wider = uniform(n, n + 1);
        solves(&LinearSolve, wider.as_ref());
        solves(&MatrixVector::default(), wider.as_ref());
        let pair = uniform(n, 2 * n);
        solves(&Addition, pair.as_ref());
        solves(&Multiplication::default(), pair.as_ref());
        solves(&PolynomialRoots, uniform(1, n + 1).as_ref());
    }
}

#[test]
fn laws_of_every_dimension_are_drawn() {
    for n in [4, 20, 32, 40, 100] {
        let law = SymmetricSpectrum::new(n, 1.0, Spectrum::Uniform).expect("a law");
        let a = law.sample(&mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(a.shape(), (n, n));
        assert_eq!(a.transpose(), a.as_ref());
        assert!(a.norm_max() > 0.0 && a.norm_max() <= law.bound().expect("bounded"));
    }
}
