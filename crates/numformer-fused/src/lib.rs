//! The training step of the standard transformer with explicit forward and backward passes, several times faster than
//! automatic differentiation and with the same results up to rounding: [`FusedStep`] on the CPU, [`DeviceStep`] on a
//! GPU. [`DeviceAutodiff`] trains any other model on a GPU, and [`DeviceModel`] answers there.
//!
//! ```
//! use candle_core::Device;
//! use numformer_fused::FusedStep;
//! use numformer_model::{Mode, Parameters, StackConfig, TokenRows, TrainingStep, TransformerConfig};
//!
//! let config = TransformerConfig::new(20, 8, StackConfig::new(8, 2, 1), StackConfig::new(8, 2, 1));
//! let parameters = Parameters::random(0, &Device::Cpu);
//! let mut step = FusedStep::new(&config, &parameters)?;
//!
//! let mut weights = vec![0.0; step.layout().len()];
//! step.layout().read(&parameters, &mut weights)?;
//! let mut gradients = vec![0.0; weights.len()];
//! let tokens = TokenRows { ids: &[0, 5, 6, 0], lengths: &[4], width: 4 };
//! let loss = step.loss_and_gradients(&weights, tokens, tokens, Mode::Evaluate, &mut gradients)?;
//! assert!((loss - 20f64.ln()).abs() < 1.0); // an untrained model guesses among 20 tokens
//! # Ok::<(), candle_core::Error>(())
//! ```
//!
//! [`FusedStep::missing`] says what a model has that only [`Autodiff`](numformer_model::Autodiff) trains.
//!
//! # As a dependency
//! ```toml
//! [dependencies]
//! numformer-fused = { path = "../numformer/crates/numformer-fused" }
//! ```
//!
//! # Features
//! - `cuda`: NVIDIA GPUs as devices. It has not yet run on a GPU: it is tested on the host, where the same kernels are
//!   compiled as C++.
#![forbid(unsafe_code)]

mod device;
mod fused_step;
mod precision;

pub use candle_core;
pub use device::answering::{DeviceModel, device_model};
pub use device::autodiff::DeviceAutodiff;
pub use device::inputs::batch_words;
pub use device::step::DeviceStep;
pub use device::training::DeviceTraining;
pub use device::weights::DeviceWeights;
pub use fused_step::FusedStep;
pub use precision::Precision;
