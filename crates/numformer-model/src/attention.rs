//! Multi-head attention.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use numformer_ops::{Activation, Causality, Lengths};

use crate::batched::Batched;
use crate::linear::Linear;

/// Keys and values of a sequence, `[b, s, d]` each, the heads side by side.
#[derive(Clone, Debug)]
pub struct KeysValues {
    keys: Tensor,
    values: Tensor,
}

impl KeysValues {
    /// Applies `change` to both.
    pub(crate) fn map(&self, change: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self { keys: change(&self.keys)?, values: change(&self.values)? })
    }

    /// Writes `next` in place, its first token at position `start`. Gradients do not pass.
    ///
    /// # Errors
    /// When batch or width disagree, or there is no room.
    pub(crate) fn write(&self, next: &Self, start: usize) -> Result<()> {
        for (room, next) in [(&self.keys, &next.keys), (&self.values, &next.values)] {
            room.slice_set(&next.detach().contiguous()?, 1, start)?;
        }
        Ok(())
    }

    pub(crate) fn batch_size(&self) -> Result<usize> {
        self.keys.dim(0)
    }

    pub(crate) fn len_tokens(&self) -> Result<usize> {
        self.keys.dim(1)
    }
}

impl Batched for KeysValues {
    fn select(&self, rows: &[u32]) -> Result<Self> {
        self.map(|tensor| tensor.select(rows))
    }
}

/// Multi-head attention: project to queries, keys and values, attend per head, project back.
///
/// # Reference
/// Vaswani et al. (2017), *Attention Is All You Need*, section 3.2.2. <https://arxiv.org/abs/1706.03762>
#[derive(Clone, Debug)]
pub struct MultiHeadAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    n_heads: usize,
}

impl MultiHeadAttention {
    /// Attention of states of width `d_model` over a memory of width `d_memory` (the same in self-attention).
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn new(d_model: usize, d_memory: usize, n_heads: usize, vb: &VarBuilder) -> Result<Self> {
        Ok(Self {
            query: Linear::new(d_model, d_model, &vb.pp("query"))?,
            key: Linear::new(d_memory, d_model, &vb.pp("key"))?,
            value: Linear::new(d_memory, d_model, &vb.pp("value"))?,
            output: Linear::new(d_model, d_model, &vb.pp("output"))?,
            n_heads,
        })
    }

    /// Keys and values of `memory` `[b, s, d_memory]`.
    ///
    /// # Errors
    /// When the width disagrees.
    pub fn keys_values(&self, memory: &Tensor) -> Result<KeysValues> {
        Ok(KeysValues {
            keys: self.key.forward(memory, Activation::Identity)?,
            values: self.value.forward(memory, Activation::Identity)?,
        })
    }

    /// What the states `x` `[b, t, d_model]` read from `memory`: `[b, t, d_model]`.
    ///
    /// Keys at or beyond `key_lengths` are not seen.
    ///
    /// # Errors
    /// When batch or widths disagree.
    pub fn forward(
        &self,
        x: &Tensor,
        memory: &KeysValues,
        causality: Causality,
        key_lengths: Lengths<'_>,
    ) -> Result<Tensor> {
        let queries = self.query.forward(x, Activation::Identity)?;
        let read =
            numformer_ops::attention(&queries, &memory.keys, &memory.values, self.n_heads, causality, key_lengths)?;
        self.output.forward(&read, Activation::Identity)
    }
}
