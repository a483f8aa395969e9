//! The training step as a composition of candle operations.

use candle_core::Result;

use crate::flat::FlatLayout;
use crate::parameters::Parameters;
use crate::training_step::{TokenRows, TrainingStep};
use crate::transformer::Transformer;

/// Loss and gradients by candle's automatic differentiation.
#[derive(Clone, Debug)]
pub struct Composition {
    model: Transformer,
    layout: FlatLayout,
    parameters: Parameters,
}

impl Composition {
    /// A step for `model`, built on [`Parameters::trainable`].
    #[must_use]
    pub fn new(model: Transformer, parameters: &Parameters) -> Self {
        Self { model, layout: FlatLayout::new(parameters), parameters: parameters.clone() }
    }
}

impl TrainingStep for Composition {
    fn layout(&self) -> &FlatLayout {
        &self.layout
    }

    fn loss_and_gradients(
        &mut self,
        weights: &[f32],
        src: TokenRows<'_>,
        tgt: TokenRows<'_>,
        gradients: &mut [f32],
    ) -> Result<f64> {
        self.layout.write(&self.parameters, weights)?;
        let device = self.parameters.device();
        let loss = self.model.loss(&src.padded(device)?, &tgt.padded(device)?)?;
        self.layout.read_gradients(&self.parameters, &loss.backward()?, gradients)?;
        Ok(f64::from(loss.to_scalar::<f32>()?))
    }
}
