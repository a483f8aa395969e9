//! Ranks that are threads of one process.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use numformer_distributed::{Communicator, CommunicatorError};

/// Runs `job` on `size` ranks at once, each a thread of this process, and returns their results in order. When one ends,
/// the others can no longer wait for it: their calls fail.
///
/// # Panics
/// When one of them does.
pub fn on_ranks<T: Send>(size: usize, job: impl Fn(Arc<dyn Communicator>) -> T + Sync) -> Vec<T> {
    let meeting = Arc::new(Meeting::default());
    thread::scope(|scope| {
        let run = |rank| {
            let (own, job) = (ThreadRank { rank, size, meeting: Arc::clone(&meeting) }, &job);
            scope.spawn(move || {
                let _leaving = Leaving(Arc::clone(&own.meeting));
                job(Arc::new(own))
            })
        };
        let threads: Vec<_> = (0..size).map(run).collect();
        threads.into_iter().map(|thread| thread.join().expect("a rank")).collect()
    })
}

/// Where the ranks of a job exchange bytes.
#[derive(Debug, Default)]
struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The bytes of each rank that came, by its number.
    brought: Vec<(usize, Vec<u8>)>,
    /// What all brought, and how many have not yet taken it.
    complete: Arc<Vec<Vec<u8>>>,
    to_take: usize,
    somebody_left: bool,
}

impl Meeting {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

struct Leaving(Arc<Meeting>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.lock().somebody_left = true;
        self.0.changed.notify_all();
    }
}

#[derive(Debug)]
struct ThreadRank {
    rank: usize,
    size: usize,
    meeting: Arc<Meeting>,
}

impl ThreadRank {
    /// The bytes of all ranks.
    fn exchange(&self, bytes: Vec<u8>) -> Result<Arc<Vec<Vec<u8>>>, CommunicatorError> {
        let Self { rank, size, ref meeting } = *self;
        let closed = CommunicatorError::Closed { rank };
        let mut state = meeting.lock();
        // The last exchange is not over yet.
        while state.to_take > 0 {
            state = meeting.wait(state);
        }
        state.brought.push((rank, bytes));
        if state.brought.len() == size {
            let mut brought = std::mem::take(&mut state.brought);
            brought.sort_unstable_by_key(|(rank, _)| *rank);
            state.complete = Arc::new(brought.into_iter().map(|(_, bytes)| bytes).collect());
            state.to_take = size;
            meeting.changed.notify_all();
        }
        while state.to_take == 0 {
            if state.somebody_left {
                return Err(closed);
            }
            state = meeting.wait(state);
        }
        state.to_take -= 1;
        let complete = Arc::clone(&state.complete);
        meeting.changed.notify_all();
        Ok(complete)
    }
}

impl Communicator for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn sum(&self, values: &mut [f32]) -> Result<(), CommunicatorError> {
        let all = self.exchange(values.iter().flat_map(|value| value.to_ne_bytes()).collect())?;
        values.fill(0.0);
        for of_rank in &*all {
            assert_eq!(of_rank.len(), 4 * values.len(), "vectors of the same length");
            for (sum, bytes) in values.iter_mut().zip(of_rank.as_chunks().0) {
                *sum += f32::from_ne_bytes(*bytes);
            }
        }
        Ok(())
    }

    fn broadcast(&self, bytes: &mut Vec<u8>, from: usize) -> Result<(), CommunicatorError> {
        let all = self.exchange(std::mem::take(bytes))?;
        bytes.clone_from(&all[from]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_add_up_and_send() {
        for size in 1..5 {
            let found = on_ranks(size, |ranks| {
                let mut values = vec![1.0, ranks.rank() as f32];
                for _ in 0..3 {
                    ranks.sum(&mut values).expect("all are there");
                }
                let all = ranks.gather(&[ranks.rank() as u8]).expect("all are there");
                (values, all, ranks.any(ranks.rank() == size - 1).expect("all are there"))
            });
            let n = size as f32;
            let sum = n * (n - 1.0) / 2.0;
            let all: Vec<_> = (0..size as u8).map(|rank| vec![rank]).collect();
            assert!(found.iter().all(|rank| *rank == (vec![n.powi(3), sum * n * n], all.clone(), true)));
        }
    }

    #[test]
    fn a_rank_that_leaves_is_told() {
        let found = on_ranks(3, |ranks| if ranks.rank() == 1 { Ok(false) } else { ranks.any(true) });
        assert_eq!(
            found,
            [Err(CommunicatorError::Closed { rank: 0 }), Ok(false), Err(CommunicatorError::Closed { rank: 2 })]
        );
    }

    #[test]
    fn a_rank_that_differs_is_named_to_all() {
        let check = |ranks: Arc<dyn Communicator>| {
            let version = if ranks.rank() == 2 { "0.2" } else { "0.1" };
            ranks.check_same(&[("seed", "7".to_owned()), ("version", version.to_owned())])
        };
        assert_eq!(on_ranks(2, check), [Ok(()), Ok(())]);
        let found: Vec<_> =
            on_ranks(3, check).into_iter().map(|error| error.expect_err("one differs").to_string()).collect();
        assert_eq!(
            found[2],
            "rank 2: expected the version of rank 0, 0.1, found 0.2: start all ranks with the same command"
        );
        assert_eq!(found[0], format!("another rank failed: {}", found[2]));
        assert_eq!(found[1], found[0]);
    }
}
