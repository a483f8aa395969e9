//! A custom law of random matrices: circulant matrices, where each row is the row above, shifted by one place. A model
//! learns their traces, and is judged on another law, too.
//!
//! Run: `cargo run --release --example custom_law`
//!
//! Expected output: a matrix of the law, the progress of a small model, and its accuracy on circulant matrices and, far
//! lower, on uniform ones; under a minute in all. Next: `custom_problem` for what is computed; `compose` for all parts.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use anyhow::{Result, ensure};
use candle_core::Device;
use faer::Mat;
use numformer::data::{Split, Task};
use numformer::encoding::Positional;
use numformer::evaluate::evaluate;
use numformer::fused::FusedStep;
use numformer::model::{Parameters, StackConfig, Transformer, TransformerConfig};
use numformer::problems::{Law, Trace, UniformEntries};
use numformer::train::{Adam, HostLearner, Progress, Trainer, WarmUp};
use rand::{Rng, RngCore};

/// Circulant matrices of uniform entries.
#[derive(Debug)]
struct Circulant {
    dimension: usize,
    bound: f64,
}

// A sample is a function of the law and of what the generator yields, and of nothing else: a run can be repeated.
impl Law for Circulant {
    fn sample_into(&self, rng: &mut dyn RngCore, matrix: &mut Mat<f64>) {
        let n = self.dimension;
        let first: Vec<f64> = (0..n).map(|_| rng.random_range(-self.bound..=self.bound)).collect();
        matrix.resize_with(n, n, |_, _| 0.0);
        (0..n).for_each(|i| (0..n).for_each(|j| matrix[(i, j)] = first[(n + j - i) % n]));
    }

    fn max_shape(&self) -> (usize, usize) {
        (self.dimension, self.dimension)
    }

    /// This keeps symbols of numbers that never occur out of the vocabulary.
    fn bound(&self) -> Option<f64> {
        Some(self.bound)
    }
}

fn main() -> Result<()> {
    let p1000 = Arc::new(Positional::p1000());
    let law = Circulant { dimension: 3, bound: 10.0 };
    let task = Arc::new(Task::new(Trace, law, p1000.clone(), p1000.clone())?);
    println!("{}", task.vocabulary().render(&task.example(0, Split::Train, 0)?.src));

    let sizes = StackConfig::new(64, 4, 1);
    let config = TransformerConfig::new(task.vocabulary().len(), task.max_len(), sizes.clone(), sizes);
    let parameters = Parameters::random(0, &Device::Cpu);
    let learner = HostLearner::new(FusedStep::new(&config, &parameters)?, Adam::default(), &parameters)?;
    let mut trainer = Trainer::new(learner, task.batches(0, Split::Train, 64))
        .with_steps(1_500)
        .with_schedule(WarmUp::new(2e-3, 100))
        .with_observer(Progress::stderr());
    trainer.run()?;

    // The same model on other matrices, written with the tokens that it knows.
    trainer.show_weights(&parameters)?;
    let model = Transformer::new(&config, &parameters.frozen())?;
    let law = UniformEntries::new(3, 3, 10.0)?;
    let uniform = Task::builder(p1000.clone(), p1000).with_problem(Trace, 1.0, vec![Box::new(law)]);
    let uniform = Arc::new(uniform.written_as(&task).build()?);
    let within = |task: &Arc<Task>| -> Result<f64> {
        Ok(evaluate(&model, task, &task.batches(0, Split::Test, 256), 500, &Device::Cpu)?.accuracy[0].1)
    };
    let (on_own, on_uniform) = (within(&task)?, within(&uniform)?);
    println!("within 5%: {on_own:.3} of circulant matrices, {on_uniform:.3} of uniform ones");
    ensure!(on_own > 0.8 && on_uniform < on_own, "it learned what it saw");
    Ok(())
}
