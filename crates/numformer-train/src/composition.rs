//! The training step as a composition of candle operations.

use candle_core::{Device, Result};
use numformer_data::Batch;
use numformer_model::{FlatLayout, Mode, Model, Parameters, Seq2Seq};

use crate::evaluation::padded;

/// Loss and gradients by candle's automatic differentiation; weights and gradients as flat slices.
#[derive(Clone, Debug)]
pub struct Composition {
    model: Model,
    layout: FlatLayout,
    device: Device,
}

impl Composition {
    /// A step for `model`, built on [`Parameters::trainable`].
    #[must_use]
    pub fn new(model: impl Into<Model>, parameters: &Parameters) -> Self {
        Self { model: model.into(), layout: FlatLayout::new(parameters), device: parameters.device().clone() }
    }

    /// The order of weights and gradients.
    #[must_use]
    pub fn layout(&self) -> &FlatLayout {
        &self.layout
    }

    /// Writes the gradients of the mean loss over `batch` and returns the loss. The seed and the step of `mode` say what
    /// dropout drops.
    ///
    /// # Errors
    /// When the batch does not fit the model, or `gradients` the layout.
    pub fn loss_and_gradients(&self, batch: &Batch, mode: Mode, gradients: &mut [f32]) -> Result<f64> {
        let (src, tgt) = (padded(&batch.src, &self.device)?, padded(&batch.tgt, &self.device)?);
        let loss = self.model.loss(&src, &tgt, mode)?;
        self.layout.read_gradients(&loss.backward()?, gradients)?;
        Ok(f64::from(loss.to_scalar::<f32>()?))
    }
}
