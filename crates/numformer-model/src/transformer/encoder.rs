//! The encoder: from source tokens to states.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use numformer_ops::{Causality, Lengths, zero_padding};

use crate::config::TransformerConfig;
use crate::layers::attention::MultiHeadAttention;
use crate::layers::copy_gate::CopyGate;
use crate::layers::dropout::Dropout;
use crate::layers::embedding::Embedding;
use crate::layers::feed_forward::FeedForward;
use crate::layers::linear::Linear;
use crate::layers::residual::Residual;
use crate::layers::step_embedding::StepEmbedding;
use crate::mode::Mode;
use crate::padded::Padded;

/// Self-attention and feed-forward network, each followed by a residual and a layer norm.
#[derive(Clone, Debug)]
struct EncoderLayer {
    self_attention: MultiHeadAttention,
    self_attention_end: Residual,
    feed_forward: FeedForward,
    feed_forward_end: Residual,
    copy_gate: Option<CopyGate>,
}

impl EncoderLayer {
    fn new(config: &TransformerConfig, place: &str, vb: &VarBuilder) -> Result<Self> {
        let sizes = &config.encoder;
        let (d, d_ff) = (sizes.d_model, sizes.d_ff());
        let end = |name| Residual::new(d, config.dropout, name, place, vb);
        Ok(Self {
            self_attention: MultiHeadAttention::new(d, d, sizes.n_heads, &vb.pp("self_attention"))?,
            self_attention_end: end("self_attention_norm")?,
            feed_forward: FeedForward::new(d, d_ff, &vb.pp("feed_forward"))?,
            feed_forward_end: end("feed_forward_norm")?,
            copy_gate: config.copy_gate.then(|| CopyGate::new(d, d_ff, &vb.pp("copy_gate"))).transpose()?,
        })
    }

    fn affine_maps(&mut self) -> impl Iterator<Item = &mut Linear> {
        let gate = self.copy_gate.iter_mut().flat_map(CopyGate::affine_maps);
        self.self_attention.affine_maps().chain(self.feed_forward.affine_maps()).chain(gate)
    }

    fn forward(&self, x: &Tensor, lengths: Lengths<'_>, mode: Mode) -> Result<Tensor> {
        let memory = self.self_attention.keys_values(x)?;
        let read = self.self_attention.forward(x, &memory, Causality::Full, lengths)?;
        let attended = self.self_attention_end.forward(&read, x, mode)?;
        let y = self.feed_forward.forward(&attended)?;
        let y = self.feed_forward_end.forward(&y, &attended, mode)?;
        match &self.copy_gate {
            None => Ok(y),
            Some(gate) => gate.forward(&attended, &y, x),
        }
    }
}

/// The encoder: embedding, then layers of self-attention and feed-forward network.
#[derive(Clone, Debug)]
pub struct Encoder {
    embedding: Embedding,
    dropout: Dropout,
    step_embedding: StepEmbedding,
    layers: Vec<EncoderLayer>,
}

impl Encoder {
    /// Builds the encoder on the tensors of `vb`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn new(config: &TransformerConfig, vb: &VarBuilder) -> Result<Self> {
        let d = config.encoder.d_model;
        let embedding = vb.pp("embedding");
        let layers = vb.pp("layers");
        let layer = |i| {
            let weights = layers.pp(config.layer_weights.index(i));
            EncoderLayer::new(config, &layers.pp(i).prefix(), &weights)
        };
        Ok(Self {
            dropout: Dropout::new(config.dropout, &embedding.prefix()),
            embedding: Embedding::new(config.vocab_size, config.max_positions, d, config.positions, &embedding)?,
            step_embedding: StepEmbedding::new(config.layer_weights, config.encoder.n_layers, d, vb)?,
            layers: (0..config.encoder.n_layers).map(layer).collect::<Result<_>>()?,
        })
    }

    pub(crate) fn affine_maps(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.layers.iter_mut().flat_map(EncoderLayer::affine_maps)
    }

    /// The states of `src` `[b, s]`: `[b, s, d_model]`, zero at padding.
    ///
    /// # Errors
    /// When an id lies outside the vocabulary, or the sequence is longer than the table of positions.
    pub fn forward(&self, src: &Padded, mode: Mode) -> Result<Tensor> {
        let embedded = self.dropout.forward(&self.embedding.forward(src.ids(), 0)?, mode)?;
        let mut x = zero_padding(&embedded, src.lengths())?;
        for (i, layer) in self.layers.iter().enumerate() {
            let y = layer.forward(&self.step_embedding.forward(&x, i)?, src.lengths(), mode)?;
            x = zero_padding(&y, src.lengths())?;
        }
        Ok(x)
    }
}
