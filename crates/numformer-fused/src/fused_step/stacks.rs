//! Embedding, encoder and decoder, forward and backward, in the order of the figure.

use std::ops::Range;

use candle_core::Result;
use numformer_model::{CrossAttentionQuery, Positions, StackConfig, TransformerConfig, sinusoidal_positions};
use numformer_ops::Causality;
use numformer_ops::kernels::embed_rows;

use super::arena::{Buffer, Packed, rows};
use super::places::HostPlaces;
use super::sublayers::{Attended, Attention, Backward, Fed, FeedForward, Norm, Normed};

/// Token vectors and positions, summed and normalised.
#[derive(Debug)]
pub(super) struct Embedding {
    tokens: Range<usize>,
    positions: PositionTable,
    norm: Norm,
    d_model: usize,
}

#[derive(Debug)]
enum PositionTable {
    /// Learned vectors, at this range among the weights.
    Learned(Range<usize>),
    Fixed(Vec<f32>),
}

impl Embedding {
    fn new(places: &HostPlaces, name: &str, config: &TransformerConfig, d_model: usize) -> Result<Self> {
        Ok(Self {
            tokens: places.weights(&format!("{name}.tokens.weight"), &[config.vocab_size, d_model])?,
            positions: match config.positions {
                Positions::Learned => {
                    let shape = [config.max_positions, d_model];
                    PositionTable::Learned(places.weights(&format!("{name}.positions.weight"), &shape)?)
                }
                Positions::Sinusoidal => PositionTable::Fixed(sinusoidal_positions(config.max_positions, d_model)),
            },
            norm: Norm::new(places, &format!("{name}.norm"), d_model)?,
            d_model,
        })
    }

    /// The range of the token table among the weights.
    pub(super) fn tokens(&self) -> Range<usize> {
        self.tokens.clone()
    }

    /// The range of the position table among the weights, if it is learned.
    pub(super) fn positions(&self) -> Option<Range<usize>> {
        match &self.positions {
            PositionTable::Learned(range) => Some(range.clone()),
            PositionTable::Fixed(_) => None,
        }
    }

    fn forward(&self, weights: &[f32], tokens: &Packed, kept: &mut Normed) {
        let d = self.d_model;
        let positions = match &self.positions {
            PositionTable::Learned(range) => &weights[range.clone()],
            PositionTable::Fixed(table) => table,
        };
        let sum = kept.sum.sized(tokens.len() * d);
        for sequence in tokens.ranges() {
            let table = &weights[self.tokens.clone()];
            embed_rows(&mut sum[rows(&sequence, d)], &tokens.ids()[sequence], table, positions, d);
        }
        self.norm.forward(weights, kept);
    }

    /// Leaves the gradient of each row of the sum in `kept.sum`.
    fn backward(&self, pass: &mut Backward<'_>, d_y: &[f32], kept: &mut Normed) {
        self.norm.backward(pass, d_y, kept);
    }
}

/// The embedding, then layers of self-attention and a feed-forward network.
#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) embedding: Embedding,
    layers: Vec<(Attention, FeedForward)>,
}

/// The activations that [`Encoder`] keeps for its backward pass.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    pub(super) embedded: Normed,
    layers: Vec<(Attended, Fed)>,
}

impl Encoded {
    /// The encoder's states, `[rows, d_model]`.
    pub(super) fn states(&self) -> &[f32] {
        self.layers.last().map_or(&self.embedded.y, |(_, fed)| &fed.normed.y)
    }
}

impl Encoder {
    pub(super) fn new(places: &HostPlaces, config: &TransformerConfig) -> Result<Self> {
        let StackConfig { d_model, n_heads, n_layers, .. } = config.encoder;
        let layer = |i| {
            let name = |part: &str| format!("encoder.layers.{i}.{part}");
            Ok((
                Attention::new(places, &name("self_attention"), [d_model; 2], n_heads, Causality::Full)?,
                FeedForward::new(places, &name("feed_forward"), d_model, config.encoder.d_ff())?,
            ))
        };
        Ok(Self {
            embedding: Embedding::new(places, "encoder.embedding", config, d_model)?,
            layers: (0..n_layers).map(layer).collect::<Result<_>>()?,
        })
    }

    pub(super) fn forward(&self, weights: &[f32], src: &Packed, kept: &mut Encoded) {
        let Encoded { embedded, layers } = kept;
        layers.resize_with(self.layers.len(), Default::default);
        self.embedding.forward(weights, src, embedded);
        let mut x = &embedded.y;
        for ((attention, feed_forward), (attended, fed)) in self.layers.iter().zip(layers) {
            attention.forward(weights, (x, src), (x, src), x, attended);
            feed_forward.forward(weights, &attended.normed.y, fed);
            x = &fed.normed.y;
        }
    }

    /// Leaves the gradient of each embedded row in `kept.embedded.sum`.
    pub(super) fn backward(&self, pass: &mut Backward<'_>, d_states: &[f32], src: &Packed, kept: &mut Encoded) {
        let Encoded { embedded, layers } = kept;
        for (i, (attention, feed_forward)) in self.layers.iter().enumerate().rev() {
            let (below, rest) = layers.split_at_mut(i);
            let ((attended, fed), above) = rest.split_first_mut().expect("a layer of activations for each of weights");
            let x = below.last().map_or(&embedded.y, |(_, fed)| &fed.normed.y);
            let d_y = above.first().map_or(d_states, |(attended, _)| &attended.normed.sum);
            feed_forward.backward(pass, d_y, &attended.normed.y, fed);
            attention.backward(pass, &fed.normed.sum, (x, src, None), (x, src, None), attended);
        }
        let d_y = layers.first().map_or(d_states, |(attended, _)| &attended.normed.sum);
        self.embedding.backward(pass, d_y, embedded);
    }
}

/// Self-attention, cross-attention and feed-forward network.
#[derive(Debug)]
struct DecoderLayer {
    self_attention: Attention,
    cross_attention: Attention,
    feed_forward: FeedForward,
}

/// The activations that [`DecoderLayer`] keeps for its backward pass.
#[derive(Debug, Default)]
struct DecodedLayer {
    own: Attended,
    cross: Attended,
    fed: Fed,
}

/// The embedding, then layers that attend to the target so far and to the encoder's states.
#[derive(Debug)]
pub(super) struct Decoder {
    pub(super) embedding: Embedding,
    layers: Vec<DecoderLayer>,
    query: CrossAttentionQuery,
}

/// The activations that [`Decoder`] keeps for its backward pass.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    pub(super) embedded: Normed,
    layers: Vec<DecodedLayer>,
    d_x: Buffer,
}

impl Decoded {
    /// The decoder's states, `[rows, d_model]`.
    pub(super) fn states(&self) -> &[f32] {
        self.layers.last().map_or(&self.embedded.y, |layer| &layer.fed.normed.y)
    }
}

impl Decoder {
    pub(super) fn new(places: &HostPlaces, config: &TransformerConfig) -> Result<Self> {
        let StackConfig { d_model, n_heads, n_layers, .. } = config.decoder;
        let layer = |i| {
            let name = |part: &str| format!("decoder.layers.{i}.{part}");
            let attention = |part, d_memory, causality| {
                Attention::new(places, &name(part), [d_model, d_memory], n_heads, causality)
            };
            Ok(DecoderLayer {
                self_attention: attention("self_attention", d_model, Causality::Causal)?,
                cross_attention: attention("cross_attention", config.encoder.d_model, Causality::Full)?,
                feed_forward: FeedForward::new(places, &name("feed_forward"), d_model, config.decoder.d_ff())?,
            })
        };
        Ok(Self {
            embedding: Embedding::new(places, "decoder.embedding", config, d_model)?,
            layers: (0..n_layers).map(layer).collect::<Result<_>>()?,
            query: config.cross_attention_query,
        })
    }

    /// `memory` holds the encoder's states for `src`, `[rows, d_memory]`.
    pub(super) fn forward(&self, weights: &[f32], (memory, src): (&[f32], &Packed), tgt: &Packed, kept: &mut Decoded) {
        let Decoded { embedded, layers, .. } = kept;
        layers.resize_with(self.layers.len(), Default::default);
        self.embedding.forward(weights, tgt, embedded);
        let mut x = &embedded.y;
        for (layer, DecodedLayer { own, cross, fed }) in self.layers.iter().zip(layers) {
            layer.self_attention.forward(weights, (x, tgt), (x, tgt), x, own);
            let y = &own.normed.y;
            let query = match self.query {
                CrossAttentionQuery::SelfAttended => y,
                CrossAttentionQuery::LayerInput => x,
            };
            layer.cross_attention.forward(weights, (query, tgt), (memory, src), y, cross);
            layer.feed_forward.forward(weights, &cross.normed.y, fed);
            x = &fed.normed.y;
        }
    }

    /// Adds the gradient of the memory to `d_memory`, and leaves that of each embedded row in `kept.embedded.sum`.
    pub(super) fn backward(
        &self,
        pass: &mut Backward<'_>,
        d_states: &[f32],
        (memory, src, d_memory): (&[f32], &Packed, &mut [f32]),
        tgt: &Packed,
        kept: &mut Decoded,
    ) {
        let Decoded { embedded, layers, d_x } = kept;
        for (i, layer) in self.layers.iter().enumerate().rev() {
            let (below, rest) = layers.split_at_mut(i);
            let (kept, above) = rest.split_first_mut().expect("a layer of activations for each of weights");
            let DecodedLayer { own, cross, fed } = kept;
            let x = below.last().map_or(&embedded.y, |layer| &layer.fed.normed.y);
            let d_y = above.first().map_or(d_states, |layer| &layer.own.normed.sum);
            layer.feed_forward.backward(pass, d_y, &cross.normed.y, fed);
            let (query, d_query) = match self.query {
                CrossAttentionQuery::SelfAttended => (&own.normed.y, None),
                CrossAttentionQuery::LayerInput => (x, Some(d_x.zeros(x.len()))),
            };
            let memory = (memory, src, Some(&mut *d_memory));
            layer.cross_attention.backward(pass, &fed.normed.sum, (query, tgt, d_query), memory, cross);
            layer.self_attention.backward(pass, &cross.normed.sum, (x, tgt, None), (x, tgt, None), own);
            if self.query == CrossAttentionQuery::LayerInput {
                own.normed.sum.iter_mut().zip(&**d_x).for_each(|(sum, d_x)| *sum += d_x);
            }
        }
        let d_y = layers.first().map_or(d_states, |layer| &layer.own.normed.sum);
        self.embedding.backward(pass, d_y, embedded);
    }
}
