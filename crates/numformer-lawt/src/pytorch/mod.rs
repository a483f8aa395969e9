//! Reads files of `torch.save` as plain data, without running code in them.

mod archive;
mod pickle;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use archive::{Archive, TensorInfo};
pub use archive::{PytorchError, TensorError};
pub use pickle::PickleError;
pub(crate) use pickle::{Id, Pickle};
