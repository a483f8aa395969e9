//! How far an answer is from being right: norms, tolerances and the statistics of many judgements.
//!
//! The error of a candidate matrix is its [`relative_error`] against the exact answer. A [`Metric`] sums up the
//! judgements of many predictions.
//!
//! ```
//! use faer::mat;
//! use numformer_metrics::{Metric, Norm, Tolerance, ToleranceCurve, Verdict, relative_error};
//!
//! let exact = mat![[3.0, 4.0], [0.0, 3.0]];
//! let candidate = mat![[3.0, 4.0], [0.15, 3.0]];
//! let error = relative_error(candidate.as_ref(), exact.as_ref(), Norm::L1);
//! assert_eq!(error, 0.015); // 0.15 / (3 + 4 + 0 + 3)
//!
//! let mut curve = ToleranceCurve::standard();
//! curve.update(&Verdict::Measured { error });
//! curve.update(&Verdict::Malformed);
//! assert_eq!(curve.accuracy(Tolerance::relative(0.02)), Some(0.5));
//! assert_eq!(curve.accuracy(Tolerance::relative(0.01)), Some(0.0));
//! ```
//!
//! # Main types
//! - [`Norm`], [`norm`], [`relative_error`]: distances between matrices.
//! - [`Tolerance`]: the relative error below which an answer counts as correct.
//! - [`Verdict`]: the outcome of one prediction: measured, of the wrong shape, or malformed.
//! - [`coefficients_within`]: how many coefficients are right, each taken by itself.
//! - [`Metric`]: a statistic that is updated sample by sample and merged across workers; [`Mean`],
//!   [`WeightedMean`], [`Accuracy`] (with a confidence interval), [`ToleranceCurve`] and
//!   [`CoefficientAccuracy`] implement it. [`Grouped`] keeps one for each group of samples.
//! - [`Deviations`]: which properties of exact answers a predicted one lacks. [`FailureAnalysis`] sums them up over
//!   many predictions, and [`RocCurve`] says how well a score predicts an event.
//! - [`StepCounts`]: how many steps an iteration takes.
//! - [`faer_limit`]: the largest matrices that faer decomposes on this processor.
//!
//! # As a dependency
//! ```toml
//! [dependencies]
//! numformer-metrics = { path = "../numformer/crates/numformer-metrics" }
//! ```
//!
//! # References
//! - Charton (2022), *Linear algebra with transformers*. <https://arxiv.org/abs/2112.01898>
//! - Charton (2022), *What is my math transformer doing?* <https://arxiv.org/abs/2211.00170>

#![forbid(unsafe_code)]

mod coefficients;
mod curves;
mod deviations;
mod failure_analysis;
mod means;
mod metric;
mod norm;
mod processor;
mod step_counts;
#[cfg(test)]
mod testing;
mod tolerance;
mod verdict;

pub use coefficients::{CoefficientAccuracy, coefficients_within};
pub use curves::roc_curve::{Detection, RocCurve};
pub use curves::tolerance_curve::ToleranceCurve;
pub use deviations::{Deviations, Property};
pub use faer;
pub use failure_analysis::{FailureAnalysis, FailureSummary};
pub use means::accuracy::Accuracy;
pub use means::grouped::Grouped;
pub use means::mean::Mean;
pub use means::weighted_mean::WeightedMean;
pub use metric::Metric;
pub use norm::{Norm, norm, relative_error};
pub use processor::faer_limit;
pub use step_counts::{StepCounts, StepSummary};
pub use tolerance::{Tolerance, ToleranceError};
pub use verdict::Verdict;
