//! The operations on a device: memory that is planned once, kernels, and recordings of many operations.
//!
//! An [`Accelerator`] does its work in the order in which it is requested. Requests return before the work is done;
//! only reading memory back waits. The operands are [`Region`]s of the accelerator's memory, which live as long as it
//! does. Every operation checks the sizes of its regions, so that no kernel reads or writes outside of them.
//!
//! An accelerator works on the stream of a [`Device`](candle_core::Device) of candle, and its memory is copied to and
//! from tensors there.
//!
//! The kernels are in `src/cuda`. They run on NVIDIA GPUs (feature `cuda`). In tests they run on the host, where the
//! same files are compiled as C++ (feature `emulation`).

#![expect(unsafe_code, reason = "kernels and memory of a device are reached by addresses")]

mod accelerator;
#[cfg(feature = "cuda")]
mod cuda;
mod device_sum;
#[cfg(any(test, feature = "emulation"))]
mod emulation;
mod executor;
#[cfg(feature = "nccl")]
mod nccl;
mod open;
mod operations;
mod region;
mod tensors;
#[cfg(test)]
mod tests;
#[cfg(feature = "cuda")]
mod uploads;

#[cfg(any(test, feature = "emulation"))]
pub use accelerator::Opening;
pub use accelerator::{Accelerator, Recording};
pub use device_sum::{DeviceSum, HostSum};
#[cfg(feature = "nccl")]
pub use nccl::Nccl;
pub use open::cuda;
pub use operations::{AttentionCall, DropoutCall, Heads, OptimizerKind, OptimizerStep, Product, SgdStep, StepNumbers};
pub use region::{Element, Pool, Region};
