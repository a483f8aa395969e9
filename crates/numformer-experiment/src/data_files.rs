//! The files of examples that an experiment names.

use std::path::{self, PathBuf};
use std::sync::Arc;

use numformer_data::{BatchSource, Dataset, DatasetError, Order, Split, Task};

use crate::config::DataConfig;

/// The files of examples that an experiment names, after reading.
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
    /// The file of a split; `None` if its examples are drawn.
    pub(crate) fn read(data: &DataConfig, split: Split, task: &Task) -> Result<Option<Self>, DataFileError> {
        let Some(path) = data.file(split) else { return Ok(None) };
        let key = DataConfig::key(split);
        // Errors give the path where the file was expected.
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

    /// Checks that the file holds what was recorded at a checkpoint, if anything was recorded.
    pub(crate) fn check(&self, noted: Option<u32>, step: u64) -> Result<(), DataFileError> {
        match noted {
            Some(noted) if noted != self.dataset.fingerprint() => {
                Err(DataFileError::Changed { key: self.key, path: self.path.clone(), step })
            }
            _ => Ok(()),
        }
    }

    /// How many of the file's examples are requested.
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

/// How many examples of a set a model is judged on. A plain number converts to [`Amount::Exactly`].
///
/// # Examples
/// ```
/// use numformer_experiment::Amount;
///
/// assert_eq!(Amount::from(10), Amount::Exactly(10));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// This many examples from the start. A file that holds fewer is an error.
    Exactly(u64),
    /// All examples of a file; without a file, this many drawn examples.
    WholeFileOr(u64),
}

impl Amount {
    /// How many examples are drawn if there is no file.
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

/// The [fingerprint](Dataset::fingerprint) of each file of examples. They show almost certainly whether a file has
/// changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataFingerprints {
    /// Fingerprint of the training examples.
    pub train: Option<u32>,
    /// Fingerprint of the validation examples.
    pub validation: Option<u32>,
    /// Fingerprint of the test examples.
    pub test: Option<u32>,
}

impl DataFingerprints {
    /// The fingerprint of a split.
    #[must_use]
    pub fn of(&self, split: Split) -> Option<u32> {
        match split {
            Split::Train => self.train,
            Split::Validation => self.validation,
            Split::Test => self.test,
        }
    }
}

/// Errors of using a file of examples.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataFileError {
    /// The file cannot be read, or does not hold examples of the task.
    #[error("{key}")]
    Unusable {
        /// Dotted path of the key that names it.
        key: &'static str,
        /// Cause.
        source: Box<DatasetError>,
    },
    /// The file has changed.
    #[error(
        "{key}: {} does not hold the examples that the run had up to its checkpoint after step {step}: restore the file, or \
         start a new run",
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
    /// The file holds fewer examples than requested.
    #[error("{key}: expected {asked} examples in {}, found {found}: ask for no more than it holds", path.display())]
    TooFew {
        /// Dotted path of the key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Number of requested examples.
        asked: u64,
        /// Number of examples in the file.
        found: u64,
    },
}
