//! numformer trains transformers to do numerical linear algebra from examples: a random matrix is written as tokens, a
//! small encoder-decoder reads it and writes the answer as tokens, and the answer is judged by how close it is.
//!
//! This crate holds no code of its own. It brings the crates of the workspace together under one name:
//!
//! - [`encoding`]: numbers and matrices as tokens, and back;
//! - [`metrics`]: how far an answer is from right;
//! - [`problems`]: what is computed, and on which random matrices;
//! - [`data`]: examples and batches of token ids;
//! - [`ops`]: fused differentiable operations;
//! - [`model`]: encoder-decoders, and generation;
//! - [`fused`]: the training step of transformers without automatic differentiation;
//! - [`store`]: weights and optimizer state on disk;
//! - [`lawt`]: published checkpoints read as data;
//! - [`evaluate`]: answers found and judged;
//! - [`train`]: the training loop;
//! - [`experiment`]: experiments as data, and their runs on disk;
//! - [`report`]: reports of runs.
//!
//! # Features
//! - `cuda`: trains on NVIDIA GPUs, with kernels of our own and cuBLASLt; candle stays on the CPU, as do evaluations. No GPU
//!   has run this yet. Building it needs a CUDA compiler; the binary starts without CUDA, since the driver
//!   is loaded when a device is opened. Off by default; `docs/gpu.md` has the details.
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub use numformer_data as data;
pub use numformer_encoding as encoding;
pub use numformer_evaluate as evaluate;
pub use numformer_experiment as experiment;
pub use numformer_fused as fused;
pub use numformer_lawt as lawt;
pub use numformer_metrics as metrics;
pub use numformer_model as model;
pub use numformer_ops as ops;
pub use numformer_problems as problems;
pub use numformer_report as report;
pub use numformer_store as store;
pub use numformer_train as train;
