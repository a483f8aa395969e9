//! The sublayers of encoder and decoder on a device, forward and backward: y = LN(x + f(x)).
//!
//! As in the fused step on the host, a backward pass leaves the gradient of the residual in `d_sum`, where the next
//! backward pass finds it. `[rows, ..]` are the tokens of a padded batch. Values at padding have no gradient, because
//! no loss depends on them.

use std::ops::Range;

use candle_core::Result;
use numformer_model::LayerNorm;
use numformer_ops::device::{AttentionCall, Heads, Region};
use numformer_ops::kernels::Store;
use numformer_ops::{Activation, Causality};

use super::dropout::Dropped;
use super::places::{CROSS_ATTENTION, DevicePlaces, SELF_ATTENTION};
use super::sizes::Sizes;
use super::vectors::{Pass, Take};

/// An affine map, y = x·Wᵀ + b.
#[derive(Clone, Debug)]
pub(super) struct Affine {
    weight: Range<usize>,
    bias: Range<usize>,
    d_in: usize,
}

impl Affine {
    pub(super) fn new(weight: Range<usize>, bias: Range<usize>, d_in: usize) -> Self {
        Self { weight, bias, d_in }
    }

    fn named(places: &DevicePlaces, stem: &str, parts: &[&str], d_in: usize) -> Result<Self> {
        Ok(Self::new(places.joined(stem, parts, "weight")?, places.joined(stem, parts, "bias")?, d_in))
    }

    fn d_out(&self) -> usize {
        self.bias.len()
    }

    pub(super) fn forward(&self, pass: &mut Pass<'_>, x: Region, activation: Activation, y: Region) -> Result<()> {
        let (weight, bias) =
            (pass.vectors.used.slice(self.weight.clone())?, pass.vectors.used.slice(self.bias.clone())?);
        pass.device.linear(y, x, weight, bias, [x.len() / self.d_in, self.d_in], activation)
    }

    /// Computes the gradients of weight and bias. If `hidden`, the output of a ReLU, is given, `d_y` is first replaced
    /// by the gradient before the ReLU.
    pub(super) fn gradients(&self, pass: &mut Pass<'_>, d_y: Region, hidden: Option<Region>, x: Region) -> Result<()> {
        let gradients =
            [pass.vectors.gradients.slice(self.weight.clone())?, pass.vectors.gradients.slice(self.bias.clone())?];
        pass.device.linear_parameter_gradients(gradients, d_y, hidden, x, x.len() / self.d_in)
    }

    pub(super) fn input_gradient(&self, pass: &mut Pass<'_>, d_y: Region, store: Store, d_x: Region) -> Result<()> {
        let weight = pass.vectors.used.slice(self.weight.clone())?;
        pass.device.linear_input_gradient(d_x, store, d_y, weight, d_x.len() / self.d_in)
    }
}

/// A layer norm.
#[derive(Clone, Debug)]
pub(super) struct Norm {
    weight: Range<usize>,
    bias: Range<usize>,
}

/// The activations that a layer norm keeps for its backward pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Normed {
    /// The input of the normalisation, `[rows, d]`.
    pub(super) sum: Region,
    moments: Region,
    /// The output, `[rows, d]`.
    pub(super) y: Region,
    /// The gradient of the input of the normalisation, and thereby of the residual.
    pub(super) d_sum: Region,
    /// The gradient of what is added to the residual, where dropout makes it another.
    d_made: Option<Region>,
}

impl Normed {
    pub(super) fn new(take: &mut Take<'_>, rows: usize, d: usize, has_dropout: bool) -> Result<Self> {
        let sum = take.activations(rows * d)?;
        let moments = take.numbers(2 * rows)?;
        let [y, d_sum] = [take.activations(rows * d)?, take.activations(rows * d)?];
        let d_made = has_dropout.then(|| take.activations(rows * d)).transpose()?;
        Ok(Self { sum, moments, y, d_sum, d_made })
    }
}

impl Norm {
    pub(super) fn new(places: &DevicePlaces, name: &str) -> Result<Self> {
        Ok(Self { weight: places.range(&format!("{name}.weight"))?, bias: places.range(&format!("{name}.bias"))? })
    }

    /// Adds the residual, if any, to `kept.sum` and normalises it.
    pub(super) fn forward(&self, pass: &mut Pass<'_>, residual: Option<Region>, kept: &Normed) -> Result<()> {
        let parameters =
            [pass.vectors.weights.slice(self.weight.clone())?, pass.vectors.weights.slice(self.bias.clone())?];
        pass.device.add_layer_norm(kept.y, [kept.sum, kept.moments], residual, parameters, LayerNorm::EPS as f32)
    }

    /// Leaves the gradient of the sum in `kept.d_sum`.
    pub(super) fn backward(&self, pass: &mut Pass<'_>, d_y: Region, kept: &Normed) -> Result<()> {
        let gradients =
            [pass.vectors.gradients.slice(self.weight.clone())?, pass.vectors.gradients.slice(self.bias.clone())?];
        let weight = pass.vectors.weights.slice(self.weight.clone())?;
        pass.device.layer_norm_gradients(kept.d_sum, gradients, [kept.sum, kept.moments], weight, d_y)
    }
}

/// The end of a sublayer: LN(x + dropout(made)).
#[derive(Clone, Debug)]
struct End {
    dropout: Option<Dropped>,
    norm: Norm,
}

impl End {
    /// The end whose norm is called `name`, as its place is.
    fn new(places: &DevicePlaces, name: &str, dropout: f64) -> Result<Self> {
        Ok(Self { dropout: Dropped::new(dropout, name), norm: Norm::new(places, name)? })
    }

    fn plan(&self, take: &mut Take<'_>, rows: usize, d: usize) -> Result<Normed> {
        Normed::new(take, rows, d, self.dropout.is_some())
    }

    /// Adds the residual to what is made, in `kept.sum`, and normalises the sum.
    fn forward(&self, pass: &mut Pass<'_>, sizes: Sizes, residual: Region, kept: &Normed) -> Result<()> {
        if let Some(dropout) = &self.dropout {
            dropout.apply(pass, sizes, kept.sum)?;
        }
        self.norm.forward(pass, Some(residual), kept)
    }

    /// Leaves the gradient of the residual in `kept.d_sum`, and returns that of what was made.
    fn backward(&self, pass: &mut Pass<'_>, sizes: Sizes, d_y: Region, kept: &Normed) -> Result<Region> {
        self.norm.backward(pass, d_y, kept)?;
        match (&self.dropout, kept.d_made) {
            (Some(dropout), Some(d_made)) if pass.drops => {
                dropout.apply_to(pass, sizes, d_made, kept.d_sum)?;
                Ok(d_made)
            }
            _ => Ok(kept.d_sum),
        }
    }
}

/// Multi-head attention with its residual.
#[derive(Clone, Debug)]
pub(super) struct Attention {
    inputs: Inputs,
    output: Affine,
    end: End,
    n_heads: usize,
    d_model: usize,
    causality: Causality,
}

/// The source of queries, keys and values.
#[derive(Clone, Debug)]
enum Inputs {
    /// All from the same states, in one product.
    Own(Affine),
    /// Queries from the states of one half, keys and values from those of the other.
    Cross { query: Affine, memory: Affine },
}

/// The activations that [`Attention`] keeps, with room for their gradients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attended {
    /// Queries, keys and values side by side, `[rows, 3 d]`; in cross-attention only the queries, `[rows, d]`.
    own: Region,
    /// In cross-attention, keys and values, `[memory rows, 2 d]`.
    memory: Option<Region>,
    normalisers: Region,
    read: Region,
    pub(super) normed: Normed,
    d_own: Region,
    d_memory: Option<Region>,
    products: Region,
    d_read: Region,
}

/// The values that [`Attention`] keeps for one position of a batch, and for all earlier positions.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttendedStep {
    /// Queries, keys and values side by side, `[batch, 3 d]`; in cross-attention only the queries, `[batch, d]`.
    own: Region,
    /// The same rows for all positions up to this one, `[batch, longest, 3 d]`; in cross-attention the keys and values
    /// of the memory, `[batch, s, 2 d]`.
    cache: Region,
    read: Region,
    pub(super) normed: Normed,
}

impl Attention {
    /// Self-attention whose parameter names begin with `name`.
    pub(super) fn own(
        places: &DevicePlaces,
        name: &str,
        [d_model, n_heads]: [usize; 2],
        causality: Causality,
        dropout: f64,
    ) -> Result<Self> {
        let inputs = Inputs::Own(Affine::named(places, name, &SELF_ATTENTION, d_model)?);
        Self::new(places, name, inputs, [d_model, n_heads], causality, dropout)
    }

    /// Attention to a memory of width `d_memory`.
    pub(super) fn cross(
        places: &DevicePlaces,
        name: &str,
        [d_model, d_memory]: [usize; 2],
        n_heads: usize,
        dropout: f64,
    ) -> Result<Self> {
        let inputs = Inputs::Cross {
            query: Affine::named(places, name, &["query"], d_model)?,
            memory: Affine::named(places, name, &CROSS_ATTENTION, d_memory)?,
        };
        Self::new(places, name, inputs, [d_model, n_heads], Causality::Full, dropout)
    }

    fn new(
        places: &DevicePlaces,
        name: &str,
        inputs: Inputs,
        [d_model, n_heads]: [usize; 2],
        causality: Causality,
        dropout: f64,
    ) -> Result<Self> {
        Ok(Self {
            inputs,
            output: Affine::named(places, name, &["output"], d_model)?,
            end: End::new(places, &format!("{name}_norm"), dropout)?,
            n_heads,
            d_model,
            causality,
        })
    }

    pub(super) fn plan(&self, take: &mut Take<'_>, sizes: Sizes) -> Result<Attended> {
        let d = self.d_model;
        let Sizes { batch, t, s, .. } = sizes;
        let (own, memory) = match self.inputs {
            Inputs::Own(_) => (3 * batch * t * d, None),
            Inputs::Cross { .. } => (batch * t * d, Some(2 * batch * s * d)),
        };
        let scores = batch * self.n_heads * t;
        let memory_of = |take: &mut Take<'_>| memory.map(|len| take.activations(len)).transpose();
        Ok(Attended {
            own: take.activations(own)?,
            memory: memory_of(take)?,
            normalisers: take.numbers(scores)?,
            read: take.activations(batch * t * d)?,
            normed: self.end.plan(take, batch * t, d)?,
            d_own: take.activations(own)?,
            d_memory: memory_of(take)?,
            products: take.numbers(scores)?,
            d_read: take.activations(batch * t * d)?,
        })
    }

    fn call(&self, sizes: Sizes) -> AttentionCall {
        let Sizes { batch, t, s, key_lengths: lengths, .. } = sizes;
        let (n_heads, d_head) = (self.n_heads, self.d_model / self.n_heads);
        AttentionCall { batch, t, s, n_heads, d_head, causality: self.causality, lengths }
    }

    /// Where queries, keys and values lie.
    fn heads(&self, own: Region, memory: Option<Region>) -> [Heads; 3] {
        let d = self.d_model;
        let at = |region, stride, column| Heads { region, stride, column };
        match memory {
            None => [at(own, 3 * d, 0), at(own, 3 * d, d), at(own, 3 * d, 2 * d)],
            Some(memory) => [at(own, d, 0), at(memory, 2 * d, 0), at(memory, 2 * d, d)],
        }
    }

    fn whole(&self, region: Region) -> Heads {
        Heads { region, stride: self.d_model, column: 0 }
    }

    /// `y = LN(r + W_o·attention(W_q·x, W_k·m, W_v·m))`. In self-attention m is x, and `memory` is ignored.
    pub(super) fn forward(
        &self,
        pass: &mut Pass<'_>,
        sizes: Sizes,
        [x, memory, residual]: [Region; 3],
        kept: &Attended,
    ) -> Result<()> {
        match (&self.inputs, kept.memory) {
            (Inputs::Cross { query, memory: of_memory }, Some(kept_memory)) => {
                query.forward(pass, x, Activation::Identity, kept.own)?;
                of_memory.forward(pass, memory, Activation::Identity, kept_memory)?;
            }
            (Inputs::Own(all) | Inputs::Cross { query: all, .. }, _) => {
                all.forward(pass, x, Activation::Identity, kept.own)?;
            }
        }
        let heads = self.heads(kept.own, kept.memory);
        pass.device.attention(&self.call(sizes), self.whole(kept.read), heads, Some(kept.normalisers))?;
        self.output.forward(pass, kept.read, Activation::Identity, kept.normed.sum)?;
        self.end.forward(pass, sizes, residual, &kept.normed)
    }

    /// Plans one position of a batch, which sees `s` positions, or `s` rows of the memory.
    pub(super) fn plan_step(&self, take: &mut Take<'_>, batch: usize, s: usize) -> Result<AttendedStep> {
        let d = self.d_model;
        let (own, cached) = match self.inputs {
            Inputs::Own(_) => (3 * d, 3 * d),
            Inputs::Cross { .. } => (d, 2 * d),
        };
        Ok(AttendedStep {
            own: take.activations(batch * own)?,
            cache: take.activations(batch * s * cached)?,
            read: take.activations(batch * d)?,
            normed: self.end.plan(take, batch, d)?,
        })
    }

    /// In cross-attention, computes the keys and values of the memory.
    pub(super) fn begin(&self, pass: &mut Pass<'_>, memory: Region, kept: &AttendedStep) -> Result<()> {
        match &self.inputs {
            Inputs::Own(_) => Ok(()),
            Inputs::Cross { memory: of_memory, .. } => {
                of_memory.forward(pass, memory, Activation::Identity, kept.cache)
            }
        }
    }

    /// [`forward`](Self::forward) at one position, whose number is in memory. `sizes` has one query for each example.
    pub(super) fn step(
        &self,
        pass: &mut Pass<'_>,
        sizes: Sizes,
        [x, residual]: [Region; 2],
        position: Region,
        kept: &AttendedStep,
    ) -> Result<()> {
        let (Inputs::Own(of_own) | Inputs::Cross { query: of_own, .. }) = &self.inputs;
        of_own.forward(pass, x, Activation::Identity, kept.own)?;
        let heads = match self.inputs {
            Inputs::Cross { .. } => self.heads(kept.own, Some(kept.cache)),
            Inputs::Own(_) => {
                pass.device.append(kept.cache, kept.own, position, sizes.batch)?;
                let [query, ..] = self.heads(kept.own, None);
                let [_, key, value] = self.heads(kept.cache, None);
                [query, key, value]
            }
        };
        // The lengths exclude later positions, which are not there yet, so no causal mask is needed.
        let call = AttentionCall { causality: Causality::Full, ..self.call(sizes) };
        pass.device.attention(&call, self.whole(kept.read), heads, None)?;
        self.output.forward(pass, kept.read, Activation::Identity, kept.normed.sum)?;
        self.end.forward(pass, sizes, residual, &kept.normed)
    }

    /// Leaves the gradient of the residual in `kept.normed.d_sum`. Writes the gradient of the queries' states to `d_x`,
    /// if it is given, and otherwise adds it to that of the residual. In cross-attention, stores the gradient of the
    /// memory in `d_memory` as its `Store` says.
    pub(super) fn backward(
        &self,
        pass: &mut Pass<'_>,
        sizes: Sizes,
        d_y: Region,
        (x, d_x): (Region, Option<Region>),
        (memory, d_memory, store): (Region, Region, Store),
        kept: &Attended,
    ) -> Result<()> {
        let d_made = self.end.backward(pass, sizes, d_y, &kept.normed)?;
        self.output.gradients(pass, d_made, None, kept.read)?;
        self.output.input_gradient(pass, d_made, Store::Replace, kept.d_read)?;
        pass.device.attention_gradients(
            &self.call(sizes),
            self.heads(kept.d_own, kept.d_memory),
            [self.whole(kept.d_read), self.whole(kept.read)],
            self.heads(kept.own, kept.memory),
            [kept.normalisers, kept.products],
        )?;
        let (Inputs::Own(of_own) | Inputs::Cross { query: of_own, .. }) = &self.inputs;
        of_own.gradients(pass, kept.d_own, None, x)?;
        let (d_x, store_x) = d_x.map_or((kept.normed.d_sum, Store::Add), |d_x| (d_x, Store::Replace));
        of_own.input_gradient(pass, kept.d_own, store_x, d_x)?;
        if let (Inputs::Cross { memory: of_memory, .. }, Some(d_kept)) = (&self.inputs, kept.d_memory) {
            of_memory.gradients(pass, d_kept, None, memory)?;
            of_memory.input_gradient(pass, d_kept, store, d_memory)?;
        }
        Ok(())
    }
}

/// The feed-forward network with its residual.
#[derive(Clone, Debug)]
pub(super) struct FeedForward {
    up: Affine,
    down: Affine,
    end: End,
}

/// The activations that [`FeedForward`] keeps, with room for their gradients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fed {
    hidden: Region,
    pub(super) normed: Normed,
    d_hidden: Region,
}

impl FeedForward {
    pub(super) fn new(places: &DevicePlaces, name: &str, [d_model, d_ff]: [usize; 2], dropout: f64) -> Result<Self> {
        Ok(Self {
            up: Affine::named(places, name, &["up"], d_model)?,
            down: Affine::named(places, name, &["down"], d_ff)?,
            end: End::new(places, &format!("{name}_norm"), dropout)?,
        })
    }

    pub(super) fn plan(&self, take: &mut Take<'_>, rows: usize) -> Result<Fed> {
        let hidden = take.activations(rows * self.up.d_out())?;
        let normed = self.end.plan(take, rows, self.down.d_out())?;
        Ok(Fed { hidden, normed, d_hidden: take.activations(rows * self.up.d_out())? })
    }

    /// y = LN(x + W₂·relu(W₁·x + b₁) + b₂).
    pub(super) fn forward(&self, pass: &mut Pass<'_>, sizes: Sizes, x: Region, kept: &Fed) -> Result<()> {
        self.up.forward(pass, x, Activation::Relu, kept.hidden)?;
        self.down.forward(pass, kept.hidden, Activation::Identity, kept.normed.sum)?;
        self.end.forward(pass, sizes, x, &kept.normed)
    }

    /// Leaves the gradient of `x` in `kept.normed.d_sum`.
    pub(super) fn backward(&self, pass: &mut Pass<'_>, sizes: Sizes, d_y: Region, x: Region, kept: &Fed) -> Result<()> {
        let d_made = self.end.backward(pass, sizes, d_y, &kept.normed)?;
        self.down.gradients(pass, d_made, None, kept.hidden)?;
        self.down.input_gradient(pass, d_made, Store::Replace, kept.d_hidden)?;
        self.up.gradients(pass, kept.d_hidden, Some(kept.hidden), x)?;
        self.up.input_gradient(pass, kept.d_hidden, Store::Add, kept.normed.d_sum)
    }
}
