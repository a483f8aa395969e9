//! The training step: from a batch of tokens to the loss and its gradients.

use candle_core::{Device, Error, Result};
use numformer_encoding::Sequences;

use crate::mode::Mode;
use crate::padded::Padded;

/// Computes the loss and gradients of a model on a batch, with weights and gradients as flat vectors in the order of the
/// [`FlatLayout`](crate::FlatLayout) of its parameters.
///
/// There are two on the CPU, which agree up to rounding: [`Autodiff`](crate::Autodiff) trains any model;
/// `FusedStep` of numformer-fused trains the standard transformer, several times faster. Clipping, the optimizer and
/// reductions over processes work on the same slices.
pub trait TrainingStep: Send {
    /// Writes the gradients of the mean cross-entropy per target token at `weights`, and returns this cross-entropy in
    /// nats. Every token of a target except the first counts, even one with the padding id: the lengths alone say which
    /// tokens are valid. The seed and the step in `mode` determine the dropout masks.
    ///
    /// # Errors
    /// When the batch does not fit the model, or a slice does not fit the layout.
    fn loss_and_gradients(
        &mut self,
        weights: &[f32],
        src: TokenRows<'_>,
        tgt: TokenRows<'_>,
        mode: Mode,
        gradients: &mut [f32],
    ) -> Result<f64>;

    /// How loss and gradients are computed, in a few words.
    fn how(&self) -> String {
        "a custom step".to_owned()
    }
}

impl<S: TrainingStep + ?Sized> TrainingStep for Box<S> {
    fn loss_and_gradients(
        &mut self,
        weights: &[f32],
        src: TokenRows<'_>,
        tgt: TokenRows<'_>,
        mode: Mode,
        gradients: &mut [f32],
    ) -> Result<f64> {
        (**self).loss_and_gradients(weights, src, tgt, mode, gradients)
    }

    fn how(&self) -> String {
        (**self).how()
    }
}

/// The outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Mean cross-entropy per target token, in nats.
    pub loss: f64,
    /// Norm of the gradients before clipping.
    pub gradient_norm: f64,
}

impl StepOutcome {
    /// Whether the step was taken: no step is taken once the loss or the norm is not finite.
    #[must_use]
    pub fn is_finite(self) -> bool {
        self.loss.is_finite() && self.gradient_norm.is_finite()
    }
}

/// Token ids of a batch: rows of `width` ids one after another, in each of which the first ids are valid.
#[derive(Clone, Copy, Debug)]
pub struct TokenRows<'a> {
    /// All ids.
    pub ids: &'a [u32],
    /// The number of valid ids of each row.
    pub lengths: &'a [u32],
    /// Number of ids in a row, padding included.
    pub width: usize,
}

impl<'a> From<&'a Sequences> for TokenRows<'a> {
    fn from(Sequences { ids, lengths, width }: &'a Sequences) -> Self {
        Self { ids, lengths, width: *width }
    }
}

impl<'a> TokenRows<'a> {
    /// The valid ids of a row.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> &'a [u32] {
        &self.ids[row * self.width..][..self.lengths[row] as usize]
    }

    /// The rows as tensors.
    ///
    /// # Errors
    /// As [`Padded::new`].
    pub fn padded(&self, device: &Device) -> Result<Padded> {
        Padded::new(self.ids, self.lengths, self.width, device)
    }

    /// Checks that a model can learn from sources and targets.
    ///
    /// # Errors
    /// When there is not one target for each source, or no target has a token to predict, or as [`check`](Self::check).
    pub fn check_pair(src: Self, tgt: Self, vocab_size: usize, max_positions: usize) -> Result<()> {
        if src.lengths.len() != tgt.lengths.len() {
            let [expected, found] = [src, tgt].map(|rows| rows.lengths.len());
            return Err(Error::Msg(format!("expected {expected} targets, one for each source, found {found}")));
        }
        if tgt.width < 2 {
            return Err(Error::Msg(format!("expected targets of at least two tokens, found {}", tgt.width)));
        }
        src.check(vocab_size, max_positions)?;
        // The last token is predicted but never read.
        tgt.check(vocab_size, max_positions + 1)
    }

    /// Checks that a model can read the rows.
    ///
    /// # Errors
    /// When there is not one row of `width` ids for each length, a length is beyond the width or `max_positions`, or an
    /// id is not below `vocab_size`.
    pub fn check(&self, vocab_size: usize, max_positions: usize) -> Result<()> {
        let Self { ids, lengths, width } = *self;
        if ids.len() != lengths.len() * width {
            return Err(Error::Msg(format!("expected {} rows of {width} ids, found {} ids", lengths.len(), ids.len())));
        }
        let limit = width.min(max_positions);
        if let Some(length) = lengths.iter().find(|length| **length as usize > limit) {
            return Err(Error::Msg(format!("expected lengths of at most {limit}, found {length}")));
        }
        match (0..lengths.len()).flat_map(|row| self.row(row)).find(|id| **id as usize >= vocab_size) {
            Some(id) => Err(Error::Msg(format!("expected ids below the vocabulary's size {vocab_size}, found {id}"))),
            None => Ok(()),
        }
    }
}
