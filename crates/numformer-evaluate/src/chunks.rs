//! The division of an evaluation among ranks and threads.

use std::collections::VecDeque;

use candle_core::Device;
use numformer_data::{Batch, BatchSource};
use numformer_distributed::{Communicator, CommunicatorError, exchange, share};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::answers::pairs::Pair;
use crate::evaluate_error::EvaluateError;
use crate::watch::Watch;

/// Number of examples judged together, on one rayon thread. A chunk takes examples from as many batches as needed, and
/// the figures of chunks are merged in order. So not even the rounding of the cross-entropy depends on the size of a
/// source's batches or the number of threads.
const TOGETHER: usize = 256;

/// The first examples of a source, which ranks judge in chunks.
pub(crate) struct Chunks<'a> {
    pub(crate) source: &'a dyn BatchSource,
    pub(crate) count: u64,
    pub(crate) device: &'a Device,
    pub(crate) ranks: &'a dyn Communicator,
}

impl Chunks<'_> {
    /// Judges the chunks, one per thread of all ranks; on a device one after another, as it does its work in the order of
    /// a single thread. Each rank takes the results of all, in the order of the examples.
    pub(crate) fn judge<J: Send + Serialize + DeserializeOwned>(
        &self,
        watch: &mut Watch<'_>,
        judge: impl Fn(Chunk) -> Result<J, EvaluateError> + Sync,
        mut take: impl FnMut(J),
    ) -> Result<(), EvaluateError> {
        let Self { source, count, device, ranks } = *self;
        if source.batch_size() == 0 {
            return Err(EvaluateError::NothingToEvaluate);
        }
        let at_once = ranks.size() * self.threads()?;
        let mut chunks = InOrder::of(source, count);
        loop {
            self.check(watch)?;
            // Examples cost little beside answers to them, so each rank makes all.
            let mut chunks: Vec<_> = chunks.by_ref().take(at_once).collect::<Result<_, _>>()?;
            if chunks.is_empty() {
                return Ok(());
            }
            let own: Vec<_> = chunks.drain(share(chunks.len(), ranks)).collect();
            let judged: Vec<_> = if device.is_cpu() {
                own.into_par_iter().map(&judge).collect()
            } else {
                own.into_iter().map(&judge).collect()
            };
            // Failures are also in order: the first one is reported.
            exchange(judged.into_iter().collect(), ranks)?.into_iter().for_each(&mut take);
        }
    }

    /// The number of threads of each rank that judge chunks: that of rank 0, so that all ranks divide the work alike.
    fn threads(&self) -> Result<usize, EvaluateError> {
        let mut threads =
            if self.device.is_cpu() { rayon::current_num_threads() as u64 } else { 1 }.to_le_bytes().to_vec();
        self.ranks.broadcast(&mut threads, 0)?;
        let unreadable = |_| CommunicatorError::Unreadable { rank: 0, reason: "expected eight bytes".to_owned() };
        Ok(u64::from_le_bytes(threads.try_into().map_err(unreadable)?) as usize)
    }

    /// Asks whether to continue: on all ranks, since none can do without the others.
    fn check(&self, watch: &mut Watch<'_>) -> Result<(), EvaluateError> {
        let own = watch.check();
        if self.ranks.any(own.is_err())? { own.and(Err(EvaluateError::Interrupted)) } else { Ok(()) }
    }
}

/// Examples that are judged together.
pub(crate) struct Chunk {
    /// The index of the first example among all.
    pub(crate) first_index: u64,
    pub(crate) examples: Vec<(Pair, Origin)>,
}

/// The chunks of a source, in order.
struct InOrder<'s> {
    source: &'s dyn BatchSource,
    count: u64,
    /// The index of the first example of the next chunk.
    first_index: u64,
    next_batch: u64,
    waiting: VecDeque<(Pair, Origin)>,
}

impl<'s> InOrder<'s> {
    fn of(source: &'s dyn BatchSource, count: u64) -> Self {
        Self { source, count, first_index: 0, next_batch: 0, waiting: VecDeque::new() }
    }
}

impl Iterator for InOrder<'_> {
    type Item = Result<Chunk, EvaluateError>;

    fn next(&mut self) -> Option<Self::Item> {
        let first_index = self.first_index;
        let size = (self.count - first_index).min(TOGETHER as u64);
        if size == 0 {
            return None;
        }
        while (self.waiting.len() as u64) < size {
            match self.source.batch(self.next_batch) {
                // A custom source may end.
                Ok(batch) if batch.src.is_empty() => {
                    self.count = first_index + self.waiting.len() as u64;
                    return self.next();
                }
                Ok(batch) => self.waiting.extend((0..batch.src.len()).map(|row| example(&batch, row))),
                Err(error) => return Some(Err(error.into())),
            }
            self.next_batch += 1;
        }
        self.first_index += size;
        Some(Ok(Chunk { first_index, examples: self.waiting.drain(..size as usize).collect() }))
    }
}

/// The properties of an example apart from its tokens.
pub(crate) struct Origin {
    pub(crate) law: Option<usize>,
    pub(crate) rejected: u32,
}

fn example(batch: &Batch, row: usize) -> (Pair, Origin) {
    let pair = Pair { src: batch.src.row(row).to_vec(), tgt: batch.tgt.row(row).to_vec() };
    // A custom source may leave these lists empty.
    let law = batch.laws.get(row).copied().flatten();
    (pair, Origin { law, rejected: batch.rejected.get(row).copied().unwrap_or(0) })
}
