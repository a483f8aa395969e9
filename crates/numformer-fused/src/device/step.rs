//! The fused training step of the standard transformer on a device, with explicit forward and backward passes.

use candle_core::{Error, Result};
use numformer_model::{
    FlatLayout, Mode, ModelConfig, Parameters, StackConfig, TokenRows, TrainingStep, TransformerConfig,
};
use numformer_ops::device::{Accelerator, OptimizerKind, OptimizerStep, Recording, StepNumbers};

use super::inputs::{Inputs, Shape, predicted};
use super::stacks::{Kept, Model};
use super::training::{DeviceTraining, mode_of};
use super::vectors::Activations;
use super::weights::{DeviceWeights, Ending};
use crate::Precision;
use crate::fused_step::FusedStep;

/// The fused training step of the standard transformer on a device, which holds the weights, the gradients and the
/// optimizer's memory.
///
/// A batch goes to the device in one copy. The whole step, from the embedding to the optimizer, is recorded once for each
/// shape and then replayed, and the host does not wait for it. Loss and gradients equal those of
/// [`Autodiff`](numformer_model::Autodiff) up to rounding, dropout included, in `f32` or, with [`Precision::Bf16`], in
/// bf16. The same steps give the same bits on the same device.
///
/// As a [`TrainingStep`], it copies weights from the host and gradients back. This is slow, and meant for optimizers on
/// the host, and for tests. For training, [`DeviceTraining::take_step`] leaves everything on the device.
#[derive(Debug)]
pub struct DeviceStep {
    weights: DeviceWeights,
    config: TransformerConfig,
    model: Model,
    smoothing: f32,
    activations: Activations,
    plans: Vec<Plan>,
}

/// Memory and recordings for the batches of one shape.
#[derive(Debug)]
struct Plan {
    shape: Shape,
    inputs: Inputs,
    kept: Kept,
    /// A step on one batch, to its end.
    whole: Option<Recording>,
    /// The gradients of one batch of several.
    part: Option<Recording>,
}

impl DeviceStep {
    /// The feature of a model that the fused step does not have on a device; `None` if it can train the model. Any other
    /// model is trained by [`DeviceAutodiff`](crate::DeviceAutodiff).
    #[must_use]
    pub fn missing(config: &ModelConfig) -> Option<&'static str> {
        let ModelConfig::Transformer(transformer) = config else { return FusedStep::missing(config) };
        let wide = |stack: &StackConfig| stack.d_model / stack.n_heads.max(1) > 128;
        FusedStep::missing(&without_dropout(transformer).into())
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
        device: Accelerator,
        precision: Precision,
        optimizer: OptimizerKind,
    ) -> Result<Self> {
        let layout = checked_layout(config, parameters)?;
        let mut weights = DeviceWeights::new(device, layout, parameters, precision, optimizer)?;
        let model = Model::on(&mut weights.device, &weights.places, config)?;
        let activations = Activations::new(&mut weights.device, &weights.vectors, precision)?;
        Ok(Self { weights, config: config.clone(), model, smoothing: 0.0, activations, plans: Vec::new() })
    }

    /// Smooths the targets, as [`Seq2Seq::smoothed_loss`](numformer_model::Seq2Seq::smoothed_loss) does.
    #[must_use]
    pub fn with_label_smoothing(self, smoothing: f64) -> Self {
        Self { smoothing: smoothing as f32, ..self }
    }

    /// Checks a batch, and returns the index of the plan for its shape.
    fn plan(&mut self, src: TokenRows<'_>, tgt: TokenRows<'_>) -> Result<usize> {
        let vocab_size = self.config.vocab_size;
        let shape = Shape::checked(&self.config, src, tgt)?;
        if let Some(at) = self.plans.iter().position(|plan| plan.shape == shape) {
            return Ok(at);
        }
        let Self { weights, model, activations, .. } = self;
        let inputs = Inputs::reserve(&mut weights.device, shape)?;
        let kept = activations.plan(&mut weights.device, |take| model.plan(take, &inputs, vocab_size))?;
        self.plans.push(Plan { shape, inputs, kept, whole: None, part: None });
        Ok(self.plans.len() - 1)
    }

    /// A step on one batch, which is replayed from its first to its last operation.
    fn take_whole_step(
        &mut self,
        batch: [TokenRows<'_>; 2],
        mode: Mode,
        update: OptimizerStep,
        clip_norm: f32,
    ) -> Result<()> {
        let numbers = self.weights.numbers(mode, update, clip_norm, share(predicted(batch[1])))?;
        let at = self.plan(batch[0], batch[1])?;
        let Self { weights, plans, model, config, smoothing, .. } = self;
        let Plan { inputs, kept, whole, .. } = &mut plans[at];
        inputs.write(&mut weights.device, batch, config.padding_id, numbers, mode)?;
        let recording = match whole {
            Some(recording) => recording,
            None => {
                // A first run outside the recording: libraries load what they need, which must not be part of the
                // recording.
                model.forward_and_backward(&mut weights.pass(true), inputs, kept, *smoothing)?;
                let recording = weights.record(|weights| {
                    model.forward_and_backward(&mut weights.pass(true), inputs, kept, *smoothing)?;
                    let ending = Ending { numbers: inputs.numbers, losses: kept.losses };
                    weights.end(ending, weights.vectors.gradients)
                })?;
                whole.insert(recording)
            }
        };
        weights.device.replay(recording)
    }

    /// Adds the gradients of one batch of several to the sums; the batches have `predicted` target tokens together.
    fn take_part(&mut self, batch: [TokenRows<'_>; 2], mode: Mode, total: u64) -> Result<()> {
        let at = self.plan(batch[0], batch[1])?;
        let Self { weights, plans, model, config, smoothing, .. } = self;
        let Plan { inputs, kept, part, .. } = &mut plans[at];
        // Only the share is read; the update comes with the last batch.
        let numbers = StepNumbers::none(share(total));
        inputs.write(&mut weights.device, batch, config.padding_id, numbers, mode)?;
        let recording =
            match part {
                Some(recording) => recording,
                None => {
                    model.forward_and_backward(&mut weights.pass(true), inputs, kept, *smoothing)?;
                    part.insert(weights.record(|weights| {
                        model.forward_and_backward(&mut weights.pass(true), inputs, kept, *smoothing)
                    })?)
                }
            };
        weights.device.replay(recording)?;
        // The gradients already have the share; the losses do not.
        weights.add_to_sums(kept.losses, 1.0, share(total))
    }
}

/// 1 over a number of target tokens.
fn share(tokens: u64) -> f32 {
    1.0 / tokens.max(1) as f32
}

/// The configuration as the fused step of the host knows it: dropout is only on devices.
fn without_dropout(config: &TransformerConfig) -> TransformerConfig {
    TransformerConfig { dropout: 0.0, ..config.clone() }
}

/// The layout of the parameters of a model, after a check that a device can compute it and that the configuration and
/// the parameters match, to the last coefficient.
pub(super) fn checked_layout(config: &TransformerConfig, parameters: &Parameters) -> Result<FlatLayout> {
    if let Some(what) = DeviceStep::missing(&config.clone().into()) {
        return Err(Error::Msg(format!("the fused step on a device has no {what}: use automatic differentiation")));
    }
    config.validate().map_err(Error::wrap)?;
    Ok(FusedStep::new(&without_dropout(config), parameters)?.layout().clone())
}

impl DeviceTraining for DeviceStep {
    fn weights(&self) -> &DeviceWeights {
        &self.weights
    }

    fn weights_mut(&mut self) -> &mut DeviceWeights {
        &mut self.weights
    }

    fn take_step(
        &mut self,
        batches: &[[TokenRows<'_>; 2]],
        mode: Mode,
        update: OptimizerStep,
        clip_norm: f32,
    ) -> Result<()> {
        match batches {
            [] => return Err(Error::Msg("expected at least one batch".to_owned())),
            [batch] if !self.weights.has_ranks() => self.take_whole_step(*batch, mode, update, clip_norm)?,
            several => {
                let numbers = self.weights.numbers(mode, update, clip_norm, 1.0)?;
                let tokens = several.iter().map(|[_, tgt]| predicted(*tgt)).sum();
                // How many tokens all ranks have is known only in the end.
                let total = if self.weights.has_ranks() { 1 } else { tokens };
                self.weights.begin_sums()?;
                for (index, batch) in several.iter().enumerate() {
                    self.take_part(*batch, mode_of(mode, index), total)?;
                }
                self.weights.end_sums(numbers, tokens)?;
            }
        }
        self.weights.begun();
        Ok(())
    }

    fn how(&self) -> String {
        "fused step".to_owned()
    }
}

impl TrainingStep for DeviceStep {
    fn loss_and_gradients(
        &mut self,
        weights: &[f32],
        src: TokenRows<'_>,
        tgt: TokenRows<'_>,
        mode: Mode,
        gradients: &mut [f32],
    ) -> Result<f64> {
        self.weights.set(weights)?;
        let at = self.plan(src, tgt)?;
        let Self { weights, plans, model, config, smoothing, .. } = self;
        let Plan { inputs, kept, .. } = &plans[at];
        let share = share(predicted(tgt));
        inputs.write(&mut weights.device, [src, tgt], config.padding_id, StepNumbers::none(share), mode)?;
        let drops = mode != Mode::Evaluate;
        model.forward_and_backward(&mut weights.pass(drops), inputs, kept, *smoothing)?;
        let losses = weights.device.read(kept.losses)?;
        weights.read_gradients(gradients)?;
        Ok(losses.iter().copied().map(f64::from).sum::<f64>() * f64::from(share))
    }

    fn how(&self) -> String {
        "fused step".to_owned()
    }
}
