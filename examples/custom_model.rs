//! A model of one's own, some forty lines on candle, trained, judged and asked like those of this workspace: a mixer, which
//! has one linear map from all places of the source to all places of the answer, and no attention.
//!
//! ```sh
//! cargo run --release --example custom_model
//! ```
//!
//! Expected output: the progress of the model as it learns to transpose 2×2 matrices, with nearly all answers exact after
//! half a minute. Next: `custom_optimizer`; `compose` for all parts of a run.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use anyhow::{Result, ensure};
use candle_core::{Device, Result as ModelResult, Tensor};
use candle_nn::{Embedding, Init, Module, VarBuilder};
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
    hidden: Linear,
    projection: Projection,
    /// Places of an answer, and numbers for each.
    shape: (usize, usize),
}

impl Mixer {
    fn new(task: &Task, d: usize, vb: &VarBuilder) -> ModelResult<Self> {
        let (vocab_size, src, tgt) = (task.vocabulary().len(), task.max_src_len(), task.max_tgt_len());
        let tokens = vb.get_with_hints((vocab_size, d), "tokens", Init::Randn { mean: 0.0, stdev: 1.0 })?;
        Ok(Self {
            tokens: Embedding::new(tokens, d),
            mix: Linear::new(src * d, tgt * d, &vb.pp("mix"))?,
            hidden: Linear::new(2 * d, 4 * d, &vb.pp("hidden"))?,
            projection: Projection::new(4 * d, vocab_size, &vb.pp("projection"))?,
            shape: (tgt, d),
        })
    }
}

impl Seq2Seq for Mixer {
    type Memory = Tensor;
    type Cache = Prefix;

    fn encode(&self, src: &Padded, _: Mode) -> ModelResult<Tensor> {
        let (tgt, d) = self.shape;
        let all = self.tokens.forward(src.ids())?.flatten_from(1)?;
        self.mix.forward(&all, Activation::Relu)?.reshape((all.dim(0)?, tgt, d))
    }

    fn decode(&self, memory: &Tensor, tgt: &Padded, cache: Option<&mut Prefix>, _: Mode) -> ModelResult<Tensor> {
        let whole = cache.map_or_else(|| Ok(tgt.clone()), |prefix| prefix.extended(tgt))?;
        let (len, new) = (whole.ids().dim(1)?, tgt.ids().dim(1)?);
        let read = self.tokens.forward(whole.ids())?;
        let states = self.hidden.forward(&Tensor::cat(&[&memory.narrow(1, 0, len)?, &read], 2)?, Activation::Relu)?;
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
        .with_steps(1_000)
        .with_schedule(WarmUp::new(2e-3, 100))
        .with_evaluation(every(500), evaluator)
        .with_observer(Progress::stderr());
    trainer.run()?;
    let exact =
        trainer.progress().history.last().and_then(|past| past.figure("exact")).map_or(0.0, |exact| exact.value);
    println!("share of exact answers: {exact:.3}");
    ensure!(exact > 0.9, "it learned to transpose");
    Ok(())
}
