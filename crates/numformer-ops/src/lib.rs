//! Fused differentiable operations for [candle](candle_core): the layers of a transformer, its loss and its optimizer.
//! Each does in one pass over the data, on all cores, what candle composes of many.
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
//! - Layers: [`embedding`], [`linear`] with its [`Activation`], [`attention`] with its [`Causality`], [`layer_norm`] and
//!   [`add_layer_norm`]; [`zero_padding`] and the [`Lengths`] of padded sequences.
//! - Loss: [`projection_cross_entropy`], which never holds all logits.
//! - Optimizer: [`AdamStep`] and [`adam_update`]; [`sum_of_squares`] for the norm to clip.
//! - [`mod@reference`]: the same operations composed of candle's own.
//! - [`kernels`]: the operations on slices, for a training step without automatic differentiation.
//! - [`device`]: the operations on a GPU, for the same.
//!
//! # Where the operations on tensors run
//! On `f32` tensors in host memory, of any layout. For every other dtype or device an operation is the composition in
//! [`mod@reference`]. The loops are compiled for AVX-512, AVX2 and the baseline of the target, and the widest that the
//! processor has is chosen at run time. Work is divided among the threads of [rayon](https://docs.rs/rayon) by the
//! shapes alone, so a result has the same bits on any number of threads.
//!
//! The backward pass of candle adds gradients on a pool of its own, whose threads keep a core busy for about a
//! millisecond after each addition. On few or shared cores a step is faster with `CANDLE_NUM_THREADS=1` in the
//! environment, which leaves the cores to rayon, and when it is run inside rayon's pool (`rayon::scope`).
//!
//! # Features
//! - `cuda`: NVIDIA GPUs as devices. The driver and cuBLASLt are looked for when one is opened.
//! - `emulation`: the same kernels compiled for the host, to be tested.
//!
//! # References
//! - Vaswani et al. (2017), *Attention Is All You Need*. <https://arxiv.org/abs/1706.03762>
//! - Ba, Kiros and Hinton (2016), *Layer Normalization*. <https://arxiv.org/abs/1607.06450>
//! - Kingma and Ba (2015), *Adam: A Method for Stochastic Optimization*. <https://arxiv.org/abs/1412.6980>

use kernels::{Store, Threads};

mod adam;
mod attention;
pub mod device;
mod embedding;
mod exp;
mod fresh;
mod host;
mod linear;
mod matrix;
mod norm;
mod padding;
mod parallel;
mod projection_loss;
mod scratch;
mod simd;
#[cfg(test)]
mod testing;

pub use adam::{AdamStep, adam_update, sum_of_squares};
pub use attention::{Causality, attention};
pub use embedding::embedding;
pub use linear::{Activation, linear};
pub use norm::{add_layer_norm, layer_norm};
pub use padding::zero_padding;
pub use projection_loss::projection_cross_entropy;

/// Valid lengths, one for each example of a batch; none where every position is valid.
pub type Lengths<'a> = Option<&'a [u32]>;

/// The operations on slices: what an explicit forward and backward schedule is made of.
///
/// A batch is divided among threads by the caller, so these run on the calling thread alone unless they say otherwise.
/// Matrices are row-major and fill their slices. What a layer needs again for its backward pass is the caller's to keep.
pub mod kernels {
    pub use crate::attention::AttentionShape;
    pub use crate::embedding::{embed_rows, scatter_rows};
    pub use crate::linear::{add_parts, linear_input_gradient, linear_parameter_gradients, linear_rows, relu_gradient};
    pub use crate::matrix::Store;
    pub use crate::norm::{add_layer_norm_rows, layer_norm_gradients, layer_norm_rows};
    pub use crate::parallel::{Threads, for_each};
    pub use crate::projection_loss::ProjectionLoss;
    pub use crate::simd::Level;
}

/// The operations composed of candle's own, on any device: what ours are tested and measured against.
pub mod reference {
    pub use crate::attention::composition as attention;
    pub use crate::embedding::composition as embedding;
    pub use crate::linear::composition as linear;
    pub use crate::norm::{add_composition as add_layer_norm, composition as layer_norm};
    pub use crate::padding::composition as zero_padding;
    pub use crate::projection_loss::composition as projection_cross_entropy;
}
