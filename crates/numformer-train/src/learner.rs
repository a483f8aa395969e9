//! Weights that learn, wherever they are.

use numformer_data::Batch;
use numformer_model::{FlatLayout, StepOutcome};

use crate::optimizer::Update;
use crate::train_error::TrainError;

/// Weights that learn: on the host ([`HostLearner`](crate::HostLearner)), on a device, or anywhere else.
///
/// A learner knows its weights, what it remembers of them, and how many updates there were. When to learn from what, and
/// what to do about divergence, is the business of a [`Trainer`](crate::Trainer).
pub trait Learner: Send {
    /// The order of the weights, with their names and shapes.
    fn layout(&self) -> &FlatLayout;

    /// Takes steps as they come, and says what each found. It takes none from the first that is not finite on, which is the
    /// last of the outcomes then.
    ///
    /// # Errors
    /// When a step cannot be made, or not be computed.
    fn learn(&mut self, steps: &mut Steps<'_>) -> Result<Vec<StepOutcome>, TrainError>;

    /// All that the next step depends on, as of the last [`fetch`](Learner::fetch).
    fn state(&self) -> LearnerState<'_>;

    /// Sets the state. What it has no memory of, by name, stays as it is.
    ///
    /// # Errors
    /// When weights or memory are not as long as the layout, or a device fails.
    fn set_state(&mut self, state: &LearnerState<'_>) -> candle_core::Result<()>;

    /// Brings to the host what is elsewhere.
    ///
    /// # Errors
    /// When a device fails.
    fn fetch(&mut self) -> candle_core::Result<()> {
        Ok(())
    }

    /// How many steps are best taken before the first is asked about.
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

/// A step that is to be taken.
#[derive(Clone, Debug)]
pub struct Step {
    /// One batch, or several whose gradients are averaged over their target tokens.
    pub batches: Vec<Batch>,
    /// Number of the first of them, counted from the beginning of the run: what dropout drops depends on it.
    pub first: u64,
    /// Seed of what dropout drops.
    pub seed: u64,
    /// The optimizer's numbers, but for the factor of the gradients, which is not known yet.
    pub update: Update,
    /// Gradients of a larger norm are scaled down to it.
    pub clip_norm: f64,
}

/// Steps, made one after another.
pub type Steps<'a> = dyn Iterator<Item = Result<Step, TrainError>> + 'a;

/// All that the next step of a [`Learner`] depends on.
#[derive(Clone, Debug)]
pub struct LearnerState<'a> {
    /// Updates made.
    pub updates: u64,
    /// The weights.
    pub weights: &'a [f32],
    /// What is remembered of each weight, by name: vectors as long as the weights.
    pub memory: Vec<(&'a str, &'a [f32])>,
}
