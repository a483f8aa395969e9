//! The end of every sub-layer.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::layers::dropout::Dropout;
use crate::layers::norm::LayerNorm;
use crate::mode::Mode;

/// Dropout, then the residual, then layer normalisation.
///
/// # Reference
/// Vaswani et al. (2017), *Attention Is All You Need*, sections 3.1 and 5.4. <https://arxiv.org/abs/1706.03762>
#[derive(Clone, Debug)]
pub(crate) struct Residual {
    dropout: Dropout,
    norm: LayerNorm,
}

impl Residual {
    /// Takes the norm of width `d` called `name` from `vb`; `place` names the layer, which may share its weights with
    /// others.
    pub(crate) fn new(d: usize, dropout: f64, name: &str, place: &str, vb: &VarBuilder) -> Result<Self> {
        Ok(Self { dropout: Dropout::new(dropout, &format!("{place}.{name}")), norm: LayerNorm::new(d, &vb.pp(name))? })
    }

    /// Combines the sub-layer's output `made` with its input `x`, both `[.., d]`.
    pub(crate) fn forward(&self, made: &Tensor, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.norm.add_forward(&self.dropout.forward(made, mode)?, x)
    }
}
