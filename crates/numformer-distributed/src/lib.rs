//! Processes that work together on one job, each a *rank* with a number below their *size*. A [`Communicator`] connects
//! them: it adds up vectors, and sends bytes from one rank to all. [`Solo`] is a job of one process.
//!
//! ```
//! use numformer_distributed::{Communicator, Solo, share};
//!
//! let ranks = Solo;
//! let mut values = [1.5, 2.5];
//! ranks.sum(&mut values)?; // over all ranks, of which there is one
//! assert_eq!(values, [1.5, 2.5]);
//! assert_eq!(share(100, &ranks), 0..100);
//! # Ok::<(), numformer_distributed::CommunicatorError>(())
//! ```
//!
//! A launcher such as `mpirun` or `srun` starts the processes, and `Mpi` (feature `mpi`) finds the others. This crate has
//! no launcher and no transport of its own.
//!
//! # Main types
//! - [`Communicator`]: what ranks can do together. [`Solo`] is the one without others, `Mpi` the one over MPI.
//! - [`share`]: the part of some work that a rank does; [`exchange`] brings the results together.
//! - [`CommunicatorError`]: a rank that does not answer, or is not of the same job.
//!
//! # As a dependency
//! ```toml
//! [dependencies]
//! numformer-distributed = { path = "../numformer/crates/numformer-distributed" }
//! ```
//!
//! # Features
//! - `mpi`: ranks over MPI, by [rsmpi](https://github.com/rsmpi/rsmpi). Building it needs Open MPI or MPICH, and
//!   libclang. Off by default.
#![forbid(unsafe_code)]

mod communicator;
mod communicator_error;
mod exchange;
#[cfg(feature = "mpi")]
mod mpi;
mod share;
mod solo;

pub use communicator::Communicator;
pub use communicator_error::CommunicatorError;
pub use exchange::exchange;
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
pub use share::share;
pub use solo::Solo;
