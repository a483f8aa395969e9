//! The examples of a step, and how they are divided among threads.

use std::ops::Range;

use numformer_model::TokenRows;
use numformer_ops::kernels::Operand;

use super::microbatch::Microbatch;

/// Fewest tokens in a part, unless there would be one part alone. With fewer, the sum of the parts' gradients costs more
/// than the threads gain.
const FEWEST_TOKENS: usize = 240;

/// Most tokens in a microbatch. With more, activations leave the cache.
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
    parts: usize,
    /// Maximum number of examples in a microbatch.
    microbatch: usize,
}

impl Division {
    /// Divides a batch of at least one example into at most `most` parts, a power of two: so many divide evenly among as
    /// many threads. A small batch has two parts, for two threads.
    pub(super) fn new(batch: &Batch<'_>, most: usize) -> Self {
        let width = batch.src.width.max(batch.tgt.width - 1).max(1);
        let batch = batch.len();
        let parts = (batch * width / FEWEST_TOKENS).max(2).min(most).min(batch);
        Self { batch, parts: 1 << parts.ilog2(), microbatch: MOST_TOKENS.div_ceil(width) }
    }

    pub(super) fn parts(self) -> usize {
        self.parts
    }

    /// The examples of each part, in nearly equal numbers.
    pub(super) fn examples(self) -> impl ExactSizeIterator<Item = Range<usize>> + Send {
        (0..self.parts).map(move |i| i * self.batch / self.parts..(i + 1) * self.batch / self.parts)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_a_power_of_two_and_nearly_equal() {
        for (batch, width, most, expected) in [
            (64, 79, 8, 8),
            (64, 31, 8, 8),
            (16, 31, 8, 2),
            (8, 31, 8, 2),
            (8, 79, 8, 2),
            (1, 400, 8, 1),
            (64, 400, 2, 2),
        ] {
            let (ids, lengths) = (vec![0; batch * width], vec![width as u32; batch]);
            let rows = TokenRows { ids: &ids, lengths: &lengths, width };
            let division = Division::new(&Batch { src: rows, tgt: rows }, most);
            let sizes: Vec<usize> = division.examples().map(|examples| examples.len()).collect();
            assert_eq!(sizes.len(), expected, "{batch} of {width}");
            assert!(
                sizes.iter().sum::<usize>() == batch
                    && sizes.iter().max() <= sizes.iter().min().map(|n| n + 1).as_ref()
            );
            for part in division.examples() {
                let microbatches: Vec<_> = division.microbatches(part.clone()).collect();
                assert!(microbatches.iter().all(|examples| examples.len() * width < MOST_TOKENS + width));
                assert_eq!(microbatches.iter().map(ExactSizeIterator::len).sum::<usize>(), part.len());
            }
        }
    }
}
