//! The formats of data-set files.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::DatasetError;

/// The format of a file of examples. The last part of a file's name tells it: `.tsv`, `.jsonl` or `.parquet`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Lines `source<TAB>target` of symbols separated by spaces, without delimiters: the text format of the reference
    /// program.
    Tsv,
    /// Lines of JSON with the fields `index`, `problem`, `src` and `tgt` (matrices as lists of rows, as drawn),
    /// `src_tokens` and `tgt_tokens` (as in a TSV file).
    Jsonl,
    /// Apache Parquet with the columns `index`, `problem`, `src_tokens` and `tgt_tokens`.
    Parquet,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Tsv, Self::Jsonl, Self::Parquet];

    /// The name, which is also the extension of files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tsv => "tsv",
            Self::Jsonl => "jsonl",
            Self::Parquet => "parquet",
        }
    }

    /// The format that a file's name tells.
    ///
    /// # Errors
    /// When the name ends in none of the known extensions.
    pub fn of(path: &Path) -> Result<Self, DatasetError> {
        let format =
            Self::ALL.into_iter().find(|format| path.extension().is_some_and(|ending| ending == format.name()));
        format.ok_or_else(|| DatasetError::Extension { path: path.to_owned() })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
