//! Examples made per second (drawn, solved, written as tokens), on one thread and on all threads.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use numformer_data::{Example, Split, Task};
use numformer_encoding::{NumberEncoding, encoding_by_name};
use numformer_problems::{
    Addition, Cholesky, Determinant, Eigenvalues, Eigenvectors, Inversion, Law, LinearSolve, MatrixExponential,
    MatrixSign, MatrixVector, Multiplication, PolynomialRoots, Problem, Qr, Rank, SingularValues, Svd,
    SymmetricInversion, Trace, Transpose, UniformEntries, Wigner, Wishart,
};
use rayon::prelude::*;

/// The number of examples that each thread makes at a time.
const EXAMPLES: u64 = 64;

/// Makes the examples of a batch, in one buffer.
fn make(task: &Task, batch: u64, example: &mut Example) {
    for index in batch * EXAMPLES..(batch + 1) * EXAMPLES {
        task.example_into(7, Split::Train, index, example).expect("an example");
        black_box(&*example);
    }
}

/// The largest magnitude of an entry, that of the paper.
const BOUND: f64 = 10.0;

fn law(problem: &dyn Problem, shape: (usize, usize)) -> Box<dyn Law> {
    let (rows, columns) = problem.input_shape(shape);
    let valid = "valid parameters";
    match problem.name() {
        "eigenvalues" | "eigenvectors" | "symmetric-inversion" => Box::new(Wigner::new(rows, BOUND).expect(valid)),
        "cholesky" => Box::new(Wishart::new(rows, BOUND).expect(valid)),
        _ => Box::new(UniformEntries::new(rows, columns, BOUND).expect(valid)),
    }
}

fn bench(criterion: &mut Criterion, problem: impl Problem + 'static, shape: (usize, usize), encoding: &str) {
    let name = format!("{}/{}x{}/{encoding}", problem.name(), shape.0, shape.1);
    let (input, output) = encoding.split_once('-').unwrap_or((encoding, encoding));
    let [input, output] =
        [input, output].map(|name| -> Arc<dyn NumberEncoding> { encoding_by_name(name).expect("a preset") });
    let law = law(&problem, shape);
    let task = Task::new(problem, law, input, output).expect("a task");

    let example = task.example(7, Split::Train, 0).expect("an example");
    let written = task.read_tgt(&example.src, &example.tgt).expect("its own tokens");
    assert_eq!((written.rows, written.cols), example.output.shape());

    let mut group = criterion.benchmark_group("data");
    group.throughput(Throughput::Elements(EXAMPLES));
    let (mut batch, mut buffer) = (0, Example::default());
    group.bench_function(format!("one-thread/{name}"), |bencher| {
        bencher.iter(|| {
            batch += 1;
            make(&task, batch, &mut buffer);
        });
    });
    let batches = 16 * rayon::current_num_threads() as u64;
    group.throughput(Throughput::Elements(batches * EXAMPLES));
    group.bench_function(format!("all-threads/{name}"), |bencher| {
        bencher.iter(|| {
            (0..batches).into_par_iter().for_each_init(Example::default, |buffer, batch| make(&task, batch, buffer));
        });
    });
}

/// The paper's problems, as its authors train them.
fn paper(criterion: &mut Criterion) {
    bench(criterion, Transpose, (5, 5), "p1000");
    bench(criterion, Addition, (10, 10), "b1999");
    bench(criterion, MatrixVector::default(), (5, 5), "p1000");
    bench(criterion, Multiplication::default(), (5, 5), "p1000");
    bench(criterion, Eigenvalues, (5, 5), "fp15");
    bench(criterion, Eigenvalues, (20, 20), "fp15");
    bench(criterion, Eigenvectors::default(), (5, 5), "fp15-p1000");
    bench(criterion, Inversion::default(), (5, 5), "fp15-p1000");
    bench(criterion, SymmetricInversion::default(), (5, 5), "fp15-p1000");
    bench(criterion, SingularValues, (5, 5), "fp15");
    bench(criterion, Svd::default(), (5, 5), "fp15-p1000");
}

/// The cost of each encoding, measured on transposition.
fn encodings(criterion: &mut Criterion) {
    for encoding in ["p10", "b1999", "fp15"] {
        bench(criterion, Transpose, (5, 5), encoding);
    }
}

/// The problems beyond the paper.
fn beyond(criterion: &mut Criterion) {
    bench(criterion, Determinant, (5, 5), "p1000");
    bench(criterion, Trace, (5, 5), "p1000");
    bench(criterion, Rank, (5, 5), "p1000");
    bench(criterion, LinearSolve, (5, 5), "p1000");
    bench(criterion, Cholesky, (5, 5), "p1000");
    bench(criterion, Qr, (5, 5), "p1000");
    bench(criterion, MatrixExponential, (5, 5), "p1000");
    bench(criterion, MatrixSign, (5, 5), "p1000");
    bench(criterion, PolynomialRoots, (1, 5), "p1000");
}

criterion_group!(generate, paper, encodings, beyond);
criterion_main!(generate);
