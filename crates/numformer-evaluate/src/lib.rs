//! Finding and judging a model's answers.
//!
//! ```
//! use std::sync::Arc;
//! use candle_core::Device;
//! use numformer_data::{Split, Task};
//! use numformer_encoding::Positional;
//! use numformer_evaluate::{evaluate, solve};
//! use numformer_model::{Cell, Parameters, Recurrent, RecurrentConfig};
//! use numformer_problems::{Transpose, UniformEntries};
//!
//! let p1000 = Arc::new(Positional::p1000());
//! let task = Arc::new(Task::new(Transpose, UniformEntries::new(1, 2, 10.0)?, p1000.clone(), p1000)?);
//! let config = RecurrentConfig::new(Cell::Gru, task.vocabulary().len(), 8, 1);
//! let model = Recurrent::new(&config, &Parameters::random(0, &Device::Cpu).frozen())?; // it has learned nothing
//! let source = task.batches(0, Split::Test, 64);
//! println!("{:#}", evaluate(&model, &task, &source, 100, &Device::Cpu)?);
//! println!("{}", solve(&model, &task, &source, 0, &Device::Cpu)?[0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`evaluate`], [`evaluate_with`], [`Examination`]: the [`Evaluation`] of a model on a fixed set of examples, by one
//!   process or by several; [`EvaluationMetrics`]
//!   combines the figures of parts that are judged separately; an [`EvaluationTable`] holds several evaluations.
//! - [`Evaluate`]: how a model is judged during training; [`Evaluator`] is the built-in implementation, which accepts
//!   [custom metrics](Evaluator::with_metric).
//! - [`FigureName`], [`Figure`]: one number of an evaluation, and whether more is better.
//! - [`Answering`], [`Answerer`]: how answers are found: greedily, by beam search or by sampling, optionally
//!   constrained and verified.
//! - [`solve`], [`Solved`]: single answers for inspection; [`failures_by_problem`] says why answers are wrong.
//! - [`Scorer`]: how probable a model finds given answers.
//! - [`text`]: tables that fit a width.
//!
//! # As a dependency
//! ```toml
//! [dependencies]
//! numformer-evaluate = { path = "../numformer/crates/numformer-evaluate" }
//! ```
#![forbid(unsafe_code)]

mod answers;
mod chunks;
mod custom_metric;
mod evaluate_error;
mod evaluation;
mod evaluation_metrics;
mod evaluator;
mod failures;
mod figures;
pub mod text;
mod watch;

pub use answers::answering::{Answerer, Answering};
pub use answers::pairs::Pair;
pub use answers::score::{PairError, ScoreError, ScoredPair, Scorer};
pub use answers::shape::{Shape, ShapeError};
pub use answers::solved::{Solved, solve, solve_batch, solve_example, solve_in_every_way};
pub use candle_core;
pub use custom_metric::{Answered, CustomMetrics};
pub use evaluate_error::EvaluateError;
pub use evaluation::{Examination, evaluate, evaluate_with};
pub use evaluation_metrics::{EvaluationMetrics, EvaluationSample};
pub use evaluator::{Evaluate, Evaluator};
pub use failures::{FAILURE_TOLERANCE, ProblemFailures, RefinementCounts, failures_by_problem};
pub use figures::evaluation_table::EvaluationTable;
pub use figures::figure::{Better, Figure};
pub use figures::figure_name::{FigureName, FigureNameError};
pub use figures::{Estimate, Evaluation};
pub use watch::Watch;
