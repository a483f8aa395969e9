//! Fused differentiable operations for [candle](candle_core): the layers of a transformer, its loss and its optimizer.
//! Each operation makes one pass over the data, on all cores, where candle needs several operations.
//!
//! ```
//! use candle_core::{DType, Device, Var};
//! use numformer_ops::{Activation, add_layer_norm, linear};
//!
//! let x = Var::from_vec(vec![1f32, 3.0, 2.0, 2.0], (2, 2), &Device::Cpu)?;
//! let weight = Var::from_vec(vec![1f32, 0.0, 0.0, 1.0], (2, 2), &Device::Cpu)?;
//! let (one, zero) = (Var::ones(2, DType::F32, x.device())?, Var::zeros(2, DType::F32, x.device())?);
//!
//! let y = linear(&x, &weight, &zero, Activation::Relu)?;
//! let y = add_layer_norm(&y, &x, &one, &zero, 1e-12)?;
//! assert_eq!(y.to_vec2::<f32>()?, [[-1.0, 1.0], [0.0, 0.0]]);
//! assert!(y.sum_all()?.backward()?.get(&weight).is_some());
//! # Ok::<(), candle_core::Error>(())
//! ```
//!
//! # Map
//! - Layers: [`embedding`], [`linear`] with its [`Activation`], [`attention`] with its [`Causality`], [`layer_norm`]
//!   and [`add_layer_norm`]; [`zero_padding`] and the [`Lengths`] of padded sequences.
//! - Use without gradients: [`PackedLinear`], a layer whose weight is packed once.
//! - Loss: [`projection_cross_entropy`], which never holds all logits at once.
//! - Optimizer: [`AdamStep`] and [`adam_update`]; [`sum_of_squares`] for the gradient norm that clipping needs.
//! - [`mod@reference`]: the same operations composed of candle's own.
//! - [`kernels`]: the operations on slices, for a training step without automatic differentiation.
//! - [`device`]: the operations on a GPU, for the same purpose.
//!
//! # Where the operations on tensors run
//! The fused operations take `f32` tensors in host memory, of any layout. For every other dtype or device, an operation
//! falls back to its composition in [`mod@reference`]. Loops and products are compiled for AVX-512, AVX2 and the baseline
//! of the target, and products of bf16 also for AVX512-BF16 and AMX; the widest set that the processor supports is chosen
//! at run time ([`kernels::Level`]). The tensor shapes alone decide how work is divided among the threads of
//! [rayon](https://docs.rs/rayon), so a result has the same bits on any number of threads.
//!
//! The backward pass of candle adds gradients on its own thread pool, whose threads keep a core busy for about a
//! millisecond after each addition. On a machine with few or shared cores, a step is faster with `CANDLE_NUM_THREADS=1`
//! in the environment, which leaves the cores to rayon, and when the step runs inside rayon's pool (`rayon::scope`).
//! `Autodiff` of `numformer-model` runs its steps inside rayon's pool, so this advice is for loops of your own.
//!
//! # As a dependency
//! ```toml
//! [dependencies]
//! numformer-ops = { path = "../numformer/crates/numformer-ops" }
//! ```
//!
//! # Features
//! - `cuda`: candle's CUDA backend, and NVIDIA GPUs as devices of [`device`].
//! - `nccl`: sums over several GPUs by NCCL. No GPU has run it yet.
//! - `emulation`: the same kernels compiled for the host, for tests.
//!
//! # References
//! - Vaswani et al. (2017), *Attention Is All You Need*. <https://arxiv.org/abs/1706.03762>
//! - Ba, Kiros and Hinton (2016), *Layer Normalization*. <https://arxiv.org/abs/1607.06450>
//! - Kingma and Ba (2015), *Adam: A Method for Stochastic Optimization*. <https://arxiv.org/abs/1412.6980>

use kernels::{Store, Threads};

mod cpu;
pub mod device;
mod operations;
#[cfg(test)]
mod testing;

pub use candle_core;
pub use operations::adam::{AdamStep, adam_update, sum_of_squares};
pub use operations::attention::{Causality, attention};
pub use operations::embedding::embedding;
pub use operations::linear::{Activation, linear};
pub use operations::norm::{add_layer_norm, layer_norm};
pub use operations::packed_linear::PackedLinear;
pub use operations::padding::zero_padding;
pub use operations::projection_loss::projection_cross_entropy;

/// Valid lengths, one for each example of a batch; `None` if every position is valid.
pub type Lengths<'a> = Option<&'a [u32]>;

/// The operations on slices, from which a training step with explicit forward and backward passes is built.
///
/// The caller divides a batch among threads, so these run on the calling thread alone unless they say otherwise.
/// Matrices are row-major and fill their slices. The caller keeps the values that a layer needs again in its backward
/// pass.
pub mod kernels {
    pub use crate::cpu::matrix::Store;
    pub use crate::cpu::parallel::{Threads, for_each};
    pub use crate::cpu::peak::multiply_adds;
    pub use crate::cpu::product::{Operand, Panels};
    pub use crate::cpu::simd::Level;
    pub use crate::operations::attention::{AttentionRoom, AttentionShape};
    pub use crate::operations::embedding::{embed_rows, scatter_rows};
    pub use crate::operations::linear::{
        add_parts, linear_input_gradient, linear_parameter_gradients, linear_relu_input_gradient, linear_rows,
        linear_rows_add,
    };
    pub use crate::operations::norm::{layer_norm_gradients, layer_norm_rows};
    pub use crate::operations::projection_loss::ProjectionLoss;
    pub use half::bf16;
}

/// The operations composed of candle's own, on any device. The fused operations are tested and measured against them.
pub mod reference {
    pub use crate::cpu::host::instead;
    pub use crate::operations::attention::composition as attention;
    pub use crate::operations::embedding::composition as embedding;
    pub use crate::operations::linear::composition as linear;
    pub use crate::operations::norm::{add_composition as add_layer_norm, composition as layer_norm};
    pub use crate::operations::padding::composition as zero_padding;
    pub use crate::operations::projection_loss::composition as projection_cross_entropy;
}
