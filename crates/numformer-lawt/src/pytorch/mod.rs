//! Files of `torch.save`, read as plain data: no code in them is run.

mod archive;
mod pickle;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use archive::{Archive, TensorInfo};
pub use archive::{PytorchError, TensorError};
pub use pickle::PickleError;
pub(crate) use pickle::{Id, Pickle};
