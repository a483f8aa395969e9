//! The sublayers of encoder and decoder, forward and backward: y = LN(x + f(x)).
//!
//! Each sublayer keeps what its backward pass needs. The backward pass leaves the gradient of the residual `x` in
//! `sum`, where the next backward pass finds it. `[rows, ..]` are the tokens of a microbatch, one after another. `E` is
//! the type of the operands of products; what is only an operand is kept in this type alone.

use candle_core::Result;
use numformer_model::LayerNorm;
use numformer_ops::kernels::{
    AttentionRoom, AttentionShape, Operand, Panels, Store, layer_norm_gradients, layer_norm_rows,
    linear_input_gradient, linear_parameter_gradients, linear_relu_input_gradient, linear_rows, linear_rows_add,
};
use numformer_ops::{Activation, Causality};

use super::arena::{Buffer, Packed, rows};
use super::places::{HostPlaces, Pair, PartGradients};

/// What a backward pass reads and writes, apart from activations.
#[derive(Debug)]
pub(super) struct Backward<'a, E> {
    /// All weights.
    pub(super) weights: &'a [f32],
    /// Where the gradients of the parameters are written.
    pub(super) gradients: PartGradients<'a>,
    /// Whether this microbatch replaces the gradients (the first one does) or adds to those of earlier ones.
    pub(super) store: Store,
    /// Scratch space.
    pub(super) scratch: &'a mut Scratch<E>,
}

/// Scratch space for gradients of activations.
#[derive(Debug, Default)]
pub(super) struct Scratch<E> {
    read: Buffer<E>,
    query: Buffer<E>,
    key: Buffer<E>,
    value: Buffer<E>,
    hidden: Buffer<E>,
    room: AttentionRoom<E>,
    /// Inputs of affine maps, packed for the gradients of their weights.
    packed: Panels<E>,
    packed_memory: Panels<E>,
}

/// States that are added to others in single precision, and are also the operand of products.
#[derive(Clone, Copy, Debug)]
pub(super) struct States<'a, E> {
    pub(super) exact: &'a [f32],
    pub(super) operand: &'a [E],
}

/// An affine map, y = x·Wᵀ + b.
#[derive(Debug)]
pub(super) struct Affine<E> {
    pair: Pair,
    d_in: usize,
    /// The weight and its transpose, packed from the current weights.
    weight: Panels<E>,
    weight_t: Panels<E>,
}

impl<E: Operand> Affine<E> {
    pub(super) fn new(places: &HostPlaces, name: &str, [d_in, d_out]: [usize; 2]) -> Result<Self> {
        let pair = places.pair(name, &[d_out, d_in])?;
        Ok(Self { pair, d_in, weight: Panels::default(), weight_t: Panels::default() })
    }

    /// The two packings of the weight, as tasks that threads can share.
    pub(super) fn packing<'a>(&'a mut self, weights: &'a [f32]) -> [Packing<'a, E>; 2] {
        let (weight, columns) = (self.pair.weight(weights), self.d_in);
        [
            Packing { panels: &mut self.weight, weight, columns, is_transposed: false },
            Packing { panels: &mut self.weight_t, weight, columns, is_transposed: true },
        ]
    }

    fn forward(&self, weights: &[f32], x: &[E], activation: Activation, y: &mut Buffer<E>) {
        let bias = self.pair.bias(weights);
        linear_rows(y.sized(x.len() / self.d_in * bias.len()), x, &self.weight_t, bias, activation);
    }

    /// Writes the sum of a residual and what the map makes of `x`.
    fn forward_add(&self, weights: &[f32], x: &[E], residual: &[f32], y: &mut Buffer<f32>) {
        linear_rows_add(y.sized(residual.len()), x, &self.weight_t, self.pair.bias(weights), residual);
    }

    /// The gradients of weight and bias.
    fn gradients(&self, pass: &mut Backward<'_, E>, d_y: &[E], x: &Panels<E>) {
        let [d_weight, d_bias] = self.pair.gradients(&mut pass.gradients);
        linear_parameter_gradients(d_weight, d_bias, pass.store, d_y, x);
    }

    /// Adds the gradient of the input to `d_x`.
    fn add_input_gradient(&self, d_y: &[E], d_x: &mut [f32]) {
        linear_input_gradient(d_x, Store::Add, d_y, &self.weight);
    }

    /// Writes the gradient of the input to `d_x`, for an input of `rows` rows.
    fn input_gradient(&self, d_y: &[E], rows: usize, d_x: &mut Buffer<E>) {
        linear_input_gradient(d_x.sized(rows * self.d_in), Store::Replace, d_y, &self.weight);
    }
}

/// A weight to pack.
#[derive(Debug)]
pub(super) struct Packing<'a, E> {
    panels: &'a mut Panels<E>,
    weight: &'a [f32],
    columns: usize,
    is_transposed: bool,
}

impl<E: Operand> Packing<'_, E> {
    pub(super) fn run(self) {
        if self.is_transposed {
            self.panels.pack_transpose(self.weight, self.columns);
        } else {
            self.panels.pack_rows(self.weight, self.columns);
        }
    }
}

/// A layer norm, with its parameters.
#[derive(Clone, Debug)]
pub(super) struct Norm(Pair);

impl Norm {
    pub(super) fn new(places: &HostPlaces, name: &str, d_model: usize) -> Result<Self> {
        places.pair(name, &[d_model]).map(Self)
    }

    /// Normalises `activations.sum`.
    pub(super) fn forward<E: Operand>(&self, weights: &[f32], activations: &mut Normed<E>) {
        let Normed { sum, moments, y, rounded } = activations;
        let (weight, bias) = (self.0.weight(weights), self.0.bias(weights));
        moments.resize(sum.len() / weight.len(), [0.0; 2]);
        let rounded = rounded.sized(E::rounded_len(sum.len()));
        layer_norm_rows(y.sized(sum.len()), rounded, sum, moments, weight, bias, LayerNorm::EPS as f32);
    }

    /// Replaces `activations.sum` by its gradient.
    pub(super) fn backward<E: Operand>(&self, pass: &mut Backward<'_, E>, d_y: &[f32], activations: &mut Normed<E>) {
        let Normed { sum, moments, rounded, .. } = activations;
        let parameters = self.0.gradients(&mut pass.gradients);
        layer_norm_gradients(sum, rounded, parameters, pass.store, moments, self.0.weight(pass.weights), d_y);
    }
}

/// The activations that a layer norm keeps for its backward pass.
#[derive(Debug, Default)]
pub(super) struct Normed<E> {
    /// The input of the normalisation, `[rows, d]`; after the backward pass, its gradient.
    pub(super) sum: Buffer<f32>,
    /// Mean and 1/√(variance + ε) of each row.
    moments: Vec<[f32; 2]>,
    /// The output, `[rows, d]`.
    y: Buffer<f32>,
    /// The output as an operand, after the backward pass the gradient; empty if the operands are `f32`.
    rounded: Buffer<E>,
}

impl<E: Operand> Normed<E> {
    /// The output.
    pub(super) fn states(&self) -> States<'_, E> {
        States { exact: &self.y, operand: E::either(&self.y, &self.rounded) }
    }

    /// The gradient of the sum as an operand, after the backward pass of the norm.
    fn gradient(&self) -> &[E] {
        E::either(&self.sum, &self.rounded)
    }
}

/// Multi-head attention from the tokens of a sequence to those of a memory.
#[derive(Debug)]
pub(super) struct Attention<E> {
    query: Affine<E>,
    key: Affine<E>,
    value: Affine<E>,
    output: Affine<E>,
    norm: Norm,
    n_heads: usize,
    d_model: usize,
    causality: Causality,
}

/// The activations that [`Attention`] keeps for its backward pass.
#[derive(Debug, Default)]
pub(super) struct Attended<E> {
    query: Buffer<E>,
    key: Buffer<E>,
    value: Buffer<E>,
    probabilities: Buffer<E>,
    read: Buffer<E>,
    pub(super) normed: Normed<E>,
}

impl<E: Operand> Attention<E> {
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

    pub(super) fn affine_maps(&mut self) -> [&mut Affine<E>; 4] {
        [&mut self.query, &mut self.key, &mut self.value, &mut self.output]
    }

    fn shape(&self, t: usize, s: usize) -> AttentionShape {
        AttentionShape { t, s, n_heads: self.n_heads, width: self.d_model }
    }

    /// `y = LN(r + W_o·attention(W_q·x, W_k·m, W_v·m))`, where `x` `[rows, d_model]` are the queries' states, `m`
    /// `[memory rows, d_memory]` is the memory and `r` the residual.
    pub(super) fn forward(
        &self,
        weights: &[f32],
        (x, queries): (&[E], &Packed),
        (memory, keys): (&[E], &Packed),
        residual: &[f32],
        scratch: &mut Scratch<E>,
        kept: &mut Attended<E>,
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
            let inputs = [&query[q.clone()], &key[k.clone()], &value[k]];
            shape.forward(self.causality, &mut read[q], inputs, own, &mut scratch.room);
        }

        self.output.forward_add(weights, read, residual, &mut normed.sum);
        self.norm.forward(weights, normed);
    }

    /// Leaves the gradient of the residual in `kept.normed.sum`. The gradients of the queries' states and of the memory
    /// are added to the buffers given for them, or to the gradient of the residual if they are the same states.
    pub(super) fn backward(
        &self,
        pass: &mut Backward<'_, E>,
        d_y: &[f32],
        (x, queries, d_x): (&[E], &Packed, Option<&mut [f32]>),
        (memory, keys, d_memory): (&[E], &Packed, Option<&mut [f32]>),
        kept: &mut Attended<E>,
    ) {
        let Attended { query, key, value, probabilities, read, normed } = kept;
        self.norm.backward(pass, d_y, normed);
        let d = self.d_model;
        let mut packed = std::mem::take(&mut pass.scratch.packed);
        packed.pack_rows(read, d);
        self.output.gradients(pass, normed.gradient(), &packed);

        let Scratch { read: d_read, query: d_query, key: d_key, value: d_value, room, .. } = pass.scratch;
        self.output.input_gradient(normed.gradient(), x.len() / d, d_read);
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
                room,
            );
        }

        // The buffers leave `scratch` while the gradients are written, because `pass` is borrowed as a whole below.
        let [d_query, d_key, d_value] = [d_query, d_key, d_value].map(std::mem::take);
        let mut packed_memory = std::mem::take(&mut pass.scratch.packed_memory);
        packed_memory.pack_rows(memory, self.key.d_in);
        self.key.gradients(pass, &d_key, &packed_memory);
        self.value.gradients(pass, &d_value, &packed_memory);
        if std::ptr::eq(x, memory) {
            self.query.gradients(pass, &d_query, &packed_memory);
        } else {
            packed.pack_rows(x, d);
            self.query.gradients(pass, &d_query, &packed);
        }
        (pass.scratch.packed, pass.scratch.packed_memory) = (packed, packed_memory);
        let d_sum = &mut normed.sum;
        self.query.add_input_gradient(&d_query, d_x.unwrap_or(d_sum));
        let d_memory = d_memory.unwrap_or(d_sum);
        self.key.add_input_gradient(&d_key, d_memory);
        self.value.add_input_gradient(&d_value, d_memory);
        (pass.scratch.query, pass.scratch.key, pass.scratch.value) = (d_query, d_key, d_value);
    }
}

/// The feed-forward network.
#[derive(Debug)]
pub(super) struct FeedForward<E> {
    up: Affine<E>,
    down: Affine<E>,
    norm: Norm,
}

/// The activations that [`FeedForward`] keeps for its backward pass.
#[derive(Debug, Default)]
pub(super) struct Fed<E> {
    hidden: Buffer<E>,
    pub(super) normed: Normed<E>,
}

impl<E: Operand> FeedForward<E> {
    /// The sublayer whose parameter names begin with `name`.
    pub(super) fn new(places: &HostPlaces, name: &str, d_model: usize, d_ff: usize) -> Result<Self> {
        Ok(Self {
            up: Affine::new(places, &format!("{name}.up"), [d_model, d_ff])?,
            down: Affine::new(places, &format!("{name}.down"), [d_ff, d_model])?,
            norm: Norm::new(places, &format!("{name}_norm"), d_model)?,
        })
    }

    pub(super) fn affine_maps(&mut self) -> [&mut Affine<E>; 2] {
        [&mut self.up, &mut self.down]
    }

    /// y = LN(x + W₂·relu(W₁·x + b₁) + b₂), where `x` is `[rows, d_model]`.
    pub(super) fn forward(&self, weights: &[f32], x: States<'_, E>, kept: &mut Fed<E>) {
        let Fed { hidden, normed } = kept;
        self.up.forward(weights, x.operand, Activation::Relu, hidden);
        self.down.forward_add(weights, hidden, x.exact, &mut normed.sum);
        self.norm.forward(weights, normed);
    }

    /// Leaves the gradient of `x` in `kept.normed.sum`.
    pub(super) fn backward(&self, pass: &mut Backward<'_, E>, d_y: &[f32], x: &[E], kept: &mut Fed<E>) {
        let Fed { hidden, normed } = kept;
        self.norm.backward(pass, d_y, normed);
        let mut packed = std::mem::take(&mut pass.scratch.packed);
        packed.pack_rows(hidden, self.down.d_in);
        self.down.gradients(pass, normed.gradient(), &packed);
        let mut d_hidden = std::mem::take(&mut pass.scratch.hidden);
        linear_relu_input_gradient(d_hidden.sized(hidden.len()), normed.gradient(), &self.down.weight, hidden);
        packed.pack_rows(x, self.up.d_in);
        self.up.gradients(pass, &d_hidden, &packed);
        pass.scratch.packed = packed;
        self.up.add_input_gradient(&d_hidden, &mut normed.sum);
        pass.scratch.hidden = d_hidden;
    }
}
