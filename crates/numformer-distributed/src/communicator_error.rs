//! What can go wrong between ranks.

use std::time::Duration;

/// An error of ranks that work together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommunicatorError {
    /// Another rank did not take part in time: it hangs, has ended, or is slower than the time-out allows.
    #[error(
        "rank {rank}: expected all ranks to {work} within {} s, found no answer: look for one that has ended or hangs, or \
         allow more time (--timeout)",
        .after.as_secs_f64()
    )]
    TimedOut {
        /// This rank, as far as it knows its number.
        rank: usize,
        /// What the ranks do together.
        work: &'static str,
        /// How long this rank waited.
        after: Duration,
    },
    /// The connection ended, for instance after an earlier error.
    #[error("rank {rank}: the connection to the other ranks is closed: an earlier error says why")]
    Closed {
        /// This rank.
        rank: usize,
    },
    /// MPI is already in use in this process, or was before. It can be used once.
    #[error("MPI can be initialized once in a process, and already was")]
    AlreadyInitialized,
    /// The engine cannot be used by a program with threads.
    #[error(
        "expected an MPI that allows a program to have threads (MPI_THREAD_FUNNELED), found one that does not: use another"
    )]
    NoThreads,
    /// This rank differs from rank 0 in something that must be the same on all ranks.
    #[error(
        "rank {rank}: expected the {what} of rank 0, {expected}, found {found}: start all ranks with the same command"
    )]
    Different {
        /// This rank.
        rank: usize,
        /// What differs.
        what: String,
        /// That of rank 0.
        expected: String,
        /// That of this rank.
        found: String,
    },
    /// Another rank failed, and has said why.
    #[error("another rank failed: {message}")]
    OtherRank {
        /// The rank that failed.
        rank: usize,
        /// Its error.
        message: String,
    },
    /// A rank sent something that this rank cannot read. Ranks of the same version do not.
    #[error("rank {rank} sent what this version cannot read, {reason}: start all ranks from the same program")]
    Unreadable {
        /// The rank that sent it.
        rank: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The device of this rank failed.
    #[error("rank {rank}: {message}")]
    Device {
        /// This rank.
        rank: usize,
        /// The error of the device.
        message: String,
    },
}
