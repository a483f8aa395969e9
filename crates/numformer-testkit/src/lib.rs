//! Helpers for the tests of numformer: recorded data, proptest strategies, comparison of numbers, and a test of
//! distributions. It is only a development dependency.
//!
//! ```
//! use numformer_testkit::assert_close;
//!
//! assert_close!(0.1 + 0.2, 0.3, 4.0 * f64::EPSILON);
//! ```
//!
//! - [`cases`]: the configuration of every property test.
//! - [`golden`]: reads a file of `tests/golden/`.
//! - [`strategies`]: typical numbers, and difficult ones.
//! - [`assert_close!`]: asserts equality up to a relative error.
//! - [`kolmogorov_smirnov`], [`empirical_distance`]: tests whether a sample may come from a law.
//! - [`on_ranks`]: runs a job on several ranks, each a thread.

#![forbid(unsafe_code)]

mod cases;
mod close;
mod golden;
mod kolmogorov_smirnov;
pub mod strategies;
mod thread_ranks;

pub use cases::{CASES_FACTOR, cases};
pub use close::relative_distance;
pub use golden::golden;
pub use kolmogorov_smirnov::{empirical_distance, kolmogorov_smirnov};
pub use thread_ranks::on_ranks;
