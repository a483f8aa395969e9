//! Reports of runs: a self-contained HTML file, and its figures as SVG.
//!
//! A report is a function of the contents of its runs: the same runs give the same bytes. A report fetches nothing when
//! it is read, and runs no script.
//!
//! ```
//! use numformer_report::{TestResults, Report, ReportedRun};
//! use numformer_experiment::{Experiment, Run};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("run");
//! let mut experiment = Experiment::preset("transpose-3x3")?;
//! experiment.train.steps = 2; // 1,500 for a model that has learned
//! experiment.log.every = 1;
//! Run::new(experiment)?.in_dir(&path)?.run()?;
//!
//! let run = ReportedRun::read(&path)?.with_results(TestResults::of(&path, 10, &["gaussian"])?);
//! let report = Report::new(vec![run])?;
//! assert!(report.to_html().starts_with("<!doctype html>"));
//! assert!(report.figures().any(|figure| figure.name == "run-loss-examples"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`ReportedRun`]: the data of a run that a report shows: its experiment, if it has one, its log and its
//!   [`TrainingTime`].
//! - [`TestResults`]: the performance of its model on unseen matrices, including those of other laws, and where it
//!   fails.
//! - [`Explanation`]: what a model looked at when it wrote an answer, and what else it might have written.
//! - [`Report`]: the page, which consists of [`Figure`]s and [`Table`]s.
//!
//! # As a dependency
//! ```toml
//! [dependencies]
//! numformer-report = { path = "../numformer/crates/numformer-report" }
//! ```
#![forbid(unsafe_code)]

mod chart;
mod error;
mod explanation;
mod explanation_page;
mod figure;
mod format;
mod markup;
mod page;
mod report;
mod results;
mod run;
mod section;
mod table;
mod theme;
mod training_time;

pub use error::ReportError;
pub use explanation::{Explanation, LookedAt, Written};
pub use figure::Figure;
pub use report::Report;
pub use results::{TestResults, WorstCase};
pub use run::ReportedRun;
pub use table::{Cell, Table};
pub use training_time::TrainingTime;
