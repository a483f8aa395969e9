//! The configuration of a model of your own.

use std::fmt;
use std::sync::Arc;

use candle_core::{Error, Result};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::any_model::AnyModel;

/// The configuration of a model of your own: the sizes of its task, its name and options, and how it is built.
///
/// How a model is built is code, so it cannot be stored: read from a file, a configuration lacks it until
/// [`built_by`](Self::built_by) gives it back.
///
/// # Examples
/// ```
/// use candle_core::Device;
/// use numformer_model::{AnyModel, Cell, CustomModelConfig, Model, ModelConfig, Parameters, Recurrent, RecurrentConfig};
///
/// let config = CustomModelConfig::new("wide", 20, [8, 8]).built_by(|config, vb| {
///     Ok(AnyModel::new(Recurrent::new(&RecurrentConfig::new(Cell::Gru, config.vocab_size, 64, 1), vb)?))
/// });
/// let model = Model::init(&ModelConfig::from(config.clone()), &Parameters::random(0, &Device::Cpu))?;
///
/// let stored: CustomModelConfig = serde_json::from_str(&serde_json::to_string(&config)?)?;
/// assert_eq!(stored, config);
/// assert!(stored.build(&Parameters::random(0, &Device::Cpu).trainable()).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomModelConfig {
    /// The name of the architecture.
    pub architecture: String,
    /// Number of token ids, in the source and in the target.
    pub vocab_size: usize,
    /// Longest source of the task, delimiters included. A model may read longer ones.
    pub max_src_len: usize,
    /// Longest target of the task, delimiters included.
    pub max_tgt_len: usize,
    /// Id of the token that begins and ends every sequence.
    pub delimiter_id: u32,
    /// Id of the token that pads the shorter sequences of a batch.
    pub padding_id: u32,
    /// Options of the architecture.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    #[serde(skip)]
    build: Option<Build>,
}

type Build = Arc<dyn Fn(&CustomModelConfig, &VarBuilder<'_>) -> Result<AnyModel> + Send + Sync>;

impl CustomModelConfig {
    /// A model without options for sources and targets of these lengths, delimiters included. The delimiter has id 0
    /// and padding has id 1, as in the vocabularies of this project.
    #[must_use]
    pub fn new(architecture: &str, vocab_size: usize, [max_src_len, max_tgt_len]: [usize; 2]) -> Self {
        Self {
            architecture: architecture.to_owned(),
            vocab_size,
            max_src_len,
            max_tgt_len,
            delimiter_id: 0,
            padding_id: 1,
            options: Map::new(),
            build: None,
        }
    }

    /// Sets how the model is built on the tensors of a [`VarBuilder`].
    #[must_use]
    pub fn built_by(self, build: impl Fn(&Self, &VarBuilder<'_>) -> Result<AnyModel> + Send + Sync + 'static) -> Self {
        Self { build: Some(Arc::new(build)), ..self }
    }

    /// Builds the model.
    ///
    /// # Errors
    /// When it is unknown how, or the constructor fails.
    pub fn build(&self, vb: &VarBuilder<'_>) -> Result<AnyModel> {
        match &self.build {
            Some(build) => build(self, vb),
            None => Err(Error::Msg(format!(
                "the architecture `{}` is not part of this program: build it in Rust, or pass a catalogue that has it",
                self.architecture
            ))),
        }
    }

    /// Whether it is known how the model is built.
    #[must_use]
    pub fn can_build(&self) -> bool {
        self.build.is_some()
    }
}

/// The same name, sizes and options. How a model is built cannot be compared.
impl PartialEq for CustomModelConfig {
    fn eq(&self, other: &Self) -> bool {
        let sizes = |config: &Self| {
            let Self { vocab_size, max_src_len, max_tgt_len, delimiter_id, padding_id, .. } = *config;
            ([vocab_size, max_src_len, max_tgt_len], [delimiter_id, padding_id])
        };
        self.architecture == other.architecture && sizes(self) == sizes(other) && self.options == other.options
    }
}

impl fmt::Debug for CustomModelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomModelConfig")
            .field("architecture", &self.architecture)
            .field("vocab_size", &self.vocab_size)
            .field("max_src_len", &self.max_src_len)
            .field("max_tgt_len", &self.max_tgt_len)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
