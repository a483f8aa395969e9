//! Weights and optimizer state on disk, restored exactly. A crash leaves a save either whole or not there at all. Files
//! are checked when they are read.
//!
//! ```
//! use candle_core::Device;
//! use numformer_encoding::{Preset, Vocabulary};
//! use numformer_model::{Cell, Parameters, Recurrent, RecurrentConfig};
//! use numformer_store::StoredModel;
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("model");
//! let p10 = Preset::P10.encoding();
//! let vocabulary = Vocabulary::compact(&*p10, &*p10, 5, &[])?;
//! let config = RecurrentConfig::new(Cell::Gru, vocabulary.len(), 8, 1);
//! let parameters = Parameters::random(0, &Device::Cpu);
//! Recurrent::init(&config, &parameters)?;
//! StoredModel::new(config, vocabulary, &parameters)?.save(&path)?;
//! let model = StoredModel::load(&path)?.model(&Device::Cpu)?; // for use
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`StoredModel`]: a model with its vocabulary.
//! - [`Checkpoint`]: weights, optimizer memory and documents beside them, each with its checksum.
//! - [`RunStore`]: the directory of a run, held by one process at a time, with its latest checkpoints.
//! - [`NamedTensors`]: weights by name; [`named`] and [`flat`] convert flat vectors to them and back.
//! - [`files`]: file writing that leaves either the old file or the new one after a crash.
//!
//! # As a dependency
//! ```toml
//! [dependencies]
//! numformer-store = { path = "../numformer/crates/numformer-store" }
//! ```
#![forbid(unsafe_code)]

mod checkpoint;
pub mod files;
mod layout;
mod run_store;
mod stored_model;

pub use candle_core;
pub use checkpoint::{CONFIG, Checkpoint, CheckpointError, VOCABULARY};
pub use layout::{LayoutError, NamedTensors, TensorNames, check_weights, flat, named};
pub use run_store::{Latest, RunStore, checkpoint_path, latest, steps};
pub use stored_model::{ENCODINGS, EncodingNames, StoredModel};
