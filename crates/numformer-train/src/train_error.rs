//! Why a run cannot begin or go on.

use std::error::Error;

use numformer_data::TaskError;
use numformer_distributed::CommunicatorError;
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
    /// A stage never ends: it has no number of steps, and no goal or no evaluation to reach it.
    #[error(
        "stage `{stage}`: expected an end, found none: set one with `Stage::with_steps`, or with `Stage::until` and \
         `Stage::with_evaluation`"
    )]
    EndlessStage {
        /// Its name.
        stage: String,
    },
    /// A stage has no steps.
    #[error("stage `{stage}`: expected at least 1 step, found 0")]
    EmptyStage {
        /// Its name.
        stage: String,
    },
    /// A custom learner returned no outcomes, or more than it was asked for.
    #[error("expected at least 1 and at most {expected} outcomes from `Learner::learn`, found {found}")]
    Outcomes {
        /// The number of steps to take.
        expected: u64,
        /// The number of outcomes found.
        found: usize,
    },
    /// Training diverged.
    #[error(
        "training diverged at step {step}: loss {loss}, gradient norm {gradient_norm}, learning rate {lr:e}; \
         try a lower learning rate, a longer warm-up, or a divergence policy that skips such steps or rolls back \
         (`Trainer::with_divergence`, or `train.divergence` in an experiment)"
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
    /// The ranks of a run cannot work together, or another rank failed.
    #[error(transparent)]
    Ranks(#[from] CommunicatorError),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_divergence_says_what_to_try() {
        let error = TrainError::NotFinite { step: 7, loss: f64::NAN, gradient_norm: 2.0, lr: 1e-3 }.to_string();
        assert!(error.starts_with("training diverged at step 7: loss NaN, gradient norm 2, learning rate 1e-3; "));
        assert!(error.ends_with("policy that skips such steps or rolls back (`Trainer::with_divergence`, or `train.divergence` in an experiment)"), "{error}");
    }
}
