//! Random access to batches.

use std::ops::Range;
use std::sync::Arc;

use crate::{Batch, TaskError};

/// Random access to batches: batch `index` depends only on the source and `index`.
///
/// So a run that resumes at step `n` asks for batch `n`, without going through the earlier ones, and several threads
/// may ask in any order.
///
/// # Examples
/// A custom source that repeats a single batch. A model that learns anything learns this batch by heart.
/// ```
/// use numformer_data::{Batch, BatchSource, TaskError};
///
/// struct Repeat(Batch);
///
/// impl BatchSource for Repeat {
///     fn batch(&self, _index: u64) -> Result<Batch, TaskError> {
///         Ok(self.0.clone())
///     }
///     fn batch_size(&self) -> usize {
///         self.0.src.len()
///     }
/// }
///
/// assert_eq!(Repeat(Batch::default()).batch(3)?, Batch::default());
/// # Ok::<(), TaskError>(())
/// ```
///
/// A custom source that reads a line of a file for each example, with its own errors:
/// ```
/// use std::error::Error;
/// use std::fs::File;
/// use std::io::{BufRead, BufReader};
/// use std::path::PathBuf;
/// use numformer_data::{Batch, BatchSource, TaskError};
/// use numformer_encoding::Vocabulary;
///
/// /// Lines such as `3 1 4 = 4 1 3`, from the first one on.
/// struct Lines {
///     path: PathBuf,
///     vocabulary: Vocabulary,
/// }
///
/// impl Lines {
///     fn read(&self, index: u64) -> Result<Batch, Box<dyn Error + Send + Sync>> {
///         let lines = BufReader::new(File::open(&self.path)?).lines();
///         let mut pairs = Vec::new();
///         for line in lines.skip(index as usize * self.batch_size()).take(self.batch_size()) {
///             let line = line?;
///             let (src, tgt) = line.split_once('=').ok_or_else(|| format!("expected `src = tgt`, found `{line}`"))?;
///             pairs.push((self.vocabulary.delimited(src)?, self.vocabulary.delimited(tgt)?));
///         }
///         Ok(Batch::from_pairs(&pairs, self.vocabulary.padding()))
///     }
/// }
///
/// impl BatchSource for Lines {
///     fn batch(&self, index: u64) -> Result<Batch, TaskError> {
///         self.read(index).map_err(TaskError::other)
///     }
///     fn batch_size(&self) -> usize {
///         2
///     }
/// }
///
/// # let path = std::env::temp_dir().join(format!("numformer-lines-{}.txt", std::process::id()));
/// std::fs::write(&path, "1 3 = 3 1\n1 1 3 = 3 1 1\n3 = 3\n1 = 1\n3 7 = 7 3\n")?;
/// let vocabulary = Vocabulary::from_symbols(["<s>", "<pad>", "1", "3"].map(String::from).into())?;
/// let lines = Lines { path, vocabulary };
/// assert_eq!(lines.batch(0)?.tgt.row(1), [0, 3, 2, 2, 0]);
/// assert_eq!(lines.batch(1)?.src.ids, [0, 3, 0, 0, 2, 0]);
/// let error = lines.batch(2).unwrap_err();
/// assert_eq!(error.source().unwrap().to_string(), "expected a symbol of the vocabulary at position 1, found `7`");
/// # std::fs::remove_file(&lines.path)?;
/// # Ok::<(), Box<dyn Error>>(())
/// ```
pub trait BatchSource: Send + Sync {
    /// Batch `index`.
    ///
    /// # Errors
    /// When one of its examples cannot be made. [`TaskError::other`] carries any error of a custom source.
    fn batch(&self, index: u64) -> Result<Batch, TaskError>;

    /// The number of examples in a batch.
    fn batch_size(&self) -> usize;

    /// The examples `rows` of batch `index`, as far as it has so many. A source that can make them without the others
    /// should do so.
    ///
    /// # Errors
    /// As [`batch`](Self::batch).
    fn rows(&self, index: u64, rows: Range<usize>) -> Result<Batch, TaskError> {
        let batch = self.batch(index)?;
        let len = batch.src.len();
        Ok(batch.rows(rows.start.min(len)..rows.end.min(len)))
    }
}

/// A source can be passed by value, by reference or shared.
macro_rules! impl_for_pointer {
    ($($pointer:ty),*) => {$(
        impl<S: BatchSource + ?Sized> BatchSource for $pointer {
            fn batch(&self, index: u64) -> Result<Batch, TaskError> {
                (**self).batch(index)
            }

            fn batch_size(&self) -> usize {
                (**self).batch_size()
            }

            fn rows(&self, index: u64, rows: Range<usize>) -> Result<Batch, TaskError> {
                (**self).rows(index, rows)
            }
        }
    )*};
}

impl_for_pointer!(&S, Box<S>, Arc<S>);
