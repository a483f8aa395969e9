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

/// Watches a run and may end it. Every method has an empty default; implement what you need. After the run
/// [`Trainer::observer`](crate::Trainer::observer) gives it back.
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
    /// Whether to save the weights now, between the checkpoints of the experiment: asked after each step.
    fn wants_checkpoint(&mut self) -> bool {
        false
    }
    /// Whether to be shown the weights now: asked after each step, on a device after those that are reported together.
    fn wants_weights(&mut self) -> bool {
        false
    }
    /// The weights after so many steps, in the order of their layout: of the observer that wanted them.
    fn on_weights(&mut self, _step: u64, _layout: &FlatLayout, _weights: &[f32]) -> ControlFlow<StopReason> {
        ControlFlow::Continue(())
    }
    /// The model is being judged on the validation set: asked again and again until it is. To break ends the run, saved
    /// as it is after the last step; when it goes on, the model is judged first.
    fn while_evaluating(&mut self) -> ControlFlow<StopReason> {
        ControlFlow::Continue(())
    }
    /// A step could not be taken: the run goes on without it or from an earlier one, or ends with an error.
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
    /// Weights are about to be saved: what belongs to the steps so far is to be on the disk when this returns. An error ends
    /// the run, without the checkpoint; for want of room the run may wait, and asks again.
    ///
    /// # Errors
    /// When it cannot be written.
    fn before_checkpoint(&mut self, _step: u64) -> io::Result<()> {
        Ok(())
    }
    /// There is no room to save: the run waits and tries again. To break ends the run with the error.
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

/// The beginning of a run, or of its continuation.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// What is run.
    pub name: &'a str,
    /// Steps taken before.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Training examples of each step.
    pub examples_per_step: u64,
    /// Times that the run had gone back by then after it diverged.
    pub roll_backs: u32,
    /// Trainable coefficients.
    pub parameters: usize,
    /// How gradients are computed, in words, and where that is the slower way, why.
    pub how: &'a str,
    /// The values with which the run goes on, where they are others than before. When it ends is not among them.
    pub changes: &'a [Difference],
    /// Whether an evaluation after the last of the steps before would have been made by a run that had this end from the
    /// beginning: one that was made longer had been judged at its former end, which is now a step like others.
    pub keeps_evaluation: bool,
}

/// A run goes on with other values than before.
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
    /// The name of the stage; of the experiment, when its stages are over.
    pub stage: String,
}

/// A judgement during training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationReport {
    /// Updates taken so far.
    pub step: u64,
    /// Training examples seen so far.
    pub examples: u64,
    /// The stage on whose examples the model was judged; none for those of the experiment proper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// How the model did.
    #[serde(flatten)]
    pub evaluation: Evaluation,
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// All steps were taken.
    Completed,
    /// So many steps were taken as were asked for by [`Trainer::run_until`](crate::Trainer::run_until); there are more.
    Paused,
    /// The user or the system asked the process to end: the run was saved and can go on.
    Interrupted,
    /// An observer or a [`StopRule`](crate::StopRule) asked for it, for the reason it gives.
    Asked(String),
    /// An observer failed, as it says: the run was saved, where it could be, and can go on.
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
