//! Training on a device.

use candle_core::Result;
use numformer_model::{Mode, TokenRows};
use numformer_ops::device::OptimizerStep;

use super::weights::DeviceWeights;

/// Training of a model on a device: of the standard transformer by the fused [`DeviceStep`](crate::DeviceStep), of any
/// other by [`DeviceAutodiff`](crate::DeviceAutodiff).
pub trait DeviceTraining: Send {
    /// The weights on the device, and the outcomes of steps.
    fn weights(&self) -> &DeviceWeights;

    /// The same, to read and set them.
    fn weights_mut(&mut self) -> &mut DeviceWeights;

    /// Starts a step on the device without waiting for it: gradients of the mean cross-entropy per target token of all
    /// batches (source and target), clipped at the norm `clip_norm`, and an update. Batch i has the masks of dropout of
    /// the step of `mode` plus i. The device computes the factor of the gradients in `update` itself.
    ///
    /// # Errors
    /// When a batch does not fit the model, there is none, the mode is not that of training, the outcomes of
    /// [`DeviceWeights::MOST_PENDING`] steps have not been read, the update is not of the optimizer of the weights, or the
    /// device fails.
    fn take_step(
        &mut self,
        batches: &[[TokenRows<'_>; 2]],
        mode: Mode,
        update: OptimizerStep,
        clip_norm: f32,
    ) -> Result<()>;

    /// How gradients are computed, in a few words, without the device.
    fn how(&self) -> String;
}

impl<T: DeviceTraining + ?Sized> DeviceTraining for Box<T> {
    fn weights(&self) -> &DeviceWeights {
        (**self).weights()
    }

    fn weights_mut(&mut self) -> &mut DeviceWeights {
        (**self).weights_mut()
    }

    fn take_step(
        &mut self,
        batches: &[[TokenRows<'_>; 2]],
        mode: Mode,
        update: OptimizerStep,
        clip_norm: f32,
    ) -> Result<()> {
        (**self).take_step(batches, mode, update, clip_norm)
    }

    fn how(&self) -> String {
        (**self).how()
    }
}

/// The mode of batch `index` of a step.
pub(super) fn mode_of(mode: Mode, index: usize) -> Mode {
    match mode {
        Mode::Train { seed, step } => Mode::Train { seed, step: step + index as u64 },
        Mode::Evaluate => Mode::Evaluate,
    }
}
