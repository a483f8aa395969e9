//! The training step as a composition of candle operations.

use candle_core::Result;

use crate::flat::FlatLayout;
use crate::mode::Mode;
use crate::model::Model;
use crate::parameters::Parameters;
use crate::seq2seq::Seq2Seq;
use crate::training_step::{TokenRows, TrainingStep};

/// Loss and gradients by candle's automatic differentiation.
#[derive(Clone, Debug)]
pub struct Composition {
    model: Model,
    layout: FlatLayout,
    parameters: Parameters,
    label_smoothing: f64,
}

impl Composition {
    /// A step for `model`, built on [`Parameters::trainable`].
    #[must_use]
    pub fn new(model: impl Into<Model>, parameters: &Parameters) -> Self {
        Self {
            model: model.into(),
            layout: FlatLayout::new(parameters),
            parameters: parameters.clone(),
            label_smoothing: 0.0,
        }
    }

    /// Smooths the targets, as [`Seq2Seq::smoothed_loss`] does.
    #[must_use]
    pub fn with_label_smoothing(self, label_smoothing: f64) -> Self {
        Self { label_smoothing, ..self }
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
        mode: Mode,
        gradients: &mut [f32],
    ) -> Result<f64> {
        self.layout.write(&self.parameters, weights)?;
        let device = self.parameters.device();
        let loss = self.model.smoothed_loss(&src.padded(device)?, &tgt.padded(device)?, mode, self.label_smoothing)?;
        self.layout.read_gradients(&self.parameters, &loss.backward()?, gradients)?;
        Ok(f64::from(loss.to_scalar::<f32>()?))
    }
}
