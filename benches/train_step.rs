//! Whole training steps, loss and gradients, in examples per second.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use numformer::data::{BatchSource, Split};
use numformer::model::{Mode, Model, Parameters};
use numformer::train::{Catalogue, Composition, Experiment};

fn transpose_3x3(criterion: &mut Criterion) {
    let experiment = Experiment::preset("transpose-3x3").expect("embedded");
    let task = Arc::new(experiment.task(&Catalogue::standard()).expect("valid"));
    let config = experiment.model_config(&task).expect("valid");
    let parameters = Parameters::random(0, &candle_core::Device::Cpu);
    let model = Model::init(&config, &parameters).expect("valid");
    let step = Composition::new(model, &parameters);
    let batch = task.batches(0, Split::Train, experiment.train.batch_size).batch(0).expect("examples");
    let mode = Mode::Train { seed: 0, step: 0 };
    let mut gradients = vec![0.0; step.layout().len()];
    let loss = step.loss_and_gradients(&batch, mode, &mut gradients).expect("a step");
    assert!((loss - (config.vocab_size() as f64).ln()).abs() < 1.5, "an untrained model guesses: {loss}");

    let mut group = criterion.benchmark_group("train_step");
    group.throughput(Throughput::Elements(experiment.train.batch_size as u64));
    group.bench_function("composition/transpose-3x3", |bencher| {
        bencher.iter(|| black_box(step.loss_and_gradients(&batch, mode, &mut gradients).expect("a step")));
    });
}

criterion_group!(benches, transpose_3x3);
criterion_main!(benches);
