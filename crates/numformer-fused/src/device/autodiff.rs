//! Training of any model on a device by automatic differentiation.

use std::fmt;

use candle_core::{Error, Result};
use numformer_model::{FlatLayout, Mode, Parameters, Seq2Seq, TokenRows};
use numformer_ops::device::{Accelerator, Element, OptimizerKind, OptimizerStep, Region, StepNumbers};

use super::inputs::predicted;
use super::places::variable;
use super::training::{DeviceTraining, mode_of};
use super::weights::{DeviceWeights, Ending};
use crate::Precision;

/// Training of any model on a device: loss and gradients by candle's automatic differentiation there, and the end of a
/// step as in [`DeviceStep`](crate::DeviceStep). Weights, gradients and the optimizer's memory stay on the device, and
/// the host does not wait for a step.
///
/// # Examples
/// ```no_run
/// use numformer_fused::{DeviceAutodiff, DeviceTraining};
/// use numformer_model::{Cell, Parameters, Recurrent, RecurrentConfig};
/// use numformer_ops::device::{Accelerator, OptimizerKind, cuda};
///
/// let device = cuda(0)?;
/// let parameters = Parameters::random(0, &device);
/// let model = Recurrent::init(&RecurrentConfig::new(Cell::Lstm, 20, 8, 1), &parameters)?;
/// let step = DeviceAutodiff::new(model, &parameters, Accelerator::new(&device)?, OptimizerKind::Adam)?;
/// assert_eq!(step.weights().layout().len(), parameters.element_count());
/// # Ok::<(), candle_core::Error>(())
/// ```
pub struct DeviceAutodiff<M> {
    model: M,
    parameters: Parameters,
    weights: DeviceWeights,
    smoothing: f64,
    /// The loss of a batch.
    loss: Region,
    numbers: Region,
}

impl<M> fmt::Debug for DeviceAutodiff<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceAutodiff").field("weights", &self.weights).finish_non_exhaustive()
    }
}

impl<M: Seq2Seq> DeviceAutodiff<M> {
    /// Trains `model`, which must be built on [`Parameters::trainable`] of `parameters`, on the device that holds them.
    ///
    /// # Errors
    /// When the model has no parameters, they are on another device, or the device does not have enough memory.
    pub fn new(model: M, parameters: &Parameters, device: Accelerator, optimizer: OptimizerKind) -> Result<Self> {
        if !parameters.device().same_device(device.device()) {
            let (expected, found) = (device.device(), parameters.device());
            return Err(Error::Msg(format!("expected parameters on {expected:?}, found them on {found:?}")));
        }
        let layout = FlatLayout::new(parameters)?;
        let mut weights = DeviceWeights::new(device, layout, parameters, Precision::F32, optimizer)?;
        let loss = weights.device.reserve(Element::F32, 1)?;
        let numbers = weights.device.reserve(Element::U32, StepNumbers::WORDS)?;
        Ok(Self { model, parameters: parameters.clone(), weights, smoothing: 0.0, loss, numbers })
    }

    /// Smooths the targets, as [`Seq2Seq::smoothed_loss`] does.
    #[must_use]
    pub fn with_label_smoothing(self, smoothing: f64) -> Self {
        Self { smoothing, ..self }
    }

    /// Leaves the gradients of the mean loss of a batch in the vector of gradients, and the loss in `self.loss`.
    fn differentiate(&mut self, [src, tgt]: [TokenRows<'_>; 2], mode: Mode) -> Result<()> {
        let Self { model, parameters, weights, smoothing, loss: place, .. } = self;
        let device = parameters.device();
        let (src, tgt) = (src.padded(device)?, tgt.padded(device)?);
        let loss = model.smoothed_loss(&src, &tgt, mode, *smoothing)?;
        let store = loss.backward()?;
        let DeviceWeights { device, places, vectors, .. } = weights;
        for (name, range) in places.ranges() {
            let gradient = store.get(variable(parameters, name)?.as_tensor());
            let gradient = gradient.ok_or_else(|| Error::Msg(format!("parameter `{name}` received no gradient")))?;
            device.copy_from_tensor(vectors.gradients.slice(range)?, gradient)?;
        }
        device.copy_from_tensor(*place, &loss.reshape(1)?)
    }
}

impl<M: Seq2Seq + Send> DeviceTraining for DeviceAutodiff<M> {
    fn weights(&self) -> &DeviceWeights {
        &self.weights
    }

    fn weights_mut(&mut self) -> &mut DeviceWeights {
        &mut self.weights
    }

    fn take_step(
        &mut self,
        batches: &[[TokenRows<'_>; 2]],
        mode: Mode,
        update: OptimizerStep,
        clip_norm: f32,
    ) -> Result<()> {
        let numbers = self.weights.numbers(mode, update, clip_norm, 1.0)?;
        self.weights.show(&self.parameters)?;
        match batches {
            [] => return Err(Error::Msg("expected at least one batch".to_owned())),
            [batch] if !self.weights.has_ranks() => {
                self.differentiate(*batch, mode)?;
                let Self { weights, loss, numbers: words, .. } = self;
                weights.device.write_ids(*words, &numbers.to_words())?;
                weights.end(Ending { numbers: *words, losses: *loss }, weights.vectors.gradients)?;
            }
            several => {
                let tokens: u64 = several.iter().map(|[_, tgt]| predicted(*tgt)).sum();
                let total = if self.weights.has_ranks() { 1 } else { tokens };
                self.weights.begin_sums()?;
                for (index, batch) in several.iter().enumerate() {
                    self.differentiate(*batch, mode_of(mode, index))?;
                    // Losses are means over target tokens, so each batch is weighted by its number of tokens.
                    let share = (predicted(batch[1]) as f64 / total.max(1) as f64) as f32;
                    self.weights.add_to_sums(self.loss, share, share)?;
                }
                self.weights.end_sums(numbers, tokens)?;
            }
        }
        self.weights.begun();
        Ok(())
    }

    fn how(&self) -> String {
        "automatic differentiation".to_owned()
    }
}
