//! Why a file of examples cannot be read or written.

use std::error::Error;
use std::path::PathBuf;

use numformer_distributed::CommunicatorError;

use crate::{RecordError, TaskError};

/// Why a file of examples cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// A file's name does not tell its format.
    #[error("expected a name that ends in .tsv, .jsonl or .parquet, found {}", path.display())]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// A file is not in the format Parquet, or damaged.
    #[error("cannot read {} as Parquet", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// This program was built without the feature `parquet`.
    #[error("cannot read or write Parquet: this program was built without the feature `parquet` of numformer-data")]
    NoParquet,
    /// A Parquet file lacks a column.
    #[error("expected a column `{name}` in {}, found none", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        name: &'static str,
    },
    /// A file holds no examples.
    #[error("expected examples in {}, found none", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A line or row is not an example of the task.
    #[error("{}, line {number}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The line or row, from 1.
        number: u64,
        /// What is wrong with it.
        source: RecordError,
    },
    /// An example cannot be made.
    #[error("cannot make example {index}")]
    Example {
        /// Its index.
        index: u64,
        /// Why.
        source: TaskError,
    },
    /// The processes that make examples cannot work together, or another one failed.
    #[error(transparent)]
    Ranks(#[from] CommunicatorError),
    /// Examples cannot be written.
    #[error("cannot write examples")]
    Write(#[source] std::io::Error),
}
