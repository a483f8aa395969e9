//! Independent tasks on several threads.

use std::sync::{Mutex, PoisonError};

/// Calls `run` on every item.
pub(crate) fn for_each<I>(items: I, run: impl Fn(I::Item) + Sync)
where
    I: ExactSizeIterator + Send,
{
    if items.len() <= 1 {
        return items.for_each(run);
    }
    let queue = Mutex::new(items);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let drain = || {
        while let Some(item) = next() {
            run(item);
        }
    };
    static B: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| std::env::var("BACKEND").is_ok());
    if *B {
        candle_core::utils::barrier_pool().execute(|_| drain());
    } else {
        rayon::scope(|scope| {
            for _ in 1..rayon::current_num_threads() {
                scope.spawn(|_| drain());
            }
            drain();
        });
    }
}
