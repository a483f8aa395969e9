//! Reports of runs: one HTML file that needs nothing else, and its figures as SVG.
//!
//! What is drawn is a function of what the runs hold: the same runs give the same bytes. Nothing is fetched when a report
//! is read, and it runs no script.
//!
//! ```
//! use numformer_report::{Assessment, Report, ReportedRun};
//! use numformer_experiment::{Experiment, Run};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("run");
//! let mut experiment = Experiment::preset("transpose-3x3")?;
//! experiment.train.steps = 2; // 1,500 for a model that has learned
//! experiment.log.every = 1;
//! Run::new(experiment)?.in_dir(&path)?.run()?;
//!
//! let run = ReportedRun::read(&path)?.with_assessment(Assessment::of(&path, 10, &["gaussian"])?);
//! let report = Report::new(vec![run])?;
//! assert!(report.to_html().starts_with("<!doctype html>"));
//! assert!(report.figures().any(|figure| figure.name == "run-loss-examples"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`ReportedRun`]: what a report shows of a run: its experiment, its log, its [`TrainingTime`].
//! - [`Assessment`]: how its model does on unseen matrices, also of other laws, and where it fails.
//! - [`Explanation`]: what a model looked at when it wrote one answer, and what else it might have written.
//! - [`Report`]: the page; [`Figure`] and [`Table`] are what it is made of.
#![forbid(unsafe_code)]

mod assessment;
mod chart;
mod error;
mod explanation;
mod figure;
mod format;
mod markup;
mod page;
mod report;
mod run;
mod section;
mod table;
mod theme;
mod training_time;

pub use assessment::{Assessment, WorstCase};
pub use error::ReportError;
pub use explanation::{Explanation, LookedAt, Written};
pub use figure::Figure;
pub use report::Report;
pub use run::ReportedRun;
pub use table::{Cell, Table};
pub use training_time::TrainingTime;
