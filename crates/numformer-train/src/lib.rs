//! The training loop. A [`Trainer`] takes its parts as values, each of them one of ours or one of your own; it knows no
//! matrices and no files of configuration. The same parts give the same weights, bit for bit, on the same machine, across
//! interruptions.
//!
//! ```
//! use std::sync::Arc;
//! use candle_core::Device;
//! use numformer_data::{Split, Task};
//! use numformer_encoding::Positional;
//! use numformer_model::{FusedStep, Parameters, StackConfig, TransformerConfig};
//! use numformer_problems::{Transpose, UniformEntries};
//! use numformer_train::{Adam, HostLearner, Trainer, WarmUp};
//!
//! let p1000 = Arc::new(Positional::p1000());
//! let task = Arc::new(Task::new(Transpose, UniformEntries::new(1, 2, 10.0)?, p1000.clone(), p1000)?);
//! let sizes = StackConfig::new(16, 2, 1);
//! let config = TransformerConfig::new(task.vocabulary().len(), task.max_src_len(), sizes.clone(), sizes);
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
//! | what moves the weights | [`Optimizer`] | [`Adam`], [`Sgd`] |
//! | learning rate | [`Schedule`] | [`WarmUp`], any `Fn(u64) -> f64` |
//! | examples | [`BatchSource`](numformer_data::BatchSource) | a task's batches, a file's |
//! | judgement | [`Evaluate`](numformer_evaluate::Evaluate) | `Evaluator` |
//! | the end | [`StopRule`] | [`Goal`], [`Patience`], any `Fn(&[PastEvaluation]) -> Option<String>` |
//! | snapshots | [`Checkpoints`] | [`RunStore`](numformer_store::RunStore) |
//! | watching | [`Observer`] | [`Progress`], [`MetricsLog`], [`TensorBoard`] |
//!
//! Beside these: [`Stage`]s that are learned before, a [`DivergencePolicy`] for steps that cannot be taken, [`every`] for how
//! often something is done. [`Workload`]s are fixed shapes of training, to be timed.
//!
//! # As a dependency
//! ```toml
//! [dependencies]
//! numformer-train = { path = "../numformer/crates/numformer-train" }
//! ```
//!
//! # Features
//! - `cuda`: trains on NVIDIA GPUs ([`DeviceLearner`]), with the kernels of numformer-ops and cuBLASLt; candle stays on the
//!   CPU, as do evaluations. No GPU has run this yet. A CUDA compiler is needed to build it, and nothing of CUDA to start
//!   what was built. Off by default.
#![forbid(unsafe_code)]

mod adam;
mod appended_file;
mod candle_optimizer;
mod device_learner;
mod difference;
mod divergence;
mod every;
mod goal;
mod gradients;
mod host_learner;
mod learner;
mod metrics_log;
mod observer;
mod optimizer;
mod optimizer_config;
mod patience;
mod progress;
mod run_progress;
mod schedule;
mod sgd;
mod snapshot;
mod stage;
mod stop_rule;
mod tensorboard;
mod train_error;
mod trainer;
mod training_loop;
mod workload;

pub use adam::{Adam, AdamConfig};
pub use candle_core;
pub use candle_optimizer::{CandleOptimizer, CandleOptimizerConfig};
pub use device_learner::DeviceLearner;
pub use difference::Difference;
pub use divergence::{DivergencePolicy, DivergenceReport, Remedy};
pub use every::{Every, every};
pub use goal::Goal;
pub use gradients::{Gradients, training_step};
pub use host_learner::HostLearner;
pub use learner::{Learner, LearnerState, Step, Steps};
pub use metrics_log::{Gap, METRICS, MetricsLog, Record, read_metrics, read_up_to_damage};
pub use observer::{ChangeReport, EvaluationReport, Observer, StageReport, Start, StepReport, StopReason};
pub use optimizer::{Optimizer, Update};
pub use optimizer_config::OptimizerConfig;
pub use patience::Patience;
pub use progress::Progress;
pub use run_progress::{Best, RunProgress};
pub use schedule::{AfterWarmUp, Schedule, WarmUp};
pub use sgd::{Sgd, SgdConfig};
pub use snapshot::{Checkpoints, LatestSnapshot, Snapshot};
pub use stage::Stage;
pub use stop_rule::{PastEvaluation, StopRule};
pub use tensorboard::TensorBoard;
pub use train_error::TrainError;
pub use trainer::Trainer;
pub use training_loop::RunReport;
pub use workload::{TimedTraining, Workload};
