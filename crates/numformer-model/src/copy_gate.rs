//! The gate by which a layer may leave its input as it is.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use numformer_ops::Activation;

use crate::linear::Linear;

/// Where the gate's bias starts: nearly closed, so that layers begin by copying. The value of the paper.
const START: f64 = -3.0;

/// A gate in each coordinate, computed by a feed-forward network: open, it lets a layer's output through; closed, the
/// layer's input.
///
/// # Reference
/// Csordás, Irie and Schmidhuber (2022), *The Neural Data Router*, section 2.2. <https://arxiv.org/abs/2110.07732>
#[derive(Clone, Debug)]
pub(crate) struct CopyGate {
    up: Linear,
    down: Linear,
}

impl CopyGate {
    pub(crate) fn new(d_model: usize, d_ff: usize, vb: &VarBuilder) -> Result<Self> {
        let start = Init::Const(START);
        Ok(Self {
            up: Linear::new(d_model, d_ff, &vb.pp("up"))?,
            down: Linear::with_bias_start(d_ff, d_model, start, &vb.pp("down"))?,
        })
    }

    /// g ∘ `output` + (1 − g) ∘ `input`, with g the sigmoid of a feed-forward network of `attended`, what the layer's own
    /// feed-forward network reads. All `[.., d_model]`.
    pub(crate) fn forward(&self, attended: &Tensor, output: &Tensor, input: &Tensor) -> Result<Tensor> {
        let hidden = self.up.forward(attended, Activation::Relu)?;
        let gate = candle_nn::ops::sigmoid(&self.down.forward(&hidden, Activation::Identity)?)?;
        input + (gate * (output - input)?)?
    }
}
