//! Weights that learn: on the host, or on a device.

use std::fmt::Debug;

use candle_core::Result as ModelResult;
use numformer_data::Batch;
use numformer_model::{DeviceSchedule, FlatLayout, Mode, StepOutcome, TrainingStep};
use numformer_ops::sum_of_squares;

use crate::adam::Adam;
use crate::evaluation::token_rows;
use crate::optimizer::{Optimizer, Update};
use crate::trainer::TrainError;

/// A step that is to be taken.
#[derive(Debug)]
pub(crate) struct PlannedStep {
    /// One, or several whose gradients are averaged over their target tokens.
    pub(crate) batches: Vec<Batch>,
    /// Number of the first of them, counted from the beginning of the run: for what dropout drops.
    pub(crate) first: u64,
    /// Seed of the run.
    pub(crate) seed: u64,
    /// Learning rate and weight decay. The factor of the gradients is found when they are there.
    pub(crate) update: Update,
    /// Gradients of a larger norm are scaled down to it.
    pub(crate) clip_norm: f64,
}

/// Steps, made one after another.
pub(crate) type Planned<'a> = dyn Iterator<Item = Result<PlannedStep, TrainError>> + 'a;

/// Weights, and what an optimizer remembers of them, wherever they are.
pub(crate) trait Learner: Debug + Send {
    /// The order of the weights.
    fn layout(&self) -> &FlatLayout;

    /// How many steps are best taken before the first is asked about.
    fn steps_at_once(&self) -> u64;

    /// How many threads may make the batches.
    fn data_workers(&self) -> usize;

    /// Takes steps as they come, and says what each found. From the first that is not finite on none is taken; it is the
    /// last of the outcomes then.
    fn learn(&mut self, steps: &mut Planned<'_>) -> Result<Vec<StepOutcome>, TrainError>;

    /// Brings what is elsewhere to where [`weights`](Self::weights) and [`optimizer`](Self::optimizer) show it.
    fn fetch(&mut self) -> ModelResult<()>;

    /// The weights, as of the last fetch.
    fn weights(&self) -> &[f32];

    /// What is remembered of them, as of the last fetch.
    fn optimizer(&self) -> &dyn Optimizer;

    /// Sets weights and what is remembered of them.
    fn set(&mut self, set: &mut dyn FnMut(&mut [f32], &mut dyn Optimizer)) -> ModelResult<()>;
}

/// All on the host: a training step and an optimizer.
#[derive(Debug)]
pub(crate) struct HostLearner {
    step: Box<dyn TrainingStep>,
    weights: Vec<f32>,
    optimizer: Box<dyn Optimizer>,
    gradients: Vec<f32>,
    /// Gradients of one batch among several.
    part: Vec<f32>,
}

impl HostLearner {
    pub(crate) fn new(step: Box<dyn TrainingStep>, weights: Vec<f32>, optimizer: Box<dyn Optimizer>) -> Self {
        Self { step, gradients: vec![0.0; weights.len()], part: Vec::new(), weights, optimizer }
    }

    /// The mean loss of a step, and its gradients in `self.gradients`.
    fn loss_and_gradients(&mut self, planned: &PlannedStep) -> ModelResult<f64> {
        let Self { step, weights, gradients, part, .. } = self;
        let mut loss_of = |batch: &Batch, index, gradients: &mut [f32]| {
            let (src, tgt) = (token_rows(&batch.src), token_rows(&batch.tgt));
            step.loss_and_gradients(weights, src, tgt, Mode::Train { seed: planned.seed, step: index }, gradients)
        };
        if let [batch] = &planned.batches[..] {
            return loss_of(batch, planned.first, gradients);
        }
        gradients.fill(0.0);
        part.resize(gradients.len(), 0.0);
        let (mut loss, mut tokens) = (0.0, 0.0);
        for (index, batch) in (planned.first..).zip(&planned.batches) {
            // Means over target tokens: a batch counts as many times as it has tokens.
            let count = batch.tgt.lengths.iter().map(|length| f64::from(length - 1)).sum::<f64>();
            loss += count * loss_of(batch, index, part)?;
            gradients.iter_mut().zip(&*part).for_each(|(sum, x)| *sum += count as f32 * x);
            tokens += count;
        }
        gradients.iter_mut().for_each(|sum| *sum /= tokens as f32);
        Ok(loss / tokens)
    }
}

impl Learner for HostLearner {
    fn layout(&self) -> &FlatLayout {
        self.step.layout()
    }

    fn steps_at_once(&self) -> u64 {
        1
    }

    fn data_workers(&self) -> usize {
        1
    }

    fn learn(&mut self, steps: &mut Planned<'_>) -> Result<Vec<StepOutcome>, TrainError> {
        let mut outcomes = Vec::new();
        for planned in steps {
            let planned = planned?;
            let loss = self.loss_and_gradients(&planned)?;
            let outcome = StepOutcome { loss, gradient_norm: sum_of_squares(&self.gradients).sqrt() };
            outcomes.push(outcome);
            if !outcome.is_finite() {
                break;
            }
            let gradient_scale = (planned.clip_norm / outcome.gradient_norm).min(1.0);
            let update = Update { gradient_scale, ..planned.update };
            self.optimizer.update(update, &mut self.weights, &self.gradients);
        }
        Ok(outcomes)
    }

    fn fetch(&mut self) -> ModelResult<()> {
        Ok(())
    }

    fn weights(&self) -> &[f32] {
        &self.weights
    }

    fn optimizer(&self) -> &dyn Optimizer {
        &*self.optimizer
    }

    fn set(&mut self, set: &mut dyn FnMut(&mut [f32], &mut dyn Optimizer)) -> ModelResult<()> {
        set(&mut self.weights, &mut *self.optimizer);
        Ok(())
    }
}

/// All on a device, with copies on the host that follow when they are asked for.
#[derive(Debug)]
pub(crate) struct DeviceLearner {
    schedule: DeviceSchedule,
    weights: Vec<f32>,
    adam: Adam,
    /// Whether the copies are as the device has it.
    is_fetched: bool,
}

impl DeviceLearner {
    /// Goes on from weights and what Adam remembers of them.
    pub(crate) fn new(schedule: DeviceSchedule, weights: Vec<f32>, adam: Adam) -> ModelResult<Self> {
        let mut learner = Self { schedule, weights, adam, is_fetched: true };
        learner.send()?;
        Ok(learner)
    }

    fn send(&mut self) -> ModelResult<()> {
        self.schedule.set_weights(&self.weights)?;
        self.schedule.set_moments([self.adam.first_moment(), self.adam.second_moment()])
    }
}

impl Learner for DeviceLearner {
    fn layout(&self) -> &FlatLayout {
        self.schedule.layout()
    }

    fn steps_at_once(&self) -> u64 {
        DeviceSchedule::MOST_PENDING as u64
    }

    /// One thread gives work to the device; the others have nothing else to do.
    fn data_workers(&self) -> usize {
        rayon::current_num_threads().saturating_sub(1).clamp(1, 8)
    }

    fn learn(&mut self, steps: &mut Planned<'_>) -> Result<Vec<StepOutcome>, TrainError> {
        let before = self.adam.updates();
        self.is_fetched = false;
        // A step that was not finite is forgotten: what becomes of it has been decided.
        self.schedule.go_on()?;
        for planned in steps {
            let planned = planned?;
            let [batch] = &planned.batches[..] else {
                return Err(TrainError::NotOnDevice { what: "steps of several batches".to_owned() });
            };
            self.adam.set_updates(self.adam.updates() + 1);
            let step = self.adam.step(planned.update);
            let (src, tgt) = (token_rows(&batch.src), token_rows(&batch.tgt));
            self.schedule.take_step(src, tgt, &step, planned.clip_norm as f32)?;
        }
        let mut outcomes = self.schedule.outcomes()?;
        let taken = outcomes.iter().position(|outcome| !outcome.is_finite());
        if let Some(taken) = taken {
            outcomes.truncate(taken + 1);
        }
        self.adam.set_updates(before + taken.unwrap_or(outcomes.len()) as u64);
        Ok(outcomes)
    }

    fn fetch(&mut self) -> ModelResult<()> {
        if !self.is_fetched {
            self.schedule.weights(&mut self.weights)?;
            self.schedule.moments(self.adam.moments_mut())?;
            self.is_fetched = true;
        }
        Ok(())
    }

    fn weights(&self) -> &[f32] {
        &self.weights
    }

    fn optimizer(&self) -> &dyn Optimizer {
        &self.adam
    }

    fn set(&mut self, set: &mut dyn FnMut(&mut [f32], &mut dyn Optimizer)) -> ModelResult<()> {
        // Whole, also if only a part is set.
        self.fetch()?;
        set(&mut self.weights, &mut self.adam);
        self.send()
    }
}
