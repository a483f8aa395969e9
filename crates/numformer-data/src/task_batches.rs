//! The batches of a task.

use std::ops::Range;
use std::sync::Arc;

use crate::batch::BatchBuilder;
use crate::shuffle::shuffled;
use crate::{Batch, BatchSource, Example, Split, Task, TaskError};

/// The batches of one split of a task, made when they are asked for.
///
/// Example `j` of batch `i` is example `i · batch_size + j` of the split (modulo 2⁶⁴), unless there are
/// [buckets](Self::with_buckets).
#[derive(Clone, Debug)]
pub struct TaskBatches {
    task: Arc<Task>,
    seed: u64,
    split: Split,
    batch_size: usize,
    window: u64,
}

impl Task {
    /// The batches of a split, with `batch_size` examples each. The batches are empty if that is 0.
    #[must_use]
    pub fn batches(self: &Arc<Self>, seed: u64, split: Split, batch_size: usize) -> TaskBatches {
        TaskBatches { task: Arc::clone(self), seed, split, batch_size, window: 1 }
    }
}

impl TaskBatches {
    /// Puts examples of similar length into one batch, so that mixed dimensions need little padding.
    ///
    /// The examples of every `window` batches in a row are sorted by length and cut into `window` batches, whose order
    /// is then shuffled. Batch `i` remains a function of the task, the seed, the split and `i`. To make it, the lengths
    /// of all examples of its window are computed. A window of 0 or 1 changes nothing.
    #[must_use]
    pub fn with_buckets(self, window: u32) -> Self {
        Self { window: u64::from(window.max(1)), ..self }
    }

    /// The indices of the examples of a batch.
    fn examples_of(&self, batch: u64) -> Vec<u64> {
        let size = self.batch_size as u64;
        if self.window == 1 {
            let first = batch.wrapping_mul(size);
            return (0..size).map(|j| first.wrapping_add(j)).collect();
        }
        let (window, place) = (batch / self.window, batch % self.window);
        let first = window.wrapping_mul(self.window * size);
        let mut examples: Vec<u64> = (0..self.window * size).map(|j| first.wrapping_add(j)).collect();
        // Ties stay in the order of their indices.
        examples.sort_by_cached_key(|index| self.task.lengths(self.seed, self.split, *index));
        let bucket = shuffled(self.window as usize, [self.seed, self.split as u64, window])[place as usize];
        examples[bucket * self.batch_size..][..self.batch_size].to_vec()
    }
}

impl BatchSource for TaskBatches {
    fn batch(&self, index: u64) -> Result<Batch, TaskError> {
        self.rows(index, 0..self.batch_size)
    }

    fn batch_size(&self) -> usize {
        self.batch_size
    }

    fn rows(&self, index: u64, rows: Range<usize>) -> Result<Batch, TaskError> {
        let mut batch = BatchBuilder::new(self.task.vocabulary().padding());
        let mut example = Example::default();
        for index in self.examples_of(index).into_iter().take(rows.end).skip(rows.start) {
            self.task.example_into(self.seed, self.split, index, &mut example)?;
            batch.push(&example);
        }
        Ok(batch.build())
    }
}

#[cfg(test)]
mod tests {
    use faer::Mat;
    use numformer_encoding::Positional;
    use numformer_problems::{Law, Transpose};
    use rand::{Rng, RngCore};

    use super::*;

    /// Rows of one to four ones, so that sequences differ in length.
    #[derive(Debug)]
    struct Ones;

    impl Law for Ones {
        fn sample_into(&self, rng: &mut dyn RngCore, matrix: &mut Mat<f64>) {
            *matrix = Mat::ones(1, rng.random_range(1..=4));
        }

        fn max_shape(&self) -> (usize, usize) {
            (1, 4)
        }

        fn bound(&self) -> Option<f64> {
            Some(1.0)
        }
    }

    fn ones() -> Arc<Task> {
        Arc::new(Task::new(Transpose, Ones, Arc::new(Positional::p1000()), Arc::new(Positional::p10())).unwrap())
    }

    #[test]
    fn batches_are_consecutive_examples() {
        let task = ones();
        for (batch_size, index) in [(1, 0), (1, 5), (8, 0), (8, 3), (2, u64::MAX)] {
            let source = task.batches(5, Split::Validation, batch_size);
            let batch = source.batch(index).unwrap();
            assert_eq!((batch.src.len(), batch.tgt.len(), source.batch_size()), (batch_size, batch_size, batch_size));
            for j in 0..batch_size {
                let number = index.wrapping_mul(batch_size as u64) + j as u64;
                let example = task.example(5, Split::Validation, number).unwrap();
                for (sequences, tokens) in [(&batch.src, example.src), (&batch.tgt, example.tgt)] {
                    assert!(
                        sequences.row(j).iter().eq(tokens.iter().map(|token| &token.0)),
                        "{batch_size} {index} {j}"
                    );
                }
            }
        }
    }

    #[test]
    fn batches_are_padded_to_the_longest_example() {
        let task = ones();
        let batch = task.batches(5, Split::Train, 64).batch(0).unwrap();
        // The 64 examples include some of each length.
        assert_eq!((batch.src.width, batch.tgt.width), (task.max_src_len(), task.max_tgt_len()));
        assert!(batch.src.is_padded() && batch.tgt.is_padded());
        let padding = task.vocabulary().padding().0;
        let paddings = batch.src.ids.iter().filter(|id| **id == padding).count();
        assert_eq!(paddings, batch.src.ids.len() - batch.src.lengths.iter().sum::<u32>() as usize);
    }

    #[test]
    fn the_same_batches_in_any_order_and_on_any_thread() {
        let source = ones().batches(5, Split::Train, 4);
        let forwards: Vec<_> = (0..6).map(|index| source.batch(index)).collect();
        let mut backwards: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..6)
                .rev()
                .map(|index| {
                    scope.spawn({
                        let source = &source;
                        move || source.batch(index)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        backwards.reverse();
        assert_eq!(forwards, backwards);
    }

    #[test]
    fn a_source_behind_a_pointer_is_a_source() {
        fn third(source: impl BatchSource) -> (Batch, usize) {
            (source.batch(3).unwrap(), source.batch_size())
        }
        let source = ones().batches(5, Split::Train, 4);
        let expected = third(&source);
        assert_eq!(expected.1, 4);
        assert_eq!(third(Arc::new(source.clone())), expected);
        assert_eq!(third(Box::new(source.clone()) as Box<dyn BatchSource>), expected);
        assert_eq!(third(source), expected);
    }

    #[test]
    fn rows_of_a_batch_are_those_of_the_whole() {
        for window in [1, 4] {
            let source = ones().batches(5, Split::Train, 8).with_buckets(window);
            let batch = source.batch(3).unwrap();
            for rows in [0..3, 3..8, 8..8, 0..8] {
                let part = source.rows(3, rows.clone()).unwrap();
                assert_eq!(part, batch.rows(rows.clone()));
                assert!(rows.clone().zip(0..).all(|(row, of_part)| part.src.row(of_part) == batch.src.row(row)));
                let longest = rows.map(|row| batch.tgt.row(row).len()).max().unwrap_or(0);
                assert_eq!(part.tgt.width, longest);
            }
        }
    }

    #[test]
    fn batches_of_no_examples_are_empty() {
        assert_eq!(ones().batches(5, Split::Train, 0).batch(3), Ok(Batch::default()));
    }

    #[test]
    fn prefetched_batches_are_those_of_the_task() {
        let source = Arc::new(ones().batches(5, Split::Train, 4));
        for workers in [1, 2] {
            let prefetched: Vec<_> = crate::prefetch(source.clone(), 7, workers).take(9).collect();
            let direct: Vec<_> = (7..16).map(|index| source.batch(index)).collect();
            assert_eq!(prefetched, direct);
        }
    }
}
