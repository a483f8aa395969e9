//! The decoder: from the encoder's states and the target so far to the next states.

use candle_core::{Error, Result, Tensor};
use candle_nn::VarBuilder;
use numformer_ops::{Causality, zero_padding};

use crate::attention::{KeysValues, MultiHeadAttention};
use crate::cache::{Cache, LayerCache};
use crate::config::{CrossAttentionQuery, TransformerConfig};
use crate::embedding::Embedding;
use crate::feed_forward::FeedForward;
use crate::norm::LayerNorm;
use crate::padded::Padded;
use crate::transformer::Memory;

/// Self-attention, cross-attention and feed-forward network, each followed by a residual and a layer norm.
#[derive(Clone, Debug)]
struct DecoderLayer {
    self_attention: MultiHeadAttention,
    self_attention_norm: LayerNorm,
    cross_attention: MultiHeadAttention,
    cross_attention_norm: LayerNorm,
    cross_attention_query: CrossAttentionQuery,
    feed_forward: FeedForward,
    feed_forward_norm: LayerNorm,
}

impl DecoderLayer {
    fn new(config: &TransformerConfig, vb: &VarBuilder) -> Result<Self> {
        let sizes = &config.decoder;
        let (d, n_heads) = (sizes.d_model, sizes.n_heads);
        let (own, cross) = (vb.pp("self_attention"), vb.pp("cross_attention"));
        Ok(Self {
            self_attention: MultiHeadAttention::new(d, d, n_heads, &own)?,
            self_attention_norm: LayerNorm::new(d, &vb.pp("self_attention_norm"))?,
            cross_attention: MultiHeadAttention::new(d, config.encoder.d_model, n_heads, &cross)?,
            cross_attention_norm: LayerNorm::new(d, &vb.pp("cross_attention_norm"))?,
            cross_attention_query: config.cross_attention_query,
            feed_forward: FeedForward::new(d, sizes.d_ff(), &vb.pp("feed_forward"))?,
            feed_forward_norm: LayerNorm::new(d, &vb.pp("feed_forward_norm"))?,
        })
    }

    /// `own` and `cross` are the keys and values of the target so far, `x` included, and of the memory.
    fn forward(&self, x: &Tensor, own: &KeysValues, cross: &KeysValues, memory: &Memory) -> Result<Tensor> {
        // Padding stands after the end, where the causal limit hides it from every valid query.
        let read = self.self_attention.forward(x, own, Causality::Causal, None)?;
        let y = self.self_attention_norm.add_forward(&read, x)?;
        let query = match self.cross_attention_query {
            CrossAttentionQuery::SelfAttended => &y,
            CrossAttentionQuery::LayerInput => x,
        };
        let read = self.cross_attention.forward(query, cross, Causality::Full, memory.lengths())?;
        let y = self.cross_attention_norm.add_forward(&read, &y)?;
        let z = self.feed_forward.forward(&y)?;
        self.feed_forward_norm.add_forward(&z, &y)
    }

    /// Forward pass of the tokens after those in `cache`, which it extends.
    fn forward_cached(&self, x: &Tensor, memory: &Memory, cache: &mut LayerCache) -> Result<Tensor> {
        let next = self.self_attention.keys_values(x)?;
        let own = cache.past.insert(KeysValues::append(cache.past.as_ref(), next)?);
        let cross = match &mut cache.memory {
            Some(cross) => cross,
            empty => empty.insert(self.cross_attention.keys_values(memory.states())?),
        };
        self.forward(x, own, cross, memory)
    }
}

/// The decoder: embedding, then layers that attend to the target so far and to the encoder's states.
#[derive(Clone, Debug)]
pub struct Decoder {
    embedding: Embedding,
    layers: Vec<DecoderLayer>,
}

impl Decoder {
    /// Builds the decoder on the tensors of `vb`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn new(config: &TransformerConfig, vb: &VarBuilder) -> Result<Self> {
        let layers = vb.pp("layers");
        Ok(Self {
            embedding: Embedding::new(
                config.vocab_size,
                config.max_positions,
                config.decoder.d_model,
                config.positions,
                &vb.pp("embedding"),
            )?,
            layers: (0..config.decoder.n_layers)
                .map(|i| DecoderLayer::new(config, &layers.pp(i)))
                .collect::<Result<_>>()?,
        })
    }

    /// The states after each token of `tgt` `[b, t]`: `[b, t, d_model]`, zero at padding.
    ///
    /// With a cache, `tgt` continues the tokens of earlier calls.
    ///
    /// # Errors
    /// When targets for a cache are padded, an id lies outside the vocabulary, the sequence is longer than the table of positions, or the batch
    /// differs from the memory's.
    pub fn forward(&self, memory: &Memory, tgt: &Padded, cache: Option<&mut Cache>) -> Result<Tensor> {
        if cache.is_some() && tgt.lengths().is_some() {
            // Later queries would see the padding between.
            return Err(Error::Msg("expected unpadded targets with a cache, found padding".to_owned()));
        }
        let mut single_use = Cache::default();
        let cache = cache.unwrap_or(&mut single_use);
        cache.layers.resize_with(self.layers.len(), LayerCache::default);
        let embedded = self.embedding.forward(tgt.ids(), cache.len_tokens)?;
        let mut x = zero_padding(&embedded, tgt.lengths())?;
        for (layer, cache) in self.layers.iter().zip(&mut cache.layers) {
            x = layer.forward_cached(&x, memory, cache)?;
            x = zero_padding(&x, tgt.lengths())?;
        }
        cache.len_tokens += tgt.ids().dim(1)?;
        Ok(x)
    }

    pub(crate) fn token_embedding(&self) -> &Tensor {
        self.embedding.tokens()
    }
}
