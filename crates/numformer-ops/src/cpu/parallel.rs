//! Independent tasks on the threads of rayon.

use std::sync::{Mutex, PoisonError};

/// The threads on which an operation on slices runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// The calling thread alone, for callers that divide the work themselves.
    One,
    /// All threads of rayon.
    All,
}

impl Threads {
    /// Calls `run` on every item.
    pub(crate) fn for_each<I>(self, items: I, run: impl Fn(I::Item) + Sync)
    where
        I: ExactSizeIterator + Send,
    {
        match self {
            Self::One => items.for_each(run),
            Self::All => for_each(items, run),
        }
    }
}

/// Calls `run` on every item, on as many threads as there are. Each thread takes the next item when it is free.
///
/// Items are started in order. If the caller derives the items from shapes alone, results do not depend on the number
/// of threads.
pub fn for_each<I>(items: I, run: impl Fn(I::Item) + Sync)
where
    I: ExactSizeIterator + Send,
{
    let helpers = rayon::current_num_threads().min(items.len()).saturating_sub(1);
    if helpers == 0 {
        return items.for_each(run);
    }
    let queue = Mutex::new(items);
    // The lock is held only during `next`.
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let drain = || {
        while let Some(item) = next() {
            run(item);
        }
    };
    rayon::scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(|_| drain());
        }
        drain();
    });
}

/// The size of each of at most `tasks` parts of `whole`, in whole vectors.
pub(crate) fn share(whole: usize, tasks: usize) -> usize {
    whole.div_ceil(tasks).next_multiple_of(crate::cpu::simd::LANES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_taken_once() {
        for n in [0, 1, 2, 7, 1000] {
            let mut seen = vec![0; n];
            for_each(seen.iter_mut().enumerate(), |(i, seen)| *seen += i + 1);
            assert!(seen.into_iter().eq(1..=n));
        }
    }

    #[test]
    fn shares_cover_the_whole() {
        for whole in [1, 15, 16, 17, 127, 1984, 5056] {
            for tasks in [1, 2, 8] {
                let share = share(whole, tasks);
                assert!(whole.div_ceil(share) <= tasks && share.is_multiple_of(16));
            }
        }
    }
}
