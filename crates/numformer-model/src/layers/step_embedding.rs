//! The step embedding of a shared layer.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::config::LayerWeights;
use crate::layers::embedding::sinusoidal_positions;

/// Tells a shared layer how often it has been applied, by adding sines and cosines of the step to its input. Layers
/// with weights of their own do not need this.
///
/// # Reference
/// Dehghani et al. (2019), *Universal Transformers*, section 2.1. Unlike there, positions are added only once, before
/// the first step. <https://arxiv.org/abs/1807.03819>
#[derive(Clone, Debug)]
pub(crate) struct StepEmbedding {
    /// `[n_layers, d_model]`
    table: Option<Tensor>,
}

impl StepEmbedding {
    pub(crate) fn new(weights: LayerWeights, n_layers: usize, d_model: usize, vb: &VarBuilder) -> Result<Self> {
        let table = || Tensor::from_vec(sinusoidal_positions(n_layers, d_model), (n_layers, d_model), vb.device());
        Ok(Self {
            table: match weights {
                LayerWeights::Separate => None,
                LayerWeights::Shared => Some(table()?.to_dtype(vb.dtype())?),
            },
        })
    }

    /// The input of layer `index`, `[b, t, d_model]`.
    pub(crate) fn forward(&self, x: &Tensor, index: usize) -> Result<Tensor> {
        match &self.table {
            None => Ok(x.clone()),
            Some(table) => x.broadcast_add(&table.get(index)?),
        }
    }
}
