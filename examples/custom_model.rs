//! A custom model of some forty lines on candle learns to transpose 2×2 matrices. It is a mixer: one linear map from
//! all source positions to all answer positions, and no attention.
//!
//! Run: `cargo run --release --example custom_model`
//!
//! Expected output: the progress of the model, with nearly all answers exact after half a minute. Next: `compose`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Result as ModelResult, Tensor};
use candle_nn::{Embedding, Module, VarBuilder, embedding};
use numformer::data::{Split, Task};
use numformer::encoding::Positional;
use numformer::evaluate::Evaluator;
use numformer::model::{Autodiff, Linear, Mode, Padded, Parameters, Prefix, Projection, Seq2Seq};
use numformer::ops::Activation;
use numformer::problems::{Transpose, UniformEntries};
use numformer::train::{Adam, HostLearner, Progress, Trainer, WarmUp, every};

/// Reads and writes sequences of one length each.
struct Mixer {
    tokens: Embedding,
    mix: Linear,
    projection: Projection,
}

impl Mixer {
    fn new(task: &Task, d: usize, vb: &VarBuilder) -> ModelResult<Self> {
        let (vocab_size, src, tgt) = (task.vocabulary().len(), task.max_src_len(), task.max_tgt_len());
        Ok(Self {
            tokens: embedding(vocab_size, d, vb.pp("tokens"))?,
            mix: Linear::new(src * d, tgt * d, &vb.pp("mix"))?,
            projection: Projection::new(2 * d, vocab_size, &vb.pp("projection"))?,
        })
    }
}

impl Seq2Seq for Mixer {
    type Memory = Tensor;
    type Cache = Prefix;

    fn encode(&self, src: &Padded, _: Mode) -> ModelResult<Tensor> {
        let all = self.tokens.forward(src.ids())?.flatten_from(1)?;
        self.mix.forward(&all, Activation::Relu)?.reshape((all.dim(0)?, (), self.tokens.hidden_size()))
    }

    fn decode(&self, memory: &Tensor, tgt: &Padded, cache: Option<&mut Prefix>, _: Mode) -> ModelResult<Tensor> {
        let whole = cache.map_or_else(|| Ok(tgt.clone()), |prefix| prefix.extended(tgt))?;
        let (len, new) = (whole.ids().dim(1)?, tgt.ids().dim(1)?);
        let states = Tensor::cat(&[&memory.narrow(1, 0, len)?, &self.tokens.forward(whole.ids())?], 2)?;
        states.narrow(1, len - new, new)
    }

    fn projection(&self) -> &Projection {
        &self.projection
    }
}

fn main() -> Result<()> {
    let p1000 = Arc::new(Positional::p1000());
    let task = Arc::new(Task::new(Transpose, UniformEntries::new(2, 2, 10.0)?, p1000.clone(), p1000)?);
    let parameters = Parameters::random(0, &Device::Cpu);
    let trained = Mixer::new(&task, 32, &parameters.trainable())?;
    let learner = HostLearner::new(Autodiff::new(trained, &parameters)?, Adam::default(), &parameters)?;
    let used = Mixer::new(&task, 32, &parameters.frozen())?;
    let evaluator = Evaluator::new(used, &parameters, &task, task.batches(0, Split::Validation, 256), 500)?;
    let mut trainer = Trainer::new(learner, task.batches(0, Split::Train, 64))
        .with_steps(1_500)
        .with_schedule(WarmUp::new(2e-3, 100))
        .with_evaluation(every(500), evaluator)
        .with_observer(Progress::stderr());
    trainer.run()?;
    let exact = trainer.progress().latest("exact").context("no evaluation")?;
    println!("share of exact answers: {exact:.3}");
    ensure!(exact > 0.9, "it learned to transpose");
    Ok(())
}
