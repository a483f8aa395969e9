//! A few examples, and the model that they pass through.

use std::ops::Range;

use candle_core::Result;
use numformer_model::{OutputProjection, TransformerConfig};
use numformer_ops::kernels::{Operand, ProjectionLoss, Store, Threads, for_each};

use super::arena::{Buffer, Packed};
use super::places::{HostPlaces, Pair, PartGradients};
use super::stacks::{Decoded, Decoder, Embedding, Encoded, Encoder};
use super::sublayers::{Affine, Backward, Packing, Scratch, States};

/// The places of all weights of the model.
#[derive(Debug)]
pub(super) struct Model<E> {
    config: TransformerConfig,
    encoder: Encoder<E>,
    decoder: Decoder<E>,
    /// Weight and bias of the output projection among all weights.
    projection: [Range<usize>; 2],
    /// The same pair with its private gradients, if it has any.
    private_projection: Option<Pair>,
}

impl<E: Operand> Model<E> {
    pub(super) fn new(places: &HostPlaces, config: &TransformerConfig) -> Result<Self> {
        let decoder = Decoder::new(places, config)?;
        let weight = match config.output_projection {
            OutputProjection::Shared => "decoder.embedding.tokens.weight",
            OutputProjection::Separate => "projection.weight",
        };
        let bias = "projection.bias";
        let shape = [config.vocab_size, config.decoder.d_model];
        Ok(Self {
            config: config.clone(),
            encoder: Encoder::new(places, config)?,
            projection: [places.weights(weight, &shape)?, places.weights(bias, &shape[..1])?],
            private_projection: places.pair_of(weight, bias, &shape)?,
            decoder,
        })
    }

    pub(super) fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// Packs the weights of all affine maps, on all threads. This precedes a forward pass with new weights.
    pub(super) fn pack(&mut self, weights: &[f32]) {
        let maps = self.encoder.affine_maps().chain(self.decoder.affine_maps());
        let packings: Vec<_> = maps.flat_map(|map: &mut Affine<E>| map.packing(weights)).collect();
        for_each(packings.into_iter(), Packing::run);
    }

    pub(super) fn encoder_embedding(&self) -> &Embedding {
        &self.encoder.embedding
    }

    pub(super) fn decoder_embedding(&self) -> &Embedding {
        &self.decoder.embedding
    }

    /// Weight and bias of the output projection among all weights.
    pub(super) fn projection(&self) -> [Range<usize>; 2] {
        self.projection.clone()
    }
}

/// A few examples, with everything that is kept between the forward and the backward pass.
#[derive(Debug, Default)]
pub(super) struct Microbatch<E> {
    src: Packed,
    /// The decoder's input: all but the last token of each target.
    tgt: Packed,
    /// The tokens to predict: all but the first of each target, `None` where a token does not count.
    targets: Vec<Option<usize>>,
    encoded: Encoded<E>,
    decoded: Decoded<E>,
    d_states: Buffer<f32>,
    d_memory: Buffer<f32>,
    scratch: Scratch<E>,
}

impl<E: Operand> Microbatch<E> {
    /// Loads examples: sources, the decoder's inputs, and the tokens to predict.
    pub(super) fn load<'a, P: Iterator<Item = Option<usize>>>(
        &mut self,
        examples: impl Iterator<Item = (&'a [u32], &'a [u32], P)>,
    ) {
        self.src.clear();
        self.tgt.clear();
        self.targets.clear();
        for (src, tgt, targets) in examples {
            self.src.push(src);
            self.tgt.push(tgt);
            self.targets.extend(targets);
        }
    }

    /// Runs the forward pass and returns the decoder's states, `[rows, d_model]`.
    pub(super) fn forward(&mut self, model: &Model<E>, weights: &[f32]) -> States<'_, E> {
        let Self { src, tgt, encoded, decoded, scratch, .. } = self;
        model.encoder.forward(weights, src, scratch, encoded);
        model.decoder.forward(weights, (encoded.states().operand, src), tgt, scratch, decoded);
        decoded.states()
    }

    pub(super) fn states_len(&self) -> usize {
        self.decoded.states().exact.len()
    }

    /// Computes the projection, the loss and the backward pass. Returns the sum of the loss over the tokens; in the
    /// gradients, each token counts `share`.
    pub(super) fn project_and_backward(
        &mut self,
        model: &Model<E>,
        weights: &[f32],
        mut gradients: PartGradients<'_>,
        store: Store,
        share: f32,
    ) -> f64 {
        let projection = model.private_projection.as_ref().expect("a small projection has private gradients");
        let [d_weight, d_bias] = projection.gradients(&mut gradients);
        if store == Store::Replace {
            d_weight.fill(0.0);
            d_bias.fill(0.0);
        }
        let (weight, bias) = (projection.weight(weights), projection.bias(weights));
        let pass = ProjectionLoss { weight, bias, share, threads: Threads::One };
        let states = self.decoded.states().operand;
        let mut d_states = std::mem::take(&mut self.d_states);
        d_states.sized(states.len());
        let loss = match self.targets.is_empty() {
            true => 0.0,
            false => pass.run(states, &self.targets, Some([&mut d_states, d_weight, d_bias])),
        };
        self.backward(model, weights, gradients, store, &d_states);
        self.d_states = d_states;
        loss
    }

    /// The backward pass, starting from the gradient of the decoder's states.
    pub(super) fn backward(
        &mut self,
        model: &Model<E>,
        weights: &[f32],
        gradients: PartGradients<'_>,
        store: Store,
        d_states: &[f32],
    ) {
        let Self { src, tgt, encoded, decoded, d_memory, scratch, .. } = self;
        let mut pass = Backward { weights, gradients, store, scratch };
        let memory = encoded.states().operand;
        let d_memory = d_memory.zeros(encoded.states().exact.len());
        model.decoder.backward(&mut pass, d_states, (memory, src, d_memory), tgt, decoded);
        model.encoder.backward(&mut pass, d_memory, src, encoded);
    }

    /// The gradients of the embedded rows of source and target, `[rows, d_model]`, after the backward pass.
    pub(super) fn embedded_gradients(&self) -> [&[f32]; 2] {
        [&self.encoded.embedded.sum, &self.decoded.embedded.sum]
    }
}
