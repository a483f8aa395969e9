//! The fused training step of the standard transformer on a device, with explicit forward and backward passes.
//!
//! Weights, gradients and Adam's moments stay on the device. A batch goes there in one copy. The whole step, from the
//! embedding to Adam, is recorded once for each shape and then replayed, and the host does not wait for it. The outcome
//! of a step, its loss and the norm of its gradients, also stays on the device until it is requested.
//!
//! - [`stacks`]: embedding, encoder, decoder and projection, as in the model's equations;
//! - [`sublayers`]: attention and feed-forward network with their residuals;
//! - [`greedy`]: answers of the model, written on the device; [`generation`]: the memory for them;
//! - [`inputs`]: the inputs of a step; [`places`] and [`vectors`]: where the parameters lie.

mod generation;
mod greedy;
mod inputs;
mod places;
mod stacks;
mod sublayers;
mod vectors;

use candle_core::{Error, Result};
use numformer_model::{
    FlatLayout, Mode, ModelConfig, Parameters, StepOutcome, TokenRows, TrainingStep, TransformerConfig,
};
use numformer_ops::AdamStep;
use numformer_ops::device::{Accelerator, Element, Pool, Recording, Region, StepNumbers};

use crate::Precision;
use crate::fused_step::FusedStep;

use self::generation::Generation;
use self::inputs::{Inputs, Shape, share};
use self::places::DevicePlaces;
use self::stacks::{Kept, Model};
use self::vectors::{Pass, Take, Vectors};

/// Number of steps whose outcomes the device remembers.
const SLOTS: usize = 1024;

/// The fused training step of the standard transformer on a device, which holds the weights, the gradients and Adam's
/// moments.
///
/// Loss and gradients equal those of [`Autodiff`](numformer_model::Autodiff) up to rounding, in `f32` or, with
/// [`Precision::Bf16`], in bf16. The same steps give the same bits on the same device.
///
/// As a [`TrainingStep`], it copies weights from the host and gradients back. This is slow, and meant for tests. For
/// training, [`take_step`](Self::take_step) leaves everything on the device.
#[derive(Debug)]
pub struct DeviceStep {
    device: Accelerator,
    precision: Precision,
    config: TransformerConfig,
    layout: FlatLayout,
    places: DevicePlaces,
    model: Model,
    vectors: Vectors,
    /// Whether a step was not finite, and the factor of the gradients.
    state: Region,
    /// Loss and gradient norm of each slot.
    outcomes: Region,
    squares: Region,
    /// Number of steps whose outcomes have not been read.
    pending: usize,
    pool: Pool,
    plans: Vec<Plan>,
    generations: Vec<Generation>,
}

/// Memory and recording for the batches of one shape.
#[derive(Debug)]
struct Plan {
    shape: Shape,
    inputs: Inputs,
    kept: Kept,
    step: Option<Recording>,
}

impl DeviceStep {
    /// The feature of a model that no device can train here; `None` if the model can be trained.
    #[must_use]
    pub fn missing(config: &ModelConfig) -> Option<&'static str> {
        let ModelConfig::Transformer(transformer) = config else { return FusedStep::missing(config) };
        let wide = |stack: &numformer_model::StackConfig| stack.d_model / stack.n_heads.max(1) > 128;
        FusedStep::missing(config)
            .or((wide(&transformer.encoder) || wide(&transformer.decoder)).then_some("heads wider than 128"))
    }

    /// Puts the transformer that `config` describes, with the weights in `parameters`, on `device`.
    ///
    /// # Errors
    /// When the configuration is impossible or has a feature that is [missing](Self::missing) here, `parameters` do not
    /// match the model, or the device does not have enough memory.
    pub fn new(
        config: &TransformerConfig,
        parameters: &Parameters,
        mut device: Accelerator,
        precision: Precision,
    ) -> Result<Self> {
        if let Some(what) = Self::missing(&config.clone().into()) {
            return Err(Error::Msg(format!("devices have no {what} yet: train on the CPU")));
        }
        // Checks that the configuration and the parameters match, to the last coefficient.
        let layout = FusedStep::new(config, parameters)?.layout().clone();
        let places = DevicePlaces::new(&layout);
        let model = Model::new(&mut device, &places, config)?;
        let vectors = Vectors::new(&mut device, places.len(), precision)?;
        let widest = [config.encoder.d_ff(), config.decoder.d_ff(), config.vocab_size];
        let widest = widest.into_iter().chain([3 * config.encoder.d_model, 3 * config.decoder.d_model]).max();
        device.reserve_scratch(widest.unwrap_or(0))?;
        let (state, outcomes) = (device.reserve(Element::U32, 2)?, device.reserve(Element::F32, 2 * SLOTS)?);
        let squares = device.reserve(Element::F64, Accelerator::SQUARES)?;
        let pool = device.reserve_pool(0)?;
        let mut step = Self {
            device,
            precision,
            config: config.clone(),
            layout,
            places,
            model,
            vectors,
            state,
            outcomes,
            squares,
            pending: 0,
            pool,
            plans: Vec::new(),
            generations: Vec::new(),
        };
        let mut weights = vec![0.0; step.layout.len()];
        step.layout.read(parameters, &mut weights)?;
        step.set_weights(&weights)?;
        Ok(step)
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Accelerator {
        &self.device
    }

    /// Sets all weights, in the order of the layout. If a step was not finite, it is forgotten.
    ///
    /// # Errors
    /// When there are more or fewer weights, or the device fails.
    pub fn set_weights(&mut self, weights: &[f32]) -> Result<()> {
        self.check_len("weights", weights.len())?;
        let weights = self.places.to_device(weights);
        self.device.write(self.vectors.weights, &weights)?;
        if let Some(copy) = self.vectors.copy() {
            self.device.write(copy, &weights)?;
        }
        self.go_on()
    }

    /// The precision of its arithmetic.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// A description of the device in words.
    #[must_use]
    pub fn device_name(&self) -> String {
        self.device.name()
    }

    /// Allows steps again after a step that was not finite.
    ///
    /// # Errors
    /// When the device fails.
    pub fn go_on(&mut self) -> Result<()> {
        self.device.clear(self.state)
    }

    /// Reads all weights, after all earlier steps are done.
    ///
    /// # Errors
    /// When `weights` has another length, or the device fails.
    pub fn weights(&mut self, weights: &mut [f32]) -> Result<()> {
        self.read(self.vectors.weights, weights)
    }

    /// Sets Adam's first and second moments.
    ///
    /// # Errors
    /// As [`set_weights`](Self::set_weights).
    pub fn set_moments(&mut self, moments: [&[f32]; 2]) -> Result<()> {
        for (region, moment) in [self.vectors.first_moment, self.vectors.second_moment].into_iter().zip(moments) {
            self.check_len("moments", moment.len())?;
            self.device.write(region, &self.places.to_device(moment))?;
        }
        Ok(())
    }

    /// Reads Adam's first and second moments.
    ///
    /// # Errors
    /// As [`weights`](Self::weights).
    pub fn moments(&mut self, moments: [&mut [f32]; 2]) -> Result<()> {
        let regions = [self.vectors.first_moment, self.vectors.second_moment];
        regions.into_iter().zip(moments).try_for_each(|(region, moment)| self.read(region, moment))
    }

    fn read(&mut self, region: Region, host: &mut [f32]) -> Result<()> {
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

    /// Starts a step on the device without waiting for it: gradients of the mean cross-entropy, clipped at `clip_norm`,
    /// and an update by Adam. `adam` holds the numbers of the step, except for the factor of the gradients, which the
    /// device computes.
    ///
    /// # Errors
    /// When the batch does not fit the model, the outcomes of [`MOST_PENDING`](Self::MOST_PENDING) steps have not been
    /// read, or the device fails.
    pub fn take_step(&mut self, src: TokenRows<'_>, tgt: TokenRows<'_>, adam: &AdamStep, clip_norm: f32) -> Result<()> {
        if self.pending == SLOTS {
            return Err(Error::Msg(format!("expected at most {SLOTS} steps without reading their outcomes")));
        }
        let at = self.plan(src, tgt)?;
        let Self { device, plans, vectors, model, config, state, outcomes, squares, .. } = self;
        let plan = &mut plans[at];
        let numbers = StepNumbers { adam: *adam, clip_norm, slot: self.pending as u32, share: 0.0 };
        plan.inputs.write(device, src, tgt, config.padding_id, numbers)?;
        let recording = match &plan.step {
            Some(recording) => recording,
            None => {
                let (inputs, kept) = (&plan.inputs, &plan.kept);
                // A first run outside the recording: libraries load what they need, which must not be part of the
                // recording.
                model.forward_and_backward(&mut Pass { device, vectors }, inputs, kept)?;
                let recording = device.record(|device| {
                    model.forward_and_backward(&mut Pass { device, vectors }, inputs, kept)?;
                    let moved = [vectors.weights, vectors.first_moment, vectors.second_moment];
                    let words = [inputs.numbers, *state, *outcomes];
                    device.end_step(moved, vectors.copy(), vectors.gradients, kept.losses, words, *squares)
                })?;
                plan.step.insert(recording)
            }
        };
        device.replay(recording)?;
        self.pending += 1;
        Ok(())
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
        let found = self.device.read(self.outcomes.slice(0..2 * self.pending)?)?;
        self.pending = 0;
        let outcome = |pair: &[f32]| StepOutcome { loss: f64::from(pair[0]), gradient_norm: f64::from(pair[1]) };
        Ok(found.chunks_exact(2).map(outcome).collect())
    }

    /// Plans the memory of some work. All plans share it, because only one is at work at a time.
    fn planned<T>(&mut self, plan: impl Fn(&Model, &mut Take<'_>) -> Result<T>) -> Result<T> {
        let mut bytes = 0;
        plan(&self.model, &mut Take::counting(&mut bytes, self.state, self.precision))?;
        if self.pool.bytes() < bytes {
            // The old pool stays, because recordings use it. The pool grows in large steps, so all old pools together
            // take at most twice the memory of the newest.
            let wanted = bytes.max(self.pool.bytes() / 2 * 3);
            self.pool = self.device.reserve_pool(wanted).or_else(|_| self.device.reserve_pool(bytes))?;
        }
        self.pool.restart();
        plan(&self.model, &mut Take::from(&mut self.pool, self.precision))
    }

    /// Checks a batch, and returns the index of the plan for its shape.
    fn plan(&mut self, src: TokenRows<'_>, tgt: TokenRows<'_>) -> Result<usize> {
        let TransformerConfig { vocab_size, max_positions, .. } = self.config;
        TokenRows::check_pair(src, tgt, vocab_size, max_positions)?;
        if src.lengths.is_empty() {
            return Err(Error::Msg("expected at least one example".to_owned()));
        }
        let shape = Shape::of(src, tgt, max_positions);
        if let Some(at) = self.plans.iter().position(|plan| plan.shape == shape) {
            return Ok(at);
        }
        let inputs = Inputs::reserve(&mut self.device, shape)?;
        let kept = self.planned(|model, take| model.plan(take, &inputs, vocab_size))?;
        self.plans.push(Plan { shape, inputs, kept, step: None });
        Ok(self.plans.len() - 1)
    }

    /// The order of weights and gradients.
    #[must_use]
    pub fn layout(&self) -> &FlatLayout {
        &self.layout
    }
}

impl TrainingStep for DeviceStep {
    fn loss_and_gradients(
        &mut self,
        weights: &[f32],
        src: TokenRows<'_>,
        tgt: TokenRows<'_>,
        _mode: Mode,
        gradients: &mut [f32],
    ) -> Result<f64> {
        self.set_weights(weights)?;
        let at = self.plan(src, tgt)?;
        let Self { device, plans, vectors, model, config, .. } = self;
        let plan = &plans[at];
        let adam = AdamStep { lr: 0.0, beta1: 0.0, beta2: 0.0, eps: 1.0, gradient_scale: 1.0, decay: 0.0 };
        let numbers = StepNumbers { adam, clip_norm: f32::INFINITY, slot: 0, share: 0.0 };
        plan.inputs.write(device, src, tgt, config.padding_id, numbers)?;
        model.forward_and_backward(&mut Pass { device, vectors }, &plan.inputs, &plan.kept)?;
        let losses = device.read(plan.kept.losses)?;
        self.read(self.vectors.gradients, gradients)?;
        Ok(losses.iter().copied().map(f64::from).sum::<f64>() * f64::from(share(tgt)))
    }
}
