//! Why a model cannot be judged.

use std::error::Error;

use numformer_data::TaskError;

/// Why a model cannot be judged, or gives no answers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// An example cannot be made, or an answer not be judged.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The model failed.
    #[error("the model failed")]
    Model(#[from] candle_core::Error),
    /// The model gives no finite numbers.
    #[error(
        "the model gives no finite numbers (cross-entropy {loss}): training diverged; take an earlier checkpoint of the run, with --checkpoint STEP"
    )]
    NoNumbers {
        /// The mean cross-entropy of its answers.
        loss: f64,
    },
    /// An evaluation on no examples.
    #[error("expected at least one example to evaluate on, found none")]
    NothingToEvaluate,
    /// Whoever watches the evaluation broke it off: see [`Watch`](crate::Watch).
    #[error("the evaluation was broken off")]
    Interrupted,
    /// An evaluation of one's own failed.
    #[error(transparent)]
    Other(Box<dyn Error + Send + Sync>),
}

impl EvaluateError {
    /// An error of one's own.
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }
}
