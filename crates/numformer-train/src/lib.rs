//! Training, evaluation and runs on disk: an [`Experiment`] goes in, a [`Trainer`] runs it, a [`RunDir`] holds what
//! comes out. The same experiment gives the same weights, bit for bit, on the same machine, across interruptions.
//!
//! ```
//! use numformer_data::Split;
//! use numformer_train::{Experiment, MetricsLog, RunDir, Trainer};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("run");
//! let mut experiment = Experiment::preset("transpose-3x3")?;
//! experiment.train.steps = 2; // 1,500 for a model that has learned
//! let run = RunDir::open(&path, &experiment)?;
//! let log = MetricsLog::in_dir(&path, 1);
//! let (trainer, _skipped) = Trainer::new(experiment)?.in_dir(run)?;
//! let mut trainer = trainer.with_observer(log);
//! trainer.run()?;
//! println!("{}", trainer.evaluate(Split::Test, 10)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`Experiment`]: what is run, as plain data from TOML; [`presets`] come with the crate. A [`Draft`] is one that is
//!   read and not checked yet, a [`Catalogue`] says what its names stand for.
//! - [`Trainer`]: the loop; [`Adam`] or [`Sgd`] is its optimizer, a [`Schedule`] its learning rate. [`Gradients`] says how
//!   its step is computed, a [`DivergencePolicy`] what becomes of a step that cannot be taken.
//! - [`Observer`]: watches a run; [`Progress`], [`MetricsLog`] and [`TensorBoard`] report, [`EarlyStopping`] and
//!   [`TargetReached`] end it.
//! - [`RunDir`], [`Checkpoint`]: what is on disk, and going on from it; [`RunSummary`]: what became of a run.
//! - [`import_lawt`], [`StoredModel`], [`Scorer`]: models trained elsewhere, models on disk, and how probable a model finds
//!   given answers.
//! - [`Workload`]: fixed shapes of training, to be timed.
//! - [`Answering`]: how a model's answers are found: greedily, by beam search or at random, constrained, verified.
//! - [`evaluate`], [`Evaluation`], [`solve`], [`LearningCurve`]: how good the model is, in figures, examples and a
//!   drawing; [`EvaluationMetrics`] gathers the figures of parts that are judged apart. [`diagnose`] says why answers are
//!   wrong. Within a width, such as that of a terminal, their tables are lists: [`text`] holds the means.
//!
//! # Features
//! - `cuda`: trains on NVIDIA GPUs ([`Trainer::on_device`]), with the kernels of numformer-ops and cuBLASLt; candle stays on
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
mod diagnosis;
mod difference;
mod divergence;
mod draft;
mod evaluation;
mod evaluation_metrics;
mod evaluation_table;
mod experiment;
mod figure_name;
mod figures;
mod files;
mod goal;
mod gradients;
mod lawt;
mod layout;
mod learner;
mod metrics_log;
mod model_config;
mod observer;
mod optimizer;
pub mod presets;
mod progress;
mod pytorch;
mod run_dir;
mod run_summary;
mod schedule;
mod score;
mod scorecard;
mod sgd;
mod shape;
mod signed;
mod solved;
mod stored_model;
mod stored_run;
mod syntax;
mod tensorboard;
pub mod text;
mod trainer;
mod warm_start;
mod workload;

pub use adam::{Adam, AdamConfig};
pub use answering::Answering;
pub use candle_optimizer::{CandleOptimizer, CandleOptimizerConfig};
pub use catalogue::{Catalogue, LawParameters};
pub use checkpoint::{Best, Checkpoint, CheckpointError, NamedTensors, RunProgress};
pub use config::{
    CheckpointConfig, DataConfig, EncodingConfig, EvaluateConfig, ExpectedConfig, LogConfig, MatricesConfig, OneOrMany,
    ProblemConfig, Span, StageConfig, StopConfig, TestSetConfig, TrainConfig,
};
pub use curve::LearningCurve;
pub use data_files::{Amount, DataFileError, DataFingerprints};
pub use diagnosis::{DIAGNOSED_TOLERANCE, Diagnosis, RefinementCounts, diagnose};
pub use difference::Difference;
pub use divergence::{DivergencePolicy, DivergenceReport, Remedy};
pub use draft::Draft;
pub use evaluation::{evaluate, evaluate_with};
pub use evaluation_metrics::{EvaluationMetrics, Judged};
pub use evaluation_table::EvaluationTable;
pub use experiment::{Experiment, ExperimentError};
pub use figure_name::{FigureName, FigureNameError};
pub use figures::{Estimate, Evaluation};
pub use goal::{EarlyStopping, Goal, Patience, TargetReached};
pub use gradients::Gradients;
pub use lawt::{ImportError, import_lawt};
pub use layout::{LayoutError, TensorNames};
pub use metrics_log::{Gap, MetricsLog, Record, read_metrics};
pub use model_config::{Adaptation, Architecture, ModelConfig, SizesConfig};
pub use observer::{ChangeReport, EvaluationReport, Observer, StageReport, Start, StepReport, StopReason};
pub use optimizer::{Optimizer, OptimizerConfig, Update};
pub use progress::Progress;
pub use pytorch::{PickleError, PytorchError, TensorError};
pub use run_dir::{Latest, RunDir, RunDirError};
pub use run_summary::RunSummary;
pub use schedule::{AfterWarmUp, Schedule, WarmUp};
pub use score::{Pair, PairError, Score, ScoreError, Scorer};
pub use scorecard::{Outcome, Scorecard};
pub use sgd::{Sgd, SgdConfig};
pub use shape::{Shape, ShapeError};
pub use solved::{Solved, solve};
pub use stored_model::{EncodingNames, StoredModel};
pub use stored_run::{Moment, StoredRun};
pub use syntax::SyntaxError;
pub use tensorboard::TensorBoard;
pub use trainer::{RunReport, TrainError, Trainer};
pub use warm_start::{Differences, Rows, StartError, TakenOver};
pub use workload::{TimedTraining, Workload};
