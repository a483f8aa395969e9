//! What ranks train in these tests.

use std::error::Error;
use std::ops::ControlFlow;
use std::sync::Arc;

use numformer_data::{RankBatches, Split, Task, TaskBatches};
use numformer_distributed::{Communicator, share};
use numformer_encoding::Positional;
use numformer_model::{Parameters, StackConfig, TrainingStep, TransformerConfig};
use numformer_problems::{Transpose, UniformEntries};
use numformer_train::{HostLearner, Observer, Optimizer, StepReport, StopReason, Trainer, WarmUp};

pub(crate) type Ranks = Arc<dyn Communicator>;

/// Transposition of matrices with one to four entries, so that sequences differ in length.
pub(crate) fn task() -> Arc<Task> {
    let p10 = Arc::new(Positional::p10());
    let law = UniformEntries::new(1, 2, 10.0).expect("a law");
    Arc::new(Task::new(Transpose, law, p10.clone(), p10).expect("a task"))
}

pub(crate) fn config(task: &Task) -> TransformerConfig {
    let sizes = StackConfig::new(16, 2, 1);
    TransformerConfig::new(task.vocabulary().len(), task.max_len(), sizes.clone(), sizes)
}

/// Examples of a batch of all ranks together.
pub(crate) const BATCH: usize = 16;

pub(crate) fn batches(task: &Arc<Task>, ranks: &Ranks) -> RankBatches<TaskBatches> {
    RankBatches::new(task.batches(0, Split::Train, BATCH).with_buckets(2), share(BATCH, ranks))
}

/// The losses of a run.
#[derive(Default)]
pub(crate) struct Losses(pub(crate) Vec<f64>);

impl Observer for Losses {
    fn on_step(&mut self, step: &StepReport) -> ControlFlow<StopReason> {
        self.0.push(step.loss);
        ControlFlow::Continue(())
    }
}

pub(crate) fn trainer_of(
    step: impl TrainingStep + 'static,
    optimizer: impl Optimizer + 'static,
    parameters: &Parameters,
    task: &Arc<Task>,
    ranks: &Ranks,
) -> Result<Trainer, Box<dyn Error>> {
    let learner = HostLearner::new(step, optimizer, parameters)?.across(Arc::clone(ranks));
    let trainer = Trainer::new(learner, batches(task, ranks)).with_steps(200).with_clip_norm(0.5);
    Ok(trainer.with_schedule(WarmUp::new(2e-3, 20)).with_observer(Losses::default()))
}
