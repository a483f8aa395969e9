//! The passes over a batch: parts of it on different threads, and the sum of their gradients.

use std::iter;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::Result;
use numformer_model::{FlatLayout, OutputProjection, TokenRows, TransformerConfig};
use numformer_ops::kernels::{Operand, ProjectionLoss, Store, Threads, add_parts, for_each, scatter_rows};

use super::division::{Batch, Division, copy_first, pieces, pieces_mut};
use super::microbatch::{Microbatch, Model};
use super::places::{HostPlaces, PartGradients};

/// Maximum number of parts of a batch that have gradients of their own, and so of threads that have work. It is fixed,
/// so that results do not depend on the number of threads.
const PARTS: usize = 8;

/// Maximum number of entries in all private gradients together. The batch has fewer parts, but at
/// least two, if they would exceed it.
const PRIVATE: usize = 80 << 20;

/// Minimum number of entries in an output projection for which the projection is divided among the threads instead of
/// the batch. Private gradients of such a projection would cost more memory, and more time to sum, than keeping the
/// activations of the whole batch.
const LARGE_PROJECTION: usize = 1 << 22;

/// The passes over a batch, with operands of products of type `E`.
#[derive(Debug)]
pub(super) struct Step<E> {
    places: HostPlaces,
    model: Model<E>,
    projection: Projection,
    most_parts: usize,
    parts: Vec<Part<E>>,
    spare: Spare<E>,
    /// Gradients of the embedded rows of the whole batch, `[rows, d]`, with their tokens.
    src: Embedded,
    tgt: Embedded,
    /// For a large projection: the decoder's states as operands, and later their gradients, `[rows, d]`.
    states: Vec<E>,
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
struct Spare<E>(Mutex<Vec<Microbatch<E>>>);

impl<E: Operand> Spare<E> {
    fn take(&self) -> Microbatch<E> {
        self.lock().pop().unwrap_or_default()
    }

    fn give(&self, microbatch: Microbatch<E>) {
        self.lock().push(microbatch);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Microbatch<E>>> {
        // The contents will be overwritten, so a panic elsewhere does no harm.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of the batch that has gradients of its own.
#[derive(Debug, Default)]
struct Part<E> {
    gradients: Vec<f32>,
    loss: f64,
    /// For a large projection: all microbatches between their forward and their backward pass.
    waiting: Vec<Microbatch<E>>,
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

impl<E: Operand> Step<E> {
    /// The passes of the transformer that `config` describes, with its parameters in the order of `layout`.
    pub(super) fn new(config: &TransformerConfig, layout: &FlatLayout) -> Result<Self> {
        let projection = match config.vocab_size * config.decoder.d_model {
            LARGE_PROJECTION.. => Projection::Divided,
            _ => Projection::Private,
        };
        let tied = config.output_projection == OutputProjection::Shared;
        let places = HostPlaces::new(layout, |name| match name {
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
        Ok(Self {
            model,
            places,
            projection,
            most_parts,
            parts: Vec::new(),
            spare: Spare(Mutex::default()),
            src: Embedded::default(),
            tgt: Embedded::default(),
            states: Vec::new(),
            d_states: Vec::new(),
            targets: Vec::new(),
        })
    }

    /// The mean loss, and its gradients. The batch is not empty, and has been checked.
    pub(super) fn loss_and_gradients(
        &mut self,
        weights: &[f32],
        src: TokenRows<'_>,
        tgt: TokenRows<'_>,
        gradients: &mut [f32],
    ) -> f64 {
        let batch = Batch { src, tgt };
        let division = Division::new(&batch, self.most_parts);
        self.model.pack(weights);
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
        total / counted as f64
    }

    /// Widths of the embedded rows of source and target.
    fn widths(&self) -> [usize; 2] {
        let TransformerConfig { encoder, decoder, .. } = self.model.config();
        [encoder.d_model, decoder.d_model]
    }

    /// The forward pass of the whole batch. It writes the states to `states` and keeps the activations in their parts.
    fn forward(&mut self, weights: &[f32], batch: &Batch<'_>, division: Division) {
        let Self { parts, model, spare, states, d_states, tgt, .. } = self;
        let width = model.config().decoder.d_model;
        states.resize(tgt.ids.len() * width, E::default());
        d_states.resize(states.len(), 0.0);
        let states = pieces_mut(states, division.rows(|row| batch.read(row).len() * width));
        for_each(parts.iter_mut().zip(division.examples()).zip(states), |((part, examples), mut states)| {
            for examples in division.microbatches(examples) {
                let mut microbatch = spare.take();
                batch.load(examples, &mut microbatch);
                copy_first(&mut states, microbatch.forward(model, weights).operand);
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
