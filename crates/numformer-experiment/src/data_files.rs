//! The files of examples that an experiment names.

use std::path::{self, PathBuf};
use std::sync::Arc;

use numformer_data::{BatchSource, Dataset, DatasetError, Order, Split, Task};

use crate::config::DataConfig;

/// The files of examples that an experiment names, read.
#[derive(Debug)]
pub(crate) struct DataFiles {
    train: Option<DataFile>,
    validation: Option<DataFile>,
    test: Option<DataFile>,
}

/// A file of examples.
#[derive(Debug)]
pub(crate) struct DataFile {
    key: &'static str,
    path: PathBuf,
    dataset: Arc<Dataset>,
}

impl DataFiles {
    pub(crate) fn read(data: &DataConfig, task: &Task) -> Result<Self, DataFileError> {
        let read = |split| DataFile::read(data, split, task);
        Ok(Self { train: read(Split::Train)?, validation: read(Split::Validation)?, test: read(Split::Test)? })
    }

    pub(crate) fn of(&self, split: Split) -> Option<&DataFile> {
        match split {
            Split::Train => self.train.as_ref(),
            Split::Validation => self.validation.as_ref(),
            Split::Test => self.test.as_ref(),
        }
    }

    pub(crate) fn fingerprints(&self) -> DataFingerprints {
        let of = |split| self.of(split).map(|file| file.dataset.fingerprint());
        DataFingerprints { train: of(Split::Train), validation: of(Split::Validation), test: of(Split::Test) }
    }

    /// Checks that the files hold what they held at a checkpoint.
    pub(crate) fn check(&self, noted: &DataFingerprints, step: u64) -> Result<(), DataFileError> {
        let files = [Split::Train, Split::Validation, Split::Test].map(|split| (split, self.of(split)));
        files.into_iter().try_for_each(|(split, file)| file.map_or(Ok(()), |file| file.check(noted.of(split), step)))
    }
}

impl DataFile {
    /// The file of a split; none if its examples are drawn.
    pub(crate) fn read(data: &DataConfig, split: Split, task: &Task) -> Result<Option<Self>, DataFileError> {
        let Some(path) = data.file(split) else { return Ok(None) };
        let key = DataConfig::key(split);
        // Errors say where it was looked for.
        let path = path::absolute(path).unwrap_or_else(|_| path.clone());
        match Dataset::read(&path, task) {
            Ok(dataset) => Ok(Some(Self { key, path, dataset: Arc::new(dataset) })),
            Err(source) => Err(DataFileError::Unusable { key, source: source.into() }),
        }
    }

    pub(crate) fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }

    /// The number of examples.
    pub(crate) fn len(&self) -> u64 {
        self.dataset.len() as u64
    }

    /// Its examples in their order, to judge a model on.
    pub(crate) fn in_order(&self, batch_size: usize) -> Box<dyn BatchSource> {
        Box::new(self.dataset.batches(batch_size, Order::AsRead))
    }

    /// Checks that it holds what was noted at a checkpoint, if something was.
    pub(crate) fn check(&self, noted: Option<u32>, step: u64) -> Result<(), DataFileError> {
        match noted {
            Some(noted) if noted != self.dataset.fingerprint() => {
                Err(DataFileError::Changed { key: self.key, path: self.path.clone(), step })
            }
            _ => Ok(()),
        }
    }

    /// How many of its examples are asked for.
    pub(crate) fn count(&self, amount: Amount) -> Result<u64, DataFileError> {
        let found = self.len();
        match amount {
            Amount::WholeFileOr(_) => Ok(found),
            Amount::Exactly(asked) if asked <= found => Ok(asked),
            Amount::Exactly(asked) => {
                Err(DataFileError::TooFew { key: self.key, path: self.path.clone(), asked, found })
            }
        }
    }
}

/// How many examples of a set a model is judged on. A number is [`Amount::Exactly`] so many.
///
/// # Examples
/// ```
/// use numformer_experiment::Amount;
///
/// assert_eq!(Amount::from(10), Amount::Exactly(10));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// The first so many; a file that holds fewer is an error.
    Exactly(u64),
    /// All that a file holds; the first so many where there is no file.
    WholeFileOr(u64),
}

impl Amount {
    /// How many examples are drawn where there is no file.
    #[must_use]
    pub fn of_drawn(self) -> u64 {
        let (Self::Exactly(count) | Self::WholeFileOr(count)) = self;
        count
    }
}

impl From<u64> for Amount {
    fn from(count: u64) -> Self {
        Self::Exactly(count)
    }
}

/// What tells, almost surely, whether the files of examples are what they were: the [fingerprint](Dataset::fingerprint)
/// of each that there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataFingerprints {
    /// Of the examples to train on.
    pub train: Option<u32>,
    /// Of those to watch training on.
    pub validation: Option<u32>,
    /// Of those to report on.
    pub test: Option<u32>,
}

impl DataFingerprints {
    /// That of a split.
    #[must_use]
    pub fn of(&self, split: Split) -> Option<u32> {
        match split {
            Split::Train => self.train,
            Split::Validation => self.validation,
            Split::Test => self.test,
        }
    }
}

/// Why a file of examples cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataFileError {
    /// It cannot be read, or is no file of examples of the task.
    #[error("{key}")]
    Unusable {
        /// Dotted path of the key that names it.
        key: &'static str,
        /// Cause.
        source: Box<DatasetError>,
    },
    /// It is not what it was.
    #[error(
        "{key}: {} does not hold the examples that the run had up to its checkpoint after step {step}: restore the file, or \
         begin another run",
        path.display()
    )]
    Changed {
        /// Dotted path of the key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Step of the checkpoint.
        step: u64,
    },
    /// It holds fewer examples than asked for.
    #[error("{key}: expected {asked} examples in {}, found {found}: ask for no more than it holds", path.display())]
    TooFew {
        /// Dotted path of the key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Examples asked for.
        asked: u64,
        /// Examples that it holds.
        found: u64,
    },
}
