//! A custom optimizer, Lion (Chen et al. 2023, arXiv 2302.06675), with weight decay on matrices alone.
//!
//! Run: `cargo run --release --example custom_optimizer`
//!
//! Expected output: the progress of a small transformer that learns to transpose 1×2 matrices, and its share of exact
//! answers, nearly 1 after some twenty seconds. Next: `custom_model`; `compose` for all parts of a run.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use numformer::data::{Split, Task};
use numformer::encoding::Positional;
use numformer::evaluate::Evaluator;
use numformer::fused::FusedStep;
use numformer::model::{FlatLayout, Parameters, StackConfig, Transformer, TransformerConfig};
use numformer::problems::{Transpose, UniformEntries};
use numformer::train::{HostLearner, Optimizer, Progress, Trainer, Update, WarmUp, every};

/// Moves each weight by the sign of a mixture of its gradient and its momentum.
#[derive(Default)]
struct Lion {
    beta1: f32,
    beta2: f32,
    momentum: Vec<f32>,
    is_decayed: Vec<bool>,
}

impl Optimizer for Lion {
    fn begin(&mut self, layout: &FlatLayout) {
        self.momentum = vec![0.0; layout.len()];
        let slots = layout.slots().iter();
        self.is_decayed = slots.flat_map(|slot| vec![slot.shape().rank() == 2; slot.range().len()]).collect();
    }
    fn update(&mut self, update: Update, weights: &mut [f32], gradients: &[f32]) {
        let [lr, scale, decay] = [update.lr, update.gradient_scale, update.weight_decay].map(|x| x as f32);
        let remembered = self.momentum.iter_mut().zip(&self.is_decayed);
        for ((weight, gradient), (momentum, is_decayed)) in weights.iter_mut().zip(gradients).zip(remembered) {
            let gradient = scale * gradient;
            let direction = self.beta1 * *momentum + (1.0 - self.beta1) * gradient;
            let decay = if *is_decayed { decay * *weight } else { 0.0 };
            let sign = if direction == 0.0 { 0.0 } else { direction.signum() };
            *weight -= lr * (sign + decay);
            *momentum = self.beta2 * *momentum + (1.0 - self.beta2) * gradient;
        }
    }

    // What is remembered is part of every checkpoint.
    fn memory(&self) -> Vec<(&str, &[f32])> {
        vec![("momentum", &self.momentum)]
    }
    fn memory_mut(&mut self) -> Vec<(&str, &mut [f32])> {
        vec![("momentum", &mut self.momentum)]
    }
}

fn main() -> Result<()> {
    let p1000 = Arc::new(Positional::p1000());
    let task = Arc::new(Task::new(Transpose, UniformEntries::new(1, 2, 10.0)?, p1000.clone(), p1000)?);
    let sizes = StackConfig::new(64, 4, 1);
    let config = TransformerConfig::new(task.vocabulary().len(), task.max_len(), sizes.clone(), sizes);
    let parameters = Parameters::random(0, &Device::Cpu);
    let lion = Lion { beta1: 0.9, beta2: 0.99, ..Lion::default() };
    let learner = HostLearner::new(FusedStep::new(&config, &parameters)?, lion, &parameters)?;
    let model = Transformer::new(&config, &parameters.frozen())?;
    let evaluator = Evaluator::new(model, &parameters, &task, task.batches(0, Split::Validation, 256), 500)?;
    let mut trainer = Trainer::new(learner, task.batches(0, Split::Train, 64))
        .with_steps(1_000)
        .with_schedule(WarmUp::new(3e-4, 100))
        .with_weight_decay(0.01)
        .with_evaluation(every(250), evaluator)
        .with_observer(Progress::stderr());
    trainer.run()?;
    let exact = trainer.progress().latest("exact").context("no evaluation")?;
    println!("share of exact answers: {exact:.3}");
    ensure!(exact > 0.9, "it learned to transpose");
    Ok(())
}
