//! The configuration of a model of any architecture.

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{ConfigError, TransformerConfig};
use crate::custom_model_config::CustomModelConfig;
use crate::recurrent::RecurrentConfig;

/// Everything that defines a model except its weights.
///
/// As JSON it is the configuration itself. That of a recurrent model has a field `cell`, that of a model of your own has a
/// field `architecture`, and that of a transformer has neither.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ModelConfig {
    /// A transformer.
    Transformer(TransformerConfig),
    /// A recurrent encoder-decoder.
    Recurrent(RecurrentConfig),
    /// A model of your own.
    Custom(CustomModelConfig),
}

impl ModelConfig {
    /// Number of token ids, in the source and in the target.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Transformer(config) => config.vocab_size,
            Self::Recurrent(config) => config.vocab_size,
            Self::Custom(config) => config.vocab_size,
        }
    }

    /// Id of the token that begins and ends every sequence.
    #[must_use]
    pub fn delimiter_id(&self) -> u32 {
        match self {
            Self::Transformer(config) => config.delimiter_id,
            Self::Recurrent(config) => config.delimiter_id,
            Self::Custom(config) => config.delimiter_id,
        }
    }

    /// Id of the token that pads the shorter sequences of a batch.
    #[must_use]
    pub fn padding_id(&self) -> u32 {
        match self {
            Self::Transformer(config) => config.padding_id,
            Self::Recurrent(config) => config.padding_id,
            Self::Custom(config) => config.padding_id,
        }
    }

    /// Longest sequence, delimiters included; `None` for a model without a limit, or of your own: only the model itself
    /// knows its limit.
    #[must_use]
    pub fn max_positions(&self) -> Option<usize> {
        match self {
            Self::Transformer(config) => Some(config.max_positions),
            Self::Recurrent(_) | Self::Custom(_) => None,
        }
    }

    /// The configuration of a transformer; `None` for other architectures.
    #[must_use]
    pub fn as_transformer(&self) -> Option<&TransformerConfig> {
        match self {
            Self::Transformer(config) => Some(config),
            Self::Recurrent(_) | Self::Custom(_) => None,
        }
    }

    /// Checks that a model of these sizes can exist.
    ///
    /// # Errors
    /// When a value is impossible; the error names the first.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::Transformer(config) => config.validate(),
            Self::Recurrent(config) => config.validate(),
            // Only its constructor knows.
            Self::Custom(_) => Ok(()),
        }
    }
}

/// Written by hand, because serde's derived errors for untagged enums do not say what is wrong.
impl<'de> Deserialize<'de> for ModelConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let config = if value.get("cell").is_some() {
            RecurrentConfig::deserialize(value).map(Self::Recurrent)
        } else if value.get("architecture").is_some() {
            CustomModelConfig::deserialize(value).map(Self::Custom)
        } else {
            TransformerConfig::deserialize(value).map(Self::Transformer)
        };
        config.map_err(D::Error::custom)
    }
}

impl From<TransformerConfig> for ModelConfig {
    fn from(config: TransformerConfig) -> Self {
        Self::Transformer(config)
    }
}

impl From<RecurrentConfig> for ModelConfig {
    fn from(config: RecurrentConfig) -> Self {
        Self::Recurrent(config)
    }
}

impl From<CustomModelConfig> for ModelConfig {
    fn from(config: CustomModelConfig) -> Self {
        Self::Custom(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cell, StackConfig};

    #[test]
    fn json_says_which_architecture_without_a_name() {
        let sizes = StackConfig::new(8, 2, 1);
        let transformer = TransformerConfig::new(20, 8, sizes.clone(), sizes);
        let json = serde_json::to_string(&transformer).expect("plain data");
        assert_eq!(serde_json::from_str::<ModelConfig>(&json).expect("a transformer"), transformer.into());
        for cell in [Cell::Lstm, Cell::Gru] {
            let config = ModelConfig::from(RecurrentConfig::new(cell, 20, 8, 2));
            let json = serde_json::to_string(&config).expect("plain data");
            assert_eq!(serde_json::from_str::<ModelConfig>(&json).expect("its own output"), config);
        }
        let mut custom = CustomModelConfig::new("mixer", 20, [8, 9]);
        custom.options.insert("d".to_owned(), 32.into());
        let custom = ModelConfig::from(custom);
        let json = serde_json::to_string(&custom).expect("plain data");
        assert_eq!(serde_json::from_str::<ModelConfig>(&json).expect("its own output"), custom);
        let error = |json: &str| serde_json::from_str::<ModelConfig>(json).expect_err("no sizes").to_string();
        assert_eq!(error("{}"), "missing field `vocab_size`");
        assert!(error(r#"{"cell": "lstn"}"#).starts_with("unknown variant `lstn`, expected `lstm` or `gru`"));
    }
}
