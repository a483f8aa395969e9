//! Errors of running an experiment.

use std::io;
use std::path::PathBuf;

use numformer_data::TaskError;
use numformer_distributed::CommunicatorError;
use numformer_evaluate::EvaluateError;
use numformer_evaluate::text::did_you_mean;
use numformer_store::CheckpointError;
use numformer_train::{Difference, TrainError};

use crate::config::experiment_error::ExperimentError;
use crate::data_files::DataFileError;
use crate::run::run_dir::RunDirError;
use crate::run::warm_start::StartError;

/// The reason that the run of an experiment cannot begin or continue, or that its model cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The experiment is impossible.
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
    /// Training cannot begin or continue.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The model cannot be judged.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The run's directory cannot be used.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// The run's metrics cannot be read.
    #[error("cannot read the run's metrics")]
    Metrics(#[source] io::Error),
    /// A checkpoint belongs to a run that cannot continue as requested.
    #[error(
        "cannot continue from the checkpoint after step {step}: its run depends on a key that differs: {difference}"
    )]
    OtherExperiment {
        /// Step of the checkpoint.
        step: u64,
        /// The first differing key that the run depends on.
        difference: Box<Difference>,
    },
    /// A checkpoint's model or vocabulary is not the experiment's.
    #[error("the checkpoint after step {step} has a different model or vocabulary: use the version that wrote it")]
    OtherModel {
        /// Step of the checkpoint.
        step: u64,
    },
    /// A file of examples cannot be used.
    #[error(transparent)]
    DataFile(#[from] DataFileError),
    /// The weights to begin with do not fit the model.
    #[error("the weights of start_from, {}, do not fit", path.display())]
    StartFrom {
        /// The run or model.
        path: PathBuf,
        /// What does not fit.
        source: Box<StartError>,
    },
    /// The model cannot read or write sequences of that length.
    #[error("expected sequences of at most {limit} tokens, the number of positions of the model, found {needed}")]
    TooLong {
        /// The model's positions.
        limit: usize,
        /// Tokens of the longest sequence, delimiters included.
        needed: usize,
    },
    /// There are not enough examples in a batch for all ranks.
    #[error("expected at most {batch_size} ranks, one for each example of a batch (train.batch_size), found {ranks}")]
    TooManyRanks {
        /// Number of ranks.
        ranks: usize,
        /// Examples of a batch.
        batch_size: usize,
    },
    /// The ranks of a run cannot work together, or another rank failed.
    #[error(transparent)]
    Ranks(#[from] CommunicatorError),
    /// A setting has no effect on what a trained model is judged on.
    #[error(
        "`{key}` has no effect on what a trained model is judged on{}; expected a key of {}",
        did_you_mean(key, known.iter().copied()),
        known.join(", ")
    )]
    WithoutEffect {
        /// Dotted path of the key.
        key: String,
        /// The keys that have an effect, including all keys below them.
        known: &'static [&'static str],
    },
}

impl RunError {
    /// Whether another rank failed, which has reported why.
    #[must_use]
    pub fn is_of_another_rank(&self) -> bool {
        let (Self::Ranks(error)
        | Self::Train(TrainError::Ranks(error) | TrainError::Evaluate(EvaluateError::Ranks(error)))
        | Self::Evaluate(EvaluateError::Ranks(error))) = self
        else {
            return false;
        };
        matches!(error, CommunicatorError::OtherRank { .. })
    }
}

impl From<candle_core::Error> for RunError {
    fn from(error: candle_core::Error) -> Self {
        TrainError::from(error).into()
    }
}

impl From<CheckpointError> for RunError {
    fn from(error: CheckpointError) -> Self {
        RunDirError::from(error).into()
    }
}

impl From<TaskError> for RunError {
    fn from(error: TaskError) -> Self {
        EvaluateError::from(error).into()
    }
}
