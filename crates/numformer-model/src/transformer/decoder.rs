//! The decoder: from the encoder's states and the target so far to the next states.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use numformer_ops::{Causality, zero_padding};

use crate::config::{CrossAttentionQuery, TransformerConfig};
use crate::layers::attention::{KeysValues, MultiHeadAttention};
use crate::layers::copy_gate::CopyGate;
use crate::layers::dropout::Dropout;
use crate::layers::embedding::Embedding;
use crate::layers::feed_forward::FeedForward;
use crate::layers::linear::Linear;
use crate::layers::residual::Residual;
use crate::layers::step_embedding::StepEmbedding;
use crate::mode::Mode;
use crate::padded::Padded;
use crate::seq2seq::check_cached;
use crate::transformer::cache::{Cache, Past};
use crate::transformer::memory::Memory;

/// Self-attention, cross-attention and feed-forward network, each followed by a residual and a layer norm.
#[derive(Clone, Debug)]
struct DecoderLayer {
    self_attention: MultiHeadAttention,
    self_attention_end: Residual,
    cross_attention: MultiHeadAttention,
    cross_attention_end: Residual,
    cross_attention_query: CrossAttentionQuery,
    feed_forward: FeedForward,
    feed_forward_end: Residual,
    copy_gate: Option<CopyGate>,
}

impl DecoderLayer {
    fn new(config: &TransformerConfig, place: &str, vb: &VarBuilder) -> Result<Self> {
        let sizes = &config.decoder;
        let (d, d_ff, n_heads) = (sizes.d_model, sizes.d_ff(), sizes.n_heads);
        let (own, cross) = (vb.pp("self_attention"), vb.pp("cross_attention"));
        let end = |name| Residual::new(d, config.dropout, name, place, vb);
        Ok(Self {
            self_attention: MultiHeadAttention::new(d, d, n_heads, &own)?,
            self_attention_end: end("self_attention_norm")?,
            cross_attention: MultiHeadAttention::new(d, config.encoder.d_model, n_heads, &cross)?,
            cross_attention_end: end("cross_attention_norm")?,
            cross_attention_query: config.cross_attention_query,
            feed_forward: FeedForward::new(d, d_ff, &vb.pp("feed_forward"))?,
            feed_forward_end: end("feed_forward_norm")?,
            copy_gate: config.copy_gate.then(|| CopyGate::new(d, d_ff, &vb.pp("copy_gate"))).transpose()?,
        })
    }

    fn affine_maps(&mut self) -> impl Iterator<Item = &mut Linear> {
        let attentions = self.self_attention.affine_maps().chain(self.cross_attention.affine_maps());
        let gate = self.copy_gate.iter_mut().flat_map(CopyGate::affine_maps);
        attentions.chain(self.feed_forward.affine_maps()).chain(gate)
    }

    /// The result of the self-attention of `x` to itself and to the tokens in `past`, if any.
    fn read_target(&self, x: &Tensor, past: Option<&mut Past>) -> Result<Tensor> {
        let next = self.self_attention.keys_values(x)?;
        // Padding comes after the end of a sequence, where the causal mask hides it from every valid query.
        let Some(past) = past else { return self.self_attention.forward(x, &next, Causality::Causal, None) };
        past.append(&next)?;
        if x.dim(1)? > 1 {
            return self.self_attention.forward(x, &past.valid()?, Causality::Causal, None);
        }
        let (room, lengths) = past.room()?;
        self.self_attention.forward(x, room, Causality::Full, Some(&lengths))
    }

    /// The states after self-attention, and the queries' states for cross-attention.
    fn queries(&self, x: &Tensor, past: Option<&mut Past>, mode: Mode) -> Result<(Tensor, Tensor)> {
        let y = self.self_attention_end.forward(&self.read_target(x, past)?, x, mode)?;
        let query = match self.cross_attention_query {
            CrossAttentionQuery::SelfAttended => y.clone(),
            CrossAttentionQuery::LayerInput => x.clone(),
        };
        Ok((y, query))
    }

    /// `cross` holds this layer's keys and values of the memory.
    fn forward(
        &self,
        x: &Tensor,
        cross: &KeysValues,
        memory: &Memory,
        past: Option<&mut Past>,
        mode: Mode,
    ) -> Result<Tensor> {
        let (y, query) = self.queries(x, past, mode)?;
        let read = self.cross_attention.forward(&query, cross, Causality::Full, memory.lengths())?;
        let attended = self.cross_attention_end.forward(&read, &y, mode)?;
        let z = self.feed_forward.forward(&attended)?;
        let z = self.feed_forward_end.forward(&z, &attended, mode)?;
        match &self.copy_gate {
            None => Ok(z),
            Some(gate) => gate.forward(&attended, &z, x),
        }
    }
}

/// The decoder: embedding, then layers that attend to the target so far and to the encoder's states.
#[derive(Clone, Debug)]
pub struct Decoder {
    embedding: Embedding,
    dropout: Dropout,
    step_embedding: StepEmbedding,
    layers: Vec<DecoderLayer>,
}

impl Decoder {
    /// Builds the decoder on the tensors of `vb`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn new(config: &TransformerConfig, vb: &VarBuilder) -> Result<Self> {
        let d = config.decoder.d_model;
        let embedding = vb.pp("embedding");
        let layers = vb.pp("layers");
        let layer = |i| {
            let weights = layers.pp(config.layer_weights.index(i));
            DecoderLayer::new(config, &layers.pp(i).prefix(), &weights)
        };
        Ok(Self {
            dropout: Dropout::new(config.dropout, &embedding.prefix()),
            embedding: Embedding::new(config.vocab_size, config.max_positions, d, config.positions, &embedding)?,
            step_embedding: StepEmbedding::new(config.layer_weights, config.decoder.n_layers, d, vb)?,
            layers: (0..config.decoder.n_layers).map(layer).collect::<Result<_>>()?,
        })
    }

    pub(crate) fn affine_maps(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.layers.iter_mut().flat_map(DecoderLayer::affine_maps)
    }

    /// Keys and values of the encoder's states `[b, s, d_encoder]` for each layer's cross-attention.
    ///
    /// # Errors
    /// When the width disagrees.
    pub(crate) fn cross_keys_values(&self, states: &Tensor) -> Result<Vec<KeysValues>> {
        self.layers.iter().map(|layer| layer.cross_attention.keys_values(states)).collect()
    }

    /// The states after each token of `tgt` `[b, t]`: `[b, t, d_model]`, zero at padding.
    ///
    /// With a cache, `tgt` continues the tokens of earlier calls.
    ///
    /// # Errors
    /// When targets for a cache are padded, an id lies outside the vocabulary, the sequence is longer than the table of
    /// positions, or the batch size differs from that of the memory.
    pub fn forward(&self, memory: &Memory, tgt: &Padded, cache: Option<&mut Cache>, mode: Mode) -> Result<Tensor> {
        let Some(cache) = cache else {
            let none = self.layers.iter().map(|_| None).collect();
            return self.forward_after(memory, tgt, 0, none, mode);
        };
        // Otherwise later queries would see the padding in between.
        check_cached(tgt)?;
        cache.layers.resize_with(self.layers.len(), Past::default);
        let past = cache.layers.iter_mut().map(Some).collect();
        let states = self.forward_after(memory, tgt, cache.len_tokens, past, mode)?;
        cache.len_tokens += tgt.ids().dim(1)?;
        Ok(states)
    }

    /// The weights of each layer's cross-attention, `[b, n_heads, t, s]`, for unpadded sources and targets.
    pub(crate) fn cross_attention_weights(&self, memory: &Memory, tgt: &Padded) -> Result<Vec<Tensor>> {
        let mode = Mode::Evaluate;
        let mut x = self.embedding.forward(tgt.ids(), 0)?;
        let mut weights = Vec::with_capacity(self.layers.len());
        for (i, (layer, cross)) in self.layers.iter().zip(memory.cross()).enumerate() {
            let input = self.step_embedding.forward(&x, i)?;
            let (_, query) = layer.queries(&input, None, mode)?;
            weights.push(layer.cross_attention.weights(&query, cross)?);
            x = layer.forward(&input, cross, memory, None, mode)?;
        }
        Ok(weights)
    }

    /// The states of `tgt`, whose first token is at position `start`.
    fn forward_after(
        &self,
        memory: &Memory,
        tgt: &Padded,
        start: usize,
        past: Vec<Option<&mut Past>>,
        mode: Mode,
    ) -> Result<Tensor> {
        let embedded = self.dropout.forward(&self.embedding.forward(tgt.ids(), start)?, mode)?;
        let mut x = zero_padding(&embedded, tgt.lengths())?;
        for (i, ((layer, cross), past)) in self.layers.iter().zip(memory.cross()).zip(past).enumerate() {
            let y = layer.forward(&self.step_embedding.forward(&x, i)?, cross, memory, past, mode)?;
            x = zero_padding(&y, tgt.lengths())?;
        }
        Ok(x)
    }

    pub(crate) fn token_embedding(&self) -> &Tensor {
        self.embedding.tokens()
    }
}
