//! Weights that learn, wherever they are.

use std::ops::ControlFlow;

use numformer_data::Batch;
use numformer_model::{FlatLayout, Parameters, StepOutcome, Weights};

use crate::observers::observer::StopReason;
use crate::optimizers::optimizer::Update;
use crate::train_error::TrainError;

/// Weights that learn: on the host ([`HostLearner`](crate::HostLearner)), on a device, or anywhere else.
///
/// A learner holds its weights, what it remembers about them, and the number of updates made. A
/// [`Trainer`](crate::Trainer) decides when to learn from which examples, and what to do about divergence.
pub trait Learner: Send {
    /// The order of the weights, with their names and shapes.
    fn layout(&self) -> &FlatLayout;

    /// Takes the steps in order and returns the outcome of each. Stops at the first step that is not finite: that step
    /// is not taken, and its outcome is the last one returned. There is at least one outcome, and at most one per step.
    ///
    /// # Errors
    /// When a step cannot be made or cannot be computed.
    fn learn(&mut self, steps: &mut Steps<'_>) -> Result<Vec<StepOutcome>, TrainError>;

    /// Everything that the next step depends on, as of the last [`fetch`](Learner::fetch).
    fn state(&self) -> LearnerState<'_>;

    /// Sets the state. Memory that `state` does not name stays as it is.
    ///
    /// # Errors
    /// When weights or memory are not as long as the layout, or a device fails.
    fn set_state(&mut self, state: &LearnerState<'_>) -> candle_core::Result<()>;

    /// Copies the state to the host if it is elsewhere.
    ///
    /// # Errors
    /// When a device fails.
    fn fetch(&mut self) -> candle_core::Result<()> {
        Ok(())
    }

    /// What observers ask for. A learner that is one of several asks the others here: a run that ends on one rank ends on
    /// all, and is saved if one of them wants it. Called at the same points of the loop on all ranks.
    ///
    /// # Errors
    /// When another rank does not answer.
    fn agree(&mut self, wish: Wish) -> Result<Wish, TrainError> {
        Ok(wish)
    }

    /// Copies the weights, as they are now, to the variables of a model. If both are on the same device, they stay there.
    ///
    /// # Errors
    /// When the parameters are not those of the learner, or a device fails.
    fn show(&mut self, parameters: &Parameters) -> candle_core::Result<()> {
        self.fetch()?;
        self.layout().write(parameters, self.state().weights)
    }

    /// The best number of steps to take before reading the first outcome.
    fn steps_at_once(&self) -> u64 {
        1
    }

    /// How many threads may make the batches.
    fn data_workers(&self) -> usize {
        1
    }

    /// How gradients are computed, in a few words.
    fn how(&self) -> String {
        "a custom learner".to_owned()
    }
}

impl<L: Learner + ?Sized> Learner for Box<L> {
    fn layout(&self) -> &FlatLayout {
        (**self).layout()
    }

    fn learn(&mut self, steps: &mut Steps<'_>) -> Result<Vec<StepOutcome>, TrainError> {
        (**self).learn(steps)
    }

    fn state(&self) -> LearnerState<'_> {
        (**self).state()
    }

    fn set_state(&mut self, state: &LearnerState<'_>) -> candle_core::Result<()> {
        (**self).set_state(state)
    }

    fn fetch(&mut self) -> candle_core::Result<()> {
        (**self).fetch()
    }

    fn agree(&mut self, wish: Wish) -> Result<Wish, TrainError> {
        (**self).agree(wish)
    }

    fn show(&mut self, parameters: &Parameters) -> candle_core::Result<()> {
        (**self).show(parameters)
    }

    fn steps_at_once(&self) -> u64 {
        (**self).steps_at_once()
    }

    fn data_workers(&self) -> usize {
        (**self).data_workers()
    }

    fn how(&self) -> String {
        (**self).how()
    }
}

/// What the observers of a run ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Whether the run goes on, and if not, why.
    pub flow: ControlFlow<StopReason>,
    /// Whether to save it now.
    pub checkpoint: bool,
}

/// A step to take.
#[derive(Clone, Debug)]
pub struct Step {
    /// One batch, or several whose gradients are averaged over their target tokens.
    pub batches: Vec<Batch>,
    /// Number of the first of these batches, counted from the beginning of the run. Dropout depends on it.
    pub first: u64,
    /// Seed of dropout.
    pub seed: u64,
    /// The optimizer's numbers, except for the gradient scale, which is not known yet.
    pub update: Update,
    /// Gradients with a larger norm are scaled down to this norm.
    pub clip_norm: f64,
}

/// Steps, made one after another.
pub type Steps<'a> = dyn Iterator<Item = Result<Step, TrainError>> + 'a;

/// The state of a [`Learner`]: everything that its next step depends on.
#[derive(Clone, Debug)]
pub struct LearnerState<'a> {
    /// Updates made.
    pub updates: u64,
    /// The weights.
    pub weights: &'a [f32],
    /// What is remembered about each weight, by name: vectors as long as the weights.
    pub memory: Vec<(&'a str, &'a [f32])>,
}

/// The [`Weights`] of a learner.
pub(crate) struct LearnerWeights<'a>(pub(crate) &'a mut dyn Learner);

impl Weights for LearnerWeights<'_> {
    fn show(&mut self, parameters: &Parameters) -> candle_core::Result<()> {
        self.0.show(parameters)
    }

    fn on_host(&mut self) -> candle_core::Result<&[f32]> {
        self.0.fetch()?;
        Ok(self.0.state().weights)
    }
}
