//! The interface of all models.

use candle_core::{Error, Result, Tensor};

use crate::batched::Batched;
use crate::hypothesis::Hypothesis;
use crate::layers::projection::Projection;
use crate::mode::Mode;
use crate::padded::{NO_TARGET, Padded};

/// A model that reads a sequence of tokens and writes another.
///
/// Training needs only [`Seq2Seq::loss`]; generation needs the rest. A new architecture defines how it reads and
/// writes; scores and losses are provided.
///
/// # Examples
/// A custom model: a bag of source tokens beside the last token, and one hidden layer. Layers of this crate and of
/// candle-nn may share a `VarBuilder`:
/// ```
/// use candle_core::{Device, Result, Tensor};
/// use numformer_model::candle_nn::{Embedding, Module, VarBuilder, embedding};
/// use numformer_model::{Autodiff, Linear, Mode, Padded, Parameters, Prefix, Projection, Seq2Seq, greedy};
/// use numformer_ops::{Activation, zero_padding};
///
/// struct Bag {
///     tokens: Embedding,
///     hidden: Linear,
///     projection: Projection,
/// }
///
/// impl Bag {
///     fn new(vocab_size: usize, d: usize, vb: &VarBuilder) -> Result<Self> {
///         Ok(Self {
///             tokens: embedding(vocab_size, d, vb.pp("tokens"))?,
///             hidden: Linear::new(2 * d, d, &vb.pp("hidden"))?,
///             projection: Projection::new(d, vocab_size, &vb.pp("projection"))?,
///         })
///     }
/// }
///
/// impl Seq2Seq for Bag {
///     type Memory = Tensor;
///     type Cache = Prefix;
///
///     fn encode(&self, src: &Padded, _: Mode) -> Result<Tensor> {
///         zero_padding(&self.tokens.forward(src.ids())?, src.lengths())?.sum_keepdim(1)
///     }
///
///     fn decode(&self, memory: &Tensor, tgt: &Padded, cache: Option<&mut Prefix>, _: Mode) -> Result<Tensor> {
///         // This model needs the last token alone; others compute with `whole`, and return the last states of it.
///         let _whole = cache.map(|prefix| prefix.extended(tgt)).transpose()?;
///         let read = self.tokens.forward(tgt.ids())?;
///         let states = Tensor::cat(&[&read, &memory.broadcast_as(read.shape())?], 2)?;
///         zero_padding(&self.hidden.forward(&states, Activation::Relu)?, tgt.lengths())
///     }
///
///     fn projection(&self) -> &Projection {
///         &self.projection
///     }
/// }
///
/// // `trainable` builds the model that learns, and draws its weights; `frozen` one with the same weights for use.
/// let parameters = Parameters::random(0, &Device::Cpu);
/// let _step = Autodiff::new(Bag::new(20, 8, &parameters.trainable())?, &parameters)?;
/// let model = Bag::new(20, 8, &parameters.frozen())?;
/// let src = Padded::new(&[0, 5, 6, 0], &[4], 4, &Device::Cpu)?;
/// assert_eq!(greedy(&model, &src, 8)?.len(), 1);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// The states of a transformer, token by token:
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

    /// Reads `src` `[b, s]`. The positions beyond its [`lengths`](Padded::lengths) are padding and must have no
    /// influence: see `zero_padding` of numformer-ops.
    ///
    /// # Errors
    /// When an id lies outside the vocabulary, or the sequence is longer than the model can read.
    fn encode(&self, src: &Padded, mode: Mode) -> Result<Self::Memory>;

    /// The states after each token of `tgt` `[b, t]`: `[b, t, d_model]`, zero at padding. With a cache, successive
    /// calls continue the sequence, `tgt` holds only the tokens since the last call, and so do the states. No gradient
    /// reaches the tokens of earlier calls.
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

    /// The same model, prepared for many calls without gradients with the weights that it has now; `None` if there is
    /// nothing to prepare. Generation calls this once for each batch.
    ///
    /// # Errors
    /// When a weight cannot be read.
    fn prepared(&self) -> Result<Option<Self>>
    where
        Self: Sized,
    {
        Ok(None)
    }

    /// The answers of greedy decoding without constraints, if the model has a faster way to find them than token by
    /// token through [`decode`](Seq2Seq::decode): at most `max_len` tokens each, both delimiters included, which the model
    /// has positions for.
    ///
    /// # Errors
    /// As [`Seq2Seq::encode`].
    fn greedy_answers(&self, _src: &Padded, _max_len: usize) -> Result<Option<Vec<Hypothesis>>> {
        Ok(None)
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
        if !states.device().is_cpu() {
            return losses_at_once(self, &states, &expected, read.lengths());
        }
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

/// The mean cross-entropy of each target from the states `[b, t, d]` and the tokens to predict `[b, t]`, in a few
/// operations for all rows together, as devices need them.
fn losses_at_once<M: Seq2Seq + ?Sized>(
    model: &M,
    states: &Tensor,
    expected: &Tensor,
    lengths: Option<&[u32]>,
) -> Result<Vec<f32>> {
    let (batch, width) = expected.dims2()?;
    let full = vec![width as u32; batch];
    let lengths = lengths.unwrap_or(&full);
    if let Some(row) = lengths.iter().position(|length| *length == 0) {
        return Err(Error::Msg(format!("expected a token to predict in target {row}, found none")));
    }
    let counts = |position: usize, length: u32| f32::from(u8::from(position < length as usize));
    let mask = lengths.iter().flat_map(|length| (0..width).map(|position| counts(position, *length))).collect();
    let mask = Tensor::from_vec::<_, f32>(mask, (batch, width), states.device())?;
    // The mark of a position without a target is not a class; class 0 stands in for it.
    let classes = expected.ne(NO_TARGET)?.where_cond(expected, &expected.zeros_like()?)?;
    let logits = model.logits(states)?;
    let largest = logits.max_keepdim(2)?;
    let log_total = (logits.broadcast_sub(&largest)?.exp()?.sum_keepdim(2)?.log()? + largest)?;
    let losses = (log_total - logits.gather(&classes.unsqueeze(2)?, 2)?)?.squeeze(2)?;
    let sums = (losses * mask)?.sum(1)?.to_vec1::<f32>()?;
    Ok(sums.iter().zip(lengths).map(|(sum, length)| sum / *length as f32).collect())
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

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::{Parameters, StackConfig, Transformer, TransformerConfig};

    #[test]
    fn losses_of_all_rows_together_are_those_of_each() {
        let config = TransformerConfig::new(9, 8, StackConfig::new(8, 2, 1), StackConfig::new(8, 2, 1));
        let model = Transformer::init(&config, &Parameters::random(1, &Device::Cpu)).expect("a model");
        let src = Padded::new(&[0, 5, 6, 0, 0, 7, 0, 1], &[4, 3], 4, &Device::Cpu).expect("two rows");
        for lengths in [[4, 3], [4, 4]] {
            let tgt = Padded::new(&[0, 5, 6, 0, 0, 8, 0, 1], &lengths, 4, &Device::Cpu).expect("two rows");
            let expected = model.losses(&src, &tgt).expect("losses");
            let memory = model.encode(&src, Mode::Evaluate).expect("a memory");
            let (read, predicted) = tgt.shift().expect("two tokens at least");
            let states = model.decode(&memory, &read, None, Mode::Evaluate).expect("states");
            let found = losses_at_once(&model, &states, &predicted, read.lengths()).expect("losses");
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 1e-5 * expected, "{found} {expected}");
            }
        }
        let states = Tensor::zeros((1, 2, 8), DType::F32, &Device::Cpu).expect("states");
        let none = Tensor::zeros((1, 2), DType::U32, &Device::Cpu).expect("tokens");
        let error = losses_at_once(&model, &states, &none, Some(&[0])).expect_err("nothing").to_string();
        assert!(error.contains("in target 0"), "{error}");
    }
}
