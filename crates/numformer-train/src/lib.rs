//! The training loop. A [`Trainer`] takes its parts as values. Each part is either one of ours or your own. The trainer
//! knows nothing about matrices or configuration files. The same parts give the same weights, bit for bit, on the same
//! machine, even across interruptions.
//!
//! ```
//! use std::sync::Arc;
//! use candle_core::Device;
//! use numformer_data::{Split, Task};
//! use numformer_encoding::Positional;
//! use numformer_fused::FusedStep;
//! use numformer_model::{Parameters, StackConfig, TransformerConfig};
//! use numformer_problems::{Transpose, UniformEntries};
//! use numformer_train::{Adam, HostLearner, Trainer, WarmUp};
//!
//! let p1000 = Arc::new(Positional::p1000());
//! let task = Arc::new(Task::new(Transpose, UniformEntries::new(1, 2, 10.0)?, p1000.clone(), p1000)?);
//! let sizes = StackConfig::new(16, 2, 1);
//! let config = TransformerConfig::new(task.vocabulary().len(), task.max_len(), sizes.clone(), sizes);
//! let parameters = Parameters::random(0, &Device::Cpu);
//! let learner = HostLearner::new(FusedStep::new(&config, &parameters)?, Adam::default(), &parameters)?;
//! let batches = task.batches(0, Split::Train, 16);
//! Trainer::new(learner, batches).with_steps(4).with_schedule(WarmUp::new(1e-3, 2)).run()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | part | trait | ours |
//! |---|---|---|
//! | weights that learn | [`Learner`] | [`HostLearner`], [`DeviceLearner`] |
//! | loss and gradients | [`TrainingStep`](numformer_model::TrainingStep) | `FusedStep`, `Autodiff` |
//! | updates of the weights | [`Optimizer`] | [`Adam`], [`Muon`], [`Sgd`] |
//! | learning rate | [`Schedule`] | [`WarmUp`], any `Fn(u64) -> f64` |
//! | other processes | [`Communicator`](numformer_distributed::Communicator) | `Solo`, `Mpi`, `Nccl` |
//! | examples | [`BatchSource`](numformer_data::BatchSource) | a task's batches, a file's |
//! | evaluation | [`Evaluate`](numformer_evaluate::Evaluate) | `Evaluator` |
//! | when to stop | [`StopRule`] | [`Goal`], [`Patience`], any `Fn(&[PastEvaluation]) -> Option<String>` |
//! | snapshots | [`Checkpoints`] | [`RunStore`](numformer_store::RunStore) |
//! | watching | [`Observer`] | [`Progress`], [`MetricsLog`], [`TensorBoard`] |
//!
//! Besides these, [`Stage`]s come before the main batches, a [`DivergencePolicy`] says what to do about steps that
//! cannot be taken, and [`every`] says how often to do something. [`Workload`]s are fixed training shapes for timing.
//!
//! # As a dependency
//! ```toml
//! [dependencies]
//! numformer-train = { path = "../numformer/crates/numformer-train" }
//! ```
//! The signatures use candle 0.11. This crate exports `candle_core`, so that you need no dependency on the same
//! version.
//!
//! # Features
//! - `cuda`: trains on NVIDIA GPUs ([`DeviceLearner`]). No GPU has run this yet. Building it needs a CUDA compiler. Off by
//!   default.
//! - `mpi`: trains in several processes that MPI connects, which become the ranks of [`HostLearner::across`]. Building it
//!   needs Open MPI or MPICH, and libclang. Off by default.
//! - `nccl`: adds up gradients on several GPUs by NCCL ([`DeviceLearner::across`]). No GPU has run this yet. Off by default.
#![forbid(unsafe_code)]

mod difference;
mod divergence;
mod every;
mod joining;
mod learners;
mod observers;
mod optimizers;
mod run_progress;
mod schedule;
mod snapshot;
mod stage;
mod stopping;
mod train_error;
mod trainer;
mod training_loop;
mod workload;

pub use candle_core;
pub use candle_nn;
pub use difference::Difference;
pub use divergence::{DivergencePolicy, DivergenceReport, Remedy};
pub use every::{Every, every};
pub use learners::device_learner::DeviceLearner;
pub use learners::device_training::{device_training, device_training_step};
pub use learners::gradients::{Gradients, training_step};
pub use learners::host_learner::HostLearner;
pub use learners::learner::{Learner, LearnerState, Step, Steps, Wish};
pub use observers::metrics_log::{Gap, METRICS, MetricsLog, Record, read_metrics, read_up_to_damage};
pub use observers::observer::{ChangeReport, EvaluationReport, Observer, StageReport, Start, StepReport, StopReason};
pub use observers::progress::Progress;
pub use observers::tensorboard::TensorBoard;
pub use optimizers::adam::{Adam, AdamConfig};
pub use optimizers::candle_optimizer::{CandleOptimizer, CandleOptimizerConfig};
pub use optimizers::muon::{Muon, MuonConfig};
pub use optimizers::optimizer::{Optimizer, Update};
pub use optimizers::optimizer_config::OptimizerConfig;
pub use optimizers::sgd::{Sgd, SgdConfig};
pub use run_progress::{Best, RunProgress};
pub use schedule::{AfterWarmUp, Schedule, WarmUp};
pub use snapshot::{Checkpoints, LatestSnapshot, Snapshot};
pub use stage::Stage;
pub use stopping::goal::Goal;
pub use stopping::patience::Patience;
pub use stopping::stop_rule::{PastEvaluation, StopRule};
pub use train_error::TrainError;
pub use trainer::Trainer;
pub use training_loop::RunReport;
pub use workload::{TimedTraining, Workload};
