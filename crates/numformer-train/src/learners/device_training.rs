//! How a model is trained on a device.

use candle_core::{Error, Result};
use numformer_fused::{DeviceAutodiff, DeviceStep, DeviceTraining, Precision};
use numformer_model::{Autodiff, Model, ModelConfig, Parameters, TrainingStep, TransformerConfig};
use numformer_ops::device::{Accelerator, OptimizerKind};

use crate::learners::gradients::Gradients;

/// The training of a new model on a device, which holds `parameters`: by the fused step if it has all that the model
/// needs, otherwise by automatic differentiation, with a description in words of which and why.
///
/// # Errors
/// When a fused step is asked for, or products in bf16, which only it has, and the model has none; when the model cannot
/// be built, or the device does not have enough memory.
pub fn device_training(
    config: &ModelConfig,
    parameters: &Parameters,
    gradients: Gradients,
    precision: Precision,
    label_smoothing: f64,
    (device, optimizer): (Accelerator, OptimizerKind),
) -> Result<(Box<dyn DeviceTraining>, String)> {
    // Draws the weights.
    let model = Model::init(config, parameters)?;
    match way(config, gradients, precision)? {
        Way::Fused(config) => {
            let step = DeviceStep::new(config, parameters, device, precision, optimizer)?;
            let how = DeviceTraining::how(&step);
            Ok((Box::new(step.with_label_smoothing(label_smoothing)), how))
        }
        Way::Autodiff { how } => {
            let step = DeviceAutodiff::new(model, parameters, device, optimizer)?;
            Ok((Box::new(step.with_label_smoothing(label_smoothing)), how))
        }
    }
}

/// Loss and gradients of a new model on a device, for an optimizer on the host. Weights and gradients cross the bus at
/// each step.
///
/// # Errors
/// As [`device_training`].
pub fn device_training_step(
    config: &ModelConfig,
    parameters: &Parameters,
    gradients: Gradients,
    precision: Precision,
    label_smoothing: f64,
    device: Accelerator,
) -> Result<(Box<dyn TrainingStep>, String)> {
    let model = Model::init(config, parameters)?;
    let name = device.name();
    let on_host = |how: &str| format!("{how}, {precision}, on {name}; the optimizer on the host");
    match way(config, gradients, precision)? {
        Way::Fused(config) => {
            let step = DeviceStep::new(config, parameters, device, precision, OptimizerKind::Adam)?;
            let step = step.with_label_smoothing(label_smoothing);
            Ok((Box::new(step), on_host("fused step")))
        }
        Way::Autodiff { how } => {
            let step = Autodiff::new(model, parameters)?.with_label_smoothing(label_smoothing);
            Ok((Box::new(step), on_host(&how)))
        }
    }
}

enum Way<'c> {
    Fused(&'c TransformerConfig),
    Autodiff { how: String },
}

fn way(config: &ModelConfig, gradients: Gradients, precision: Precision) -> Result<Way<'_>> {
    let missing = DeviceStep::missing(config);
    match (gradients, config, missing) {
        (Gradients::Auto | Gradients::Fused, ModelConfig::Transformer(config), None) => Ok(Way::Fused(config)),
        (Gradients::Fused, _, missing) => {
            let what = missing.unwrap_or("this model");
            Err(Error::Msg(format!("the fused step does not support {what}: use automatic differentiation")))
        }
        (_, _, missing) if precision == Precision::Bf16 => {
            let why = missing.map_or("not automatic differentiation".to_owned(), |what| format!("which has no {what}"));
            Err(Error::Msg(format!("train.precision = \"bf16\" needs the fused step, {why}: use \"f32\"")))
        }
        (Gradients::Autodiff, ..) => Ok(Way::Autodiff { how: "automatic differentiation".to_owned() }),
        (Gradients::Auto, _, missing) => {
            let what = missing.unwrap_or("this model");
            Ok(Way::Autodiff { how: format!("automatic differentiation (the fused step does not support {what})") })
        }
    }
}
