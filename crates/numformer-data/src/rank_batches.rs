//! One rank's part of each batch.

use std::ops::Range;

use crate::{Batch, BatchSource, TaskError};

/// The same examples of each batch of a source, for one of several processes that share the work on a batch.
///
/// Its batches are smaller than those of the source, whose [`batch_size`](BatchSource::batch_size) it keeps: that is the
/// number of examples that all processes learn from together.
///
/// # Examples
/// ```
/// use numformer_data::{Batch, BatchSource, RankBatches, TaskError};
/// use numformer_encoding::TokenId;
///
/// struct Constant(Batch);
///
/// impl BatchSource for Constant {
///     fn batch(&self, _index: u64) -> Result<Batch, TaskError> {
///         Ok(self.0.clone())
///     }
///     fn batch_size(&self) -> usize {
///         self.0.src.len()
///     }
/// }
///
/// let row = |id| (vec![TokenId(0), TokenId(id), TokenId(0)], vec![TokenId(0), TokenId(id), TokenId(0)]);
/// let batch = Batch::from_pairs(&[row(5), row(6), row(7)], TokenId(1));
/// let second = RankBatches::new(Constant(batch), 1..3);
/// assert_eq!(second.batch(0)?.src.row(0), [0, 6, 0]);
/// assert_eq!((second.batch(0)?.src.len(), second.batch_size()), (2, 3));
/// # Ok::<(), TaskError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RankBatches<S> {
    source: S,
    rows: Range<usize>,
}

impl<S: BatchSource> RankBatches<S> {
    /// The examples `rows` of each batch.
    #[must_use]
    pub fn new(source: S, rows: Range<usize>) -> Self {
        Self { source, rows }
    }
}

impl<S: BatchSource> BatchSource for RankBatches<S> {
    fn batch(&self, index: u64) -> Result<Batch, TaskError> {
        self.source.rows(index, self.rows.clone())
    }

    fn batch_size(&self) -> usize {
        self.source.batch_size()
    }
}
