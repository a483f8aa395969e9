//! Embedding, encoder and decoder, forward and backward, in the order of the figure.

use std::ops::Range;

use candle_core::Result;
use numformer_model::{CrossAttentionQuery, Positions, StackConfig, TransformerConfig, sinusoidal_positions};
use numformer_ops::Causality;
use numformer_ops::kernels::{Operand, embed_rows};

use super::arena::{Buffer, Packed, rows};
use super::places::HostPlaces;
use super::sublayers::{Affine, Attended, Attention, Backward, Fed, FeedForward, Norm, Normed, Scratch, States};

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

    fn forward<E: Operand>(&self, weights: &[f32], tokens: &Packed, kept: &mut Normed<E>) {
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
    fn backward<E: Operand>(&self, pass: &mut Backward<'_, E>, d_y: &[f32], kept: &mut Normed<E>) {
        self.norm.backward(pass, d_y, kept);
    }
}

/// The embedding, then layers of self-attention and a feed-forward network.
#[derive(Debug)]
pub(super) struct Encoder<E> {
    pub(super) embedding: Embedding,
    layers: Vec<(Attention<E>, FeedForward<E>)>,
}

/// The activations that [`Encoder`] keeps for its backward pass.
#[derive(Debug, Default)]
pub(super) struct Encoded<E> {
    pub(super) embedded: Normed<E>,
    layers: Vec<(Attended<E>, Fed<E>)>,
}

impl<E: Operand> Encoded<E> {
    /// The encoder's states, `[rows, d_model]`.
    pub(super) fn states(&self) -> States<'_, E> {
        self.layers.last().map_or(&self.embedded, |(_, fed)| &fed.normed).states()
    }
}

impl<E: Operand> Encoder<E> {
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

    /// All affine maps.
    pub(super) fn affine_maps(&mut self) -> impl Iterator<Item = &mut Affine<E>> {
        let layers = self.layers.iter_mut();
        layers.flat_map(|(attention, fed)| attention.affine_maps().into_iter().chain(fed.affine_maps()))
    }

    pub(super) fn forward(&self, weights: &[f32], src: &Packed, scratch: &mut Scratch<E>, kept: &mut Encoded<E>) {
        let Encoded { embedded, layers } = kept;
        layers.resize_with(self.layers.len(), Default::default);
        self.embedding.forward(weights, src, embedded);
        let mut x = embedded.states();
        for ((attention, feed_forward), (attended, fed)) in self.layers.iter().zip(layers) {
            attention.forward(weights, (x.operand, src), (x.operand, src), x.exact, scratch, attended);
            feed_forward.forward(weights, attended.normed.states(), fed);
            x = fed.normed.states();
        }
    }

    /// Leaves the gradient of each embedded row in `kept.embedded.sum`.
    pub(super) fn backward(&self, pass: &mut Backward<'_, E>, d_states: &[f32], src: &Packed, kept: &mut Encoded<E>) {
        let Encoded { embedded, layers } = kept;
        for (i, (attention, feed_forward)) in self.layers.iter().enumerate().rev() {
            let (below, rest) = layers.split_at_mut(i);
            let ((attended, fed), above) = rest.split_first_mut().expect("a layer of activations for each of weights");
            let x = below.last().map_or(&*embedded, |(_, fed)| &fed.normed).states().operand;
            let d_y = above.first().map_or(d_states, |(attended, _)| &attended.normed.sum);
            feed_forward.backward(pass, d_y, attended.normed.states().operand, fed);
            attention.backward(pass, &fed.normed.sum, (x, src, None), (x, src, None), attended);
        }
        let d_y = layers.first().map_or(d_states, |(attended, _)| &attended.normed.sum);
        self.embedding.backward(pass, d_y, embedded);
    }
}

/// Self-attention, cross-attention and feed-forward network.
#[derive(Debug)]
struct DecoderLayer<E> {
    self_attention: Attention<E>,
    cross_attention: Attention<E>,
    feed_forward: FeedForward<E>,
}

/// The activations that [`DecoderLayer`] keeps for its backward pass.
#[derive(Debug, Default)]
struct DecodedLayer<E> {
    own: Attended<E>,
    cross: Attended<E>,
    fed: Fed<E>,
}

/// The embedding, then layers that attend to the target so far and to the encoder's states.
#[derive(Debug)]
pub(super) struct Decoder<E> {
    pub(super) embedding: Embedding,
    layers: Vec<DecoderLayer<E>>,
    query: CrossAttentionQuery,
}

/// The activations that [`Decoder`] keeps for its backward pass.
#[derive(Debug, Default)]
pub(super) struct Decoded<E> {
    pub(super) embedded: Normed<E>,
    layers: Vec<DecodedLayer<E>>,
    d_x: Buffer<f32>,
}

impl<E: Operand> Decoded<E> {
    /// The decoder's states, `[rows, d_model]`.
    pub(super) fn states(&self) -> States<'_, E> {
        self.layers.last().map_or(&self.embedded, |layer| &layer.fed.normed).states()
    }
}

impl<E: Operand> Decoder<E> {
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

    /// All affine maps.
    pub(super) fn affine_maps(&mut self) -> impl Iterator<Item = &mut Affine<E>> {
        self.layers.iter_mut().flat_map(|DecoderLayer { self_attention, cross_attention, feed_forward }| {
            let attentions = [self_attention, cross_attention].into_iter().flat_map(Attention::affine_maps);
            attentions.chain(feed_forward.affine_maps())
        })
    }

    /// `memory` holds the encoder's states for `src`, `[rows, d_memory]`.
    pub(super) fn forward(
        &self,
        weights: &[f32],
        (memory, src): (&[E], &Packed),
        tgt: &Packed,
        scratch: &mut Scratch<E>,
        kept: &mut Decoded<E>,
    ) {
        let Decoded { embedded, layers, .. } = kept;
        layers.resize_with(self.layers.len(), Default::default);
        self.embedding.forward(weights, tgt, embedded);
        let mut x = embedded.states();
        for (layer, DecodedLayer { own, cross, fed }) in self.layers.iter().zip(layers) {
            layer.self_attention.forward(weights, (x.operand, tgt), (x.operand, tgt), x.exact, scratch, own);
            let y = own.normed.states();
            let query = match self.query {
                CrossAttentionQuery::SelfAttended => y,
                CrossAttentionQuery::LayerInput => x,
            };
            layer.cross_attention.forward(weights, (query.operand, tgt), (memory, src), y.exact, scratch, cross);
            layer.feed_forward.forward(weights, cross.normed.states(), fed);
            x = fed.normed.states();
        }
    }

    /// Adds the gradient of the memory to `d_memory`, and leaves that of each embedded row in `kept.embedded.sum`.
    pub(super) fn backward(
        &self,
        pass: &mut Backward<'_, E>,
        d_states: &[f32],
        (memory, src, d_memory): (&[E], &Packed, &mut [f32]),
        tgt: &Packed,
        kept: &mut Decoded<E>,
    ) {
        let Decoded { embedded, layers, d_x } = kept;
        for (i, layer) in self.layers.iter().enumerate().rev() {
            let (below, rest) = layers.split_at_mut(i);
            let (kept, above) = rest.split_first_mut().expect("a layer of activations for each of weights");
            let DecodedLayer { own, cross, fed } = kept;
            let x = below.last().map_or(&*embedded, |layer| &layer.fed.normed).states();
            let d_y = above.first().map_or(d_states, |layer| &layer.own.normed.sum);
            layer.feed_forward.backward(pass, d_y, cross.normed.states().operand, fed);
            let (query, d_query) = match self.query {
                CrossAttentionQuery::SelfAttended => (own.normed.states().operand, None),
                CrossAttentionQuery::LayerInput => (x.operand, Some(d_x.zeros(x.exact.len()))),
            };
            let memory = (memory, src, Some(&mut *d_memory));
            layer.cross_attention.backward(pass, &fed.normed.sum, (query, tgt, d_query), memory, cross);
            let x = x.operand;
            layer.self_attention.backward(pass, &cross.normed.sum, (x, tgt, None), (x, tgt, None), own);
            if self.query == CrossAttentionQuery::LayerInput {
                own.normed.sum.iter_mut().zip(&**d_x).for_each(|(sum, d_x)| *sum += d_x);
            }
        }
        let d_y = layers.first().map_or(d_states, |layer| &layer.own.normed.sum);
        self.embedding.backward(pass, d_y, embedded);
    }
}
