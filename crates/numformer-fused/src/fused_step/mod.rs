//! The fused training step of the standard transformer, with explicit forward and backward passes.
//!
//! The batch is divided, not the products: each thread takes a few examples at a time, a *microbatch*, through the
//! whole forward and backward pass on its own, with private gradients. Threads only meet to sum these gradients.
//! Sequences lie one after another without padding, so nothing needs a mask. Memory is allocated in the first step and
//! reused.
//!
//! - [`stacks`]: embedding, encoder and decoder, as in the model's equations;
//! - [`sublayers`]: attention and feed-forward network with their residuals;
//! - [`places`]: where parameters lie in flat vectors; [`arena`]: memory that is reused.

mod arena;
mod microbatch;
mod places;
mod stacks;
mod sublayers;

use std::iter;
use std::mem;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{Error, Result};
use numformer_model::{
    FlatLayout, LayerWeights, Mode, ModelConfig, OutputProjection, Parameters, TokenRows, TrainingStep, Transformer,
    TransformerConfig,
};
use numformer_ops::kernels::{ProjectionLoss, Store, Threads, add_parts, for_each, scatter_rows};

use self::microbatch::{Microbatch, Model};
use self::places::{HostPlaces, PartGradients};

/// Maximum number of parts of a batch that have gradients of their own, and so of threads that have work. It is fixed,
/// so that results do not depend on the number of threads.
const PARTS: usize = 8;

/// Maximum number of entries in all private gradients together. The batch has fewer parts if they would exceed it.
const PRIVATE: usize = 80 << 20;

/// Number of tokens in a microbatch. With fewer, products are too small to be fast; with more, activations leave the
/// cache.
const FEWEST_TOKENS: usize = 256;
const MOST_TOKENS: usize = 640;

/// Minimum number of entries in an output projection for which the projection is divided among the threads instead of
/// the batch. Private gradients of such a projection would cost more memory, and more time to sum, than keeping the
/// activations of the whole batch.
const LARGE_PROJECTION: usize = 1 << 22;

/// The fused training step of the standard transformer on the CPU, without automatic differentiation.
///
/// Loss and gradients equal those of [`Autodiff`](numformer_model::Autodiff) up to rounding. The fused step is several times
/// faster and takes a fraction of the memory. Its results do not depend on the number of threads.
///
/// # Examples
/// ```
/// use candle_core::Device;
/// use numformer_fused::FusedStep;
/// use numformer_model::{Mode, Parameters, StackConfig, TokenRows, TrainingStep, TransformerConfig};
///
/// let config = TransformerConfig::new(20, 8, StackConfig::new(8, 2, 1), StackConfig::new(8, 2, 1));
/// let parameters = Parameters::random(0, &Device::Cpu);
/// let mut step = FusedStep::new(&config, &parameters)?;
///
/// let mut weights = vec![0.0; step.layout().len()];
/// step.layout().read(&parameters, &mut weights)?;
/// let mut gradients = vec![0.0; weights.len()];
/// let tokens = TokenRows { ids: &[0, 5, 6, 0], lengths: &[4], width: 4 };
/// let loss = step.loss_and_gradients(&weights, tokens, tokens, Mode::Evaluate, &mut gradients)?;
/// assert!((loss - 20f64.ln()).abs() < 1.0); // an untrained model guesses among 20 tokens
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug)]
pub struct FusedStep {
    layout: FlatLayout,
    places: HostPlaces,
    model: Model,
    projection: Projection,
    most_parts: usize,
    parts: Vec<Part>,
    spare: Spare,
    /// Gradients of the embedded rows of the whole batch, `[rows, d]`, with their tokens.
    src: Embedded,
    tgt: Embedded,
    /// For a large projection: the decoder's states, and later their gradients, `[rows, d]`.
    states: Vec<f32>,
    d_states: Vec<f32>,
    targets: Vec<Option<usize>>,
}

/// How the projection's gradients are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Projection {
    /// Separately in each microbatch.
    Private,
    /// For the whole batch at once, with the vocabulary divided among the threads.
    Divided,
}

/// Microbatches whose memory waits to be reused.
#[derive(Debug, Default)]
struct Spare(Mutex<Vec<Microbatch>>);

impl Spare {
    fn take(&self) -> Microbatch {
        self.lock().pop().unwrap_or_default()
    }

    fn give(&self, microbatch: Microbatch) {
        self.lock().push(microbatch);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Microbatch>> {
        // The contents will be overwritten, so a panic elsewhere does no harm.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of the batch that has gradients of its own.
#[derive(Debug, Default)]
struct Part {
    gradients: Vec<f32>,
    loss: f64,
    /// For a large projection: all microbatches between their forward and their backward pass.
    waiting: Vec<Microbatch>,
}

/// The output rows of an embedding, in the order of the examples.
#[derive(Debug, Default)]
struct Embedded {
    ids: Vec<u32>,
    positions: Vec<u32>,
    gradients: Vec<f32>,
}

impl Embedded {
    fn load<'a>(&mut self, sequences: impl Iterator<Item = &'a [u32]>, d: usize) {
        self.ids.clear();
        self.positions.clear();
        for sequence in sequences {
            self.ids.extend_from_slice(sequence);
            self.positions.extend(0..sequence.len() as u32);
        }
        self.gradients.resize(self.ids.len() * d, 0.0);
    }
}

impl FusedStep {
    /// The feature of a model that the fused step does not support; `None` if it can train the model.
    #[must_use]
    pub fn missing(config: &ModelConfig) -> Option<&'static str> {
        match config {
            ModelConfig::Recurrent(_) => Some("recurrent cells"),
            ModelConfig::Transformer(config) if config.dropout > 0.0 => Some("dropout"),
            ModelConfig::Transformer(config) if config.layer_weights == LayerWeights::Shared => Some("shared layers"),
            ModelConfig::Transformer(config) if config.copy_gate => Some("copy gates"),
            ModelConfig::Transformer(_) => None,
            ModelConfig::Custom(_) => Some("custom models"),
        }
    }

    /// Creates the step of the transformer that `config` describes, with the weights in `parameters`. They are drawn if
    /// there are none yet.
    ///
    /// # Errors
    /// When the configuration is impossible or has a feature that is [missing](Self::missing) here, or `parameters` do
    /// not match the model: one is missing, has another shape, or does not belong to the model.
    pub fn new(config: &TransformerConfig, parameters: &Parameters) -> Result<Self> {
        config.validate().map_err(Error::wrap)?;
        if let Some(what) = Self::missing(&config.clone().into()) {
            return Err(Error::Msg(format!("the fused step does not support {what}: use automatic differentiation")));
        }
        if parameters.element_count() == 0 {
            Transformer::init(config, parameters)?;
        }
        let layout = FlatLayout::new(parameters)?;
        let projection = match config.vocab_size * config.decoder.d_model {
            LARGE_PROJECTION.. => Projection::Divided,
            _ => Projection::Private,
        };
        let tied = config.output_projection == OutputProjection::Shared;
        let places = HostPlaces::new(&layout, |name| match name {
            "encoder.embedding.tokens.weight"
            | "encoder.embedding.positions.weight"
            | "decoder.embedding.positions.weight" => true,
            "decoder.embedding.tokens.weight" => projection == Projection::Divided || !tied,
            "projection.weight" | "projection.bias" => projection == Projection::Divided,
            _ => false,
        });
        // The first part needs no private gradients. A power of two of parts divides evenly among as many threads.
        let affordable = 1 + PRIVATE / places.private_len().max(1);
        let most_parts = PARTS.min(1 << affordable.max(2).ilog2());
        let model = Model::new(&places, config)?;
        // Everything that the model needs is present. Any further coefficient would have no gradient.
        let (expected, found) = (config.parameter_counts().total(), layout.len() as u64);
        if found != expected {
            return Err(Error::Msg(format!("expected the {expected} coefficients of the model, found {found}")));
        }
        Ok(Self {
            model,
            layout,
            places,
            projection,
            most_parts,
            parts: Vec::new(),
            spare: Spare::default(),
            src: Embedded::default(),
            tgt: Embedded::default(),
            states: Vec::new(),
            d_states: Vec::new(),
            targets: Vec::new(),
        })
    }

    /// The order of weights and gradients.
    #[must_use]
    pub fn layout(&self) -> &FlatLayout {
        &self.layout
    }

    fn check(&self, weights: usize, src: TokenRows<'_>, tgt: TokenRows<'_>, gradients: usize) -> Result<()> {
        for (name, found) in [("weights", weights), ("gradients", gradients)] {
            if found != self.layout.len() {
                return Err(Error::Msg(format!("expected {} {name}, found {found}", self.layout.len())));
            }
        }
        let TransformerConfig { vocab_size, max_positions, .. } = *self.model.config();
        TokenRows::check_pair(src, tgt, vocab_size, max_positions)
    }
}

impl TrainingStep for FusedStep {
    fn loss_and_gradients(
        &mut self,
        weights: &[f32],
        src: TokenRows<'_>,
        tgt: TokenRows<'_>,
        _mode: Mode,
        gradients: &mut [f32],
    ) -> Result<f64> {
        self.check(weights.len(), src, tgt, gradients.len())?;
        let batch = Batch { src, tgt };
        if batch.len() == 0 {
            gradients.fill(0.0);
            return Ok(0.0);
        }
        let division = Division::new(&batch, self.most_parts);
        self.parts.resize_with(division.parts(), Part::default);
        let [d_src, d_tgt] = self.widths();
        self.src.load((0..batch.len()).map(|row| src.row(row)), d_src);
        self.tgt.load((0..batch.len()).map(|row| batch.read(row)), d_tgt);
        self.targets.clear();
        self.targets.extend((0..batch.len()).flat_map(|row| batch.predicted(row)));
        let counted = self.targets.iter().flatten().count().max(1);
        let share = 1.0 / counted as f32;

        let mut total = 0.0;
        if self.projection == Projection::Divided {
            self.forward(weights, &batch, division);
            total = self.project(weights, share, gradients);
        }
        self.backward(weights, &batch, division, share, gradients);
        total += self.parts.iter().map(|part| part.loss).sum::<f64>();
        self.reduce(gradients);
        Ok(total / counted as f64)
    }

    fn how(&self) -> String {
        "fused step".to_owned()
    }
}

/// The examples of a step.
#[derive(Clone, Copy, Debug)]
struct Batch<'a> {
    src: TokenRows<'a>,
    tgt: TokenRows<'a>,
}

impl<'a> Batch<'a> {
    fn len(&self) -> usize {
        self.src.lengths.len()
    }

    /// The decoder's input for a target: all but its last token.
    fn read(&self, row: usize) -> &'a [u32] {
        self.tgt.row(row).split_last().map_or(&[], |(_, read)| read)
    }

    /// The tokens to predict: all but the first.
    fn predicted(&self, row: usize) -> impl Iterator<Item = Option<usize>> + use<'a> {
        self.tgt.row(row).iter().skip(1).map(|id| Some(*id as usize))
    }

    fn load(&self, examples: Range<usize>, microbatch: &mut Microbatch) {
        microbatch.load(examples.map(|row| (self.src.row(row), self.read(row), self.predicted(row))));
    }
}

impl FusedStep {
    /// Widths of the embedded rows of source and target.
    fn widths(&self) -> [usize; 2] {
        let TransformerConfig { encoder, decoder, .. } = self.model.config();
        [encoder.d_model, decoder.d_model]
    }

    /// The forward pass of the whole batch. It writes the states to `states` and keeps the activations in their parts.
    fn forward(&mut self, weights: &[f32], batch: &Batch<'_>, division: Division) {
        let Self { parts, model, spare, states, d_states, tgt, .. } = self;
        let width = model.config().decoder.d_model;
        states.resize(tgt.ids.len() * width, 0.0);
        d_states.resize(states.len(), 0.0);
        let states = pieces_mut(states, division.rows(|row| batch.read(row).len() * width));
        for_each(parts.iter_mut().zip(division.examples()).zip(states), |((part, examples), mut states)| {
            for examples in division.microbatches(examples) {
                let mut microbatch = spare.take();
                batch.load(examples, &mut microbatch);
                copy_first(&mut states, microbatch.forward(model, weights));
                part.waiting.push(microbatch);
            }
        });
    }

    /// Projection and loss of the whole batch. It writes the gradients of the states to `d_states` and returns the
    /// summed loss.
    fn project(&mut self, weights: &[f32], share: f32, gradients: &mut [f32]) -> f64 {
        let [weight, bias] = self.model.projection();
        let places = [weight.clone(), bias.clone()];
        let [d_weight, d_bias] = gradients.get_disjoint_mut(places).expect("parameters do not overlap");
        fill_zeros(d_weight);
        d_bias.fill(0.0);
        if self.targets.is_empty() {
            return 0.0;
        }
        let pass = ProjectionLoss { weight: &weights[weight], bias: &weights[bias], share, threads: Threads::All };
        pass.run(&self.states, &self.targets, Some([&mut self.d_states, d_weight, d_bias]))
    }

    /// The backward pass. Microbatches that have not run yet first run the forward pass, the projection and the loss.
    fn backward(&mut self, weights: &[f32], batch: &Batch<'_>, division: Division, share: f32, gradients: &mut [f32]) {
        let [d_src, d_tgt] = self.widths();
        let Self { parts, places, model, spare, projection, src, tgt, d_states, .. } = self;
        let divided = *projection == Projection::Divided;
        let read = |row| batch.read(row).len();
        // Each part of the batch owns its gradients, and its rows of the buffers that the whole batch shares.
        let mut whole = Some(gradients);
        let gradients: Vec<_> = parts.iter().map(|_| whole.take()).collect();
        let d_states = pieces(d_states, division.rows(|row| if divided { read(row) * d_tgt } else { 0 }));
        let d_src = pieces_mut(&mut src.gradients, division.rows(|row| batch.src.row(row).len() * d_src));
        let d_tgt = pieces_mut(&mut tgt.gradients, division.rows(|row| read(row) * d_tgt));
        let shared = gradients.into_iter().zip(d_states).zip(d_src.zip(d_tgt));
        for_each(parts.iter_mut().zip(division.examples()).zip(shared), |((part, examples), shared)| {
            let ((mut whole, mut d_states), (mut d_src, mut d_tgt)) = shared;
            let Part { gradients, loss, waiting } = part;
            if whole.is_none() {
                gradients.resize(places.private_len(), 0.0);
            }
            *loss = 0.0;
            let mut waiting = mem::take(waiting).into_iter();
            for (at, examples) in division.microbatches(examples).enumerate() {
                let store = if at == 0 { Store::Replace } else { Store::Add };
                let gradients = match &mut whole {
                    Some(whole) => PartGradients::Whole(whole),
                    None => PartGradients::Private(gradients),
                };
                let microbatch = if let Some(mut microbatch) = waiting.next() {
                    let (own, rest) = d_states.split_at(microbatch.states_len());
                    d_states = rest;
                    microbatch.backward(model, weights, gradients, store, own);
                    microbatch
                } else {
                    let mut microbatch = spare.take();
                    batch.load(examples, &mut microbatch);
                    microbatch.forward(model, weights);
                    *loss += microbatch.project_and_backward(model, weights, gradients, store, share);
                    microbatch
                };
                let [of_src, of_tgt] = microbatch.embedded_gradients();
                copy_first(&mut d_src, of_src);
                copy_first(&mut d_tgt, of_tgt);
                spare.give(microbatch);
            }
        });
    }

    /// Adds the private gradients to those of the first part, in the order of the parts. Then adds the gradients of the
    /// embedded rows to their tables.
    fn reduce(&self, gradients: &mut [f32]) {
        let [projection, _] = self.model.projection();
        for (private, range) in self.places.private() {
            let others = self.parts.iter().skip(1).map(|part| &part.gradients[private.clone()]);
            add_parts(&mut gradients[range], others);
        }
        let halves = [
            (&self.src, self.model.encoder_embedding(), self.model.config().encoder.d_model),
            (&self.tgt, self.model.decoder_embedding(), self.model.config().decoder.d_model),
        ];
        for (embedded, embedding, d) in halves {
            let tables = iter::once((embedding.tokens(), &embedded.ids))
                .chain(embedding.positions().map(|range| (range, &embedded.positions)));
            for (range, ids) in tables {
                // A table that is also the projection already has its gradients.
                if range != projection {
                    fill_zeros(&mut gradients[range.clone()]);
                }
                scatter_rows(&mut gradients[range], &embedded.gradients, ids, d);
            }
        }
    }
}

fn fill_zeros(entries: &mut [f32]) {
    const CHUNK: usize = 1 << 16;
    for_each(entries.chunks_mut(CHUNK), |chunk| chunk.fill(0.0));
}

/// The division of a batch into parts, and of the parts into microbatches. It is a function of the shapes alone.
#[derive(Clone, Copy, Debug)]
struct Division {
    batch: usize,
    /// Number of examples in each part but the last.
    part: usize,
    /// Maximum number of examples in a microbatch.
    microbatch: usize,
}

impl Division {
    /// Divides a batch into at most `parts` parts.
    fn new(batch: &Batch<'_>, parts: usize) -> Self {
        let width = batch.src.width.max(batch.tgt.width - 1).max(1);
        let batch = batch.len();
        let part = batch.div_ceil(parts).max(FEWEST_TOKENS / width).max(1);
        Self { batch, part, microbatch: MOST_TOKENS.div_ceil(width) }
    }

    fn parts(self) -> usize {
        self.batch.div_ceil(self.part)
    }

    /// The examples of each part.
    fn examples(self) -> impl ExactSizeIterator<Item = Range<usize>> + Send {
        (0..self.parts()).map(move |i| i * self.part..((i + 1) * self.part).min(self.batch))
    }

    /// The number of rows of each part, if an example at index `i` has `rows_of(i)` rows.
    fn rows(self, rows_of: impl Fn(usize) -> usize) -> Vec<usize> {
        self.examples().map(|examples| examples.map(&rows_of).sum()).collect()
    }

    /// The examples of each microbatch of a part, in nearly equal numbers.
    fn microbatches(self, part: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let count = part.len().div_ceil(self.microbatch);
        (0..count).map(move |i| part.start + i * part.len() / count..part.start + (i + 1) * part.len() / count)
    }
}

/// Consecutive pieces of a slice, of the given lengths.
fn pieces(slice: &[f32], lengths: Vec<usize>) -> impl ExactSizeIterator<Item = &[f32]> + Send {
    let mut rest = slice;
    lengths.into_iter().map(move |length| rest.split_off(..length).expect("the pieces are parts of the slice"))
}

/// [`pieces`] of a mutable slice.
fn pieces_mut(slice: &mut [f32], lengths: Vec<usize>) -> impl ExactSizeIterator<Item = &mut [f32]> + Send {
    let mut rest = slice;
    lengths.into_iter().map(move |length| rest.split_off_mut(..length).expect("the pieces are parts of the slice"))
}

/// Copies `entries` to the beginning of `slice`, and advances `slice` past them.
fn copy_first(slice: &mut &mut [f32], entries: &[f32]) {
    slice.split_off_mut(..entries.len()).expect("there is room for all").copy_from_slice(entries);
}
