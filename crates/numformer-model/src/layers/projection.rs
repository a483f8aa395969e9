//! The output projection: from states to the scores of all tokens.

use std::sync::Arc;

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;
use numformer_ops::{Activation, PackedLinear};

use crate::config::OutputProjection;
use crate::layers::linear::uniform_fan_in;

/// The affine map from the decoder's states to the scores of all tokens, with its loss.
#[derive(Clone, Debug)]
pub struct Projection {
    weight: Tensor,
    bias: Tensor,
    packed: Option<Arc<PackedLinear>>,
}

impl Projection {
    /// Takes `weight` `[vocab_size, d_model]` and `bias` `[vocab_size]` from `vb`; both start uniform in ±1/√`d_model`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn new(d_model: usize, vocab_size: usize, vb: &VarBuilder) -> Result<Self> {
        let weight = vb.get_with_hints((vocab_size, d_model), "weight", uniform_fan_in(d_model))?;
        Self::tied(&weight, vb)
    }

    /// Shares its weight with the embedding `tokens` `[vocab_size, d_model]`, and takes `bias` from `vb`.
    ///
    /// # Errors
    /// As [`Projection::new`].
    ///
    /// # Reference
    /// Press and Wolf (2017), *Using the output embedding to improve language models*.
    /// <https://arxiv.org/abs/1608.05859>
    pub fn tied(tokens: &Tensor, vb: &VarBuilder) -> Result<Self> {
        let (vocab_size, d_model) = tokens.dims2()?;
        let bias = vb.get_with_hints(vocab_size, "bias", uniform_fan_in(d_model))?;
        Ok(Self { weight: tokens.clone(), bias, packed: None })
    }

    /// As [`Linear::pack`](crate::layers::linear::Linear::pack), for the scores.
    pub(crate) fn pack(&mut self, rounds: bool) -> Result<()> {
        let pack = if rounds { PackedLinear::in_bf16 } else { PackedLinear::new };
        self.packed = pack(&self.weight, &self.bias)?.map(Arc::new);
        Ok(())
    }

    /// The projection that a configuration describes, given an embedding `tokens` `[vocab_size, d_model]`.
    pub(crate) fn of(source: OutputProjection, tokens: &Tensor, vb: &VarBuilder) -> Result<Self> {
        let (vocab_size, d_model) = tokens.dims2()?;
        match source {
            OutputProjection::Shared => Self::tied(tokens, vb),
            OutputProjection::Separate => Self::new(d_model, vocab_size, vb),
        }
    }

    /// Scores of every token, `[.., vocab_size]`, after the states `[.., d_model]`.
    ///
    /// # Errors
    /// When the width disagrees.
    pub fn logits(&self, states: &Tensor) -> Result<Tensor> {
        match &self.packed {
            Some(packed) => packed.forward(states, Activation::Identity),
            None => numformer_ops::linear(states, &self.weight, &self.bias, Activation::Identity),
        }
    }

    /// The amount by which the scores of `targets` `[n]` after the states `[n, d_model]` exceed the mean score of all
    /// tokens, averaged over the targets, a scalar. Targets equal to `ignored` do not count.
    pub(crate) fn margin(&self, states: &Tensor, targets: &Tensor, ignored: u32) -> Result<Tensor> {
        let counts = targets.ne(ignored)?;
        // An ignored target need not be a token, so token 0 stands in for it.
        let tokens = counts.where_cond(targets, &targets.zeros_like()?)?;
        // The mean score is the score for the mean weights.
        let weights = self.weight.index_select(&tokens, 0)?.broadcast_sub(&self.weight.mean(0)?)?;
        let biases = self.bias.index_select(&tokens, 0)?.broadcast_sub(&self.bias.mean(0)?)?;
        let margins = ((states * weights)?.sum(1)? + biases)?;
        let counts = counts.to_dtype(margins.dtype())?;
        let counted = counts.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        (margins * counts)?.sum_all()? / counted.max(1.0)
    }

    /// Mean cross-entropy of `targets` `[n]` after the states `[n, d_model]`, a scalar. Targets equal to `ignored` do
    /// not count.
    ///
    /// # Errors
    /// When the shapes disagree, or a target lies outside the vocabulary.
    pub fn cross_entropy(&self, states: &Tensor, targets: &Tensor, ignored: Option<u32>) -> Result<Tensor> {
        numformer_ops::projection_cross_entropy(states, &self.weight, &self.bias, targets, ignored)
    }
}
