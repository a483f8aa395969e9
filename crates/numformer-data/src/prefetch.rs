//! Batches that threads make ahead of their use.

use std::fmt;
use std::panic;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use crate::{Batch, BatchSource, TaskError};

/// The number of batches that a worker keeps ready. Two bridge the time between taking a batch and making the next one.
/// More would only hold memory, since a worker that is too slow on average stays too slow.
const READY: usize = 2;

/// The batches of a source from `start` on, without end, made ahead by threads.
///
/// They are the same batches in the same order for any number of workers: worker `w` of `n` makes batches `start + w`,
/// `start + w + n` and so on. With no workers, each batch is made when it is asked for. A worker that has a few batches
/// ready waits, so memory is bounded. Dropping the iterator ends each thread after its current batch.
///
/// A batch that cannot be made is an `Err` in its place; the batches after it follow.
///
/// # Panics
/// If the system cannot start a thread. The iterator passes on a panic of the source and cannot be used after it.
///
/// # Examples
/// ```
/// use numformer_data::{Batch, BatchSource, Sequences, TaskError, prefetch};
///
/// /// Batch `i` holds the number `i`.
/// struct Numbers;
///
/// impl BatchSource for Numbers {
///     fn batch(&self, index: u64) -> Result<Batch, TaskError> {
///         let src = Sequences { ids: vec![index as u32], lengths: vec![1], width: 1 };
///         Ok(Batch { src, ..Batch::default() })
///     }
///     fn batch_size(&self) -> usize {
///         1
///     }
/// }
///
/// let mut batches = prefetch(Numbers, 1_000, 2);
/// assert_eq!(batches.next().unwrap()?.src.ids, [1_000]);
/// assert_eq!(batches.next().unwrap()?.src.ids, [1_001]);
/// # Ok::<(), TaskError>(())
/// ```
pub fn prefetch(source: impl BatchSource + 'static, start: u64, workers: usize) -> Prefetch {
    let source: Arc<dyn BatchSource> = Arc::new(source);
    let workers = (0..workers as u64).map(|w| Worker::start(&source, start.wrapping_add(w), workers as u64)).collect();
    Prefetch { source, next: start, turn: 0, workers }
}

/// The iterator made by [`prefetch`].
pub struct Prefetch {
    source: Arc<dyn BatchSource>,
    /// The index of the next batch.
    next: u64,
    /// The worker that makes the next batch.
    turn: usize,
    workers: Vec<Worker>,
}

impl Iterator for Prefetch {
    type Item = Result<Batch, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.next;
        self.next = index.wrapping_add(1);
        let Some(worker) = self.workers.get(self.turn) else {
            return Some(self.source.batch(index));
        };
        let Ok(batch) = worker.batches.recv() else {
            let panicked = self.workers.swap_remove(self.turn).thread.join();
            panic::resume_unwind(panicked.expect_err("while its batches are wanted, only a panic ends a worker"));
        };
        self.turn = (self.turn + 1) % self.workers.len();
        Some(batch)
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        // All channels are closed before the first thread is waited for, so that the threads end side by side.
        let threads: Vec<_> = self.workers.drain(..).map(|worker| worker.thread).collect();
        for thread in threads {
            // A panic in a batch that nobody has asked for is of no consequence.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Prefetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prefetch")
            .field("next", &self.next)
            .field("workers", &self.workers.len())
            .finish_non_exhaustive()
    }
}

/// A thread and the batches it makes.
struct Worker {
    batches: Receiver<Result<Batch, TaskError>>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Starts making batch `first` and every `stride`-th after it.
    fn start(source: &Arc<dyn BatchSource>, first: u64, stride: u64) -> Self {
        let source = Arc::clone(source);
        let (sender, batches) = sync_channel(READY);
        let thread = thread::spawn(move || {
            let mut index = first;
            // Sending fails once the receiver is gone: nobody wants more.
            while sender.send(source.batch(index)).is_ok() {
                index = index.wrapping_add(stride);
            }
        });
        Self { batches, thread }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use numformer_problems::SolveError;

    use super::*;
    use crate::Sequences;

    /// Batch `i` holds the number `i`; counts the batches it has made.
    #[derive(Default)]
    struct Numbers {
        made: AtomicU64,
    }

    const IMPOSSIBLE: u64 = 13;
    const FATAL: u64 = 1_000_013;

    fn impossible() -> TaskError {
        let source = SolveError::Shape { expected: "an even number", found: (1, 13) };
        TaskError::Solve { problem: "numbers", source }
    }

    impl BatchSource for Numbers {
        fn batch(&self, index: u64) -> Result<Batch, TaskError> {
            self.made.fetch_add(1, Ordering::SeqCst);
            assert_ne!(index, FATAL, "the fatal batch");
            if index == IMPOSSIBLE {
                return Err(impossible());
            }
            let src = Sequences { ids: vec![index as u32, (index >> 32) as u32], lengths: vec![2], width: 2 };
            Ok(Batch { src, ..Batch::default() })
        }

        fn batch_size(&self) -> usize {
            1
        }
    }

    #[test]
    fn batches_are_those_of_the_source_whatever_the_workers() {
        let source = Arc::new(Numbers::default());
        for start in [0, 5, 12, u64::MAX - 4] {
            let direct: Vec<_> = (0..20).map(|i| source.batch(start.wrapping_add(i))).collect();
            for workers in [0, 1, 2, 3, 7] {
                let prefetched: Vec<_> = prefetch(source.clone(), start, workers).take(20).collect();
                assert_eq!(prefetched, direct, "from {start} with {workers} workers");
            }
        }
    }

    #[test]
    fn an_impossible_batch_is_an_error_in_its_place() {
        for workers in [0, 1, 2] {
            let batches: Vec<_> = prefetch(Numbers::default(), 12, workers).take(3).collect();
            assert!(batches[0].is_ok() && batches[2].is_ok());
            assert_eq!(batches[1], Err(impossible()));
        }
    }

    #[test]
    fn workers_do_not_run_far_ahead() {
        for workers in [1, 2, 3] {
            let source = Arc::new(Numbers::default());
            let batches = prefetch(source.clone(), 100, workers as usize);
            for (taken, _) in batches.take(300).enumerate() {
                let ahead = source.made.load(Ordering::SeqCst) - (taken as u64 + 1);
                // Each worker has its ready batches and one that it waits to hand over.
                assert!(ahead <= workers * (READY as u64 + 1), "{ahead} batches ahead");
            }
        }
    }

    #[test]
    fn dropping_ends_the_threads() {
        for taken in [0, 1, 5] {
            let source = Arc::new(Numbers::default());
            let mut batches = prefetch(source.clone(), 100, 2);
            for _ in 0..taken {
                batches.next();
            }
            drop(batches);
            // Every thread holds a reference to the source.
            assert_eq!(Arc::strong_count(&source), 1);
        }
    }

    #[test]
    fn a_panic_of_the_source_is_passed_on() {
        for workers in [0, 1, 2] {
            let mut batches = prefetch(Numbers::default(), FATAL - 1, workers);
            assert!(batches.next().is_some());
            let panic = panic::catch_unwind(panic::AssertUnwindSafe(|| batches.next())).unwrap_err();
            let message = panic.downcast_ref::<String>().unwrap();
            assert!(message.contains("the fatal batch"), "{message}");
        }
    }
}
