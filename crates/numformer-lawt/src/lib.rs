//! Reads checkpoints of the program published with *Linear algebra with transformers* as data: the pickle reader builds
//! values and calls nothing.
//!
//! ```no_run
//! use numformer_lawt::import_lawt;
//!
//! let imported = import_lawt("checkpoint.pth".as_ref())?;
//! imported.save("imported".as_ref())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # As a dependency
//! ```toml
//! [dependencies]
//! numformer-lawt = { path = "../numformer/crates/numformer-lawt" }
//! ```
//!
//! # References
//! - Charton (2022), *Linear algebra with transformers*. <https://arxiv.org/abs/2112.01898>
#![forbid(unsafe_code)]

mod lawt;
mod pytorch;

pub use lawt::{ImportError, import_lawt};
pub use pytorch::{PickleError, PytorchError, TensorError};
