//! Errors of making reports.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use numformer_experiment::{RunDirError, RunError};

/// The reason why a report cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// There is no run, or its experiment cannot be read.
    #[error(transparent)]
    Run(#[from] RunDirError),
    /// A log cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause; for damaged metrics it names the line.
        source: io::Error,
    },
    /// A line is not in the format of its file.
    #[error("{}, line {line}: expected {expected}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The expected content.
        expected: &'static str,
        /// The cause.
        source: serde_json::Error,
    },
    /// The run has logged nothing.
    #[error(
        "expected a step or an evaluation in {}, line 1, found an empty log: the run has not logged anything yet",
        path.display()
    )]
    NothingLogged {
        /// The log.
        path: PathBuf,
    },
    /// The model of a run cannot be used.
    #[error("cannot evaluate the model of {}", path.display())]
    Model {
        /// The directory of the run.
        path: PathBuf,
        /// The cause.
        source: Box<RunError>,
    },
    /// There is no run to report on.
    #[error("expected at least one run to report on, found none")]
    NoRuns,
    /// A figure cannot be drawn.
    #[error("cannot draw the figure `{figure}`")]
    Drawing {
        /// Name of the figure.
        figure: String,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
}
