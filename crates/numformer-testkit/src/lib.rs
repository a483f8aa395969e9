//! Helpers for the tests of numformer: recorded data, proptest strategies, comparison of numbers. A development
//! dependency only.
//!
//! ```
//! use numformer_testkit::assert_close;
//!
//! assert_close!(0.1 + 0.2, 0.3, 4.0 * f64::EPSILON);
//! ```
//!
//! - [`golden`]: reads a file of `tests/golden/`.
//! - [`strategies`]: numbers as they occur, and as they hurt.
//! - [`assert_close!`]: equal up to a relative error.

#![forbid(unsafe_code)]

mod close;
mod golden;
pub mod strategies;

pub use close::relative_distance;
pub use golden::golden;
