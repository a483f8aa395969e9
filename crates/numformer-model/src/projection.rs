//! The output projection: from states to scores of every token.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use numformer_ops::Activation;

use crate::config::OutputProjection;
use crate::linear::uniform_fan_in;

/// The affine map from the decoder's states to the scores of all tokens, and the loss on them.
#[derive(Clone, Debug)]
pub struct Projection {
    weight: Tensor,
    bias: Tensor,
}

impl Projection {
    /// Takes `bias` and, unless `tokens` `[vocab_size, d_model]` are shared, `weight` from `vb`.
    pub(crate) fn new(source: OutputProjection, tokens: &Tensor, vb: &VarBuilder) -> Result<Self> {
        let (vocab_size, d) = tokens.dims2()?;
        let init = uniform_fan_in(d);
        Ok(Self {
            weight: match source {
                OutputProjection::Shared => tokens.clone(),
                OutputProjection::Separate => vb.get_with_hints((vocab_size, d), "weight", init)?,
            },
            bias: vb.get_with_hints(vocab_size, "bias", init)?,
        })
    }

    /// Scores of every token, `[.., vocab_size]`, after the states `[.., d_model]`.
    ///
    /// # Errors
    /// When the width disagrees.
    pub fn logits(&self, states: &Tensor) -> Result<Tensor> {
        numformer_ops::linear(states, &self.weight, &self.bias, Activation::Identity)
    }

    /// Mean cross-entropy of `targets` `[n]` after the states `[n, d_model]`, a scalar; targets equal to `ignored` count
    /// for nothing.
    ///
    /// # Errors
    /// When the shapes disagree, or a target lies outside the vocabulary.
    pub fn cross_entropy(&self, states: &Tensor, targets: &Tensor, ignored: Option<u32>) -> Result<Tensor> {
        numformer_ops::projection_cross_entropy(states, &self.weight, &self.bias, targets, ignored)
    }
}
