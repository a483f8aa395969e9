//! Layer normalisation, alone and after a residual.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use candle_nn::init::{ONE, ZERO};

/// Layer normalisation over the last axis, with a trained scale and shift.
///
/// # Reference
/// Ba, Kiros, Hinton (2016), *Layer Normalization*. <https://arxiv.org/abs/1607.06450>
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    /// Added to the variance; the value in the program published with the paper.
    pub const EPS: f64 = 1e-12;

    /// Takes `weight` and `bias`, both `[d]`, from `vb`; they start at one and zero.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn new(d: usize, vb: &VarBuilder) -> Result<Self> {
        Ok(Self { weight: vb.get_with_hints(d, "weight", ONE)?, bias: vb.get_with_hints(d, "bias", ZERO)? })
    }

    /// Normalises `x` `[.., d]`.
    ///
    /// # Errors
    /// When the last axis of `x` is not `d`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        numformer_ops::layer_norm(x, &self.weight, &self.bias, Self::EPS)
    }

    /// Normalises `x + residual`, both `[.., d]`: the end of every sub-layer.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn add_forward(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        numformer_ops::add_layer_norm(x, residual, &self.weight, &self.bias, Self::EPS)
    }
}
