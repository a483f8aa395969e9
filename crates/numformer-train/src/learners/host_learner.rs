//! Learning on the host.

use std::fmt;
use std::sync::Arc;

use candle_core::{Error, Result as ModelResult};
use numformer_data::Batch;
use numformer_distributed::{Communicator, Solo};
use numformer_model::{FlatLayout, Mode, Parameters, StepOutcome, TrainingStep};
use numformer_ops::sum_of_squares;

use crate::learners::learner::{Learner, LearnerState, Step, Steps, Wish};
use crate::learners::together::{
    agree, check_weights, first_mask, how, is_check_due, sum_gradients, sum_of, target_tokens, total,
};
use crate::optimizers::optimizer::{Optimizer, Update};
use crate::train_error::TrainError;

/// A [`Learner`] on the host, made of a training step and an optimizer.
///
/// # Examples
/// ```
/// use candle_core::Device;
/// use numformer_fused::FusedStep;
/// use numformer_model::{Parameters, StackConfig, TransformerConfig};
/// use numformer_train::{Adam, HostLearner, Learner};
///
/// let config = TransformerConfig::new(20, 8, StackConfig::new(8, 2, 1), StackConfig::new(8, 2, 1));
/// let parameters = Parameters::random(0, &Device::Cpu);
/// let step = FusedStep::new(&config, &parameters)?;
/// let learner = HostLearner::new(step, Adam::default(), &parameters)?;
/// assert_eq!(learner.state().weights.len(), parameters.element_count());
/// # Ok::<(), candle_core::Error>(())
/// ```
pub struct HostLearner {
    step: Box<dyn TrainingStep>,
    layout: FlatLayout,
    optimizer: Box<dyn Optimizer>,
    updates: u64,
    weights: Vec<f32>,
    gradients: Vec<f32>,
    /// Gradients of one batch, if a step has several.
    part: Vec<f32>,
    how: String,
    ranks: Arc<dyn Communicator>,
}

impl HostLearner {
    /// Learns by `step` and `optimizer`, starting from the weights in `parameters`. The learner has its own copy of
    /// them: `Trainer::show_weights` writes the learned weights back.
    ///
    /// # Errors
    /// When there are no parameters, or the optimizer's [`memory`](Optimizer::memory) after
    /// [`begin`](Optimizer::begin) is not as long as the weights or cannot be restored.
    pub fn new(
        step: impl TrainingStep + 'static,
        optimizer: impl Optimizer + 'static,
        parameters: &Parameters,
    ) -> ModelResult<Self> {
        let (step, mut optimizer) = (Box::new(step), Box::new(optimizer));
        let layout = FlatLayout::new(parameters)?;
        let mut weights = vec![0.0; layout.len()];
        layout.read(parameters, &mut weights)?;
        optimizer.begin(&layout);
        check_memory(&mut *optimizer, layout.len())?;
        let (how, gradients) = (step.how(), vec![0.0; weights.len()]);
        let (part, ranks) = (Vec::new(), Arc::new(Solo));
        Ok(Self { step, layout, optimizer, updates: 0, weights, gradients, part, how, ranks })
    }

    /// Learns together with other ranks, which have the same weights and see other examples of each batch
    /// ([`RankBatches`](numformer_data::RankBatches)): all take the step that one of them would take on all examples, up
    /// to the rounding of sums. Dropout is another draw: each rank has masks of its own.
    #[must_use]
    pub fn across(self, ranks: Arc<dyn Communicator>) -> Self {
        Self { ranks, ..self }
    }

    /// Replaces the description of how gradients are computed.
    #[must_use]
    pub fn described_as(self, how: &str) -> Self {
        Self { how: how.to_owned(), ..self }
    }

    /// The outcome of a step on all ranks, with its gradients in `self.gradients`.
    fn loss_and_gradients(&mut self, planned: &Step) -> Result<StepOutcome, TrainError> {
        let Self { step, weights, gradients, part, ranks, .. } = self;
        let mut loss_of = |batch: &Batch, index, gradients: &mut [f32]| {
            let (src, tgt) = ((&batch.src).into(), (&batch.tgt).into());
            let mode = Mode::Train { seed: planned.seed, step: index };
            step.loss_and_gradients(weights, src, tgt, mode, gradients)
        };
        let is_alone = ranks.size() == 1;
        let first = first_mask(planned.first, planned.batches.len(), ranks);
        let tokens: f64 = planned.batches.iter().map(target_tokens).sum();
        // A rank without tokens, as at the end of a source, still takes part in the sums.
        if !is_alone && tokens == 0.0 {
            gradients.fill(0.0);
            return self.summed(0.0, 1.0, 0.0);
        }
        // The sum of the losses of all tokens, and the factor from the gradients to those of this sum.
        let (loss, scale) = if let [batch] = &planned.batches[..] {
            let loss = loss_of(batch, first, gradients)?;
            if is_alone {
                return Ok(StepOutcome { loss, gradient_norm: sum_of_squares(gradients).sqrt() });
            }
            (tokens * loss, tokens)
        } else {
            gradients.fill(0.0);
            part.resize(gradients.len(), 0.0);
            let mut loss = 0.0;
            for (index, batch) in (first..).zip(&planned.batches) {
                // Losses are means over target tokens, so each batch is weighted by its number of tokens.
                let count = target_tokens(batch);
                loss += count * loss_of(batch, index, part)?;
                gradients.iter_mut().zip(&*part).for_each(|(sum, x)| *sum += count as f32 * x);
            }
            (loss, 1.0)
        };
        if is_alone {
            gradients.iter_mut().for_each(|sum| *sum /= tokens as f32);
            return Ok(StepOutcome { loss: loss / tokens, gradient_norm: sum_of_squares(gradients).sqrt() });
        }
        self.summed(loss, scale, tokens)
    }

    /// The outcome on all ranks, from the sum of the losses of this one's tokens, and the factor from its gradients to those
    /// of this sum.
    fn summed(&mut self, loss: f64, scale: f64, tokens: f64) -> Result<StepOutcome, TrainError> {
        let Self { gradients, ranks, .. } = self;
        let total = total(tokens, ranks)?;
        let squares = sum_gradients(gradients, (scale / total) as f32, ranks)?;
        Ok(StepOutcome { loss: sum_of(loss / total, ranks)?, gradient_norm: squares.sqrt() })
    }
}

impl Learner for HostLearner {
    fn layout(&self) -> &FlatLayout {
        &self.layout
    }

    fn learn(&mut self, steps: &mut Steps<'_>) -> Result<Vec<StepOutcome>, TrainError> {
        let mut outcomes = Vec::new();
        for planned in steps {
            let planned = planned?;
            let outcome = self.loss_and_gradients(&planned)?;
            outcomes.push(outcome);
            if !outcome.is_finite() {
                break;
            }
            let gradient_scale = (planned.clip_norm / outcome.gradient_norm).min(1.0);
            self.updates += 1;
            let update = Update { number: self.updates, gradient_scale, ..planned.update };
            self.optimizer.update(update, &mut self.weights, &self.gradients);
            if is_check_due(self.updates - 1, self.updates, &self.ranks) {
                check_weights(self.updates, &self.weights, &self.ranks)?;
            }
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
        copy("weights", state.weights, &mut self.weights)?;
        for (name, to) in self.optimizer.memory_mut() {
            if let Some((_, from)) = state.memory.iter().find(|(known, _)| *known == name) {
                copy(name, from, to)?;
            }
        }
        self.updates = state.updates;
        Ok(())
    }

    fn how(&self) -> String {
        how(&self.how, &self.ranks)
    }
}

/// Checks that the memory of an optimizer can be saved and restored: it has the same names to read and to write, and
/// vectors of length `len`.
fn check_memory(optimizer: &mut dyn Optimizer, len: usize) -> ModelResult<()> {
    let (names, lengths): (Vec<_>, Vec<_>) =
        optimizer.memory().into_iter().map(|(name, values)| (name.to_owned(), values.len())).unzip();
    let (names_mut, lengths_mut): (Vec<_>, Vec<_>) =
        optimizer.memory_mut().into_iter().map(|(name, values)| (name.to_owned(), values.len())).unzip();
    if names != names_mut {
        return Err(Error::Msg(format!(
            "`Optimizer::memory_mut`: expected the names of `memory`, {names:?}, found {names_mut:?}"
        )));
    }
    for (method, lengths) in [("memory", lengths), ("memory_mut", lengths_mut)] {
        if let Some((name, found)) = names.iter().zip(lengths).find(|(_, found)| *found != len) {
            let message = format!("`Optimizer::{method}`, {name:?}: expected {len} coefficients, found {found}");
            return Err(Error::Msg(message));
        }
    }
    Ok(())
}

/// Copies a vector into another of the same length.
pub(crate) fn copy(name: &str, from: &[f32], to: &mut [f32]) -> ModelResult<()> {
    if from.len() != to.len() {
        return Err(Error::Msg(format!("{name}: expected {} coefficients, found {}", to.len(), from.len())));
    }
    to.copy_from_slice(from);
    Ok(())
}

impl fmt::Debug for HostLearner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { how, updates, weights, .. } = self;
        let mut shown = f.debug_struct("HostLearner");
        shown.field("how", how).field("updates", updates).field("weights", &weights.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use candle_nn::Init;
    use numformer_model::TokenRows;

    use super::*;

    /// A step without a model.
    struct NoModel;

    impl TrainingStep for NoModel {
        fn loss_and_gradients(
            &mut self,
            _weights: &[f32],
            _src: TokenRows<'_>,
            _tgt: TokenRows<'_>,
            _mode: Mode,
            _gradients: &mut [f32],
        ) -> ModelResult<f64> {
            Ok(0.0)
        }
    }

    /// An optimizer with one memory to read and another to restore.
    struct Remembering([Vec<(&'static str, Vec<f32>)>; 2]);

    impl Optimizer for Remembering {
        fn update(&mut self, _update: Update, _weights: &mut [f32], _gradients: &[f32]) {}

        fn memory(&self) -> Vec<(&str, &[f32])> {
            self.0[0].iter().map(|(name, values)| (*name, values.as_slice())).collect()
        }

        fn memory_mut(&mut self) -> Vec<(&str, &mut [f32])> {
            self.0[1].iter_mut().map(|(name, values)| (*name, values.as_mut_slice())).collect()
        }
    }

    #[test]
    fn a_memory_that_cannot_be_saved_or_restored_is_refused() {
        let parameters = Parameters::random(0, &Device::Cpu);
        parameters.trainable().get_with_hints(3, "x", Init::Const(0.0)).expect("a parameter");
        let error = |memory: &[(&'static str, usize)], memory_mut: &[(&'static str, usize)]| {
            let vector = |(name, len): &(&'static str, usize)| (*name, vec![0.0; *len]);
            let optimizer = Remembering([memory, memory_mut].map(|of| of.iter().map(vector).collect()));
            HostLearner::new(NoModel, optimizer, &parameters).err().map(|error| error.to_string())
        };
        assert_eq!(error(&[], &[]), None);
        assert_eq!(error(&[("a", 3), ("b", 3)], &[("a", 3), ("b", 3)]), None);
        let expected = r#"`Optimizer::memory_mut`: expected the names of `memory`, ["a"], found []"#;
        assert_eq!(error(&[("a", 3)], &[]).as_deref(), Some(expected));
        let swapped = error(&[("a", 3), ("b", 3)], &[("b", 3), ("a", 3)]).expect("another order");
        assert!(swapped.ends_with(r#"["a", "b"], found ["b", "a"]"#), "{swapped}");
        // As of an optimizer that makes its vectors at the first update.
        let expected = r#"`Optimizer::memory`, "a": expected 3 coefficients, found 0"#;
        assert_eq!(error(&[("a", 0)], &[("a", 0)]).as_deref(), Some(expected));
        let expected = r#"`Optimizer::memory_mut`, "a": expected 3 coefficients, found 4"#;
        assert_eq!(error(&[("a", 3)], &[("a", 4)]).as_deref(), Some(expected));
    }
}
