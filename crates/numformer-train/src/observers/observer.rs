//! Watching a run.

use std::any::Any;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use numformer_evaluate::Evaluation;
use numformer_model::FlatLayout;
use numformer_store::CheckpointError;
use serde::{Deserialize, Serialize};

use crate::difference::Difference;
use crate::divergence::DivergenceReport;

/// Watches a run and may end it. Every method has a default that does nothing; implement what you need. After the run,
/// [`Trainer::observer`](crate::Trainer::observer) returns the observer.
///
/// # Examples
/// Stop as soon as the loss is low:
/// ```
/// use std::ops::ControlFlow;
/// use numformer_train::{Observer, StepReport, StopReason};
///
/// struct LossReached(f64);
///
/// impl Observer for LossReached {
///     fn on_step(&mut self, step: &StepReport) -> ControlFlow<StopReason> {
///         if step.loss > self.0 {
///             return ControlFlow::Continue(());
///         }
///         ControlFlow::Break(StopReason::Asked(format!("loss below {}", self.0)))
///     }
/// }
/// ```
pub trait Observer: Any + Send {
    /// Training begins or goes on.
    fn on_start(&mut self, _start: &Start<'_>) -> ControlFlow<StopReason> {
        ControlFlow::Continue(())
    }
    /// A step was taken.
    fn on_step(&mut self, _step: &StepReport) -> ControlFlow<StopReason> {
        ControlFlow::Continue(())
    }
    /// Whether to save the weights now, in addition to the checkpoints of the experiment. Called after each step.
    fn wants_checkpoint(&mut self) -> bool {
        false
    }
    /// Whether to be shown the weights now. Called after each step; on a device, after each group of steps that are
    /// reported together.
    fn wants_weights(&mut self) -> bool {
        false
    }
    /// The weights after this many steps, in the order of their layout. Called only on an observer that wanted them.
    fn on_weights(&mut self, _step: u64, _layout: &FlatLayout, _weights: &[f32]) -> ControlFlow<StopReason> {
        ControlFlow::Continue(())
    }
    /// The model is being judged on the validation set. Called again and again until that is done. Breaking ends the
    /// run, which is saved in its state after the last step. When the run goes on, the model is judged first.
    fn while_evaluating(&mut self) -> ControlFlow<StopReason> {
        ControlFlow::Continue(())
    }
    /// A step could not be taken. The run goes on without it, goes on from an earlier step, or ends with an error.
    fn on_divergence(&mut self, _divergence: &DivergenceReport) -> ControlFlow<StopReason> {
        ControlFlow::Continue(())
    }
    /// A stage begins.
    fn on_stage(&mut self, _stage: &StageReport) -> ControlFlow<StopReason> {
        ControlFlow::Continue(())
    }
    /// The model was judged on the validation set.
    fn on_evaluation(&mut self, _evaluation: &EvaluationReport) -> ControlFlow<StopReason> {
        ControlFlow::Continue(())
    }
    /// Weights are about to be saved. Data about the steps so far must be on the disk when this returns. An error ends
    /// the run without the checkpoint. If the disk is full, the run may wait and call this again.
    ///
    /// # Errors
    /// When the data cannot be written.
    fn before_checkpoint(&mut self, _step: u64) -> io::Result<()> {
        Ok(())
    }
    /// There is no room to save. The run waits and tries again. Breaking ends the run with the error.
    fn on_full_disk(&mut self, _error: &CheckpointError) -> ControlFlow<StopReason> {
        ControlFlow::Continue(())
    }
    /// Weights were saved.
    fn on_checkpoint(&mut self, _path: &Path) -> ControlFlow<StopReason> {
        ControlFlow::Continue(())
    }
    /// Training ended.
    fn on_end(&mut self, _stop: &StopReason) {}
}

/// Forwards everything to the observer in the box. [`Trainer::observer`](crate::Trainer::observer) finds a
/// `Box<dyn Observer>` by the type of the observer in it, and a `Box<O>` of a known type as a `Box<O>`.
impl<O: Observer + ?Sized> Observer for Box<O> {
    fn on_start(&mut self, start: &Start<'_>) -> ControlFlow<StopReason> {
        (**self).on_start(start)
    }

    fn on_step(&mut self, step: &StepReport) -> ControlFlow<StopReason> {
        (**self).on_step(step)
    }

    fn wants_checkpoint(&mut self) -> bool {
        (**self).wants_checkpoint()
    }

    fn wants_weights(&mut self) -> bool {
        (**self).wants_weights()
    }

    fn on_weights(&mut self, step: u64, layout: &FlatLayout, weights: &[f32]) -> ControlFlow<StopReason> {
        (**self).on_weights(step, layout, weights)
    }

    fn while_evaluating(&mut self) -> ControlFlow<StopReason> {
        (**self).while_evaluating()
    }

    fn on_divergence(&mut self, divergence: &DivergenceReport) -> ControlFlow<StopReason> {
        (**self).on_divergence(divergence)
    }

    fn on_stage(&mut self, stage: &StageReport) -> ControlFlow<StopReason> {
        (**self).on_stage(stage)
    }

    fn on_evaluation(&mut self, evaluation: &EvaluationReport) -> ControlFlow<StopReason> {
        (**self).on_evaluation(evaluation)
    }

    fn before_checkpoint(&mut self, step: u64) -> io::Result<()> {
        (**self).before_checkpoint(step)
    }

    fn on_full_disk(&mut self, error: &CheckpointError) -> ControlFlow<StopReason> {
        (**self).on_full_disk(error)
    }

    fn on_checkpoint(&mut self, path: &Path) -> ControlFlow<StopReason> {
        (**self).on_checkpoint(path)
    }

    fn on_end(&mut self, stop: &StopReason) {
        (**self).on_end(stop);
    }
}

/// The beginning of a run, or of its continuation.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// Name of the run.
    pub name: &'a str,
    /// Steps taken before this start.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Training examples of each step.
    pub examples_per_step: u64,
    /// How often the run had gone back after a divergence before this start.
    pub roll_backs: u32,
    /// Trainable coefficients.
    pub parameters: usize,
    /// How gradients are computed, in words. If this is the slower way, it says why.
    pub how: &'a str,
    /// The values that differ from before. A change of the run's end is not among them.
    pub changes: &'a [Difference],
    /// Whether to keep an evaluation at `step`. It is kept if a run with this end from the beginning would have made
    /// it. A run that was made longer was judged at its former end, which is now a step like any other.
    pub keeps_evaluation: bool,
}

/// The changes with which a run goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeReport {
    /// Updates taken so far.
    pub step: u64,
    /// What changed.
    pub changes: Vec<Difference>,
}

/// One optimizer update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Updates taken so far.
    pub step: u64,
    /// Training examples seen so far.
    pub examples: u64,
    /// Mean cross-entropy per target token of this step's batch, before the update, in nats.
    pub loss: f64,
    /// Learning rate of the update.
    pub lr: f64,
    /// Euclidean norm of the gradient before clipping.
    pub gradient_norm: f64,
}

/// The beginning of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageReport {
    /// Updates taken so far.
    pub step: u64,
    /// Name of the stage, or of the experiment when all stages are over.
    pub stage: String,
}

/// An evaluation during training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationReport {
    /// Updates taken so far.
    pub step: u64,
    /// Training examples seen so far.
    pub examples: u64,
    /// The stage whose examples the model was judged on; `None` for the examples of the experiment itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// How the model did.
    #[serde(flatten)]
    pub evaluation: Evaluation,
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StopReason {
    /// All steps were taken.
    Completed,
    /// The steps asked for by [`Trainer::run_until`](crate::Trainer::run_until) were taken; there are more.
    Paused,
    /// The user or the system asked the process to end. The run was saved and can go on.
    Interrupted,
    /// An observer or a [`StopRule`](crate::StopRule) asked for it and gave this reason.
    Asked(String),
    /// An observer failed with this message. The run was saved if possible, and can go on.
    Failed(String),
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("all steps taken"),
            Self::Paused => f.write_str("paused"),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Asked(reason) => write!(f, "stopped: {reason}"),
            Self::Failed(reason) => write!(f, "stopped by a failure: {reason}"),
        }
    }
}
