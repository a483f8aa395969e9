//! Whole training steps of the published shapes, in steps and in examples per second.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use numformer::fused::Precision;
use numformer::train::{Gradients, Workload};

const BATCH: usize = 64;

fn train_step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("train_step");
    group.sample_size(10).measurement_time(Duration::from_secs(5)).throughput(Throughput::Elements(BATCH as u64));
    let autodiff = ["T5"].map(|name| (name, Gradients::Autodiff));
    for (name, gradients) in Workload::NAMES.map(|name| (name, Gradients::Fused)).into_iter().chain(autodiff) {
        let workload = Workload::named(name).expect("listed");
        let mut training = workload.training(gradients, Precision::F32).expect("a model");
        let batch = workload.batch(0, BATCH);
        let how = format!("{gradients:?}").to_lowercase();
        group.bench_function(BenchmarkId::new(how, name), |bencher| {
            bencher.iter(|| black_box(training.steps([&batch].into_iter()).expect("its own batch")));
        });
    }
}

criterion_group!(benches, train_step);
criterion_main!(benches);
