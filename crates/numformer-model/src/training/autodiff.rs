//! The training step by automatic differentiation.

use std::fmt;

use candle_core::Result;

use crate::mode::Mode;
use crate::parameters::Parameters;
use crate::seq2seq::Seq2Seq;
use crate::training::flat::FlatLayout;
use crate::training::training_step::{TokenRows, TrainingStep};

/// Loss and gradients of any model by candle's automatic differentiation.
///
/// # Examples
/// ```
/// use candle_core::Device;
/// use numformer_model::{Autodiff, Cell, Parameters, Recurrent, RecurrentConfig, TrainingStep};
///
/// let parameters = Parameters::random(0, &Device::Cpu);
/// let model = Recurrent::init(&RecurrentConfig::new(Cell::Gru, 20, 8, 1), &parameters)?;
/// let step = Autodiff::new(model, &parameters)?;
/// assert_eq!(step.layout().len(), parameters.element_count());
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Autodiff<M> {
    model: M,
    layout: FlatLayout,
    parameters: Parameters,
    label_smoothing: f64,
}

impl<M: Seq2Seq> Autodiff<M> {
    /// A step for `model`, which must be built on [`Parameters::trainable`].
    ///
    /// # Errors
    /// When the model has no parameters.
    pub fn new(model: M, parameters: &Parameters) -> Result<Self> {
        let layout = FlatLayout::new(parameters)?;
        Ok(Self { model, layout, parameters: parameters.clone(), label_smoothing: 0.0 })
    }

    /// Smooths the targets, as [`Seq2Seq::smoothed_loss`] does.
    #[must_use]
    pub fn with_label_smoothing(self, label_smoothing: f64) -> Self {
        Self { label_smoothing, ..self }
    }

    /// The order of weights and gradients.
    #[must_use]
    pub fn layout(&self) -> &FlatLayout {
        &self.layout
    }
}

impl<M> fmt::Debug for Autodiff<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Autodiff").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl<M: Seq2Seq + Send> TrainingStep for Autodiff<M> {
    fn loss_and_gradients(
        &mut self,
        weights: &[f32],
        src: TokenRows<'_>,
        tgt: TokenRows<'_>,
        mode: Mode,
        gradients: &mut [f32],
    ) -> Result<f64> {
        // On one of rayon's threads: the operations divide their work among them, and handing work over from outside
        // the pool costs more than most operations.
        let Self { model, layout, parameters, label_smoothing } = self;
        rayon::scope(move |_| {
            layout.write(parameters, weights)?;
            let device = parameters.device();
            let (src, tgt) = (src.padded(device)?, tgt.padded(device)?);
            let loss = model.smoothed_loss(&src, &tgt, mode, *label_smoothing)?;
            layout.read_gradients(parameters, &loss.backward()?, gradients)?;
            Ok(f64::from(loss.to_scalar::<f32>()?))
        })
    }

    fn how(&self) -> String {
        "automatic differentiation".to_owned()
    }
}
