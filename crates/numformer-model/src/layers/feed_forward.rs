//! The position-wise feed-forward network.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use numformer_ops::Activation;

use crate::layers::linear::Linear;

/// Two linear layers with a ReLU between them.
///
/// # Reference
/// Vaswani et al. (2017), *Attention Is All You Need*, section 3.3, eq. (2). <https://arxiv.org/abs/1706.03762>
#[derive(Clone, Debug)]
pub struct FeedForward {
    up: Linear,
    down: Linear,
}

impl FeedForward {
    /// Two layers, from `d_model` to `d_ff` and back.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn new(d_model: usize, d_ff: usize, vb: &VarBuilder) -> Result<Self> {
        Ok(Self { up: Linear::new(d_model, d_ff, &vb.pp("up"))?, down: Linear::new(d_ff, d_model, &vb.pp("down"))? })
    }

    pub(crate) fn affine_maps(&mut self) -> impl Iterator<Item = &mut Linear> {
        [&mut self.up, &mut self.down].into_iter()
    }

    /// Maps `[.., d_model]` to `[.., d_model]`.
    ///
    /// # Errors
    /// When the last axis of `x` is not `d_model`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = self.up.forward(x, Activation::Relu)?;
        self.down.forward(&hidden, Activation::Identity)
    }
}
