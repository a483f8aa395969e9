//! Errors of judging a model.

use std::error::Error;

use numformer_data::TaskError;
use numformer_distributed::CommunicatorError;

/// The reason that a model cannot be judged, or gives no answers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// An example cannot be made, or an answer cannot be judged.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The model failed.
    #[error("the model failed")]
    Model(#[from] candle_core::Error),
    /// The numbers that the model gives are not finite.
    #[error(
        "the model gives no finite numbers (cross-entropy {loss}): training diverged; use an earlier checkpoint of \
         the run, with --checkpoint STEP"
    )]
    NoNumbers {
        /// The mean cross-entropy of its answers.
        loss: f64,
    },
    /// The evaluation has no examples.
    #[error("expected at least one example to evaluate on, found none")]
    NothingToEvaluate,
    /// The evaluation was interrupted through its [`Watch`](crate::Watch).
    #[error("the evaluation was interrupted")]
    Interrupted,
    /// The ranks of an evaluation cannot work together, or another rank failed.
    #[error(transparent)]
    Ranks(#[from] CommunicatorError),
    /// A custom evaluation failed.
    #[error(transparent)]
    Other(Box<dyn Error + Send + Sync>),
}

impl EvaluateError {
    /// A custom error.
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }
}
