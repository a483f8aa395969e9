//! Making the examples of a file, on all threads.

use std::ops::Range;

use numformer_distributed::{Communicator, exchange, share};
use numformer_encoding::TokenId;
use rayon::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{DatasetError, Example, Split, Task};

/// The number of examples that one thread makes at a time. This is at least a hundred microseconds of work.
pub(super) const CHUNK: u64 = 64;

/// Cuts a range into parts of this size; the last may be shorter.
pub(super) fn cut(range: Range<u64>, size: u64) -> impl Iterator<Item = Range<u64>> {
    let Range { start, end } = range;
    let count = end.saturating_sub(start).div_ceil(size);
    (0..count).map(move |part| start + part * size..end.min((start + part * size).saturating_add(size)))
}

/// Applies `make` to every chunk, on the threads of all ranks; results are in order.
pub(super) fn in_chunks<T: Send + Serialize + DeserializeOwned>(
    group: Range<u64>,
    ranks: &dyn Communicator,
    make: impl Fn(Range<u64>) -> Result<T, DatasetError> + Send + Sync,
) -> Result<Vec<T>, DatasetError> {
    let mut chunks: Vec<_> = cut(group, CHUNK).collect();
    let own: Vec<_> = chunks.drain(share(chunks.len(), ranks)).collect();
    exchange(own.into_par_iter().map(make).collect(), ranks)
}

/// The buffers of a thread that makes lines.
#[derive(Default)]
pub(super) struct Line {
    pub(super) index: u64,
    example: Example,
    pub(super) rejected: u64,
}

impl Line {
    pub(super) fn make(&mut self, task: &Task, seed: u64, split: Split) -> Result<&Example, DatasetError> {
        let Self { index, example, rejected } = self;
        task.example_into(seed, split, *index, example)
            .map_err(|source| DatasetError::Example { index: *index, source })?;
        *rejected += u64::from(example.rejected);
        Ok(example)
    }
}

/// The symbols of a sequence, without the delimiters around it.
pub(super) fn render_into(task: &Task, tokens: &[TokenId], text: &mut String) {
    task.vocabulary().render_into(&tokens[1..tokens.len() - 1], text);
}
