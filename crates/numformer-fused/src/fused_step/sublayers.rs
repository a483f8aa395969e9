//! The sublayers of encoder and decoder, forward and backward: y = LN(x + f(x)).
//!
//! Each sublayer keeps what its backward pass needs. The backward pass leaves the gradient of the residual `x` in
//! `sum`, where the next backward pass finds it. `[rows, ..]` are the tokens of a microbatch, one after another.

use candle_core::Result;
use numformer_model::LayerNorm;
use numformer_ops::kernels::{
    AttentionShape, Store, add_layer_norm_rows, layer_norm_gradients, layer_norm_rows, linear_input_gradient,
    linear_parameter_gradients, linear_rows, relu_gradient,
};
use numformer_ops::{Activation, Causality};

use super::arena::{Buffer, Packed, rows};
use super::places::{HostPlaces, Pair, PartGradients};

/// What a backward pass reads and writes, apart from activations.
#[derive(Debug)]
pub(super) struct Backward<'a> {
    /// All weights.
    pub(super) weights: &'a [f32],
    /// Where the gradients of the parameters are written.
    pub(super) gradients: PartGradients<'a>,
    /// Whether this microbatch replaces the gradients (the first one does) or adds to those of earlier ones.
    pub(super) store: Store,
    /// Scratch space.
    pub(super) scratch: &'a mut Scratch,
}

/// Scratch space for gradients of activations.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    read: Buffer,
    query: Buffer,
    key: Buffer,
    value: Buffer,
    scores: Buffer,
    hidden: Buffer,
}

/// An affine map, y = x·Wᵀ + b.
#[derive(Clone, Debug)]
pub(super) struct Affine {
    pair: Pair,
    d_in: usize,
}

impl Affine {
    pub(super) fn new(places: &HostPlaces, name: &str, [d_in, d_out]: [usize; 2]) -> Result<Self> {
        Ok(Self { pair: places.pair(name, &[d_out, d_in])?, d_in })
    }

    pub(super) fn forward(&self, weights: &[f32], x: &[f32], activation: Activation, y: &mut Buffer) {
        let bias = self.pair.bias(weights);
        let y = y.sized(x.len() / self.d_in * bias.len());
        linear_rows(y, x, self.pair.weight(weights), bias, activation);
    }

    /// The gradients of weight and bias.
    fn gradients(&self, pass: &mut Backward<'_>, d_y: &[f32], x: &[f32]) {
        let [d_weight, d_bias] = self.pair.gradients(&mut pass.gradients);
        linear_parameter_gradients(d_weight, d_bias, pass.store, d_y, x);
    }

    /// Adds the gradient of the input to `d_x`.
    fn add_input_gradient(&self, weights: &[f32], d_y: &[f32], d_x: &mut [f32]) {
        linear_input_gradient(d_x, Store::Add, d_y, self.pair.weight(weights), self.d_in);
    }

    /// Writes the gradient of the input to `d_x`.
    fn input_gradient(&self, weights: &[f32], d_y: &[f32], d_x: &mut Buffer) {
        let weight = self.pair.weight(weights);
        let d_x = d_x.sized(d_y.len() / (weight.len() / self.d_in) * self.d_in);
        linear_input_gradient(d_x, Store::Replace, d_y, weight, self.d_in);
    }
}

/// A layer norm, with its parameters.
#[derive(Clone, Debug)]
pub(super) struct Norm(Pair);

impl Norm {
    pub(super) fn new(places: &HostPlaces, name: &str, d_model: usize) -> Result<Self> {
        places.pair(name, &[d_model]).map(Self)
    }

    /// Adds `residual` to `activations.sum` and normalises it.
    fn add_forward(&self, weights: &[f32], residual: &[f32], activations: &mut Normed) {
        let Normed { sum, moments, y } = activations;
        let (weight, bias) = (self.0.weight(weights), self.0.bias(weights));
        moments.resize(sum.len() / weight.len(), [0.0; 2]);
        add_layer_norm_rows(y.sized(sum.len()), sum, residual, moments, weight, bias, LayerNorm::EPS as f32);
    }

    /// Normalises `activations.sum`.
    pub(super) fn forward(&self, weights: &[f32], activations: &mut Normed) {
        let Normed { sum, moments, y } = activations;
        let (weight, bias) = (self.0.weight(weights), self.0.bias(weights));
        moments.resize(sum.len() / weight.len(), [0.0; 2]);
        layer_norm_rows(y.sized(sum.len()), sum, moments, weight, bias, LayerNorm::EPS as f32);
    }

    /// Replaces `activations.sum` by its gradient.
    pub(super) fn backward(&self, pass: &mut Backward<'_>, d_y: &[f32], activations: &mut Normed) {
        let [d_weight, d_bias] = self.0.gradients(&mut pass.gradients);
        let weight = self.0.weight(pass.weights);
        layer_norm_gradients(&mut activations.sum, d_weight, d_bias, pass.store, &activations.moments, weight, d_y);
    }
}

/// The activations that a layer norm keeps for its backward pass.
#[derive(Debug, Default)]
pub(super) struct Normed {
    /// The input of the normalisation, `[rows, d]`; after the backward pass, its gradient.
    pub(super) sum: Buffer,
    /// Mean and 1/√(variance + ε) of each row.
    moments: Vec<[f32; 2]>,
    /// The output, `[rows, d]`.
    pub(super) y: Buffer,
}

/// Multi-head attention from the tokens of a sequence to those of a memory.
#[derive(Clone, Debug)]
pub(super) struct Attention {
    query: Affine,
    key: Affine,
    value: Affine,
    output: Affine,
    norm: Norm,
    n_heads: usize,
    d_model: usize,
    causality: Causality,
}

/// The activations that [`Attention`] keeps for its backward pass.
#[derive(Debug, Default)]
pub(super) struct Attended {
    query: Buffer,
    key: Buffer,
    value: Buffer,
    probabilities: Buffer,
    read: Buffer,
    pub(super) normed: Normed,
}

impl Attention {
    /// The sublayer whose parameter names begin with `name`, over a memory of width `d_memory`.
    pub(super) fn new(
        places: &HostPlaces,
        name: &str,
        [d_model, d_memory]: [usize; 2],
        n_heads: usize,
        causality: Causality,
    ) -> Result<Self> {
        let affine = |part: &str, d_in| Affine::new(places, &format!("{name}.{part}"), [d_in, d_model]);
        Ok(Self {
            query: affine("query", d_model)?,
            key: affine("key", d_memory)?,
            value: affine("value", d_memory)?,
            output: affine("output", d_model)?,
            norm: Norm::new(places, &format!("{name}_norm"), d_model)?,
            n_heads,
            d_model,
            causality,
        })
    }

    fn shape(&self, t: usize, s: usize) -> AttentionShape {
        AttentionShape { t, s, n_heads: self.n_heads, width: self.d_model }
    }

    /// `y = LN(r + W_o·attention(W_q·x, W_k·m, W_v·m))`, where `x` `[rows, d_model]` are the queries' states, `m`
    /// `[memory rows, d_memory]` is the memory and `r` the residual.
    pub(super) fn forward(
        &self,
        weights: &[f32],
        (x, queries): (&[f32], &Packed),
        (memory, keys): (&[f32], &Packed),
        residual: &[f32],
        kept: &mut Attended,
    ) {
        let Attended { query, key, value, probabilities, read, normed } = kept;
        self.query.forward(weights, x, Activation::Identity, query);
        self.key.forward(weights, memory, Activation::Identity, key);
        self.value.forward(weights, memory, Activation::Identity, value);

        let d = self.d_model;
        let scores = queries.ranges().zip(keys.ranges()).map(|(q, k)| self.shape(q.len(), k.len()).scores_len());
        let mut probabilities = probabilities.sized(scores.sum());
        let read = read.sized(x.len());
        for (q, k) in queries.ranges().zip(keys.ranges()) {
            let shape = self.shape(q.len(), k.len());
            let (own, rest) = probabilities.split_at_mut(shape.scores_len());
            probabilities = rest;
            let (q, k) = (rows(&q, d), rows(&k, d));
            shape.forward(self.causality, &mut read[q.clone()], [&query[q], &key[k.clone()], &value[k]], own);
        }

        self.output.forward(weights, read, Activation::Identity, &mut normed.sum);
        self.norm.add_forward(weights, residual, normed);
    }

    /// Leaves the gradient of the residual in `kept.normed.sum`. The gradients of the queries' states and of the memory
    /// are added to the buffers given for them, or to the gradient of the residual if they are the same states.
    pub(super) fn backward(
        &self,
        pass: &mut Backward<'_>,
        d_y: &[f32],
        (x, queries, d_x): (&[f32], &Packed, Option<&mut [f32]>),
        (memory, keys, d_memory): (&[f32], &Packed, Option<&mut [f32]>),
        kept: &mut Attended,
    ) {
        let Attended { query, key, value, probabilities, read, normed } = kept;
        self.norm.backward(pass, d_y, normed);
        let d_sum = &mut normed.sum;
        self.output.gradients(pass, d_sum, read);

        let d = self.d_model;
        let Scratch { read: d_read, query: d_query, key: d_key, value: d_value, scores: d_scores, .. } = pass.scratch;
        self.output.input_gradient(pass.weights, d_sum, d_read);
        d_query.sized(query.len());
        d_key.sized(key.len());
        d_value.sized(value.len());
        let mut probabilities = &probabilities[..];
        for (q, k) in queries.ranges().zip(keys.ranges()) {
            let shape = self.shape(q.len(), k.len());
            let (own, rest) = probabilities.split_at(shape.scores_len());
            probabilities = rest;
            let (q, k) = (rows(&q, d), rows(&k, d));
            shape.backward(
                [&mut d_query[q.clone()], &mut d_key[k.clone()], &mut d_value[k.clone()]],
                [&query[q.clone()], &key[k.clone()], &value[k]],
                own,
                &d_read[q],
                d_scores.sized(shape.head_scores_len()),
            );
        }

        // The buffers leave `scratch` while the gradients are written, because `pass` is borrowed as a whole below.
        let [d_query, d_key, d_value] = [d_query, d_key, d_value].map(std::mem::take);
        self.query.gradients(pass, &d_query, x);
        self.key.gradients(pass, &d_key, memory);
        self.value.gradients(pass, &d_value, memory);
        self.query.add_input_gradient(pass.weights, &d_query, d_x.unwrap_or(d_sum));
        let d_memory = d_memory.unwrap_or(d_sum);
        self.key.add_input_gradient(pass.weights, &d_key, d_memory);
        self.value.add_input_gradient(pass.weights, &d_value, d_memory);
        (pass.scratch.query, pass.scratch.key, pass.scratch.value) = (d_query, d_key, d_value);
    }
}

/// The feed-forward network.
#[derive(Clone, Debug)]
pub(super) struct FeedForward {
    up: Affine,
    down: Affine,
    norm: Norm,
}

/// The activations that [`FeedForward`] keeps for its backward pass.
#[derive(Debug, Default)]
pub(super) struct Fed {
    hidden: Buffer,
    pub(super) normed: Normed,
}

impl FeedForward {
    /// The sublayer whose parameter names begin with `name`.
    pub(super) fn new(places: &HostPlaces, name: &str, d_model: usize, d_ff: usize) -> Result<Self> {
        Ok(Self {
            up: Affine::new(places, &format!("{name}.up"), [d_model, d_ff])?,
            down: Affine::new(places, &format!("{name}.down"), [d_ff, d_model])?,
            norm: Norm::new(places, &format!("{name}_norm"), d_model)?,
        })
    }

    /// y = LN(x + W₂·relu(W₁·x + b₁) + b₂), where `x` is `[rows, d_model]`.
    pub(super) fn forward(&self, weights: &[f32], x: &[f32], kept: &mut Fed) {
        let Fed { hidden, normed } = kept;
        self.up.forward(weights, x, Activation::Relu, hidden);
        self.down.forward(weights, hidden, Activation::Identity, &mut normed.sum);
        self.norm.add_forward(weights, x, normed);
    }

    /// Leaves the gradient of `x` in `kept.normed.sum`.
    pub(super) fn backward(&self, pass: &mut Backward<'_>, d_y: &[f32], x: &[f32], kept: &mut Fed) {
        let Fed { hidden, normed } = kept;
        self.norm.backward(pass, d_y, normed);
        let d_sum = &mut normed.sum;
        self.down.gradients(pass, d_sum, hidden);
        let mut d_hidden = std::mem::take(&mut pass.scratch.hidden);
        self.down.input_gradient(pass.weights, d_sum, &mut d_hidden);
        relu_gradient(&mut d_hidden, hidden);
        self.up.gradients(pass, &d_hidden, x);
        self.up.add_input_gradient(pass.weights, &d_hidden, d_sum);
        pass.scratch.hidden = d_hidden;
    }
}
