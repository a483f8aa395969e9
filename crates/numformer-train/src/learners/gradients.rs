//! How the gradients of a training step are computed.

use candle_core::{Error, Result};
use numformer_fused::{FusedStep, Precision};
use numformer_model::{Autodiff, Model, ModelConfig, Parameters, TrainingStep};
use serde::{Deserialize, Serialize};

/// How the loss and its gradients are computed. The two ways agree to rounding, not bit for bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gradients {
    /// By the fused step if the model has one, otherwise by automatic differentiation.
    #[default]
    Auto,
    /// By an explicit forward and backward schedule. It is several times faster, but works only for the standard
    /// transformer.
    #[serde(alias = "explicit")]
    Fused,
    /// By candle's automatic differentiation. It works for every model.
    Autodiff,
}

/// The training step of a new model, and a description in words of how gradients are computed.
///
/// # Errors
/// When a fused step is asked for, or products in bf16, which only it has, and the model has none; or when the model
/// cannot be built.
pub fn training_step(
    config: &ModelConfig,
    parameters: &Parameters,
    gradients: Gradients,
    precision: Precision,
    label_smoothing: f64,
) -> Result<(Box<dyn TrainingStep>, String)> {
    // Draws the weights.
    let model = Model::init(config, parameters)?;
    let autodiff = |why: &str| -> Result<(Box<dyn TrainingStep>, String)> {
        let how = format!("automatic differentiation{why}");
        let step = Autodiff::new(model.clone(), parameters)?.with_label_smoothing(label_smoothing);
        Ok((Box::new(step), how))
    };
    let missing = FusedStep::missing(config).or((label_smoothing > 0.0).then_some("label smoothing"));
    if precision == Precision::Bf16 && (gradients == Gradients::Autodiff || missing.is_some()) {
        let why = missing.map_or("not automatic differentiation".to_owned(), |what| format!("which has no {what}"));
        return Err(Error::Msg(format!("train.precision = \"bf16\" needs the fused step, {why}: use \"f32\"")));
    }
    match (gradients, config, missing) {
        (Gradients::Autodiff, ..) => autodiff(""),
        (Gradients::Auto | Gradients::Fused, ModelConfig::Transformer(config), None) => {
            let step = FusedStep::with_precision(config, parameters, precision)?;
            let how = step.how();
            Ok((Box::new(step), how))
        }
        (Gradients::Auto, _, missing) => {
            autodiff(&format!(" (the fused step does not support {})", missing.unwrap_or("this model")))
        }
        (Gradients::Fused, _, missing) => {
            let what = missing.unwrap_or("this model");
            Err(Error::Msg(format!("the fused step does not support {what}: use automatic differentiation")))
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use numformer_model::{StackConfig, TransformerConfig};

    use super::*;

    #[test]
    fn models_without_a_schedule_fall_back_and_say_so() {
        let sizes = StackConfig::new(8, 2, 1);
        let standard = TransformerConfig::new(20, 8, sizes.clone(), sizes);
        let with_dropout = TransformerConfig { dropout: 0.1, ..standard.clone() };
        let how = |config: &TransformerConfig, gradients| {
            let parameters = Parameters::random(0, &Device::Cpu);
            training_step(&config.clone().into(), &parameters, gradients, Precision::F32, 0.0).map(|(_, how)| how)
        };
        assert_eq!(how(&standard, Gradients::Auto).expect("a step"), "fused step");
        assert_eq!(how(&standard, Gradients::Autodiff).expect("a step"), "automatic differentiation");
        let said = how(&with_dropout, Gradients::Auto).expect("a step");
        assert_eq!(said, "automatic differentiation (the fused step does not support dropout)");
        let error = how(&with_dropout, Gradients::Fused).expect_err("no such schedule").to_string();
        assert!(error.contains("the fused step does not support dropout"), "{error}");

        let smoothed = |gradients| {
            training_step(
                &standard.clone().into(),
                &Parameters::random(0, &Device::Cpu),
                gradients,
                Precision::F32,
                0.1,
            )
            .map(|(_, how)| how)
        };
        let said = smoothed(Gradients::Auto).expect("a step");
        assert_eq!(said, "automatic differentiation (the fused step does not support label smoothing)");
        let error = smoothed(Gradients::Fused).expect_err("no such schedule").to_string();
        assert!(error.contains("does not support label smoothing"), "{error}");
    }

    #[test]
    fn bf16_needs_the_fused_step() {
        let sizes = StackConfig::new(8, 2, 1);
        let standard = TransformerConfig::new(20, 8, sizes.clone(), sizes);
        let with_dropout = TransformerConfig { dropout: 0.1, ..standard.clone() };
        let how = |config: &TransformerConfig, gradients| {
            let parameters = Parameters::random(0, &Device::Cpu);
            let step = training_step(&config.clone().into(), &parameters, gradients, Precision::Bf16, 0.0);
            step.map_or_else(|error| error.to_string(), |(_, how)| how)
        };
        assert!(how(&standard, Gradients::Auto).starts_with("fused step, bf16"));
        let refused = "train.precision = \"bf16\" needs the fused step, ";
        assert_eq!(how(&with_dropout, Gradients::Auto), format!("{refused}which has no dropout: use \"f32\""));
        let refused_too = how(&standard, Gradients::Autodiff);
        assert_eq!(refused_too, format!("{refused}not automatic differentiation: use \"f32\""));
    }
}
