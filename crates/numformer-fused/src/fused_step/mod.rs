//! The fused training step of the standard transformer, with explicit forward and backward passes.
//!
//! The batch is divided, not the products: each thread takes a few examples at a time, a *microbatch*, through the
//! whole forward and backward pass on its own, with private gradients. Threads only meet to sum these gradients.
//! Sequences lie one after another without padding, so nothing needs a mask. Memory is allocated in the first step and
//! reused.
//!
//! - [`stacks`]: embedding, encoder and decoder, as in the model's equations;
//! - [`sublayers`]: attention and feed-forward network with their residuals;
//! - [`step`]: the parts of a batch and the sum of their gradients; [`division`]: how it is divided;
//! - [`places`]: where parameters lie in flat vectors; [`arena`]: memory that is reused.

mod arena;
mod division;
mod microbatch;
mod places;
mod stacks;
mod step;
mod sublayers;

use candle_core::{Error, Result};
use numformer_model::{
    FlatLayout, LayerWeights, Mode, ModelConfig, Parameters, TokenRows, TrainingStep, Transformer, TransformerConfig,
};
use numformer_ops::kernels::{Level, bf16};

use crate::Precision;

use self::step::Step;

/// The fused training step of the standard transformer on the CPU, without automatic differentiation.
///
/// Loss and gradients equal those of [`Autodiff`](numformer_model::Autodiff) up to rounding. The fused step is several times
/// faster and takes a fraction of the memory. Its results do not depend on the number of threads. With
/// [`Precision::Bf16`], products round their operands, and results agree to about a hundredth.
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
    config: TransformerConfig,
    step: Passes,
}

/// The passes of either precision.
#[derive(Debug)]
enum Passes {
    F32(Step<f32>),
    Bf16(Step<bf16>),
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
    /// there are none yet. Products are in single precision.
    ///
    /// # Errors
    /// When the configuration is impossible or has a feature that is [missing](Self::missing) here, or `parameters` do
    /// not match the model: one is missing, has another shape, or does not belong to the model.
    pub fn new(config: &TransformerConfig, parameters: &Parameters) -> Result<Self> {
        Self::with_precision(config, parameters, Precision::F32)
    }

    /// [`new`](Self::new) with products of the given precision.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_precision(config: &TransformerConfig, parameters: &Parameters, precision: Precision) -> Result<Self> {
        config.validate().map_err(Error::wrap)?;
        if let Some(what) = Self::missing(&config.clone().into()) {
            return Err(Error::Msg(format!("the fused step does not support {what}: use automatic differentiation")));
        }
        if parameters.element_count() == 0 {
            Transformer::init(config, parameters)?;
        }
        let layout = FlatLayout::new(parameters)?;
        let step = match precision {
            Precision::F32 => Passes::F32(Step::new(config, &layout)?),
            Precision::Bf16 => Passes::Bf16(Step::new(config, &layout)?),
        };
        // Everything that the model needs is present. Any further coefficient would have no gradient.
        let (expected, found) = (config.parameter_counts().total(), layout.len() as u64);
        if found != expected {
            return Err(Error::Msg(format!("expected the {expected} coefficients of the model, found {found}")));
        }
        Ok(Self { layout, config: config.clone(), step })
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
        let TransformerConfig { vocab_size, max_positions, .. } = self.config;
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
        if src.lengths.is_empty() {
            gradients.fill(0.0);
            return Ok(0.0);
        }
        Ok(match &mut self.step {
            Passes::F32(step) => step.loss_and_gradients(weights, src, tgt, gradients),
            Passes::Bf16(step) => step.loss_and_gradients(weights, src, tgt, gradients),
        })
    }

    fn how(&self) -> String {
        match self.step {
            Passes::F32(_) => "fused step".to_owned(),
            Passes::Bf16(_) if Level::detect().has_bf16() => "fused step, bf16".to_owned(),
            Passes::Bf16(_) => "fused step, bf16 (slower than f32 here: there are no instructions for bf16)".to_owned(),
        }
    }
}
