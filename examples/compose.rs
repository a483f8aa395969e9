//! Training put together by hand: every line is a part that you can replace by your own. No file, and no names to look
//! up.
//!
//! Run: `cargo run --release --example compose`
//!
//! Expected output: the progress of a small model that learns the eigenvalues of 2×2 symmetric matrices, and its
//! figures, one of them from a custom metric; under a minute in all. Next: `custom_model`, `custom_optimizer`,
//! `custom_law`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use numformer::data::{Split, Task};
use numformer::encoding::Positional;
use numformer::evaluate::{Answered, Better, Evaluator};
use numformer::fused::FusedStep;
use numformer::metrics::Metric;
use numformer::model::{Parameters, StackConfig, Transformer, TransformerConfig};
use numformer::problems::{Eigenvalues, Spectrum, SymmetricSpectrum};
use numformer::store::RunStore;
use numformer::train::{Adam, HostLearner, MetricsLog, Patience, Progress, Trainer, WarmUp, every};

/// The longest answer, in tokens.
#[derive(Clone, Default)]
struct LongestAnswer(Option<usize>);

impl Metric for LongestAnswer {
    type Sample = Answered;
    type Value = f64;

    fn update(&mut self, sample: &Answered) {
        self.0 = self.0.max(sample.answer.as_ref().map(Vec::len));
    }
    fn merge(&mut self, other: &Self) {
        self.0 = self.0.max(other.0);
    }
    fn value(&self) -> Option<f64> {
        self.0.map(|tokens| tokens as f64)
    }
}

fn main() -> Result<()> {
    // What is computed, on which matrices, and how it is written.
    let p10 = Arc::new(Positional::p10());
    let law = SymmetricSpectrum::new(2, 10.0, Spectrum::Semicircle)?;
    let task = Arc::new(Task::new(Eigenvalues, law, p10.clone(), p10)?);

    // The model, and how it learns.
    let sizes = StackConfig::new(64, 4, 1);
    let config = TransformerConfig::new(task.vocabulary().len(), task.max_len(), sizes.clone(), sizes);
    let parameters = Parameters::random(0, &Device::Cpu);
    let step = FusedStep::new(&config, &parameters)?;
    let learner = HostLearner::new(step, Adam::default(), &parameters)?;

    // How it is judged.
    let model = Transformer::new(&config, &parameters.frozen())?;
    let evaluator = Evaluator::new(model, &parameters, &task, task.batches(0, Split::Validation, 256), 500)?
        .with_metric("longest answer", Better::Less, LongestAnswer::default());

    // The run: saved here. Started again on the same directory, it resumes.
    let temporary = tempfile::tempdir()?;
    let path = temporary.path().join("run");
    let mut trainer = Trainer::new(learner, task.batches(0, Split::Train, 64))
        .named("eigenvalues-2x2")
        .with_steps(2_000)
        .with_schedule(WarmUp::new(1e-3, 100)) // or any Fn(u64) -> f64
        .with_evaluation(every(400), evaluator)
        .with_stop(Patience::of("cross_entropy", 3))
        .with_observer(Progress::stderr())
        .with_observer(MetricsLog::in_dir(&path, 100))
        .saved_in(RunStore::open(&path)?, every(500))?;
    let report = trainer.run()?;
    let within = trainer.progress().latest("within_5%").context("no evaluation")?;
    println!("{} after step {}: within 5% {within:.3}", report.stop, report.step);
    ensure!(within > 0.3, "it learned something");
    Ok(())
}
