//! Answers per second at the paper's sizes, beside faer's bare decompositions.
//!
//! `problems/solve/NAME/SIZE` measures all of `solve_into`, including the checks and writing the answer into a buffer
//! that is kept. `problems/faer/NAME/SIZE` measures the decomposition alone, as faer's high-level interface offers it.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use faer::linalg::solvers::DenseSolveCore;
use faer::{Mat, MatRef, Side};
use numformer_metrics::Norm;
use numformer_problems::{
    Addition, Cholesky, Determinant, Eigenvalues, Eigenvectors, Instance, InverseJudgement, Inversion, Law,
    LinearSolve, MatrixExponential, MatrixSign, MatrixVector, Multiplication, PolynomialRoots, Problem, Qr, Rank,
    Signs, SingularValues, Svd, SymmetricFunction, SymmetricInversion, Trace, Transpose, UniformEntries,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const MATRICES: usize = 100;

/// Solvable inputs with uniform entries in the shape that the problem reads, symmetric if the problem requires it.
fn inputs(problem: &dyn Problem, n: usize) -> Vec<Mat<f64>> {
    let (rows, columns) = problem.input_shape((n, n));
    let law = UniformEntries::new(rows, columns, 10.0).expect("a law");
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut matrices = Vec::new();
    while matrices.len() < MATRICES {
        let a = law.sample(&mut rng);
        let input = match problem.name() {
            "eigenvalues" | "eigenvectors" | "symmetric-inversion" => {
                Mat::from_fn(n, n, |i, j| a[(i.max(j), i.min(j))])
            }
            "cholesky" | "matrix-logarithm" => a.transpose() * &a,
            _ => a,
        };
        if problem.solve(input.as_ref()).is_ok() {
            matrices.push(input);
        }
    }
    matrices
}

fn solve(c: &mut Criterion) {
    let problems: [Box<dyn Problem>; 20] = [
        Box::new(Transpose),
        Box::new(Addition),
        Box::new(MatrixVector::default()),
        Box::new(Multiplication::default()),
        Box::new(Eigenvalues),
        Box::new(Eigenvectors::default()),
        Box::new(Inversion::default()),
        Box::new(SymmetricInversion::default()),
        Box::new(SingularValues),
        Box::new(Svd::default()),
        Box::new(Determinant),
        Box::new(Trace),
        Box::new(Rank),
        Box::new(LinearSolve),
        Box::new(Cholesky),
        Box::new(Qr),
        Box::new(MatrixExponential),
        Box::new(MatrixSign),
        Box::new(SymmetricFunction::Logarithm),
        Box::new(PolynomialRoots),
    ];
    let mut group = c.benchmark_group("problems");
    group.throughput(Throughput::Elements(MATRICES as u64));
    for problem in &problems {
        for n in [5, 10, 20] {
            let inputs = inputs(problem, n);
            let answer = problem.solve(inputs[0].as_ref()).expect("solvable");
            let instance = Instance { input: inputs[0].as_ref(), target: answer.as_ref() };
            assert!(problem.error(instance, answer.as_ref(), Norm::L1).expect("finite") < 1e-9);
            let mut output = Mat::new();
            group.bench_function(BenchmarkId::new(format!("solve/{}", problem.name()), format!("{n}x{n}")), |b| {
                b.iter(|| {
                    for input in black_box(&inputs) {
                        problem.solve_into(input.as_ref(), &mut output).expect("solvable");
                        black_box(&output);
                    }
                });
            });
        }
    }
}

fn faer_alone(c: &mut Criterion) {
    type Decomposition = fn(MatRef<'_, f64>) -> f64;
    let decompositions: [(&dyn Problem, Decomposition); 5] = [
        (&Eigenvalues, |a| a.self_adjoint_eigenvalues(Side::Lower).expect("convergence")[0]),
        (&Eigenvectors { signs: Signs::AsComputed }, |a| {
            a.self_adjoint_eigen(Side::Lower).expect("convergence").U()[(0, 0)]
        }),
        (&INVERSION, |a| a.partial_piv_lu().inverse()[(0, 0)]),
        (&SingularValues, |a| a.singular_values().expect("convergence")[0]),
        (&Svd { signs: Signs::AsComputed }, |a| a.thin_svd().expect("convergence").U()[(0, 0)]),
    ];
    let mut group = c.benchmark_group("problems");
    group.throughput(Throughput::Elements(MATRICES as u64));
    for (problem, decompose) in decompositions {
        for n in [5, 10, 20] {
            let inputs = inputs(problem, n);
            group.bench_function(BenchmarkId::new(format!("faer/{}", problem.name()), format!("{n}x{n}")), |b| {
                b.iter(|| {
                    for input in black_box(&inputs) {
                        black_box(decompose(input.as_ref()));
                    }
                });
            });
        }
    }
}

const INVERSION: Inversion = Inversion { judgement: InverseJudgement::Residual };

criterion_group!(benches, solve, faer_alone);
criterion_main!(benches);
