//! Training, evaluation and runs on disk. A [`Trainer`] takes its parts as values, each of them ours or one of your own; an
//! [`Experiment`] says in plain data what they are, and a [`Run`] is an experiment as it is run. The same parts give the same
//! weights, bit for bit, on the same machine, across interruptions.
//!
//! ```
//! use numformer_data::Split;
//! use numformer_train::{Experiment, Run};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("run");
//! let mut experiment = Experiment::preset("transpose-3x3")?;
//! experiment.train.steps = 2; // 1,500 for a model that has learned
//! let mut run = Run::new(experiment)?.in_dir(&path)?;
//! run.run()?;
//! println!("{}", run.evaluate(Split::Test, 10)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`Experiment`]: what is run, as plain data from TOML; [`presets`] come with the crate. A [`Draft`] is one that is
//!   read and not checked yet, a [`Catalogue`] says what its names stand for.
//! - [`Trainer`]: the loop, over a [`Learner`], which is a training step and an [`Optimizer`] on the host ([`HostLearner`]);
//!   a [`Schedule`] of learning rates; an [`Evaluate`] such as an [`Evaluator`]; a [`StopRule`] such as a [`Goal`] or
//!   [`Patience`]; [`Stage`]s; a [`DivergencePolicy`]; and [`Checkpoints`] such as a [`RunStore`].
//! - [`Observer`]: watches a run; [`Progress`], [`MetricsLog`] and [`TensorBoard`] report.
//! - [`RunDir`], [`RunCheckpoint`]: what is on disk, and going on from it; [`RunSummary`]: what became of a run.
//! - [`import_lawt`], [`StoredModel`], [`Scorer`]: models trained elsewhere, models on disk, and how probable a model finds
//!   given answers.
//! - [`Workload`]: fixed shapes of training, to be timed.
//! - [`Answering`]: how a model's answers are found: greedily, by beam search or at random, constrained, verified.
//! - [`evaluate`], [`Evaluation`], [`solve`], [`LearningCurve`]: how good the model is, in figures, examples and a
//!   drawing; [`EvaluationMetrics`] gathers the figures of parts that are judged apart. [`diagnose`] says why answers are
//!   wrong. Within a width, such as that of a terminal, their tables are lists: [`text`] holds the means.
//!
//! # Features
//! - `cuda`: trains on NVIDIA GPUs ([`Run::on_device`]), with the kernels of numformer-ops and cuBLASLt; candle stays on
//!   the CPU, as do evaluations. No GPU has run this yet. A CUDA compiler is needed to build it, and nothing of CUDA to
//!   start what was built. Off by default.
//!
//! # References
//! - Charton (2022), *Linear algebra with transformers*. <https://arxiv.org/abs/2112.01898>
#![forbid(unsafe_code)]

mod adam;
mod answering;
mod appended_file;
mod candle_optimizer;
mod catalogue;
mod checkpoint;
mod config;
mod curve;
mod data_files;
mod device_learner;
mod diagnosis;
mod difference;
mod divergence;
mod draft;
mod evaluate_error;
mod evaluation;
mod evaluation_metrics;
mod evaluation_table;
mod evaluator;
mod every;
mod experiment;
mod experiment_difference;
mod figure;
mod figure_name;
mod figures;
mod files;
mod goal;
mod gradients;
mod host_learner;
mod lawt;
mod layout;
mod learner;
mod metrics_log;
mod model_config;
mod observer;
mod optimizer;
mod own_metric;
mod patience;
pub mod presets;
mod progress;
mod pytorch;
mod run;
mod run_checkpoint;
mod run_dir;
mod run_error;
mod run_progress;
mod run_store;
mod run_summary;
mod schedule;
mod score;
mod scorecard;
mod sgd;
mod shape;
mod signed;
mod snapshot;
mod solved;
mod stage;
mod stop_rule;
mod stored_model;
mod stored_run;
mod syntax;
mod tensorboard;
pub mod text;
mod train_error;
mod trainer;
mod training_loop;
mod warm_start;
mod workload;

pub use adam::{Adam, AdamConfig};
pub use answering::Answering;
pub use candle_optimizer::{CandleOptimizer, CandleOptimizerConfig};
pub use catalogue::{Catalogue, LawParameters};
pub use checkpoint::{Checkpoint, CheckpointError, NamedTensors};
pub use config::{
    CheckpointConfig, DataConfig, EncodingConfig, EvaluateConfig, ExpectedConfig, LogConfig, MatricesConfig, OneOrMany,
    ProblemConfig, Span, StageConfig, StopConfig, TestSetConfig, TrainConfig,
};
pub use curve::LearningCurve;
pub use data_files::{Amount, DataFileError, DataFingerprints};
pub use device_learner::DeviceLearner;
pub use diagnosis::{DIAGNOSED_TOLERANCE, Diagnosis, RefinementCounts, diagnose};
pub use difference::Difference;
pub use divergence::{DivergencePolicy, DivergenceReport, Remedy};
pub use draft::Draft;
pub use evaluate_error::EvaluateError;
pub use evaluation::{Watch, evaluate, evaluate_with};
pub use evaluation_metrics::{EvaluationMetrics, Judged};
pub use evaluation_table::EvaluationTable;
pub use evaluator::{Evaluate, Evaluator};
pub use every::{Every, every};
pub use experiment::{Experiment, ExperimentError};
pub use figure::{Better, Figure};
pub use figure_name::{FigureName, FigureNameError};
pub use figures::{Estimate, Evaluation};
pub use goal::Goal;
pub use gradients::Gradients;
pub use host_learner::HostLearner;
pub use lawt::{ImportError, import_lawt};
pub use layout::{LayoutError, TensorNames};
pub use learner::{Learner, LearnerState, Step, Steps};
pub use metrics_log::{Gap, MetricsLog, Record, read_metrics};
pub use model_config::{Adaptation, Architecture, ModelConfig, SizesConfig};
pub use observer::{ChangeReport, EvaluationReport, Observer, StageReport, Start, StepReport, StopReason};
pub use optimizer::{Optimizer, OptimizerConfig, Update};
pub use own_metric::Answered;
pub use patience::Patience;
pub use progress::Progress;
pub use pytorch::{PickleError, PytorchError, TensorError};
pub use run::Run;
pub use run_checkpoint::{RunCheckpoint, RunDescription};
pub use run_dir::{RunDir, RunDirError};
pub use run_error::RunError;
pub use run_progress::{Best, RunProgress};
pub use run_store::{Latest, RunStore};
pub use run_summary::RunSummary;
pub use schedule::{AfterWarmUp, Schedule, WarmUp};
pub use score::{Pair, PairError, Score, ScoreError, Scorer};
pub use scorecard::{Outcome, Scorecard};
pub use sgd::{Sgd, SgdConfig};
pub use shape::{Shape, ShapeError};
pub use snapshot::{Checkpoints, LatestSnapshot, Snapshot};
pub use solved::{Solved, solve};
pub use stage::Stage;
pub use stop_rule::{PastEvaluation, StopRule};
pub use stored_model::{EncodingNames, StoredModel};
pub use stored_run::{Moment, StoredRun};
pub use syntax::SyntaxError;
pub use tensorboard::TensorBoard;
pub use train_error::TrainError;
pub use trainer::Trainer;
pub use training_loop::RunReport;
pub use warm_start::{Differences, Rows, StartError, TakenOver};
pub use workload::{TimedTraining, Workload};
