//! The affine map.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use numformer_ops::{Activation, PackedLinear};

/// y = x·Wᵀ + b, with an optional activation.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
    packed: Option<Arc<PackedLinear>>,
}

impl Linear {
    /// Takes `weight` `[d_out, d_in]` and `bias` `[d_out]` from `vb`; both start uniform in ±1/√`d_in`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn new(d_in: usize, d_out: usize, vb: &VarBuilder) -> Result<Self> {
        Self::with_bias_start(d_in, d_out, uniform_fan_in(d_in), vb)
    }

    /// [`Linear::new`] with the given initial bias.
    pub(crate) fn with_bias_start(d_in: usize, d_out: usize, start: Init, vb: &VarBuilder) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints((d_out, d_in), "weight", uniform_fan_in(d_in))?,
            bias: vb.get_with_hints(d_out, "bias", start)?,
            packed: None,
        })
    }

    /// Packs the weight as it is now, for calls without gradients: later changes of it have no effect. If `rounds`, operands
    /// of the product are rounded to bf16.
    pub(crate) fn pack(&mut self, rounds: bool) -> Result<()> {
        let pack = if rounds { PackedLinear::in_bf16 } else { PackedLinear::new };
        self.packed = pack(&self.weight, &self.bias)?.map(Arc::new);
        Ok(())
    }

    /// Applies the map, then `activation`: `[.., d_in]` to `[.., d_out]`.
    ///
    /// # Errors
    /// When the last axis of `x` is not `d_in`.
    pub fn forward(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        match &self.packed {
            Some(packed) => packed.forward(x, activation),
            None => numformer_ops::linear(x, &self.weight, &self.bias, activation),
        }
    }
}

/// PyTorch's default initialisation of a linear layer: uniform in ±1/√fan-in, for both weight and bias.
pub(crate) fn uniform_fan_in(d_in: usize) -> Init {
    let bound = 1.0 / (d_in as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}
