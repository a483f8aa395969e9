//! Why a record of a file is not an example.

use std::error::Error;

use numformer_encoding::VocabularyError;

use crate::TaskError;

/// The length of the longest line that is read. An example of two 100x100 matrices takes less than a tenth of it.
pub(crate) const MAX_LINE: u64 = 16 << 20;

/// Why a record is not an example of the task.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The bytes are not text.
    #[error("expected UTF-8 text")]
    Utf8(#[from] std::str::Utf8Error),
    /// A line does not end within the limit.
    #[error("expected a line of at most {MAX_LINE} bytes")]
    TooLongLine,
    /// A line of a TSV file does not have two fields.
    #[error("expected a source and a target with a tab between them, found {found} fields")]
    Fields {
        /// The number of fields.
        found: usize,
    },
    /// A line is not a JSON object with fields of the right types.
    #[error("expected a JSON object with fields of the right types")]
    Json(#[from] serde_json::Error),
    /// A JSON object lacks fields.
    #[error("expected the fields `src_tokens` and `tgt_tokens`, or `src` and `tgt`")]
    NoExample,
    /// A cell of a Parquet file is not text.
    #[error("expected text")]
    Cell(#[source] Box<dyn Error + Send + Sync>),
    /// A symbol is not in the task's vocabulary.
    #[error("the {which} holds a symbol that the task does not use")]
    Symbol {
        /// `source` or `target`.
        which: &'static str,
        /// The symbol.
        source: VocabularyError,
    },
    /// A list of rows is not a matrix.
    #[error("expected rows of equal length in the {which}, found {first} and {found} numbers")]
    Ragged {
        /// `source` or `target`.
        which: &'static str,
        /// Length of the first row.
        first: usize,
        /// Length of another.
        found: usize,
    },
    /// The problem is not one of the task's.
    #[error("expected one of the problems {}, found {}", known.join(", "), found.as_deref().unwrap_or("none"))]
    Problem {
        /// Names of the task's problems.
        known: Vec<&'static str>,
        /// The name found, if there is one.
        found: Option<String>,
    },
    /// A sequence is longer than the task's longest.
    #[error("expected a {which} of at most {limit} tokens, delimiters included, found {found}")]
    TooLong {
        /// `source` or `target`.
        which: &'static str,
        /// Length of the task's longest.
        limit: usize,
        /// Length found.
        found: usize,
    },
    /// The tokens are not an input of the task and a matrix of the shape of its answer.
    #[error(transparent)]
    Task(#[from] TaskError),
}
