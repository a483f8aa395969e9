//! Embedding, encoder, decoder and projection on a device, forward and backward, in the order of the figure.

use std::ops::Range;

use candle_core::Result;
use numformer_model::{
    CrossAttentionQuery, OutputProjection, Positions, StackConfig, TransformerConfig, sinusoidal_positions,
};
use numformer_ops::device::{Accelerator, Element, Region};
use numformer_ops::kernels::Store;
use numformer_ops::{Activation, Causality};

use super::dropout::Dropped;
use super::inputs::{Inputs, Rows};
use super::places::DevicePlaces;
use super::sizes::Sizes;
use super::sublayers::{Affine, Attended, AttendedStep, Attention, Fed, FeedForward, Norm, Normed};
use super::vectors::{Pass, Take};

/// Token vectors and positions, summed and normalised.
#[derive(Debug)]
struct Embedding {
    tokens: Range<usize>,
    positions: PositionTable,
    norm: Norm,
    dropout: Option<Dropped>,
    d_model: usize,
}

#[derive(Debug)]
enum PositionTable {
    /// Learned vectors, at this range among the weights.
    Learned(Range<usize>),
    Fixed(Region),
}

impl Embedding {
    fn new(
        device: &mut Accelerator,
        places: &DevicePlaces,
        name: &str,
        config: &TransformerConfig,
        d_model: usize,
    ) -> Result<Self> {
        Ok(Self {
            tokens: places.range(&format!("{name}.tokens.weight"))?,
            positions: match config.positions {
                Positions::Learned => PositionTable::Learned(places.range(&format!("{name}.positions.weight"))?),
                Positions::Sinusoidal => {
                    let table = sinusoidal_positions(config.max_positions, d_model);
                    let region = device.reserve(Element::F32, table.len())?;
                    device.write(region, &table)?;
                    PositionTable::Fixed(region)
                }
            },
            norm: Norm::new(places, &format!("{name}.norm"))?,
            dropout: Dropped::new(config.dropout, name),
            d_model,
        })
    }

    /// Embeds the tokens of sequences of `sizes.t` tokens, which start at the position in the memory word `begin`, or
    /// at 0.
    fn forward(
        &self,
        pass: &mut Pass<'_>,
        sizes: Sizes,
        ids: Region,
        begin: Option<Region>,
        kept: &Normed,
    ) -> Result<()> {
        let tokens = pass.vectors.weights.slice(self.tokens.clone())?;
        let positions = match &self.positions {
            PositionTable::Learned(range) => pass.vectors.weights.slice(range.clone())?,
            PositionTable::Fixed(region) => *region,
        };
        pass.device.embed(kept.sum, ids, [tokens, positions], sizes.t, begin, self.d_model)?;
        self.norm.forward(pass, None, kept)?;
        self.dropout.map_or(Ok(()), |dropout| dropout.apply(pass, sizes, kept.y))
    }

    /// Adds the gradients of the rows to those of the tables, from that of the result in `d_y`, which is changed.
    /// `tokens` says whether the gradients of the token table are first set to zero.
    fn backward(
        &self,
        pass: &mut Pass<'_>,
        sizes: Sizes,
        d_y: Region,
        rows: &Rows,
        kept: &Normed,
        tokens: Store,
    ) -> Result<()> {
        self.dropout.map_or(Ok(()), |dropout| dropout.apply(pass, sizes, d_y))?;
        self.norm.backward(pass, d_y, kept)?;
        let table = pass.vectors.gradients.slice(self.tokens.clone())?;
        if tokens == Store::Replace {
            pass.device.clear(table)?;
        }
        pass.device.scatter(table, kept.d_sum, [rows.ids, rows.order], self.d_model)?;
        if let PositionTable::Learned(range) = &self.positions {
            let table = pass.vectors.gradients.slice(range.clone())?;
            pass.device.clear(table)?;
            pass.device.scatter(table, kept.d_sum, [rows.positions, rows.positions_order], self.d_model)?;
        }
        Ok(())
    }
}

/// The whole model: the places of its weights, in the order in which they are used.
#[derive(Debug)]
pub(super) struct Model {
    src: Embedding,
    encoder: Vec<(Attention, FeedForward)>,
    tgt: Embedding,
    decoder: Vec<DecoderLayer>,
    query: CrossAttentionQuery,
    projection: Affine,
    /// Whether the projection's weight is the decoder's token table.
    is_tied: bool,
    /// Widths of encoder and decoder.
    widths: [usize; 2],
}

/// Self-attention, cross-attention and feed-forward network.
#[derive(Debug)]
struct DecoderLayer {
    own: Attention,
    cross: Attention,
    fed: FeedForward,
}

/// The activations that the encoder keeps for a batch, with room for their gradients.
#[derive(Debug)]
pub(super) struct Encoded {
    embedded: Normed,
    layers: Vec<(Attended, Fed)>,
}

impl Encoded {
    /// The encoder's states.
    pub(super) fn states(&self) -> Region {
        self.layers.last().map_or(self.embedded.y, |(_, fed)| fed.normed.y)
    }
}

/// The values that the decoder keeps for one position of a batch, and for all earlier positions.
#[derive(Debug)]
pub(super) struct DecodedStep {
    embedded: Normed,
    layers: Vec<(AttendedStep, AttendedStep, Fed)>,
    pub(super) logits: Region,
}

/// The activations that the model keeps for a batch, with room for their gradients.
#[derive(Debug)]
pub(super) struct Kept {
    encoded: Encoded,
    tgt: Normed,
    decoder: Vec<(Attended, Attended, Fed)>,
    logits: Region,
    /// Cross-entropy of each row.
    pub(super) losses: Region,
    d_states: Region,
    d_memory: Region,
    /// The gradient of the queries' states, if they are not the states of the residual.
    d_query: Option<Region>,
}

impl Model {
    /// The model on a device, with room there for the partial sums of its products.
    pub(super) fn on(device: &mut Accelerator, places: &DevicePlaces, config: &TransformerConfig) -> Result<Self> {
        let widest = [config.encoder.d_ff(), config.decoder.d_ff(), config.vocab_size];
        let widest = widest.into_iter().chain([3 * config.encoder.d_model, 3 * config.decoder.d_model]).max();
        device.reserve_scratch(widest.unwrap_or(0))?;
        let encoder = |i| -> Result<_> {
            let StackConfig { d_model, n_heads, .. } = config.encoder;
            let name = |part: &str| format!("encoder.layers.{i}.{part}");
            Ok((
                Attention::own(places, &name("self_attention"), [d_model, n_heads], Causality::Full, config.dropout)?,
                FeedForward::new(places, &name("feed_forward"), [d_model, config.encoder.d_ff()], config.dropout)?,
            ))
        };
        let decoder = |i| -> Result<_> {
            let StackConfig { d_model, n_heads, .. } = config.decoder;
            let name = |part: &str| format!("decoder.layers.{i}.{part}");
            let (widths, dropout) = ([d_model, config.encoder.d_model], config.dropout);
            Ok(DecoderLayer {
                own: Attention::own(places, &name("self_attention"), [d_model, n_heads], Causality::Causal, dropout)?,
                cross: Attention::cross(places, &name("cross_attention"), widths, n_heads, dropout)?,
                fed: FeedForward::new(places, &name("feed_forward"), [d_model, config.decoder.d_ff()], dropout)?,
            })
        };
        let weight = match config.output_projection {
            OutputProjection::Shared => "decoder.embedding.tokens.weight",
            OutputProjection::Separate => "projection.weight",
        };
        let d_model = config.decoder.d_model;
        Ok(Self {
            src: Embedding::new(device, places, "encoder.embedding", config, config.encoder.d_model)?,
            encoder: (0..config.encoder.n_layers).map(encoder).collect::<Result<_>>()?,
            tgt: Embedding::new(device, places, "decoder.embedding", config, d_model)?,
            decoder: (0..config.decoder.n_layers).map(decoder).collect::<Result<_>>()?,
            query: config.cross_attention_query,
            projection: Affine::new(places.range(weight)?, places.range("projection.bias")?, d_model),
            is_tied: config.output_projection == OutputProjection::Shared,
            widths: [config.encoder.d_model, d_model],
        })
    }

    /// The sizes of the encoder's self-attention, the decoder's self-attention, and the attention to the memory.
    fn sizes(inputs: &Inputs) -> [Sizes; 3] {
        let Inputs { batch, src, tgt, .. } = *inputs;
        [(src, src), (tgt, tgt), (tgt, src)].map(|(of, to)| Sizes {
            batch,
            t: of.width,
            s: to.width,
            key_lengths: to.lengths,
            masks: Some(of.masks),
        })
    }

    pub(super) fn plan_encoder(&self, take: &mut Take<'_>, sizes: Sizes) -> Result<Encoded> {
        let rows = sizes.batch * sizes.t;
        let embedded = Normed::new(take, rows, self.widths[0], false)?;
        let mut layers = Vec::new();
        for (attention, fed) in &self.encoder {
            layers.push((attention.plan(take, sizes)?, fed.plan(take, rows)?));
        }
        Ok(Encoded { embedded, layers })
    }

    /// Plans one position of a batch, out of at most `longest`; sources have `src` tokens.
    pub(super) fn plan_step(
        &self,
        take: &mut Take<'_>,
        batch: usize,
        [longest, src]: [usize; 2],
        vocab_size: usize,
    ) -> Result<DecodedStep> {
        let embedded = Normed::new(take, batch, self.widths[1], false)?;
        let mut layers = Vec::new();
        for layer in &self.decoder {
            let own = layer.own.plan_step(take, batch, longest)?;
            layers.push((own, layer.cross.plan_step(take, batch, src)?, layer.fed.plan(take, batch)?));
        }
        Ok(DecodedStep { embedded, layers, logits: take.activations(batch * vocab_size)? })
    }

    pub(super) fn plan(&self, take: &mut Take<'_>, inputs: &Inputs, vocab_size: usize) -> Result<Kept> {
        let [of_encoder, own, cross] = Self::sizes(inputs);
        let [rows, tgt_rows] = [inputs.src, inputs.tgt].map(|rows| inputs.batch * rows.width);
        let [d, tgt_d] = self.widths;
        let encoded = self.plan_encoder(take, of_encoder)?;
        let tgt = Normed::new(take, tgt_rows, tgt_d, false)?;
        let mut decoder = Vec::new();
        for layer in &self.decoder {
            decoder.push((layer.own.plan(take, own)?, layer.cross.plan(take, cross)?, layer.fed.plan(take, tgt_rows)?));
        }
        Ok(Kept {
            encoded,
            tgt,
            decoder,
            logits: take.activations(tgt_rows * vocab_size)?,
            losses: take.numbers(tgt_rows)?,
            d_states: take.activations(tgt_rows * tgt_d)?,
            d_memory: take.activations(rows * d)?,
            d_query: match self.query {
                CrossAttentionQuery::SelfAttended => None,
                CrossAttentionQuery::LayerInput => Some(take.activations(tgt_rows * tgt_d)?),
            },
        })
    }

    /// Computes the losses of the rows and all gradients, for targets that are smoothed by the fraction `smoothing`.
    pub(super) fn forward_and_backward(
        &self,
        pass: &mut Pass<'_>,
        inputs: &Inputs,
        kept: &Kept,
        smoothing: f32,
    ) -> Result<()> {
        let states = self.forward(pass, inputs, kept)?;
        self.projection.forward(pass, states, Activation::Identity, kept.logits)?;
        pass.device.cross_entropy(kept.losses, kept.logits, inputs.targets, inputs.share, smoothing)?;
        self.projection.gradients(pass, kept.logits, None, states)?;
        self.projection.input_gradient(pass, kept.logits, Store::Replace, kept.d_states)?;
        self.backward(pass, inputs, kept)
    }

    /// Runs the forward pass and returns the decoder's states.
    fn forward(&self, pass: &mut Pass<'_>, inputs: &Inputs, kept: &Kept) -> Result<Region> {
        let [of_encoder, own_sizes, cross_sizes] = Self::sizes(inputs);
        self.encode(pass, of_encoder, inputs.src.ids, &kept.encoded)?;
        let memory = kept.encoded.states();
        self.tgt.forward(pass, own_sizes, inputs.tgt.ids, None, &kept.tgt)?;
        let mut x = kept.tgt.y;
        for (layer, (own, cross, fed)) in self.decoder.iter().zip(&kept.decoder) {
            layer.own.forward(pass, own_sizes, [x; 3], own)?;
            let y = own.normed.y;
            let query = match self.query {
                CrossAttentionQuery::SelfAttended => y,
                CrossAttentionQuery::LayerInput => x,
            };
            layer.cross.forward(pass, cross_sizes, [query, memory, y], cross)?;
            layer.fed.forward(pass, own_sizes, cross.normed.y, fed)?;
            x = fed.normed.y;
        }
        Ok(x)
    }

    /// Leaves the encoder's states in `kept`.
    pub(super) fn encode(&self, pass: &mut Pass<'_>, sizes: Sizes, ids: Region, kept: &Encoded) -> Result<()> {
        self.src.forward(pass, sizes, ids, None, &kept.embedded)?;
        let mut x = kept.embedded.y;
        for ((attention, feed_forward), (attended, fed)) in self.encoder.iter().zip(&kept.layers) {
            attention.forward(pass, sizes, [x; 3], attended)?;
            feed_forward.forward(pass, sizes, attended.normed.y, fed)?;
            x = fed.normed.y;
        }
        Ok(())
    }

    /// Prepares the keys and values of the encoder's states, which cross-attention needs at every position.
    pub(super) fn begin(&self, pass: &mut Pass<'_>, memory: Region, kept: &DecodedStep) -> Result<()> {
        self.decoder
            .iter()
            .zip(&kept.layers)
            .try_for_each(|(layer, (_, cross, _))| layer.cross.begin(pass, memory, cross))
    }

    /// The logits of one position, from the tokens `ids`. `position` and `ids` are in memory. `sizes` are those of the
    /// attention to the earlier positions and to the encoder's states.
    pub(super) fn decode_step(
        &self,
        pass: &mut Pass<'_>,
        ids: Region,
        position: Region,
        [own_sizes, cross_sizes]: [Sizes; 2],
        kept: &DecodedStep,
    ) -> Result<()> {
        self.tgt.forward(pass, own_sizes, ids, Some(position), &kept.embedded)?;
        let mut x = kept.embedded.y;
        for (layer, (own, cross, fed)) in self.decoder.iter().zip(&kept.layers) {
            layer.own.step(pass, own_sizes, [x; 2], position, own)?;
            let y = own.normed.y;
            let query = match self.query {
                CrossAttentionQuery::SelfAttended => y,
                CrossAttentionQuery::LayerInput => x,
            };
            layer.cross.step(pass, cross_sizes, [query, y], position, cross)?;
            layer.fed.forward(pass, own_sizes, cross.normed.y, fed)?;
            x = fed.normed.y;
        }
        self.projection.forward(pass, x, Activation::Identity, kept.logits)
    }

    /// Computes the gradients of all weights except the projection's, from the gradient of the decoder's states in
    /// `kept.d_states`.
    fn backward(&self, pass: &mut Pass<'_>, inputs: &Inputs, kept: &Kept) -> Result<()> {
        let [of_encoder, own_sizes, cross_sizes] = Self::sizes(inputs);
        let memory = kept.encoded.states();
        let mut d_y = kept.d_states;
        let mut store = Store::Replace;
        for (i, layer) in self.decoder.iter().enumerate().rev() {
            let (own, cross, fed) = &kept.decoder[i];
            let x = if i == 0 { kept.tgt.y } else { kept.decoder[i - 1].2.normed.y };
            layer.fed.backward(pass, own_sizes, d_y, cross.normed.y, fed)?;
            let query = match self.query {
                CrossAttentionQuery::SelfAttended => own.normed.y,
                CrossAttentionQuery::LayerInput => x,
            };
            let to_memory = (memory, kept.d_memory, store);
            let d_y_of_cross = fed.normed.d_sum;
            layer.cross.backward(pass, cross_sizes, d_y_of_cross, (query, kept.d_query), to_memory, cross)?;
            store = Store::Add;
            let d_sum = cross.normed.d_sum;
            layer.own.backward(pass, own_sizes, d_sum, (x, None), (x, own.normed.d_sum, Store::Add), own)?;
            if let Some(d_query) = kept.d_query {
                pass.device.add(own.normed.d_sum, d_query)?;
            }
            d_y = own.normed.d_sum;
        }
        let tokens = if self.is_tied { Store::Add } else { Store::Replace };
        self.tgt.backward(pass, own_sizes, d_y, &inputs.tgt, &kept.tgt, tokens)?;

        let mut d_y = kept.d_memory;
        for (i, (attention, feed_forward)) in self.encoder.iter().enumerate().rev() {
            let (attended, fed) = &kept.encoded.layers[i];
            let x = if i == 0 { kept.encoded.embedded.y } else { kept.encoded.layers[i - 1].1.normed.y };
            feed_forward.backward(pass, of_encoder, d_y, attended.normed.y, fed)?;
            let d_sum = attended.normed.d_sum;
            attention.backward(pass, of_encoder, fed.normed.d_sum, (x, None), (x, d_sum, Store::Add), attended)?;
            d_y = d_sum;
        }
        self.src.backward(pass, of_encoder, d_y, &inputs.src, &kept.encoded.embedded, Store::Replace)
    }
}
