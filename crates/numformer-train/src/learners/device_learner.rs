//! Learning on a device.

use std::sync::Arc;

use candle_core::{Error, Result as ModelResult};
use numformer_distributed::{Communicator, Solo};
use numformer_fused::{DeviceTraining, DeviceWeights};
use numformer_model::{FlatLayout, Mode, Parameters, StepOutcome, TokenRows};
use numformer_ops::device::DeviceSum;

use crate::learners::host_learner::copy;
use crate::learners::learner::{Learner, LearnerState, Steps, Wish};
use crate::learners::together::{agree, check_weights, first_mask, how, is_check_due};
use crate::optimizers::optimizer::{Optimizer, Update};
use crate::optimizers::optimizer_config::OptimizerConfig;
use crate::train_error::TrainError;

/// A [`Learner`] that trains on a device. Its copies on the host are updated only when they are asked for.
pub struct DeviceLearner {
    training: Box<dyn DeviceTraining>,
    config: OptimizerConfig,
    updates: u64,
    weights: Vec<f32>,
    /// What the optimizer remembers, on the host.
    optimizer: Box<dyn Optimizer>,
    /// Whether the host copies match the device.
    is_fetched: bool,
    how: String,
    ranks: Arc<dyn Communicator>,
}

impl std::fmt::Debug for DeviceLearner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceLearner").field("how", &self.how).field("updates", &self.updates).finish_non_exhaustive()
    }
}

fn on_host_alone() -> Error {
    Error::Msg("expected an optimizer that devices have, Adam or SGD; for others, use a `HostLearner`".to_owned())
}

impl DeviceLearner {
    /// Learns by `training`, which was made for the [kind](OptimizerConfig::kind) of this optimizer.
    ///
    /// # Errors
    /// When it was made for another kind, the optimizer has none, or the device fails.
    pub fn new(training: impl DeviceTraining + 'static, config: OptimizerConfig) -> ModelResult<Self> {
        config.kind().ok_or_else(on_host_alone)?;
        let layout = training.weights().layout();
        let weights = vec![0.0; layout.len()];
        let mut optimizer = config.build();
        optimizer.begin(layout);
        let (how, training, ranks) = (training.how(), Box::new(training), Arc::new(Solo));
        let mut learner = Self { training, config, updates: 0, weights, optimizer, is_fetched: false, how, ranks };
        learner.fetch()?;
        Ok(learner)
    }

    /// Learns together with other ranks, as [`HostLearner::across`](crate::HostLearner::across) does, each on a device of
    /// its own. `sum` adds up vectors on their devices.
    #[must_use]
    pub fn across(mut self, ranks: Arc<dyn Communicator>, sum: Arc<dyn DeviceSum>) -> Self {
        self.training.weights_mut().set_ranks(sum);
        Self { ranks, ..self }
    }

    /// Replaces the description of how gradients are computed, to which precision and device are added.
    #[must_use]
    pub fn described_as(self, how: &str) -> Self {
        Self { how: how.to_owned(), ..self }
    }

    fn send(&mut self) -> ModelResult<()> {
        let weights = self.training.weights_mut();
        weights.set(&self.weights)?;
        let memory: Vec<_> = self.optimizer.memory().into_iter().map(|(_, vector)| vector).collect();
        weights.set_memory(&memory)
    }
}

impl Learner for DeviceLearner {
    fn layout(&self) -> &FlatLayout {
        self.training.weights().layout()
    }

    fn learn(&mut self, steps: &mut Steps<'_>) -> Result<Vec<StepOutcome>, TrainError> {
        self.is_fetched = false;
        // Forgets a step that was not finite: what to do about it has already been decided.
        self.training.weights_mut().go_on()?;
        for (number, planned) in (self.updates + 1..).zip(steps) {
            let planned = planned?;
            let batches: Vec<[TokenRows<'_>; 2]> =
                planned.batches.iter().map(|batch| [(&batch.src).into(), (&batch.tgt).into()]).collect();
            let update = self.config.step(Update { number, ..planned.update }).ok_or_else(on_host_alone)?;
            let first = first_mask(planned.first, planned.batches.len(), &self.ranks);
            let mode = Mode::Train { seed: planned.seed, step: first };
            self.training.take_step(&batches, mode, update, planned.clip_norm as f32)?;
        }
        let mut outcomes = self.training.weights_mut().outcomes()?;
        let taken = outcomes.iter().position(|outcome| !outcome.is_finite());
        if let Some(taken) = taken {
            outcomes.truncate(taken + 1);
        }
        let before = self.updates;
        self.updates += taken.unwrap_or(outcomes.len()) as u64;
        if is_check_due(before, self.updates, &self.ranks) {
            self.fetch()?;
            check_weights(self.updates, &self.weights, &self.ranks)?;
        }
        Ok(outcomes)
    }

    fn agree(&mut self, wish: Wish) -> Result<Wish, TrainError> {
        agree(wish, &self.ranks)
    }

    fn state(&self) -> LearnerState<'_> {
        LearnerState { updates: self.updates, weights: &self.weights, memory: self.optimizer.memory() }
    }

    fn set_state(&mut self, state: &LearnerState<'_>) -> ModelResult<()> {
        // Fetches the whole state first, because `state` may set only a part of it.
        self.fetch()?;
        copy("weights", state.weights, &mut self.weights)?;
        for (name, to) in self.optimizer.memory_mut() {
            if let Some((_, from)) = state.memory.iter().find(|(known, _)| *known == name) {
                copy(name, from, to)?;
            }
        }
        self.updates = state.updates;
        self.send()
    }

    fn fetch(&mut self) -> ModelResult<()> {
        if !self.is_fetched {
            let weights = self.training.weights_mut();
            weights.read(&mut self.weights)?;
            weights.read_memory(self.optimizer.memory_mut().into_iter().map(|(_, vector)| vector))?;
            self.is_fetched = true;
        }
        Ok(())
    }

    fn show(&mut self, parameters: &Parameters) -> ModelResult<()> {
        let weights = self.training.weights_mut();
        if parameters.device().same_device(weights.device().device()) {
            return weights.show(parameters);
        }
        self.fetch()?;
        self.layout().write(parameters, &self.weights)
    }

    fn steps_at_once(&self) -> u64 {
        DeviceWeights::MOST_PENDING as u64
    }

    /// One thread feeds the device; the others have nothing else to do.
    fn data_workers(&self) -> usize {
        rayon::current_num_threads().saturating_sub(1).clamp(1, 8)
    }

    fn how(&self) -> String {
        let weights = self.training.weights();
        how(&format!("{}, {}, on {}", self.how, weights.precision(), weights.device().name()), &self.ranks)
    }
}
