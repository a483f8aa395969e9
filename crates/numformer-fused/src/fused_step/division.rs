//! The examples of a step, and how they are divided among threads.

use std::ops::Range;

use numformer_model::TokenRows;
use numformer_ops::kernels::Operand;

use super::microbatch::Microbatch;

/// Number of tokens in a microbatch. With fewer, products are too small to be fast; with more, activations leave the
/// cache.
const FEWEST_TOKENS: usize = 256;
const MOST_TOKENS: usize = 640;

/// The examples of a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch<'a> {
    pub(super) src: TokenRows<'a>,
    pub(super) tgt: TokenRows<'a>,
}

impl<'a> Batch<'a> {
    pub(super) fn len(&self) -> usize {
        self.src.lengths.len()
    }

    /// The decoder's input for a target: all but its last token.
    pub(super) fn read(&self, row: usize) -> &'a [u32] {
        self.tgt.row(row).split_last().map_or(&[], |(_, read)| read)
    }

    /// The tokens to predict: all but the first.
    pub(super) fn predicted(&self, row: usize) -> impl Iterator<Item = Option<usize>> + use<'a> {
        self.tgt.row(row).iter().skip(1).map(|id| Some(*id as usize))
    }

    pub(super) fn load<E: Operand>(&self, examples: Range<usize>, microbatch: &mut Microbatch<E>) {
        microbatch.load(examples.map(|row| (self.src.row(row), self.read(row), self.predicted(row))));
    }
}

/// The division of a batch into parts, and of the parts into microbatches. It is a function of the shapes alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Division {
    batch: usize,
    /// Number of examples in each part but the last.
    part: usize,
    /// Maximum number of examples in a microbatch.
    microbatch: usize,
}

impl Division {
    /// Divides a batch into at most `parts` parts.
    pub(super) fn new(batch: &Batch<'_>, parts: usize) -> Self {
        let width = batch.src.width.max(batch.tgt.width - 1).max(1);
        let batch = batch.len();
        let part = batch.div_ceil(parts).max(FEWEST_TOKENS / width).max(1);
        Self { batch, part, microbatch: MOST_TOKENS.div_ceil(width) }
    }

    pub(super) fn parts(self) -> usize {
        self.batch.div_ceil(self.part)
    }

    /// The examples of each part.
    pub(super) fn examples(self) -> impl ExactSizeIterator<Item = Range<usize>> + Send {
        (0..self.parts()).map(move |i| i * self.part..((i + 1) * self.part).min(self.batch))
    }

    /// The number of rows of each part, if an example at index `i` has `rows_of(i)` rows.
    pub(super) fn rows(self, rows_of: impl Fn(usize) -> usize) -> Vec<usize> {
        self.examples().map(|examples| examples.map(&rows_of).sum()).collect()
    }

    /// The examples of each microbatch of a part, in nearly equal numbers.
    pub(super) fn microbatches(self, part: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let count = part.len().div_ceil(self.microbatch);
        (0..count).map(move |i| part.start + i * part.len() / count..part.start + (i + 1) * part.len() / count)
    }
}

/// Consecutive pieces of a slice, of the given lengths.
pub(super) fn pieces<T: Sync>(slice: &[T], lengths: Vec<usize>) -> impl ExactSizeIterator<Item = &[T]> + Send {
    let mut rest = slice;
    lengths.into_iter().map(move |length| rest.split_off(..length).expect("the pieces are parts of the slice"))
}

/// [`pieces`] of a mutable slice.
pub(super) fn pieces_mut<T: Send>(
    slice: &mut [T],
    lengths: Vec<usize>,
) -> impl ExactSizeIterator<Item = &mut [T]> + Send {
    let mut rest = slice;
    lengths.into_iter().map(move |length| rest.split_off_mut(..length).expect("the pieces are parts of the slice"))
}

/// Copies `entries` to the beginning of `slice`, and advances `slice` past them.
pub(super) fn copy_first<T: Copy>(slice: &mut &mut [T], entries: &[T]) {
    slice.split_off_mut(..entries.len()).expect("there is room for all").copy_from_slice(entries);
}
