//! Encoder-decoder models that read a matrix as tokens and write the answer as tokens: the transformer, universal
//! transformers and recurrent networks. They only know ids and tensors: `numformer-encoding` defines what a token
//! means.
//!
//! ```
//! use candle_core::Device;
//! use numformer_model::{Padded, Parameters, StackConfig, Transformer, TransformerConfig, greedy};
//!
//! let config = TransformerConfig::new(20, 8, StackConfig::new(8, 2, 1), StackConfig::new(8, 2, 1));
//! let parameters = Parameters::random(0, &Device::Cpu);
//! let trained = Transformer::init(&config, &parameters)?; // gradients of `trained.loss(..)` reach `parameters`
//! let model = Transformer::new(&config, &parameters.frozen())?; // the same weights, for use
//! let src = Padded::new(&[0, 5, 6, 0], &[4], 4, &Device::Cpu)?;
//! let answers = greedy(&model, &src, 8)?;
//! assert!(answers[0].ids.len() <= 7);
//! # Ok::<(), candle_core::Error>(())
//! ```
//!
//! - [`Seq2Seq`]: the interface of all models; [`Mode`] distinguishes training from use. [`Model`] is a model of any
//!   architecture, and [`ModelConfig`] its sizes and options.
//! - [`Parameters`]: the named weights, from a seed or from stored values.
//! - [`ParameterCounts`]: the number of weights in each part.
//! - [`FlatLayout`]: all weights or gradients as one flat vector.
//! - [`Transformer`] with its [`TransformerConfig`]; its parts, in the order of the figure, are [`Embedding`],
//!   [`MultiHeadAttention`], [`FeedForward`], [`LayerNorm`], [`Encoder`] and [`Decoder`].
//! - [`Recurrent`] with its [`RecurrentConfig`]: LSTMs and GRUs.
//! - [`TrainingStep`]: loss and gradients. [`Autodiff`] computes them by automatic differentiation. The fused step
//!   computes them by an explicit forward and backward pass: [`FusedStep`] on the CPU and [`DeviceStep`] on a GPU.
//! - [`generate`]: answers of any model, found by a [`Decoding`] under a [`Constraint`]; [`greedy`] and [`beam`] have
//!   no constraint. What a model remembers of a batch is [`Batched`]; a transformer has a [`Cache`] of keys and values.
//!
//! # As a dependency
//! ```toml
//! [dependencies]
//! numformer-model = { path = "../numformer/crates/numformer-model" }
//! ```
//!
//! # Features
//! - `cuda`: NVIDIA GPUs as devices of [`DeviceStep`]. It has not yet run on a GPU: it is tested on the host, where the
//!   same kernels are compiled as C++.
//!
//! # References
//! - Vaswani et al. (2017), *Attention Is All You Need*. <https://arxiv.org/abs/1706.03762>
//! - Dehghani et al. (2019), *Universal Transformers*. <https://arxiv.org/abs/1807.03819>
//! - Sutskever, Vinyals and Le (2014), *Sequence to Sequence Learning with Neural Networks*.
//!   <https://arxiv.org/abs/1409.3215>
//! - Charton (2022), *Linear algebra with transformers*. <https://arxiv.org/abs/2112.01898>
#![forbid(unsafe_code)]

mod attention;
mod autodiff;
mod batched;
mod beam_search;
mod cache;
mod config;
mod constraint;
mod copy_gate;
mod decoder;
mod device_step;
mod dropout;
mod embedding;
mod encoder;
mod feed_forward;
mod flat;
mod follow;
mod fused;
mod generate;
mod hypothesis;
mod linear;
mod memory;
mod mode;
mod model;
mod model_config;
mod norm;
mod padded;
mod parameter_counts;
mod parameters;
mod prefix;
mod projection;
mod recurrent;
mod residual;
mod sampling;
mod scores;
mod seq2seq;
mod step_embedding;
mod training_step;
mod transformer;

pub use attention::{KeysValues, MultiHeadAttention};
pub use autodiff::Autodiff;
pub use batched::Batched;
pub use beam_search::{Beam, Ranked, Stopping, beam};
pub use cache::Cache;
pub use candle_core;
pub use candle_nn;
pub use config::{
    ConfigError, CrossAttentionQuery, LayerWeights, OutputProjection, Positions, StackConfig, TransformerConfig,
};
pub use constraint::{Constraint, Unconstrained};
pub use decoder::Decoder;
pub use device_step::{DeviceStep, Precision, StepOutcome};
pub use embedding::{Embedding, sinusoidal_positions};
pub use encoder::Encoder;
pub use feed_forward::FeedForward;
pub use flat::{FlatLayout, Slot};
pub use fused::FusedStep;
pub use generate::{Candidate, Decoding, generate, greedy};
pub use hypothesis::{End, Hypothesis};
pub use linear::Linear;
pub use memory::Memory;
pub use mode::Mode;
pub use model::{Model, ModelCache, ModelMemory};
pub use model_config::ModelConfig;
pub use norm::LayerNorm;
pub use padded::{NO_TARGET, Padded};
pub use parameter_counts::ParameterCounts;
pub use parameters::Parameters;
pub use prefix::Prefix;
pub use projection::Projection;
pub use recurrent::{Cell, Recurrent, RecurrentConfig, States};
pub use sampling::Sampling;
pub use seq2seq::Seq2Seq;
pub use training_step::{TokenRows, TrainingStep};
pub use transformer::Transformer;
