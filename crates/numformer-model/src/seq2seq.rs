//! The interface of all models.

use candle_core::{Error, Result, Tensor};

use crate::batched::Batched;
use crate::layers::projection::Projection;
use crate::mode::Mode;
use crate::padded::{NO_TARGET, Padded};

/// A model that reads a sequence of tokens and writes another.
///
/// Training needs only [`Seq2Seq::loss`]; generation needs the rest. A new architecture defines how it reads and
/// writes; scores and losses are provided.
///
/// # Examples
/// ```
/// use candle_core::Device;
/// use numformer_model::{Mode, Padded, Parameters, Seq2Seq, StackConfig, Transformer, TransformerConfig};
///
/// let config = TransformerConfig::new(20, 8, StackConfig::new(8, 2, 1), StackConfig::new(8, 2, 1));
/// let model = Transformer::init(&config, &Parameters::random(0, &Device::Cpu))?;
/// let src = Padded::new(&[0, 5, 6, 0], &[4], 4, &Device::Cpu)?;
/// let memory = model.encode(&src, Mode::Evaluate)?;
/// // Token by token or all at once, the states are the same.
/// let mut cache = Default::default();
/// for (ids, length) in [(vec![0], 1), (vec![6, 5], 2)] {
///     let tgt = Padded::new(&ids, &[length], ids.len(), &Device::Cpu)?;
///     let states = model.decode(&memory, &tgt, Some(&mut cache), Mode::Evaluate)?;
///     assert_eq!(model.logits(&states)?.dims(), [1, ids.len(), 20]);
/// }
/// # Ok::<(), candle_core::Error>(())
/// ```
pub trait Seq2Seq {
    /// What the model keeps of a batch of sources.
    type Memory: Batched;
    /// What the model keeps of the targets so far. Start from the default for each batch.
    type Cache: Batched + Default;

    /// Reads `src` `[b, s]`.
    ///
    /// # Errors
    /// When an id lies outside the vocabulary, or the sequence is longer than the model can read.
    fn encode(&self, src: &Padded, mode: Mode) -> Result<Self::Memory>;

    /// The states after each token of `tgt` `[b, t]`: `[b, t, d_model]`, zero at padding. With a cache, successive
    /// calls continue the sequence, and no gradient reaches the tokens of earlier calls.
    ///
    /// # Errors
    /// As [`Seq2Seq::encode`], when `tgt` and the memory have different numbers of rows, and when targets for a cache
    /// are padded.
    fn decode(
        &self,
        memory: &Self::Memory,
        tgt: &Padded,
        cache: Option<&mut Self::Cache>,
        mode: Mode,
    ) -> Result<Tensor>;

    /// The map from states to scores.
    fn projection(&self) -> &Projection;

    /// Id of the token that begins and ends every sequence; 0 in the vocabularies of this project.
    fn delimiter_id(&self) -> u32 {
        0
    }

    /// Id of the token that pads the shorter sequences of a batch; 1 in the vocabularies of this project.
    fn padding_id(&self) -> u32 {
        1
    }

    /// The longest sequence that the model reads or writes, delimiters included; `None` if there is no limit.
    fn max_positions(&self) -> Option<usize> {
        None
    }

    /// Scores of every token, `[.., vocab_size]`, after the states `[.., d_model]`.
    ///
    /// # Errors
    /// When the width disagrees.
    fn logits(&self, states: &Tensor) -> Result<Tensor> {
        self.projection().logits(states)
    }

    /// Mean cross-entropy per target token under teacher forcing, a scalar. The opening delimiter is given, and the
    /// closing one is predicted. Tokens beyond the length of a row do not count.
    ///
    /// # Errors
    /// As [`Seq2Seq::decode`].
    fn loss(&self, src: &Padded, tgt: &Padded, mode: Mode) -> Result<Tensor> {
        self.smoothed_loss(src, tgt, mode, 0.0)
    }

    /// [`Seq2Seq::loss`] with smoothed targets, which spread the fraction `smoothing` of their weight evenly over all
    /// tokens.
    ///
    /// # Errors
    /// As [`Seq2Seq::decode`].
    ///
    /// # Reference
    /// Szegedy et al. (2016), *Rethinking the inception architecture for computer vision*, section 7.
    /// <https://arxiv.org/abs/1512.00567>
    fn smoothed_loss(&self, src: &Padded, tgt: &Padded, mode: Mode, smoothing: f64) -> Result<Tensor> {
        let memory = self.encode(src, mode)?;
        let (read, expected) = tgt.shift()?;
        let states = self.decode(&memory, &read, None, mode)?;
        let (states, expected) = (states.flatten_to(1)?, expected.flatten_all()?);
        let loss = self.projection().cross_entropy(&states, &expected, Some(NO_TARGET))?;
        if smoothing > 0.0 {
            // For a softmax, -Σ qᵢ log pᵢ = log Σ exp zᵢ - Σ qᵢ zᵢ. Smoothing therefore moves weight from the target's
            // score to the mean score.
            loss + (self.projection().margin(&states, &expected, NO_TARGET)? * smoothing)?
        } else {
            Ok(loss)
        }
    }

    /// Mean cross-entropy of each target by itself, in the order of the batch. Each row has the length that its `tgt`
    /// states. The rest of the batch changes a value only by rounding.
    ///
    /// # Errors
    /// As [`Seq2Seq::loss`], and when a target has no token to predict.
    fn losses(&self, src: &Padded, tgt: &Padded) -> Result<Vec<f32>> {
        let memory = self.encode(src, Mode::Evaluate)?;
        let (read, expected) = tgt.shift()?;
        let states = self.decode(&memory, &read, None, Mode::Evaluate)?;
        let (batch, width) = expected.dims2()?;
        (0..batch)
            .map(|row| {
                let length = read.lengths().map_or(width, |lengths| lengths[row] as usize);
                if length == 0 {
                    return Err(Error::Msg(format!("expected a token to predict in target {row}, found none")));
                }
                let states = states.get(row)?.narrow(0, 0, length)?;
                self.projection().cross_entropy(&states, &expected.get(row)?.narrow(0, 0, length)?, None)?.to_scalar()
            })
            .collect()
    }
}

/// Checks that there is one target for each source.
pub(crate) fn check_rows(sources: usize, tgt: &Padded) -> Result<()> {
    let targets = tgt.batch_size()?;
    if sources == targets {
        return Ok(());
    }
    Err(Error::Msg(format!("expected {sources} targets, one for each source, found {targets}")))
}

/// Checks that no padding lies between the tokens in a cache and those to come.
pub(crate) fn check_cached(tgt: &Padded) -> Result<()> {
    match tgt.lengths() {
        None => Ok(()),
        Some(_) => Err(Error::Msg("expected unpadded targets with a cache, found padding".to_owned())),
    }
}
