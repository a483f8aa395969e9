//! Making the examples of a file, on all threads.

use std::ops::Range;

use numformer_encoding::TokenId;
use rayon::prelude::*;

use crate::{DatasetError, Example, Split, Task};

/// The number of examples that one thread makes at a time. This is at least a hundred microseconds of work.
pub(super) const CHUNK: u64 = 64;

/// Cuts a range into parts of this size; the last may be shorter.
pub(super) fn cut(range: Range<u64>, size: u64) -> impl Iterator<Item = Range<u64>> {
    let Range { start, end } = range;
    let count = end.saturating_sub(start).div_ceil(size);
    (0..count).map(move |part| start + part * size..end.min((start + part * size).saturating_add(size)))
}

/// Applies `make` to every index, in parallel; results are in order.
pub(super) fn in_chunks<T: Send>(
    group: Range<u64>,
    make: impl Fn(Range<u64>) -> Result<T, DatasetError> + Send + Sync,
) -> Result<Vec<T>, DatasetError> {
    cut(group, CHUNK).collect::<Vec<_>>().into_par_iter().map(make).collect()
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
