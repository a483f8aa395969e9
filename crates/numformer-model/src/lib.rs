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
//!   architecture, and [`ModelConfig`] its sizes and options; [`AnyModel`] and [`CustomModelConfig`] let it hold a
//!   model of your own.
//! - [`Parameters`]: the named weights, from a seed or from stored values.
//! - [`ParameterCounts`]: the number of weights in each part.
//! - [`value_vectors`]: vectors that tell how large a number is, for tokens of numbers to begin with.
//! - [`FlatLayout`]: all weights or gradients as one flat vector.
//! - [`Transformer`] with its [`TransformerConfig`]; its parts, in the order of the figure, are [`Embedding`],
//!   [`MultiHeadAttention`], [`FeedForward`], [`LayerNorm`], [`Encoder`] and [`Decoder`].
//! - [`Recurrent`] with its [`RecurrentConfig`]: LSTMs and GRUs.
//! - [`TrainingStep`]: loss and gradients. [`Autodiff`] computes them for any model by automatic differentiation;
//!   `numformer-fused` computes them for the standard transformer, several times faster.
//! - [`generate`]: answers of any model, found by a [`Decoding`] under a [`Constraint`]; [`greedy`] and [`beam`] have
//!   no constraint. What a model remembers of a batch is [`Batched`]; a transformer has a [`Cache`] of keys and values.
//!
//! # As a dependency
//! ```toml
//! [dependencies]
//! numformer-model = { path = "../numformer/crates/numformer-model" }
//! ```
//! The signatures use candle 0.11. This crate exports `candle_core` and `candle_nn`, so that you need no dependency on the same
//! version.
//!
//! # References
//! - Vaswani et al. (2017), *Attention Is All You Need*. <https://arxiv.org/abs/1706.03762>
//! - Dehghani et al. (2019), *Universal Transformers*. <https://arxiv.org/abs/1807.03819>
//! - Sutskever, Vinyals and Le (2014), *Sequence to Sequence Learning with Neural Networks*.
//!   <https://arxiv.org/abs/1409.3215>
//! - Charton (2022), *Linear algebra with transformers*. <https://arxiv.org/abs/2112.01898>
#![forbid(unsafe_code)]

mod any_model;
mod batched;
mod config;
mod custom_model_config;
mod generate;
mod hypothesis;
mod layers;
mod mode;
mod model;
mod model_config;
mod padded;
mod parameter_counts;
mod parameters;
mod prefix;
mod recurrent;
mod seq2seq;
mod training;
mod transformer;
mod value_vectors;

pub use any_model::{AnyKept, AnyModel, Kept};
pub use batched::Batched;
pub use candle_core;
pub use candle_nn;
pub use config::{
    ConfigError, CrossAttentionQuery, LayerWeights, OutputProjection, Positions, StackConfig, TransformerConfig,
};
pub use custom_model_config::CustomModelConfig;
pub use generate::beam_search::{Beam, Ranked, Stopping, beam};
pub use generate::constraint::{Constraint, Unconstrained};
pub use generate::sampling::Sampling;
pub use generate::{Candidate, Decoding, generate, greedy};
pub use hypothesis::{End, Hypothesis};
pub use layers::attention::{KeysValues, MultiHeadAttention};
pub use layers::dropout::Dropout;
pub use layers::embedding::{Embedding, sinusoidal_positions};
pub use layers::feed_forward::FeedForward;
pub use layers::linear::Linear;
pub use layers::norm::LayerNorm;
pub use layers::projection::Projection;
pub use mode::Mode;
pub use model::{Model, ModelCache, ModelMemory};
pub use model_config::ModelConfig;
pub use padded::{NO_TARGET, Padded};
pub use parameter_counts::ParameterCounts;
pub use parameters::Parameters;
pub use prefix::Prefix;
pub use recurrent::{Cell, Recurrent, RecurrentConfig, States};
pub use seq2seq::Seq2Seq;
pub use training::autodiff::Autodiff;
pub use training::flat::{FlatLayout, Slot};
pub use training::training_step::{StepOutcome, TokenRows, TrainingStep};
pub use training::weights::{HostWeights, Weights};
pub use transformer::Transformer;
pub use transformer::cache::Cache;
pub use transformer::decoder::Decoder;
pub use transformer::encoder::Encoder;
pub use transformer::memory::Memory;
pub use value_vectors::value_vectors;
