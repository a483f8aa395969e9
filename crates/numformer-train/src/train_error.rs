//! Why a run cannot begin or go on.

use std::error::Error;

use numformer_data::TaskError;
use numformer_evaluate::EvaluateError;
use numformer_store::{CheckpointError, LayoutError};

/// Why training cannot begin or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A batch cannot be made.
    #[error(transparent)]
    Batch(#[from] TaskError),
    /// The model failed.
    #[error("the model failed")]
    Model(#[from] candle_core::Error),
    /// The model cannot be judged.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A checkpoint does not fit the model.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The run has no number of steps.
    #[error("expected a number of steps, found none: set one with `Trainer::with_steps`")]
    NoSteps,
    /// Training diverged.
    #[error(
        "training diverged at step {step}: loss {loss}, gradient norm {gradient_norm}, learning rate {lr:e}; \
         try a lower learning rate, a longer warm-up, or train.divergence"
    )]
    NotFinite {
        /// The step that could not be taken.
        step: u64,
        /// Loss found.
        loss: f64,
        /// Gradient norm found.
        gradient_norm: f64,
        /// Learning rate of the step.
        lr: f64,
    },
    /// A custom learner failed.
    #[error(transparent)]
    Other(Box<dyn Error + Send + Sync>),
}

impl TrainError {
    /// A custom error.
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }
}
