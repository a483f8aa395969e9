//! The encoder-decoder transformer.

pub(crate) mod cache;
pub(crate) mod decoder;
pub(crate) mod encoder;
pub(crate) mod memory;

use candle_core::{Error, Result, Tensor};
use candle_nn::VarBuilder;

use crate::config::TransformerConfig;
use crate::layers::projection::Projection;
use crate::mode::Mode;
use crate::padded::Padded;
use crate::parameters::Parameters;
use crate::seq2seq::{Seq2Seq, check_rows};
use crate::transformer::cache::Cache;
use crate::transformer::decoder::Decoder;
use crate::transformer::encoder::Encoder;
use crate::transformer::memory::Memory;

/// The post-layer-norm encoder-decoder transformer.
///
/// # Examples
/// ```
/// use candle_core::Device;
/// use numformer_model::{Mode, Padded, Parameters, Seq2Seq, StackConfig, Transformer, TransformerConfig};
///
/// let config = TransformerConfig::new(20, 8, StackConfig::new(8, 2, 1), StackConfig::new(8, 2, 1));
/// let model = Transformer::init(&config, &Parameters::random(0, &Device::Cpu))?;
/// let src = Padded::new(&[0, 5, 6, 0], &[4], 4, &Device::Cpu)?;
/// let tgt = Padded::new(&[0, 6, 5, 0], &[4], 4, &Device::Cpu)?;
/// let loss = model.loss(&src, &tgt, Mode::Evaluate)?.to_scalar::<f32>()?;
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
    projection: Projection,
    /// Whether generation rounds operands of products to bf16.
    rounds: bool,
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
        Ok(Self {
            projection: Projection::of(config.output_projection, decoder.token_embedding(), &vb.pp("projection"))?,
            config: config.clone(),
            encoder,
            decoder,
            rounds: false,
        })
    }

    /// Generates answers with the operands of affine maps rounded to bf16, on the CPU. That is faster on processors with
    /// AVX512-BF16 or AMX. Attention, and losses, stay in single precision.
    #[must_use]
    pub fn in_bf16(self) -> Self {
        Self { rounds: true, ..self }
    }

    /// Builds a trainable model and draws its weights from the seed of `parameters`; the padding token's vectors
    /// start at zero.
    ///
    /// # Errors
    /// As [`Transformer::new`].
    pub fn init(config: &TransformerConfig, parameters: &Parameters) -> Result<Self> {
        let model = Self::new(config, &parameters.trainable())?;
        parameters.zero_padding_vectors(config.padding_id)?;
        Ok(model)
    }

    /// The attention weights of each position of `tgt` `[b, t]` on each token of the source, by decoder layer and by
    /// head: `[b, n_heads, t, s]` for each layer. They sum to 1 over the last axis.
    ///
    /// # Errors
    /// As [`Seq2Seq::decode`], and when source or target is padded.
    pub fn cross_attention_weights(&self, memory: &Memory, tgt: &Padded) -> Result<Vec<Tensor>> {
        check_rows(memory.states().dim(0)?, tgt)?;
        if memory.lengths().or(tgt.lengths()).is_some() {
            return Err(Error::Msg("expected unpadded sources and targets, found padding".to_owned()));
        }
        self.decoder.cross_attention_weights(memory, tgt)
    }

    /// Sizes and options.
    #[must_use]
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }
}

impl Seq2Seq for Transformer {
    type Memory = Memory;
    type Cache = Cache;

    fn encode(&self, src: &Padded, mode: Mode) -> Result<Memory> {
        let states = self.encoder.forward(src, mode)?;
        let cross = self.decoder.cross_keys_values(&states)?;
        Ok(Memory::new(states, cross, src.lengths()))
    }

    fn decode(&self, memory: &Memory, tgt: &Padded, cache: Option<&mut Cache>, mode: Mode) -> Result<Tensor> {
        check_rows(memory.states().dim(0)?, tgt)?;
        self.decoder.forward(memory, tgt, cache, mode)
    }

    fn prepared(&self) -> Result<Option<Self>> {
        let mut model = self.clone();
        for map in model.encoder.affine_maps().chain(model.decoder.affine_maps()) {
            map.pack(self.rounds)?;
        }
        model.projection.pack(self.rounds)?;
        Ok(Some(model))
    }

    fn max_positions(&self) -> Option<usize> {
        Some(self.config.max_positions)
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
