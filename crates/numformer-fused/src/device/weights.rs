//! Weights that learn on a device.

use std::sync::Arc;

use candle_core::{Error, Result};
use numformer_model::{FlatLayout, Mode, Parameters, StepOutcome};
use numformer_ops::device::{
    Accelerator, DeviceSum, Element, OptimizerKind, OptimizerStep, Recording, Region, StepNumbers,
};

use super::places::{DevicePlaces, variable};
use super::vectors::{Pass, Vectors};
use crate::Precision;

/// Number of steps whose outcomes the device remembers.
const SLOTS: usize = 1024;

/// Weights on a device, their gradients, and what the optimizer remembers of them. The outcome of a step, its loss and
/// the norm of its gradients, also stays on the device until it is asked for.
#[derive(Debug)]
pub struct DeviceWeights {
    pub(super) device: Accelerator,
    precision: Precision,
    layout: FlatLayout,
    pub(super) places: DevicePlaces,
    pub(super) vectors: Vectors,
    optimizer: OptimizerKind,
    /// What the optimizer remembers, in its order.
    memory: Vec<Region>,
    /// Whether a step was not finite, and the factor of the gradients.
    state: Region,
    /// Loss and gradient norm of each slot.
    outcomes: Region,
    squares: Region,
    /// Number of steps whose outcomes have not been read.
    pending: usize,
    sums: Option<Sums>,
    ranks: Option<Arc<dyn DeviceSum>>,
}

/// Sums over the batches of a step.
#[derive(Clone, Copy, Debug)]
struct Sums {
    gradients: Region,
    /// The loss, and the number of target tokens if they are summed over ranks.
    loss_and_tokens: Region,
    numbers: Region,
}

impl Sums {
    fn loss(&self) -> Result<Region> {
        self.loss_and_tokens.slice(0..1)
    }
}

/// Numbers that end a step, and where they are in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    pub(super) numbers: Region,
    pub(super) losses: Region,
}

impl DeviceWeights {
    /// Puts `parameters` on a device, in the order of `layout`.
    pub(super) fn new(
        mut device: Accelerator,
        layout: FlatLayout,
        parameters: &Parameters,
        precision: Precision,
        optimizer: OptimizerKind,
    ) -> Result<Self> {
        let places = DevicePlaces::new(&layout);
        let vectors = Vectors::new(&mut device, places.len(), precision)?;
        let memory = (0..optimizer.vectors()).map(|_| device.reserve(Element::F32, places.len()));
        let memory = memory.collect::<Result<_>>()?;
        let (state, outcomes) = (device.reserve(Element::U32, 2)?, device.reserve(Element::F32, 2 * SLOTS)?);
        let squares = device.reserve(Element::F64, Accelerator::SQUARES)?;
        let mut weights = vec![0.0; layout.len()];
        layout.read(parameters, &mut weights)?;
        let (pending, sums, ranks) = (0, None, None);
        let mut new = Self {
            device,
            precision,
            layout,
            places,
            vectors,
            optimizer,
            memory,
            state,
            outcomes,
            squares,
            pending,
            sums,
            ranks,
        };
        new.set(&weights)?;
        Ok(new)
    }

    /// From now on, adds up gradients over ranks, each of which has other examples of each batch. All must take the same
    /// steps, and each updates its own weights.
    pub fn set_ranks(&mut self, ranks: Arc<dyn DeviceSum>) {
        self.ranks = Some(ranks);
    }

    /// Whether gradients are summed over ranks.
    pub(super) fn has_ranks(&self) -> bool {
        self.ranks.is_some()
    }

    /// The order of the weights on the host.
    #[must_use]
    pub fn layout(&self) -> &FlatLayout {
        &self.layout
    }

    /// The precision of products.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Accelerator {
        &self.device
    }

    /// What a forward or backward pass with these weights uses.
    pub(super) fn pass(&mut self, drops: bool) -> Pass<'_> {
        Pass { device: &mut self.device, vectors: &self.vectors, drops }
    }

    /// Sets all weights, in the order of the layout. If a step was not finite, it is forgotten.
    ///
    /// # Errors
    /// When there are more or fewer weights, or the device fails.
    pub fn set(&mut self, weights: &[f32]) -> Result<()> {
        self.check_len("weights", weights.len())?;
        let weights = self.places.to_device(weights);
        self.device.write(self.vectors.weights, &weights)?;
        if let Some(copy) = self.vectors.copy() {
            self.device.write(copy, &weights)?;
        }
        self.go_on()
    }

    /// Reads all weights, after all earlier steps are done.
    ///
    /// # Errors
    /// When `weights` has another length, or the device fails.
    pub fn read(&mut self, weights: &mut [f32]) -> Result<()> {
        self.read_vector(self.vectors.weights, weights)
    }

    /// Copies the weights to the variables of a model on the same device, without the host.
    ///
    /// # Errors
    /// When the parameters are on another device, or are not those of the layout.
    pub fn show(&mut self, parameters: &Parameters) -> Result<()> {
        let Self { device, places, vectors, .. } = self;
        for (name, range) in places.ranges() {
            device.copy_to_tensor(variable(parameters, name)?.as_tensor(), vectors.weights.slice(range)?)?;
        }
        Ok(())
    }

    /// Sets what the optimizer remembers: vectors in its order, each in that of the layout.
    ///
    /// # Errors
    /// When there are more or fewer vectors, or as [`set`](Self::set).
    pub fn set_memory(&mut self, memory: &[&[f32]]) -> Result<()> {
        self.check_vectors(memory.len())?;
        for (region, vector) in self.memory.clone().into_iter().zip(memory) {
            self.check_len("entries of an optimizer's memory", vector.len())?;
            self.device.write(region, &self.places.to_device(vector))?;
        }
        Ok(())
    }

    /// Reads what the optimizer remembers.
    ///
    /// # Errors
    /// When there are more or fewer vectors, or as [`read`](Self::read).
    pub fn read_memory<'a>(&mut self, memory: impl IntoIterator<Item = &'a mut [f32]>) -> Result<()> {
        let memory: Vec<_> = memory.into_iter().collect();
        self.check_vectors(memory.len())?;
        self.memory.clone().into_iter().zip(memory).try_for_each(|(region, vector)| self.read_vector(region, vector))
    }

    pub(super) fn read_gradients(&mut self, gradients: &mut [f32]) -> Result<()> {
        self.read_vector(self.vectors.gradients, gradients)
    }

    fn read_vector(&mut self, region: Region, host: &mut [f32]) -> Result<()> {
        self.check_len("coefficients", host.len())?;
        let device = self.device.read(region)?;
        self.places.to_host(&device, host);
        Ok(())
    }

    fn check_len(&self, what: &str, found: usize) -> Result<()> {
        if found != self.layout.len() {
            return Err(Error::Msg(format!("expected {} {what}, found {found}", self.layout.len())));
        }
        Ok(())
    }

    fn check_vectors(&self, found: usize) -> Result<()> {
        let expected = self.memory.len();
        if found != expected {
            return Err(Error::Msg(format!("expected {expected} vectors of an optimizer's memory, found {found}")));
        }
        Ok(())
    }

    /// Allows steps again after a step that was not finite.
    ///
    /// # Errors
    /// When the device fails.
    pub fn go_on(&mut self) -> Result<()> {
        self.device.clear(self.state)
    }

    /// Maximum number of steps that may be under way before their outcomes are read.
    pub const MOST_PENDING: usize = SLOTS;

    /// Waits for the steps since the last call and returns their outcomes, in order. From the first outcome that is not
    /// finite, no steps were taken.
    ///
    /// # Errors
    /// When the device fails.
    pub fn outcomes(&mut self) -> Result<Vec<StepOutcome>> {
        if self.pending == 0 {
            return Ok(Vec::new());
        }
        if let Some(ranks) = &self.ranks {
            ranks.wait()?;
        }
        let found = self.device.read(self.outcomes.slice(0..2 * self.pending)?)?;
        self.pending = 0;
        let outcome = |pair: &[f32]| StepOutcome { loss: f64::from(pair[0]), gradient_norm: f64::from(pair[1]) };
        Ok(found.chunks_exact(2).map(outcome).collect())
    }

    /// The numbers of the next step, whose loss is the sum of losses times `share`.
    pub(super) fn numbers(
        &self,
        mode: Mode,
        optimizer: OptimizerStep,
        clip_norm: f32,
        share: f32,
    ) -> Result<StepNumbers> {
        if mode == Mode::Evaluate {
            return Err(Error::Msg("expected the mode of training, found that of evaluation".to_owned()));
        }
        if self.pending == SLOTS {
            return Err(Error::Msg(format!("expected at most {SLOTS} steps without reading their outcomes")));
        }
        if optimizer.kind() != self.optimizer {
            return Err(Error::Msg(format!("expected an update by {:?}, found one by {optimizer:?}", self.optimizer)));
        }
        Ok(StepNumbers { optimizer, clip_norm, slot: self.pending as u32, share })
    }

    /// Notes that a step is under way.
    pub(super) fn begun(&mut self) {
        self.pending += 1;
    }

    /// Clips the gradients and updates the weights, by numbers and losses in memory.
    pub(super) fn end(&mut self, Ending { numbers, losses }: Ending, gradients: Region) -> Result<()> {
        let Self { device, vectors, memory, optimizer, state, outcomes, squares, .. } = self;
        let words = [numbers, *state, *outcomes, *squares];
        device.end_step(*optimizer, [vectors.weights, gradients], memory, vectors.copy(), losses, words)
    }

    /// Begins a step on several batches.
    pub(super) fn begin_sums(&mut self) -> Result<()> {
        let sums = match self.sums {
            Some(sums) => sums,
            None => {
                let gradients = self.device.reserve(Element::F32, self.places.len())?;
                let loss_and_tokens = self.device.reserve(Element::F32, 2)?;
                let numbers = self.device.reserve(Element::U32, StepNumbers::WORDS)?;
                *self.sums.insert(Sums { gradients, loss_and_tokens, numbers })
            }
        };
        self.device.clear(sums.gradients)?;
        self.device.clear(sums.loss_and_tokens)
    }

    /// Adds the gradients of a batch times a factor, and its losses times another.
    pub(super) fn add_to_sums(&mut self, losses: Region, of_gradients: f32, of_losses: f32) -> Result<()> {
        let sums = self.begun_sums()?;
        self.device.add_scaled(sums.gradients, self.vectors.gradients, of_gradients)?;
        self.device.add_losses(sums.loss()?, losses, of_losses)
    }

    /// [`Accelerator::record`] for work that needs all of these weights, and not the device alone.
    pub(super) fn record(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<Recording> {
        self.device.begin_recording()?;
        let done = work(self);
        // Also after an error, because the device records until it is told to stop.
        let recording = self.device.end_recording();
        done?;
        recording
    }

    /// Ends a step by the sums, which are already means; with several ranks, by the means of their sums, of which this one
    /// has `tokens` target tokens.
    pub(super) fn end_sums(&mut self, numbers: StepNumbers, tokens: u64) -> Result<()> {
        let sums = self.begun_sums()?;
        let Sums { gradients, loss_and_tokens, numbers: words } = sums;
        if let Some(ranks) = self.ranks.clone() {
            let count = loss_and_tokens.slice(1..2)?;
            self.device.write(count, &[tokens as f32])?;
            ranks.sum(&mut self.device, gradients)?;
            ranks.sum(&mut self.device, loss_and_tokens)?;
            self.device.divide(gradients, count)?;
            self.device.divide(sums.loss()?, count)?;
        }
        self.device.write_ids(words, &StepNumbers { share: 1.0, ..numbers }.to_words())?;
        self.end(Ending { numbers: words, losses: sums.loss()? }, gradients)
    }

    fn begun_sums(&self) -> Result<Sums> {
        self.sums.ok_or_else(|| Error::Msg("expected a step on several batches".to_owned()))
    }
}
