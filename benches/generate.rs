//! Greedy decoding of the published shapes, in examples per second.

use std::hint::black_box;
use std::time::Duration;

use candle_core::Device;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use numformer::model::{Padded, Parameters, Transformer, greedy};
use numformer::train::Workload;

/// Twice the examples of a training step: nothing is kept for a backward pass.
const BATCH: usize = 128;

fn generate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("generate");
    group.sample_size(10).measurement_time(Duration::from_secs(5)).throughput(Throughput::Elements(BATCH as u64));
    for name in Workload::NAMES {
        let workload = Workload::named(name).expect("listed");
        let parameters = Parameters::random(0, &Device::Cpu);
        Transformer::init(&workload.config, &parameters).expect("a model");
        let model = Transformer::new(&workload.config, &parameters.frozen()).expect("the same model");
        let [src, _] = workload.batch(0, BATCH);
        let src = Padded::new(&src.ids, &src.lengths, src.width, &Device::Cpu).expect("ids");
        group.bench_function(BenchmarkId::new("greedy", name), |bencher| {
            bencher.iter(|| black_box(greedy(&model, &src, workload.tgt_len).expect("answers")));
        });
    }
}

criterion_group!(benches, generate);
criterion_main!(benches);
