//! Making examples: draw, solve, write as tokens. In examples per second, on one thread and on all.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use numformer_data::{Example, Split, Task};
use numformer_encoding::{NumberEncoding, Preset};
use numformer_problems::{Addition, Problem, Transpose, UniformEntries};
use rayon::prelude::*;

/// Examples made at a time by each thread.
const EXAMPLES: u64 = 64;

fn encodings(name: &str) -> [Arc<dyn NumberEncoding>; 2] {
    let (input, output) = name.split_once('-').unwrap_or((name, name));
    [input, output].map(|name| numformer_encoding::encoding_by_name(name).expect("a preset"))
}

/// Makes the examples of a batch, in one buffer.
fn make(task: &Task, batch: u64, example: &mut Example) {
    for index in batch * EXAMPLES..(batch + 1) * EXAMPLES {
        task.example_into(7, Split::Train, index, example).expect("an example");
        black_box(&*example);
    }
}

fn bench(criterion: &mut Criterion, problem: impl Problem + 'static, (rows, cols): (usize, usize), encoding: &str) {
    let name = format!("{}/{rows}x{cols}/{encoding}", problem.name());
    let (input_rows, input_cols) = problem.input_shape((rows, cols));
    let law = UniformEntries::new(input_rows, input_cols, 10.0).expect("valid parameters");
    let [input, output] = encodings(encoding);
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

fn benches(criterion: &mut Criterion) {
    for preset in Preset::ALL {
        bench(criterion, Transpose, (5, 5), preset.name());
        bench(criterion, Addition, (10, 10), preset.name());
    }
}

criterion_group!(generate, benches);
criterion_main!(generate);
