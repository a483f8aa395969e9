//! The encoder-decoder transformer.

use candle_core::{Error, Result, Tensor};
use candle_nn::VarBuilder;
use numformer_ops::{Activation, Lengths};

use crate::cache::Cache;
use crate::config::{OutputProjection, TransformerConfig};
use crate::decoder::Decoder;
use crate::encoder::Encoder;
use crate::linear::uniform_fan_in;
use crate::padded::Padded;
use crate::parameters::Parameters;

/// What the encoder made of a batch of sources.
#[derive(Clone, Debug)]
pub struct Memory {
    states: Tensor,
    lengths: Option<Vec<u32>>,
}

impl Memory {
    /// The encoder's states, `[b, s, d_model]`, zero at padding.
    #[must_use]
    pub fn states(&self) -> &Tensor {
        &self.states
    }

    /// Valid length of each source; `None` when all are full.
    #[must_use]
    pub fn lengths(&self) -> Lengths<'_> {
        self.lengths.as_deref()
    }
}

/// The post-layer-norm encoder-decoder transformer.
///
/// # Examples
/// ```
/// use candle_core::Device;
/// use numformer_model::{Padded, Parameters, StackConfig, Transformer, TransformerConfig};
///
/// let config = TransformerConfig::new(20, 8, StackConfig::new(8, 2, 1), StackConfig::new(8, 2, 1));
/// let model = Transformer::init(&config, &Parameters::random(0, &Device::Cpu))?;
/// let src = Padded::new(&[0, 5, 6, 0], &[4], 4, &Device::Cpu)?;
/// let tgt = Padded::new(&[0, 6, 5, 0], &[4], 4, &Device::Cpu)?;
/// let loss = model.loss(&src, &tgt)?.to_scalar::<f32>()?;
/// assert!((loss - 20f32.ln()).abs() < 1.0); // an untrained model guesses among 20 tokens
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Reference
/// Vaswani et al. (2017), *Attention Is All You Need*. <https://arxiv.org/abs/1706.03762>
#[derive(Clone, Debug)]
pub struct Transformer {
    config: TransformerConfig,
    encoder: Encoder,
    decoder: Decoder,
    projection_weight: Tensor,
    projection_bias: Tensor,
}

impl Transformer {
    /// Builds the model on the tensors of `vb`.
    ///
    /// # Errors
    /// When the configuration is impossible, or a tensor is missing or has another shape.
    pub fn new(config: &TransformerConfig, vb: &VarBuilder) -> Result<Self> {
        config.validate().map_err(Error::wrap)?;
        let encoder = Encoder::new(config, &vb.pp("encoder"))?;
        let decoder = Decoder::new(config, &vb.pp("decoder"))?;
        let (vocab_size, d) = (config.vocab_size, config.decoder.d_model);
        let init = uniform_fan_in(d);
        let projection = vb.pp("projection");
        Ok(Self {
            projection_weight: match config.output_projection {
                OutputProjection::Shared => decoder.token_embedding().clone(),
                OutputProjection::Separate => projection.get_with_hints((vocab_size, d), "weight", init)?,
            },
            projection_bias: projection.get_with_hints(vocab_size, "bias", init)?,
            config: config.clone(),
            encoder,
            decoder,
        })
    }

    /// Builds a trainable model and draws its weights from the seed of `parameters`; the padding token's vectors
    /// start at zero.
    ///
    /// # Errors
    /// As [`Transformer::new`].
    pub fn init(config: &TransformerConfig, parameters: &Parameters) -> Result<Self> {
        let model = Self::new(config, &parameters.trainable())?;
        for half in ["encoder", "decoder"] {
            let table = format!("{half}.embedding.tokens.weight");
            parameters.zero_row(&table, config.padding_id as usize)?;
        }
        Ok(model)
    }

    /// Sizes and options.
    #[must_use]
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// Reads `src` `[b, s]`.
    ///
    /// # Errors
    /// When an id lies outside the vocabulary, or the sequence is longer than `max_positions`.
    pub fn encode(&self, src: &Padded) -> Result<Memory> {
        Ok(Memory { states: self.encoder.forward(src)?, lengths: src.lengths().map(<[u32]>::to_vec) })
    }

    /// The decoder's states after each token of `tgt` `[b, t]`: `[b, t, d_model]`. With a cache, successive calls
    /// continue the sequence.
    ///
    /// # Errors
    /// As [`Transformer::encode`], and when `tgt` has another number of rows than the memory.
    pub fn decode(&self, memory: &Memory, tgt: &Padded, cache: Option<&mut Cache>) -> Result<Tensor> {
        let (expected, found) = (memory.states.dim(0)?, tgt.batch_size()?);
        if expected != found {
            return Err(Error::Msg(format!("expected {expected} targets, one for each source, found {found}")));
        }
        self.decoder.forward(memory, tgt, cache)
    }

    /// Scores of every token, `[.., vocab_size]`, after the states `[.., d_model]`.
    ///
    /// # Errors
    /// When the width disagrees.
    pub fn logits(&self, states: &Tensor) -> Result<Tensor> {
        numformer_ops::linear(states, &self.projection_weight, &self.projection_bias, Activation::Identity)
    }

    /// Mean cross-entropy per target token under teacher forcing, a scalar. The opening delimiter is given, the
    /// closing one is predicted; padding counts for nothing.
    ///
    /// # Errors
    /// As [`Transformer::decode`].
    pub fn loss(&self, src: &Padded, tgt: &Padded) -> Result<Tensor> {
        let memory = self.encode(src)?;
        let (read, expected) = tgt.shift()?;
        let states = self.decode(&memory, &read, None)?;
        numformer_ops::projection_cross_entropy(
            &states.flatten_to(1)?,
            &self.projection_weight,
            &self.projection_bias,
            &expected.flatten_all()?,
            Some(self.config.padding_id),
        )
    }

    /// Mean cross-entropy of each target by itself, in the order of the batch; its rows are as long as their lengths
    /// say. What else is in the batch changes a figure by rounding only.
    ///
    /// # Errors
    /// As [`Transformer::loss`], and when a target has no token to predict.
    pub fn losses(&self, src: &Padded, tgt: &Padded) -> Result<Vec<f32>> {
        let memory = self.encode(src)?;
        let (read, expected) = tgt.shift()?;
        let states = self.decode(&memory, &read, None)?;
        let (batch, width) = expected.dims2()?;
        (0..batch)
            .map(|row| {
                let length = read.lengths().map_or(width, |lengths| lengths[row] as usize);
                if length == 0 {
                    return Err(Error::Msg(format!("expected a token to predict in target {row}, found none")));
                }
                let loss = numformer_ops::projection_cross_entropy(
                    &states.get(row)?.narrow(0, 0, length)?,
                    &self.projection_weight,
                    &self.projection_bias,
                    &expected.get(row)?.narrow(0, 0, length)?,
                    None,
                )?;
                loss.to_scalar()
            })
            .collect()
    }
}
