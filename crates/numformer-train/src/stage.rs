//! A part of a run with its own examples.

use std::fmt;
use std::sync::Arc;

use numformer_data::BatchSource;
use numformer_evaluate::Evaluate;

use crate::stopping::goal::Goal;
use crate::train_error::TrainError;

/// A part of a run before its main batches. It lasts for a number of steps or until a goal is reached. If both are set,
/// it ends at whichever comes first.
pub struct Stage {
    pub(crate) name: String,
    pub(crate) batches: Arc<dyn BatchSource>,
    pub(crate) evaluation: Option<Box<dyn Evaluate>>,
    pub(crate) steps: Option<u64>,
    pub(crate) until: Option<Goal>,
}

impl Stage {
    /// A stage that learns from these batches. It has no end yet: set one before the run.
    pub fn new(name: &str, batches: impl BatchSource + 'static) -> Self {
        Self { name: name.to_owned(), batches: Arc::new(batches), evaluation: None, steps: None, until: None }
    }

    /// Ends the stage after `steps` steps of its own, at least one.
    #[must_use]
    pub fn with_steps(self, steps: u64) -> Self {
        Self { steps: Some(steps), ..self }
    }

    /// Judges the model with `evaluation` during the stage, as often as the run does. Without this, the model is not
    /// judged before the stage is over.
    #[must_use]
    pub fn with_evaluation(self, evaluation: impl Evaluate + 'static) -> Self {
        Self { evaluation: Some(Box::new(evaluation)), ..self }
    }

    /// Ends the stage when one of its own [evaluations](Self::with_evaluation) reaches a goal.
    #[must_use]
    pub fn until(self, goal: Goal) -> Self {
        Self { until: Some(goal), ..self }
    }

    /// Checks that the stage has steps and an end.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let stage = || self.name.clone();
        match self.steps {
            Some(0) => Err(TrainError::EmptyStage { stage: stage() }),
            None if self.until.is_none() || self.evaluation.is_none() => {
                Err(TrainError::EndlessStage { stage: stage() })
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, steps, until, .. } = self;
        f.debug_struct("Stage").field("name", name).field("steps", steps).field("until", until).finish_non_exhaustive()
    }
}
