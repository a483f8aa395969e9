//! The training step of the standard transformer as an explicit forward and backward schedule.
//!
//! The batch is divided, not the products: each thread takes a few examples at a time, a *microbatch*, through the whole
//! forward and backward pass on its own, with private gradients. Threads meet only where these are summed. Sequences lie
//! one after another without padding, so nothing needs a mask. Memory is taken at the first step and used again.
//!
//! - [`stacks`]: embedding, encoder and decoder, as the model's equations;
//! - [`sublayers`]: attention and feed-forward network with their residuals;
//! - [`places`]: where parameters lie in flat vectors; [`arena`]: memory that is kept.

mod arena;
mod microbatch;
mod places;
mod stacks;
mod sublayers;

use std::iter;
use std::mem;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use candle_core::{Error, Result};
use numformer_ops::kernels::{ProjectionLoss, Store, Threads, add_parts, for_each, scatter_rows};

use self::microbatch::{Microbatch, Model};
use self::places::{Gradients, Places};
use crate::config::{OutputProjection, TransformerConfig};
use crate::flat::FlatLayout;
use crate::parameters::Parameters;
use crate::training_step::{TokenRows, TrainingStep};

/// Parts of a batch with gradients of their own, at most: the most threads that have work. Fixed, so that results do not
/// depend on the number of threads.
const PARTS: usize = 8;

/// Entries of all private gradients together: there are fewer parts where these would be more.
const PRIVATE: usize = 80 << 20;

/// Tokens of a microbatch. With fewer, products are too small to be fast; with more, activations leave the cache.
const FEWEST_TOKENS: usize = 256;
const MOST_TOKENS: usize = 640;

/// Entries of the output projection from which on it is divided among the threads instead of the batch: private
/// gradients of it would cost more memory, and time to sum, than keeping the activations of the whole batch.
const LARGE_PROJECTION: usize = 1 << 22;

/// The training step of the standard transformer on the CPU, without automatic differentiation.
///
/// Loss and gradients are those of [`Composition`](crate::Composition) to rounding, several times faster and in a
/// fraction of the memory. They do not depend on the number of threads.
///
/// # Examples
/// ```
/// use candle_core::Device;
/// use numformer_model::{
///     ExplicitSchedule, Parameters, StackConfig, TokenRows, TrainingStep, Transformer, TransformerConfig,
/// };
///
/// let config = TransformerConfig::new(20, 8, StackConfig::new(8, 2, 1), StackConfig::new(8, 2, 1));
/// let parameters = Parameters::random(0, &Device::Cpu);
/// Transformer::init(&config, &parameters)?; // draws the weights
/// let mut step = ExplicitSchedule::new(&config, &parameters)?;
///
/// let mut weights = vec![0.0; step.layout().len()];
/// step.layout().read(&parameters, &mut weights)?;
/// let mut gradients = vec![0.0; weights.len()];
/// let tokens = TokenRows { ids: &[0, 5, 6, 0], lengths: &[4], width: 4 };
/// let loss = step.loss_and_gradients(&weights, tokens, tokens, &mut gradients)?;
/// assert!((loss - 20f64.ln()).abs() < 1.0); // an untrained model guesses among 20 tokens
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug)]
pub struct ExplicitSchedule {
    layout: FlatLayout,
    places: Places,
    model: Model,
    projection: Projection,
    most_parts: usize,
    parts: Vec<Part>,
    spare: Mutex<Vec<Microbatch>>,
    /// Gradients of the embedded rows of the whole batch, `[rows, d]`, with their tokens.
    src: Embedded,
    tgt: Embedded,
    /// For a large projection: the decoder's states, and then their gradients, `[rows, d]`.
    states: Vec<f32>,
    d_states: Vec<f32>,
    targets: Vec<Option<usize>>,
}

/// Where the projection's gradients are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Projection {
    /// In each microbatch.
    Private,
    /// For the whole batch at once, the vocabulary divided among the threads.
    Divided,
}

/// Examples with gradients of their own.
#[derive(Debug, Default)]
struct Part {
    gradients: Vec<f32>,
    loss: f64,
    /// For a large projection, all microbatches between their forward and their backward pass.
    waiting: Vec<Microbatch>,
}

/// The rows that an embedding gave, in the order of the examples.
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

impl ExplicitSchedule {
    /// The step of the transformer that `config` describes, whose weights `parameters` holds.
    ///
    /// # Errors
    /// When the configuration is impossible, or a parameter is missing.
    pub fn new(config: &TransformerConfig, parameters: &Parameters) -> Result<Self> {
        config.validate().map_err(Error::wrap)?;
        let layout = FlatLayout::new(parameters);
        let projection = match config.vocab_size * config.decoder.d_model {
            LARGE_PROJECTION.. => Projection::Divided,
            _ => Projection::Private,
        };
        let tied = config.output_projection == OutputProjection::Shared;
        let places = Places::new(&layout, |name| match name {
            "encoder.embedding.tokens.weight"
            | "encoder.embedding.positions.weight"
            | "decoder.embedding.positions.weight" => true,
            "decoder.embedding.tokens.weight" => projection == Projection::Divided || !tied,
            "projection.weight" | "projection.bias" => projection == Projection::Divided,
            _ => false,
        });
        // The first part needs none. A power of two, so that they share out evenly among as many threads.
        let affordable = 1 + PRIVATE / places.private_len().max(1);
        let most_parts = PARTS.min(1 << affordable.max(2).ilog2());
        Ok(Self {
            model: Model::new(&places, config)?,
            layout,
            places,
            projection,
            most_parts,
            parts: Vec::new(),
            spare: Mutex::default(),
            src: Embedded::default(),
            tgt: Embedded::default(),
            states: Vec::new(),
            d_states: Vec::new(),
            targets: Vec::new(),
        })
    }

    fn check(&self, weights: usize, src: TokenRows<'_>, tgt: TokenRows<'_>, gradients: usize) -> Result<()> {
        for (name, found) in [("weights", weights), ("gradients", gradients)] {
            if found != self.layout.len() {
                return Err(Error::Msg(format!("expected {} {name}, found {found}", self.layout.len())));
            }
        }
        if src.lengths.len() != tgt.lengths.len() {
            let [expected, found] = [src, tgt].map(|rows| rows.lengths.len());
            return Err(Error::Msg(format!("expected {expected} targets, one for each source, found {found}")));
        }
        if tgt.width < 2 {
            return Err(Error::Msg(format!("expected targets of at least two tokens, found {}", tgt.width)));
        }
        let TransformerConfig { vocab_size, max_positions, .. } = *self.model.config();
        src.check(vocab_size, max_positions)?;
        // The last token is predicted and never read.
        tgt.check(vocab_size, max_positions + 1)
    }
}

impl TrainingStep for ExplicitSchedule {
    fn layout(&self) -> &FlatLayout {
        &self.layout
    }

    fn loss_and_gradients(
        &mut self,
        weights: &[f32],
        src: TokenRows<'_>,
        tgt: TokenRows<'_>,
        gradients: &mut [f32],
    ) -> Result<f64> {
        self.check(weights.len(), src, tgt, gradients.len())?;
        let batch = src.lengths.len();
        if batch == 0 {
            gradients.fill(0.0);
            return Ok(0.0);
        }
        let division = Division::new(batch, src.width.max(tgt.width - 1), self.most_parts);
        let read = |row: usize| tgt.row(row).split_last().map_or(&[][..], |(_, read)| read);
        let (d_src, d_tgt) = (self.model.config().encoder.d_model, self.model.config().decoder.d_model);
        self.src.load((0..batch).map(|row| src.row(row)), d_src);
        self.tgt.load((0..batch).map(read), d_tgt);
        let padding = self.model.config().padding_id;
        let predicted =
            |row: usize| tgt.row(row).iter().skip(1).map(move |id| (*id != padding).then_some(*id as usize));
        self.targets.clear();
        self.targets.extend((0..batch).flat_map(predicted));
        let counted = self.targets.iter().flatten().count().max(1);
        let share = 1.0 / counted as f32;

        // What each part of the batch owns: its gradients, and its rows of what the whole batch shares.
        self.parts.resize_with(division.parts(), Part::default);
        let rows_of = |sequence: &dyn Fn(usize) -> usize| -> Vec<usize> {
            division.examples().map(|examples| examples.map(sequence).sum()).collect()
        };
        let src_rows = rows_of(&|row| src.row(row).len());
        let tgt_rows = rows_of(&|row| read(row).len());
        let divided = self.projection == Projection::Divided;
        let states_len = if divided { self.tgt.ids.len() * d_tgt } else { 0 };
        self.states.resize(states_len, 0.0);
        self.d_states.resize(states_len, 0.0);

        let (model, spare) = (&self.model, &self.spare);
        let take = || spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        let give = |microbatch| spare.lock().unwrap_or_else(PoisonError::into_inner).push(microbatch);
        let load = |microbatch: &mut Microbatch, examples: Range<usize>| {
            microbatch.load(examples.map(|row| (src.row(row), read(row), predicted(row))));
        };

        if divided {
            let states = cut(&mut self.states, tgt_rows.iter().map(|rows| rows * d_tgt));
            for_each(self.parts.iter_mut().zip(division.examples()).zip(states), |((part, examples), mut states)| {
                for examples in division.microbatches(examples) {
                    let mut microbatch = take();
                    load(&mut microbatch, examples);
                    let found = microbatch.forward(model, weights);
                    let (own, rest) = mem::take(&mut states).split_at_mut(found.len());
                    own.copy_from_slice(found);
                    states = rest;
                    part.waiting.push(microbatch);
                }
            });
        }
        let mut total = 0.0;
        if divided {
            let [weight, bias] = self.model.projection_places();
            gradients[weight.clone()].fill(0.0);
            gradients[bias.clone()].fill(0.0);
            let pass = ProjectionLoss {
                weight: &weights[weight.clone()],
                bias: &weights[bias.clone()],
                share,
                threads: Threads::All,
            };
            let [d_weight, d_bias] = two(gradients, weight, bias);
            if !self.targets.is_empty() {
                total = pass.run(&self.states, &self.targets, Some([&mut self.d_states, d_weight, d_bias]));
            }
        }

        let private_len = self.places.private_len();
        let mut whole = Some(&mut *gradients);
        // The first part has no private gradients.
        let targets: Vec<_> = (0..self.parts.len()).map(|_| whole.take()).collect();
        let d_src_rows = cut(&mut self.src.gradients, src_rows.iter().map(|rows| rows * d_src));
        let d_tgt_rows = cut(&mut self.tgt.gradients, tgt_rows.iter().map(|rows| rows * d_tgt));
        let d_states = cut_ref(&self.d_states, tgt_rows.iter().map(|rows| if divided { rows * d_tgt } else { 0 }));
        let parts = self.parts.iter_mut().zip(targets).zip(division.examples());
        for_each(
            parts.zip(d_src_rows).zip(d_tgt_rows).zip(d_states),
            |(((part, mut d_src), mut d_tgt), mut d_states)| {
                let ((Part { gradients, loss, waiting }, mut whole), examples) = part;
                *loss = 0.0;
                if whole.is_none() {
                    gradients.resize(private_len, 0.0);
                }
                let mut waiting = mem::take(waiting).into_iter();
                for (at, examples) in division.microbatches(examples).enumerate() {
                    let store = if at == 0 { Store::Replace } else { Store::Add };
                    let gradients = match &mut whole {
                        Some(whole) => Gradients::Whole(whole),
                        None => Gradients::Private(gradients),
                    };
                    let microbatch = if let Some(mut microbatch) = waiting.next() {
                        let (own, rest) = d_states.split_at(microbatch.states_len());
                        d_states = rest;
                        microbatch.backward(model, weights, gradients, store, own);
                        microbatch
                    } else {
                        let mut microbatch = take();
                        load(&mut microbatch, examples);
                        microbatch.forward(model, weights);
                        *loss += microbatch.project_and_backward(model, weights, gradients, store, share);
                        microbatch
                    };
                    for (rows, found) in [&mut d_src, &mut d_tgt].into_iter().zip(microbatch.embedded_gradients()) {
                        let (own, rest) = mem::take(rows).split_at_mut(found.len());
                        own.copy_from_slice(found);
                        *rows = rest;
                    }
                    give(microbatch);
                }
            },
        );
        total += self.parts.iter().map(|part| part.loss).sum::<f64>();
        self.reduce(gradients);
        Ok(total / counted as f64)
    }
}

impl ExplicitSchedule {
    /// Adds the private gradients to those of the first part, in the order of the parts, and adds those of the embedded rows to their tables.
    fn reduce(&self, gradients: &mut [f32]) {
        let projection = self.model.projection_places();
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
                // A table that serves as the projection has its gradients already.
                if range != projection[0] {
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

/// How the examples of a batch are divided: into parts, and these into microbatches. A function of the shapes alone.
#[derive(Clone, Copy, Debug)]
struct Division {
    batch: usize,
    /// Examples of each part but the last.
    part: usize,
    /// Examples of a microbatch at most.
    microbatch: usize,
}

impl Division {
    /// Of a batch whose sequences have at most `width` tokens, into at most `parts`.
    fn new(batch: usize, width: usize, parts: usize) -> Self {
        let width = width.max(1);
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

    /// The examples of each microbatch of a part, in nearly equal numbers.
    fn microbatches(self, part: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let count = part.len().div_ceil(self.microbatch);
        (0..count).map(move |i| part.start + i * part.len() / count..part.start + (i + 1) * part.len() / count)
    }
}

/// Consecutive pieces of a slice, of the given lengths.
fn cut<'a>(slice: &'a mut [f32], lengths: impl ExactSizeIterator<Item = usize>) -> std::vec::IntoIter<&'a mut [f32]> {
    let mut rest = slice;
    let pieces: Vec<_> = lengths
        .map(|length| {
            let (piece, after) = mem::take(&mut rest).split_at_mut(length);
            rest = after;
            piece
        })
        .collect();
    pieces.into_iter()
}

/// As [`cut`], to read.
fn cut_ref(slice: &[f32], lengths: impl ExactSizeIterator<Item = usize>) -> std::vec::IntoIter<&[f32]> {
    let mut rest = slice;
    let pieces: Vec<_> = lengths
        .map(|length| {
            let (piece, after) = rest.split_at(length);
            rest = after;
            piece
        })
        .collect();
    pieces.into_iter()
}

/// Two ranges that do not overlap, to write.
fn two(slice: &mut [f32], a: Range<usize>, b: Range<usize>) -> [&mut [f32]; 2] {
    slice.get_disjoint_mut([a, b]).expect("parameters do not overlap")
}
