//! Multi-head attention.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use candle_nn::ops::softmax_last_dim;
use numformer_ops::{Activation, Causality, Lengths};

use crate::batched::Batched;
use crate::layers::linear::Linear;

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

    /// Writes `next` in place, with its first token at position `start`. Gradients do not pass.
    ///
    /// # Errors
    /// When the batch size or the width disagrees, or there is no room.
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

/// Multi-head attention: project to queries, keys and values, attend in each head, project back.
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

    pub(crate) fn affine_maps(&mut self) -> impl Iterator<Item = &mut Linear> {
        [&mut self.query, &mut self.key, &mut self.value, &mut self.output].into_iter()
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

    /// The output of attention from the states `x` `[b, t, d_model]` to `memory`: `[b, t, d_model]`.
    ///
    /// Keys at or beyond `key_lengths` are masked.
    ///
    /// # Errors
    /// When the batch size or a width disagrees.
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

    /// The attention weights of each state of `x` `[b, t, d_model]` on each token of an unpadded `memory`, by head:
    /// `[b, n_heads, t, s]`. They sum to 1 over the last axis. [`MultiHeadAttention::forward`] never stores them.
    ///
    /// # Errors
    /// When the batch size or a width disagrees.
    pub fn weights(&self, x: &Tensor, memory: &KeysValues) -> Result<Tensor> {
        let by_head = |states: &Tensor| {
            let (b, t, d) = states.dims3()?;
            states.reshape((b, t, self.n_heads, d / self.n_heads))?.transpose(1, 2)?.contiguous()
        };
        let queries = by_head(&self.query.forward(x, Activation::Identity)?)?;
        let keys = by_head(&memory.keys)?;
        let (b, heads, t, d_head) = queries.dims4()?;
        let s = keys.dim(2)?;
        // `linear` instead of candle's own product, which does not run on every processor.
        let none = Tensor::zeros(s, queries.dtype(), queries.device())?;
        let scores = (0..b * heads).map(|at| {
            let of = |states: &Tensor| states.get(at / heads)?.get(at % heads);
            numformer_ops::linear(&of(&queries)?, &of(&keys)?, &none, Activation::Identity)
        });
        let scores = Tensor::stack(&scores.collect::<Result<Vec<_>>>()?, 0)?.reshape((b, heads, t, s))?;
        softmax_last_dim(&(scores / (d_head as f64).sqrt())?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::parameters::Parameters;

    #[test]
    fn what_is_read_is_the_mean_of_the_values_by_the_weights() {
        let (d, d_memory, n_heads) = (6, 4, 3);
        let vb = Parameters::random(1, &Device::Cpu).frozen();
        let attention = MultiHeadAttention::new(d, d_memory, n_heads, &vb).expect("built");
        let x = Tensor::randn(0f32, 3.0, (2, 5, d), &Device::Cpu).expect("states");
        let memory = Tensor::randn(0f32, 3.0, (2, 7, d_memory), &Device::Cpu).expect("states");
        let memory = attention.keys_values(&memory).expect("keys and values");
        let weights = attention.weights(&x, &memory).expect("weights");
        assert_eq!(weights.dims(), [2, n_heads, 5, 7]);

        let values = memory.values.reshape((2, 7, n_heads, d / n_heads)).and_then(|values| values.transpose(1, 2));
        let read = weights.matmul(&values.and_then(|values| values.contiguous()).expect("values"));
        let read = read.and_then(|read| read.transpose(1, 2)?.reshape((2, 5, d))).expect("what is read");
        let expected = attention.forward(&x, &memory, Causality::Full, None).expect("read");
        let found = attention.output.forward(&read, Activation::Identity).expect("projected");
        let error = (found - expected).and_then(|error| error.abs()?.max_all()?.to_scalar::<f32>()).expect("a scalar");
        assert!(error < 1e-5, "{error}");
    }
}
