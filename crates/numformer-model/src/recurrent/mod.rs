//! Recurrent encoder-decoders.

mod cell;
mod config;

use candle_core::{Error, Result, Tensor};
use candle_nn::VarBuilder;
use numformer_ops::{Lengths, zero_padding};

pub use self::cell::Cell;
use self::cell::{CellState, RecurrentLayer};
pub use self::config::RecurrentConfig;
use crate::batched::Batched;
use crate::layers::dropout::Dropout;
use crate::layers::embedding::Embedding;
use crate::layers::projection::Projection;
use crate::mode::Mode;
use crate::padded::Padded;
use crate::parameters::Parameters;
use crate::seq2seq::{Seq2Seq, check_cached, check_rows};

/// The states of a stack of recurrent layers after a token.
#[derive(Clone, Debug)]
pub struct States(Vec<CellState>);

impl Batched for States {
    fn select(&self, rows: &[u32]) -> Result<Self> {
        self.0.select(rows).map(Self)
    }
}

/// One half of the model: an embedding, then recurrent layers, each of which reads the output of the layer below.
#[derive(Clone, Debug)]
struct Stack {
    embedding: Embedding,
    embedding_dropout: Dropout,
    layers: Vec<(RecurrentLayer, Dropout)>,
}

impl Stack {
    fn new(config: &RecurrentConfig, vb: &VarBuilder) -> Result<Self> {
        let dropout = |vb: &VarBuilder| Dropout::new(config.dropout, &vb.prefix());
        let embedding = vb.pp("embedding");
        let layer = |i| {
            let vb = vb.pp("layers").pp(i);
            Ok((RecurrentLayer::new(config.cell, config.d_model, &vb)?, dropout(&vb)))
        };
        Ok(Self {
            embedding: Embedding::without_positions(config.vocab_size, config.d_model, &embedding)?,
            embedding_dropout: dropout(&embedding),
            layers: (0..config.n_layers).map(layer).collect::<Result<_>>()?,
        })
    }

    /// Reads the tokens of `sequences` `[b, t]` after the states `before`, or from the beginning. Returns the output of
    /// the highest layer for each token, `[b, t, d]` and zero at padding, and the states after the last valid token of
    /// each row.
    fn forward(&self, sequences: &Padded, before: Option<&States>, mode: Mode) -> Result<(Tensor, States)> {
        let embedded = self.embedding.forward(sequences.ids(), 0)?;
        let embedded = self.embedding_dropout.forward(&embedded, mode)?;
        let t = embedded.dim(1)?;
        let mut inputs = Vec::with_capacity(t);
        unstack(&embedded.transpose(0, 1)?.contiguous()?, &mut inputs)?;
        let first = inputs.first().ok_or_else(|| Error::Msg("expected at least one token, found none".to_owned()))?;
        let shape = first.shape().clone();
        let mut last = Vec::with_capacity(self.layers.len());
        for (i, (layer, dropout)) in self.layers.iter().enumerate() {
            let mut state = match before {
                Some(States(before)) => before[i].clone(),
                None => layer.start(&inputs[0])?,
            };
            let mut states = Vec::with_capacity(t);
            for x in &inputs {
                state = layer.step(x, &state)?;
                states.push(state.clone());
            }
            last.push(last_valid(&states, sequences.lengths())?);
            let mask = dropout.mask(&(t, shape.dims()[0], shape.dims()[1]).into(), mode)?;
            let put_out = states.into_iter().enumerate().map(|(i, state)| match &mask {
                None => Ok(state.hidden),
                Some(mask) => state.hidden * mask.get(i)?.to_device(embedded.device())?,
            });
            inputs = put_out.collect::<Result<_>>()?;
        }
        Ok((zero_padding(&Tensor::stack(&inputs, 1)?, sequences.lengths())?, States(last)))
    }
}

/// The slices of `x` along its first dimension, added to `slices`.
///
/// `x` is halved again and again. The gradient of a part is padded to the size of the whole: for t parts of one tensor
/// that would be t passes over t slices, here it is log₂ t.
fn unstack(x: &Tensor, slices: &mut Vec<Tensor>) -> Result<()> {
    match x.dim(0)? {
        0 => {}
        1 => slices.push(x.squeeze(0)?),
        t => {
            unstack(&x.narrow(0, 0, t / 2)?, slices)?;
            unstack(&x.narrow(0, t / 2, t - t / 2)?, slices)?;
        }
    }
    Ok(())
}

/// Each row's state after its last valid token.
fn last_valid(states: &[CellState], lengths: Lengths<'_>) -> Result<CellState> {
    let last = states.last().ok_or_else(|| Error::Msg("expected at least one state, found none".to_owned()))?;
    let Some(lengths) = lengths else { return Ok(last.clone()) };
    if lengths.contains(&0) {
        return Err(Error::Msg("expected sequences of at least one token, found an empty one".to_owned()));
    }
    // All states are stacked; this is row b of the state after token t.
    let rows: Vec<u32> = (0..).zip(lengths).map(|(row, length)| (length - 1) * lengths.len() as u32 + row).collect();
    let pick = |tensors: Vec<&Tensor>| Tensor::cat(&tensors, 0)?.select(&rows);
    Ok(CellState {
        hidden: pick(states.iter().map(|state| &state.hidden).collect())?,
        kept: match last.kept {
            None => None,
            Some(_) => Some(pick(states.iter().filter_map(|state| state.kept.as_ref()).collect())?),
        },
    })
}

/// The recurrent encoder-decoder. The states of the encoder after the last source token are the states of the decoder
/// before the first target token.
///
/// # Examples
/// ```
/// use candle_core::Device;
/// use numformer_model::{Cell, Mode, Padded, Parameters, Recurrent, RecurrentConfig, Seq2Seq};
///
/// let config = RecurrentConfig::new(Cell::Gru, 20, 8, 1);
/// let model = Recurrent::init(&config, &Parameters::random(0, &Device::Cpu))?;
/// let src = Padded::new(&[0, 5, 6, 0], &[4], 4, &Device::Cpu)?;
/// let tgt = Padded::new(&[0, 6, 5, 0], &[4], 4, &Device::Cpu)?;
/// let loss = model.loss(&src, &tgt, Mode::Evaluate)?.to_scalar::<f32>()?;
/// assert!((loss - 20f32.ln()).abs() < 1.0); // an untrained model guesses among 20 tokens
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Reference
/// Sutskever, Vinyals and Le (2014), *Sequence to Sequence Learning with Neural Networks*. Unlike there, the source is
/// read forwards, and embeddings are normalised as in [`Transformer`](crate::Transformer).
/// <https://arxiv.org/abs/1409.3215>
#[derive(Clone, Debug)]
pub struct Recurrent {
    config: RecurrentConfig,
    encoder: Stack,
    decoder: Stack,
    projection: Projection,
}

impl Recurrent {
    /// Builds the model on the tensors of `vb`.
    ///
    /// # Errors
    /// When the configuration is impossible, or a tensor is missing or has another shape.
    pub fn new(config: &RecurrentConfig, vb: &VarBuilder) -> Result<Self> {
        config.validate().map_err(Error::wrap)?;
        let decoder = Stack::new(config, &vb.pp("decoder"))?;
        Ok(Self {
            projection: Projection::of(config.output_projection, decoder.embedding.tokens(), &vb.pp("projection"))?,
            config: config.clone(),
            encoder: Stack::new(config, &vb.pp("encoder"))?,
            decoder,
        })
    }

    /// Builds a trainable model and draws its weights from the seed of `parameters`; the padding token's vectors
    /// start at zero.
    ///
    /// # Errors
    /// As [`Recurrent::new`].
    pub fn init(config: &RecurrentConfig, parameters: &Parameters) -> Result<Self> {
        let model = Self::new(config, &parameters.trainable())?;
        parameters.zero_padding_vectors(config.padding_id)?;
        Ok(model)
    }

    /// Sizes and options.
    #[must_use]
    pub fn config(&self) -> &RecurrentConfig {
        &self.config
    }
}

impl Seq2Seq for Recurrent {
    /// The encoder's states after the last token of each source.
    type Memory = States;
    /// The decoder's states after the last token of each target so far.
    type Cache = Option<States>;

    fn encode(&self, src: &Padded, mode: Mode) -> Result<States> {
        Ok(self.encoder.forward(src, None, mode)?.1)
    }

    fn decode(&self, memory: &States, tgt: &Padded, cache: Option<&mut Self::Cache>, mode: Mode) -> Result<Tensor> {
        check_rows(memory.0[0].hidden.dim(0)?, tgt)?;
        let Some(cache) = cache else { return Ok(self.decoder.forward(tgt, Some(memory), mode)?.0) };
        check_cached(tgt)?;
        let (states, last) = self.decoder.forward(tgt, Some(cache.as_ref().unwrap_or(memory)), mode)?;
        let last = last.0.iter().map(|state| state.map(|tensor| Ok(tensor.detach())));
        *cache = Some(States(last.collect::<Result<_>>()?));
        Ok(states)
    }

    fn projection(&self) -> &Projection {
        &self.projection
    }

    fn delimiter_id(&self) -> u32 {
        self.config.delimiter_id
    }

    fn padding_id(&self) -> u32 {
        self.config.padding_id
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn stack(dropout: f64) -> Stack {
        let config = RecurrentConfig { dropout, ..RecurrentConfig::new(Cell::Gru, 9, 6, 2) };
        Stack::new(&config, &Parameters::random(1, &Device::Cpu).frozen()).expect("valid")
    }

    fn tokens(ids: [u32; 6]) -> Padded {
        Padded::new(&ids, &[3, 3], 3, &Device::Cpu).expect("two rows")
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().and_then(|tensor| tensor.to_vec1()).expect("f32")
    }

    const TRAIN: Mode = Mode::Train { seed: 1, step: 2 };

    #[test]
    fn each_token_has_a_mask_of_its_own() {
        let (states, _) = stack(0.5).forward(&tokens([2, 3, 4, 5, 6, 7]), None, TRAIN).expect("states");
        let mask = Dropout::new(0.5, "layers.1").mask(&(3, 2, 6).into(), TRAIN).expect("a mask").expect("in training");
        let mask = mask.transpose(0, 1).and_then(|mask| mask.contiguous()).expect("by row and token");
        let dropped = |tensor: &Tensor| values(tensor).iter().map(|x| x.abs() <= 0.0).collect::<Vec<_>>();
        assert_eq!(dropped(&states), dropped(&mask));
    }

    #[test]
    fn what_a_layer_hands_to_itself_is_not_dropped_but_its_inputs_are() {
        // All inputs are dropped: the states change, but do not depend on the tokens.
        let last = |ids| stack(1.0 - 1e-9).forward(&tokens(ids), None, TRAIN).expect("states").1;
        let (one, other) = (last([2, 3, 4, 5, 6, 7]), last([8, 8, 8, 0, 0, 0]));
        for (one, other) in one.0.iter().zip(&other.0) {
            assert_eq!(values(&one.hidden), values(&other.hidden));
            assert!(values(&one.hidden).iter().all(|x| x.abs() > 0.0));
        }
    }
}
