//! Experiments as data, and their runs on disk. An [`Experiment`] describes in plain data what a
//! [`Trainer`](numformer_train::Trainer) is made of; a [`Run`] runs an experiment. The same experiment gives the same
//! weights, bit for bit, on the same machine, across interruptions.
//!
//! ```
//! use numformer_data::Split;
//! use numformer_experiment::{Experiment, Run};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("run");
//! let mut experiment = Experiment::new("transpose", "uniform", 2);
//! experiment.train.steps = 2; // 1,500 for a model that has learned
//! let mut run = Run::new(experiment)?.in_dir(&path)?;
//! run.run()?;
//! println!("{}", run.evaluate(Split::Test, 10)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`Experiment`]: everything that defines a run, as plain data, made in Rust or read from TOML; [`presets`] come
//!   with the crate. A [`Draft`] is an experiment that is not checked yet; a [`Catalogue`] resolves its names.
//! - [`Run`]: runs an experiment, [in a directory](Run::in_dir) or without one.
//! - [`RunDir`], [`RunCheckpoint`]: the files of a run on disk; [`RunSummary`]: a summary of a run; [`LearningCurve`]:
//!   the plot of its learning curve.
//! - [`StoredRun`]: the model of a run on disk, for evaluation and for solving problems.
//! - [`Scorecard`]: a comparison of the results of runs with what was expected.
//!
//! # As a dependency
//! ```toml
//! [dependencies]
//! numformer-experiment = { path = "../numformer/crates/numformer-experiment" }
//! ```
//!
//! # Features
//! - `cuda`: runs on NVIDIA GPUs ([`Run::on_device`], [`StoredRun::load_on`]). No GPU has run this yet. Off by default.
//! - `mpi` and `nccl`: ranks for [`Run::across`] and [`StoredRun::across`], as in `numformer-train`. Off by default.
//!
//! # References
//! - Charton (2022), *Linear algebra with transformers*. <https://arxiv.org/abs/2112.01898>
#![forbid(unsafe_code)]

mod catalogue;
mod config;
mod curve;
mod data_files;
mod draft;
mod experiment;
mod experiment_difference;
mod models;
pub mod presets;
mod reading;
mod run;
mod scorecard;
mod signed;
mod tasks;
mod validation;

pub use candle_core;
pub use candle_nn;
pub use catalogue::{Catalogue, LawParameters};
pub use config::architecture::Architecture;
pub use config::architecture_config::{Adaptation, ArchitectureConfig, NumberVectors, SizesConfig};
pub use config::choice::{BuiltIn, Choice, CustomConfig};
pub use config::experiment_error::ExperimentError;
pub use config::one_or_many::{OneOrMany, Span};
pub use config::options::{MakeError, Options};
pub use config::syntax::SyntaxError;
pub use config::{
    CheckpointConfig, DataConfig, EncodingConfig, EvaluateConfig, ExpectedConfig, LogConfig, MatricesConfig,
    ProblemConfig, PublishedConfig, ScheduleParameters, StageConfig, StopConfig, TestSetConfig, TrainConfig,
};
pub use curve::LearningCurve;
pub use data_files::{Amount, DataFileError, DataFingerprints};
pub use draft::Draft;
pub use experiment::Experiment;
pub use run::Run;
pub use run::run_checkpoint::{RunCheckpoint, RunDescription};
pub use run::run_dir::{RunDir, RunDirError};
pub use run::run_error::RunError;
pub use run::run_summary::RunSummary;
pub use run::stored_run::{Moment, StoredRun, stored_model};
pub use run::warm_start::{Differences, Rows, StartError, TakenOver};
pub use scorecard::{Outcome, Scorecard};
