//! Ranks over MPI.

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ::mpi::Threading;
use ::mpi::collective::SystemOperation;
use ::mpi::environment::{Universe, initialize_with_threading};
use ::mpi::traits::{Communicator as _, CommunicatorCollectives as _, Root as _};

use crate::communicator::Communicator;
use crate::communicator_error::CommunicatorError;

/// The largest number of values that are added up at once.
const MOST_VALUES: usize = 1 << 22;

/// The largest number of bytes that are sent at once: the counts of MPI are 32-bit numbers.
const MOST_BYTES: usize = 1 << 30;

/// The processes that a launcher of MPI started together.
///
/// One thread of the process speaks to MPI, and the others speak to it. So a communicator can be shared, and a wait for
/// the other ranks has an end.
///
/// Sums have the same bits on all ranks and in every job of this size if the library adds up in a fixed order, which the
/// standard of MPI recommends. Open MPI was seen to do so.
///
/// Call [`finish`](Self::finish) at the end of a job that succeeded. The launcher takes the end of a process without it
/// for a failure, and ends the others, which is what should become of them.
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
/// use numformer_distributed::{Communicator, Mpi};
///
/// let ranks = Mpi::join(Some(Duration::from_secs(600)))?;
/// let mut values = [ranks.rank() as f32];
/// ranks.sum(&mut values)?;
/// println!("0 + 1 + … = {}", values[0]);
/// ranks.finish()?;
/// # Ok::<(), numformer_distributed::CommunicatorError>(())
/// ```
pub struct Mpi {
    rank: usize,
    size: usize,
    timeout: Option<Duration>,
    engine: Mutex<Option<Engine>>,
}

/// The thread that speaks to MPI.
struct Engine {
    work: Sender<Work>,
    done: Receiver<Work>,
    /// Memory of the last sum, for the next.
    spare: Vec<f32>,
}

/// What the thread does, and its result in the same place.
enum Work {
    Sum(Vec<f32>),
    Broadcast { bytes: Vec<u8>, from: usize },
    Finish,
}

impl Mpi {
    /// Joins the other ranks. A rank that waits for the others for longer than `timeout` gives up; without one it waits
    /// forever. The time-out must be longer than what any rank does between two collective calls, such as writing a
    /// checkpoint.
    ///
    /// # Errors
    /// When MPI was joined before in this process, or does not allow threads; when other ranks do not come.
    pub fn join(timeout: Option<Duration>) -> Result<Self, CommunicatorError> {
        let (work, to_do) = channel();
        let (finished, done) = channel();
        let (joined, place) = channel();
        thread::spawn(move || {
            let universe = match initialize_with_threading(Threading::Funneled) {
                None => Err(CommunicatorError::AlreadyInitialized),
                Some((_, Threading::Single)) => Err(CommunicatorError::NoThreads),
                Some((universe, _)) => Ok(universe),
            };
            let world = universe.as_ref().map(|universe| universe.world());
            let _ =
                joined.send(world.map(|world| (world.rank() as usize, world.size() as usize)).map_err(Clone::clone));
            if let Ok(universe) = universe {
                serve(universe, &to_do, &finished);
            }
        });
        let (rank, size) = match within(timeout, &place) {
            Ok(place) => place?,
            Err(RecvTimeoutError::Disconnected) => return Err(CommunicatorError::Closed { rank: 0 }),
            Err(RecvTimeoutError::Timeout) => return Err(timed_out(0, "join", timeout)),
        };
        Ok(Self { rank, size, timeout, engine: Mutex::new(Some(Engine { work, done, spare: Vec::new() })) })
    }

    /// Leaves the other ranks at the end of a job. A collective call: it waits for all ranks, and without a time-out, since
    /// nothing bounds what one of them does alone at the end. Later calls fail.
    ///
    /// # Errors
    /// When the connection is closed.
    pub fn finish(&self) -> Result<(), CommunicatorError> {
        let mut engine = self.lock();
        self.run(&mut engine, Work::Finish, None, "finish")?;
        *engine = None;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Engine>> {
        // An engine that a panic left behind is in the middle of nothing: its channels are in order.
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(
        &self,
        engine: &mut Option<Engine>,
        work: Work,
        timeout: Option<Duration>,
        name: &'static str,
    ) -> Result<Work, CommunicatorError> {
        let rank = self.rank;
        let closed = CommunicatorError::Closed { rank };
        let Some(Engine { work: to, done, .. }) = engine else { return Err(closed) };
        to.send(work).map_err(|_| closed.clone())?;
        within(timeout, done).map_err(|error| {
            // The thread still waits: nothing more can be asked of it.
            *engine = None;
            match error {
                RecvTimeoutError::Timeout => timed_out(rank, name, timeout),
                RecvTimeoutError::Disconnected => closed,
            }
        })
    }
}

fn within<T>(timeout: Option<Duration>, receiver: &Receiver<T>) -> Result<T, RecvTimeoutError> {
    match timeout {
        Some(timeout) => receiver.recv_timeout(timeout),
        None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

fn timed_out(rank: usize, work: &'static str, timeout: Option<Duration>) -> CommunicatorError {
    CommunicatorError::TimedOut { rank, work, after: timeout.unwrap_or(Duration::MAX) }
}

/// Does what it is given, in order, until it is to finish or the communicator is dropped.
fn serve(universe: Universe, to_do: &Receiver<Work>, finished: &Sender<Work>) {
    let world = universe.world();
    let mut sums = Vec::new();
    for work in to_do {
        let done = match work {
            Work::Sum(values) => {
                sums.resize(values.len(), 0.0);
                world.all_reduce_into(&values[..], &mut sums[..], SystemOperation::sum());
                Work::Sum(std::mem::replace(&mut sums, values))
            }
            Work::Broadcast { mut bytes, from } => {
                let root = world.process_at_rank(from as i32);
                let mut len = bytes.len() as u64;
                root.broadcast_into(&mut len);
                bytes.resize(len as usize, 0);
                bytes.chunks_mut(MOST_BYTES).for_each(|part| root.broadcast_into(part));
                Work::Broadcast { bytes, from }
            }
            Work::Finish => {
                drop(universe);
                let _ = finished.send(Work::Finish);
                return;
            }
        };
        if finished.send(done).is_err() {
            break;
        }
    }
    // Not the end of a job: the others must not wait for a process that has given up, nor it for them.
    std::mem::forget(universe);
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn sum(&self, values: &mut [f32]) -> Result<(), CommunicatorError> {
        let mut engine = self.lock();
        for bucket in values.chunks_mut(MOST_VALUES) {
            let mut own = engine.as_mut().map(|engine| std::mem::take(&mut engine.spare)).unwrap_or_default();
            own.clear();
            own.extend_from_slice(bucket);
            if let Work::Sum(sums) = self.run(&mut engine, Work::Sum(own), self.timeout, "add up vectors")? {
                bucket.copy_from_slice(&sums);
                if let Some(engine) = &mut *engine {
                    engine.spare = sums;
                }
            }
        }
        Ok(())
    }

    fn broadcast(&self, bytes: &mut Vec<u8>, from: usize) -> Result<(), CommunicatorError> {
        let work = Work::Broadcast { bytes: std::mem::take(bytes), from };
        if let Work::Broadcast { bytes: sent, .. } = self.run(&mut self.lock(), work, self.timeout, "send bytes")? {
            *bytes = sent;
        }
        Ok(())
    }
}

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, size, timeout, .. } = self;
        f.debug_struct("Mpi").field("rank", rank).field("size", size).field("timeout", timeout).finish_non_exhaustive()
    }
}
