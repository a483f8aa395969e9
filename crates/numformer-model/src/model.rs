//! A model of any architecture.

use candle_core::{Error, Result, Tensor};
use candle_nn::VarBuilder;

use crate::any_model::{AnyKept, AnyModel};
use crate::batched::Batched;
use crate::hypothesis::Hypothesis;
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
    /// A model of your own.
    Custom(AnyModel),
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
            ModelConfig::Custom(config) => Self::Custom(config.build(vb)?),
        })
    }

    /// Builds a trainable model and draws its weights from the seed of `parameters`; except in a model of your own, the
    /// padding token's vectors start at zero.
    ///
    /// # Errors
    /// As [`Model::new`].
    pub fn init(config: &ModelConfig, parameters: &Parameters) -> Result<Self> {
        Ok(match config {
            ModelConfig::Transformer(config) => Self::Transformer(Transformer::init(config, parameters)?),
            ModelConfig::Recurrent(config) => Self::Recurrent(Recurrent::init(config, parameters)?),
            ModelConfig::Custom(config) => Self::Custom(config.build(&parameters.trainable())?),
        })
    }
}

impl Model {
    /// [`Transformer::in_bf16`] of a transformer; other models stay as they are.
    #[must_use]
    pub fn in_bf16(self) -> Self {
        match self {
            Self::Transformer(model) => Self::Transformer(model.in_bf16()),
            other => other,
        }
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

impl From<AnyModel> for Model {
    fn from(model: AnyModel) -> Self {
        Self::Custom(model)
    }
}

/// The memory of a [`Model`].
#[derive(Debug)]
pub enum ModelMemory {
    /// The memory of a transformer.
    Transformer(Memory),
    /// The memory of a recurrent model.
    Recurrent(States),
    /// The memory of a model of your own.
    Custom(AnyKept),
}

impl Batched for ModelMemory {
    fn select(&self, rows: &[u32]) -> Result<Self> {
        Ok(match self {
            Self::Transformer(memory) => Self::Transformer(memory.select(rows)?),
            Self::Recurrent(memory) => Self::Recurrent(memory.select(rows)?),
            Self::Custom(memory) => Self::Custom(memory.select(rows)?),
        })
    }
}

/// The cache of a [`Model`], for whichever architecture the first call has.
#[derive(Debug, Default)]
pub struct ModelCache {
    transformer: Cache,
    recurrent: Option<States>,
    custom: AnyKept,
}

impl Batched for ModelCache {
    fn select(&self, rows: &[u32]) -> Result<Self> {
        Ok(Self {
            transformer: self.transformer.select(rows)?,
            recurrent: self.recurrent.select(rows)?,
            custom: self.custom.select(rows)?,
        })
    }
}

impl Seq2Seq for Model {
    type Memory = ModelMemory;
    type Cache = ModelCache;

    fn encode(&self, src: &Padded, mode: Mode) -> Result<ModelMemory> {
        Ok(match self {
            Self::Transformer(model) => ModelMemory::Transformer(model.encode(src, mode)?),
            Self::Recurrent(model) => ModelMemory::Recurrent(model.encode(src, mode)?),
            Self::Custom(model) => ModelMemory::Custom(model.encode(src, mode)?),
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
            (Self::Custom(model), ModelMemory::Custom(memory)) => {
                model.decode(memory, tgt, cache.map(|cache| &mut cache.custom), mode)
            }
            _ => Err(Error::Msg("expected a memory of this model, found one of another architecture".to_owned())),
        }
    }

    fn projection(&self) -> &Projection {
        match self {
            Self::Transformer(model) => model.projection(),
            Self::Recurrent(model) => model.projection(),
            Self::Custom(model) => model.projection(),
        }
    }

    fn delimiter_id(&self) -> u32 {
        match self {
            Self::Transformer(model) => model.delimiter_id(),
            Self::Recurrent(model) => model.delimiter_id(),
            Self::Custom(model) => model.delimiter_id(),
        }
    }

    fn prepared(&self) -> Result<Option<Self>> {
        Ok(match self {
            Self::Transformer(model) => model.prepared()?.map(Self::Transformer),
            Self::Recurrent(model) => model.prepared()?.map(Self::Recurrent),
            Self::Custom(_) => None,
        })
    }

    fn greedy_answers(&self, src: &Padded, max_len: usize) -> Result<Option<Vec<Hypothesis>>> {
        match self {
            Self::Transformer(model) => model.greedy_answers(src, max_len),
            Self::Recurrent(model) => model.greedy_answers(src, max_len),
            Self::Custom(model) => model.greedy_answers(src, max_len),
        }
    }

    fn max_positions(&self) -> Option<usize> {
        match self {
            Self::Transformer(model) => model.max_positions(),
            Self::Recurrent(model) => model.max_positions(),
            Self::Custom(model) => model.max_positions(),
        }
    }

    fn padding_id(&self) -> u32 {
        match self {
            Self::Transformer(model) => model.padding_id(),
            Self::Recurrent(model) => model.padding_id(),
            Self::Custom(model) => model.padding_id(),
        }
    }

    fn logits(&self, states: &Tensor) -> Result<Tensor> {
        match self {
            Self::Transformer(model) => model.logits(states),
            Self::Recurrent(model) => model.logits(states),
            Self::Custom(model) => model.logits(states),
        }
    }

    fn smoothed_loss(&self, src: &Padded, tgt: &Padded, mode: Mode, smoothing: f64) -> Result<Tensor> {
        match self {
            Self::Transformer(model) => model.smoothed_loss(src, tgt, mode, smoothing),
            Self::Recurrent(model) => model.smoothed_loss(src, tgt, mode, smoothing),
            Self::Custom(model) => model.smoothed_loss(src, tgt, mode, smoothing),
        }
    }

    fn losses(&self, src: &Padded, tgt: &Padded) -> Result<Vec<f32>> {
        match self {
            Self::Transformer(model) => model.losses(src, tgt),
            Self::Recurrent(model) => model.losses(src, tgt),
            Self::Custom(model) => model.losses(src, tgt),
        }
    }
}
