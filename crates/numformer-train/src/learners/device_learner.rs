//! Learning on a device.

use candle_core::Result as ModelResult;
use numformer_fused::{DeviceStep, Precision};
use numformer_model::{FlatLayout, Parameters, StepOutcome};

use crate::learners::host_learner::copy;
use crate::learners::learner::{Learner, LearnerState, Steps};
use crate::optimizers::adam::{Adam, AdamConfig};
use crate::optimizers::optimizer::{Optimizer, Update};
use crate::train_error::TrainError;

/// A [`Learner`] that trains on a device with Adam. Its copies on the host are updated only when they are asked for.
#[derive(Debug)]
pub struct DeviceLearner {
    step: DeviceStep,
    updates: u64,
    weights: Vec<f32>,
    adam: Adam,
    /// Whether the host copies match the device.
    is_fetched: bool,
}

impl DeviceLearner {
    /// Learns by `step` and Adam, starting from the weights in `parameters`.
    ///
    /// # Errors
    /// When the parameters are not those of the step, or the device fails.
    pub fn new(step: DeviceStep, adam: AdamConfig, parameters: &Parameters) -> ModelResult<Self> {
        let mut weights = vec![0.0; step.layout().len()];
        step.layout().read(parameters, &mut weights)?;
        let mut adam = Adam::new(adam);
        adam.begin(step.layout());
        let mut learner = Self { step, updates: 0, weights, adam, is_fetched: true };
        learner.send()?;
        Ok(learner)
    }

    fn send(&mut self) -> ModelResult<()> {
        self.step.set_weights(&self.weights)?;
        self.step.set_moments([self.adam.first_moment(), self.adam.second_moment()])
    }
}

impl Learner for DeviceLearner {
    fn layout(&self) -> &FlatLayout {
        self.step.layout()
    }

    fn learn(&mut self, steps: &mut Steps<'_>) -> Result<Vec<StepOutcome>, TrainError> {
        self.is_fetched = false;
        // Forgets a step that was not finite: what to do about it has already been decided.
        self.step.go_on()?;
        for (number, planned) in (self.updates + 1..).zip(steps) {
            let planned = planned?;
            let [batch] = &planned.batches[..] else {
                let found = planned.batches.len();
                let message = format!("expected one batch per step on a device, found {found}");
                return Err(candle_core::Error::Msg(message).into());
            };
            let step = self.adam.step(Update { number, ..planned.update });
            let (src, tgt) = ((&batch.src).into(), (&batch.tgt).into());
            self.step.take_step(src, tgt, &step, planned.clip_norm as f32)?;
        }
        let mut outcomes = self.step.outcomes()?;
        let taken = outcomes.iter().position(|outcome| !outcome.is_finite());
        if let Some(taken) = taken {
            outcomes.truncate(taken + 1);
        }
        self.updates += taken.unwrap_or(outcomes.len()) as u64;
        Ok(outcomes)
    }

    fn state(&self) -> LearnerState<'_> {
        LearnerState { updates: self.updates, weights: &self.weights, memory: self.adam.memory() }
    }

    fn set_state(&mut self, state: &LearnerState<'_>) -> ModelResult<()> {
        // Fetches the whole state first, because `state` may set only a part of it.
        self.fetch()?;
        copy("weights", state.weights, &mut self.weights)?;
        for (name, to) in self.adam.memory_mut() {
            if let Some((_, from)) = state.memory.iter().find(|(known, _)| *known == name) {
                copy(name, from, to)?;
            }
        }
        self.updates = state.updates;
        self.send()
    }

    fn fetch(&mut self) -> ModelResult<()> {
        if !self.is_fetched {
            self.step.weights(&mut self.weights)?;
            self.step.moments(self.adam.moments_mut())?;
            self.is_fetched = true;
        }
        Ok(())
    }

    fn steps_at_once(&self) -> u64 {
        DeviceStep::MOST_PENDING as u64
    }

    /// One thread feeds the device; the others have nothing else to do.
    fn data_workers(&self) -> usize {
        rayon::current_num_threads().saturating_sub(1).clamp(1, 8)
    }

    fn how(&self) -> String {
        let precision = match self.step.precision() {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        };
        format!("fused step in {precision} on {}", self.step.device_name())
    }
}
