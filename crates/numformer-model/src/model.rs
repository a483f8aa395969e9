//! A model of any architecture.

use candle_core::{Error, Result, Tensor};
use candle_nn::VarBuilder;

use crate::batched::Batched;
use crate::layers::projection::Projection;
use crate::mode::Mode;
use crate::model_config::ModelConfig;
use crate::padded::Padded;
use crate::parameters::Parameters;
use crate::recurrent::{Recurrent, States};
use crate::seq2seq::Seq2Seq;
use crate::transformer::Transformer;
use crate::transformer::cache::Cache;
use crate::transformer::memory::Memory;

/// A model whose architecture is chosen at run time, by its configuration.
#[derive(Clone, Debug)]
pub enum Model {
    /// A transformer.
    Transformer(Transformer),
    /// A recurrent encoder-decoder.
    Recurrent(Recurrent),
}

impl Model {
    /// Builds the model on the tensors of `vb`.
    ///
    /// # Errors
    /// When the configuration is impossible, or a tensor is missing or has another shape.
    pub fn new(config: &ModelConfig, vb: &VarBuilder) -> Result<Self> {
        Ok(match config {
            ModelConfig::Transformer(config) => Self::Transformer(Transformer::new(config, vb)?),
            ModelConfig::Recurrent(config) => Self::Recurrent(Recurrent::new(config, vb)?),
        })
    }

    /// Builds a trainable model and draws its weights from the seed of `parameters`; the padding token's vectors
    /// start at zero.
    ///
    /// # Errors
    /// As [`Model::new`].
    pub fn init(config: &ModelConfig, parameters: &Parameters) -> Result<Self> {
        Ok(match config {
            ModelConfig::Transformer(config) => Self::Transformer(Transformer::init(config, parameters)?),
            ModelConfig::Recurrent(config) => Self::Recurrent(Recurrent::init(config, parameters)?),
        })
    }
}

impl From<Transformer> for Model {
    fn from(model: Transformer) -> Self {
        Self::Transformer(model)
    }
}

impl From<Recurrent> for Model {
    fn from(model: Recurrent) -> Self {
        Self::Recurrent(model)
    }
}

/// The memory of a [`Model`].
#[derive(Clone, Debug)]
pub enum ModelMemory {
    /// The memory of a transformer.
    Transformer(Memory),
    /// The memory of a recurrent model.
    Recurrent(States),
}

impl Batched for ModelMemory {
    fn select(&self, rows: &[u32]) -> Result<Self> {
        Ok(match self {
            Self::Transformer(memory) => Self::Transformer(memory.select(rows)?),
            Self::Recurrent(memory) => Self::Recurrent(memory.select(rows)?),
        })
    }
}

/// The cache of a [`Model`], for whichever architecture the first call has.
#[derive(Debug, Default)]
pub struct ModelCache {
    transformer: Cache,
    recurrent: Option<States>,
}

impl Batched for ModelCache {
    fn select(&self, rows: &[u32]) -> Result<Self> {
        Ok(Self { transformer: self.transformer.select(rows)?, recurrent: self.recurrent.select(rows)? })
    }
}

impl Seq2Seq for Model {
    type Memory = ModelMemory;
    type Cache = ModelCache;

    fn encode(&self, src: &Padded, mode: Mode) -> Result<ModelMemory> {
        Ok(match self {
            Self::Transformer(model) => ModelMemory::Transformer(model.encode(src, mode)?),
            Self::Recurrent(model) => ModelMemory::Recurrent(model.encode(src, mode)?),
        })
    }

    fn decode(&self, memory: &ModelMemory, tgt: &Padded, cache: Option<&mut ModelCache>, mode: Mode) -> Result<Tensor> {
        match (self, memory) {
            (Self::Transformer(model), ModelMemory::Transformer(memory)) => {
                model.decode(memory, tgt, cache.map(|cache| &mut cache.transformer), mode)
            }
            (Self::Recurrent(model), ModelMemory::Recurrent(memory)) => {
                model.decode(memory, tgt, cache.map(|cache| &mut cache.recurrent), mode)
            }
            _ => Err(Error::Msg("expected a memory of this model, found one of another architecture".to_owned())),
        }
    }

    fn projection(&self) -> &Projection {
        match self {
            Self::Transformer(model) => model.projection(),
            Self::Recurrent(model) => model.projection(),
        }
    }

    fn delimiter_id(&self) -> u32 {
        match self {
            Self::Transformer(model) => model.delimiter_id(),
            Self::Recurrent(model) => model.delimiter_id(),
        }
    }

    fn max_positions(&self) -> Option<usize> {
        match self {
            Self::Transformer(model) => model.max_positions(),
            Self::Recurrent(model) => model.max_positions(),
        }
    }

    fn padding_id(&self) -> u32 {
        match self {
            Self::Transformer(model) => model.padding_id(),
            Self::Recurrent(model) => model.padding_id(),
        }
    }
}
