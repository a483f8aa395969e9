//! The encoder: from source tokens to states.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use numformer_ops::{Causality, Lengths, zero_padding};

use crate::attention::MultiHeadAttention;
use crate::config::TransformerConfig;
use crate::embedding::Embedding;
use crate::feed_forward::FeedForward;
use crate::norm::LayerNorm;
use crate::padded::Padded;

/// Self-attention and feed-forward network, each followed by a residual and a layer norm.
#[derive(Clone, Debug)]
struct EncoderLayer {
    self_attention: MultiHeadAttention,
    self_attention_norm: LayerNorm,
    feed_forward: FeedForward,
    feed_forward_norm: LayerNorm,
}

impl EncoderLayer {
    fn new(config: &TransformerConfig, vb: &VarBuilder) -> Result<Self> {
        let sizes = &config.encoder;
        let d = sizes.d_model;
        let attention = vb.pp("self_attention");
        Ok(Self {
            self_attention: MultiHeadAttention::new(d, d, sizes.n_heads, &attention)?,
            self_attention_norm: LayerNorm::new(d, &vb.pp("self_attention_norm"))?,
            feed_forward: FeedForward::new(d, sizes.d_ff(), &vb.pp("feed_forward"))?,
            feed_forward_norm: LayerNorm::new(d, &vb.pp("feed_forward_norm"))?,
        })
    }

    fn forward(&self, x: &Tensor, lengths: Lengths<'_>) -> Result<Tensor> {
        let memory = self.self_attention.keys_values(x)?;
        let read = self.self_attention.forward(x, &memory, Causality::Full, lengths)?;
        let x = self.self_attention_norm.add_forward(&read, x)?;
        let y = self.feed_forward.forward(&x)?;
        zero_padding(&self.feed_forward_norm.add_forward(&y, &x)?, lengths)
    }
}

/// The encoder: embedding, then layers of self-attention and feed-forward network.
#[derive(Clone, Debug)]
pub struct Encoder {
    embedding: Embedding,
    layers: Vec<EncoderLayer>,
}

impl Encoder {
    /// Builds the encoder on the tensors of `vb`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn new(config: &TransformerConfig, vb: &VarBuilder) -> Result<Self> {
        let layers = vb.pp("layers");
        Ok(Self {
            embedding: Embedding::new(
                config.vocab_size,
                config.max_positions,
                config.encoder.d_model,
                config.positions,
                &vb.pp("embedding"),
            )?,
            layers: (0..config.encoder.n_layers)
                .map(|i| EncoderLayer::new(config, &layers.pp(i)))
                .collect::<Result<_>>()?,
        })
    }

    /// The states of `src` `[b, s]`: `[b, s, d_model]`, zero at padding.
    ///
    /// # Errors
    /// When an id lies outside the vocabulary, or the sequence is longer than the table of positions.
    pub fn forward(&self, src: &Padded) -> Result<Tensor> {
        let embedded = self.embedding.forward(src.ids(), 0)?;
        let x = zero_padding(&embedded, src.lengths())?;
        self.layers.iter().try_fold(x, |x, layer| layer.forward(&x, src.lengths()))
    }
}
