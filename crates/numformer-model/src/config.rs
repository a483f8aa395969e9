//! The sizes and options of a transformer.

use serde::{Deserialize, Serialize};

/// Sizes of one half of the transformer, encoder or decoder.
///
/// The two halves are independent: asymmetric models are a main finding of the paper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StackConfig {
    /// Width of the hidden states.
    pub d_model: usize,
    /// Number of attention heads. They share the width, so `d_model` is a multiple of `n_heads`.
    pub n_heads: usize,
    /// Number of layers.
    pub n_layers: usize,
    /// Width of the hidden layer of the feed-forward network; 4 · `d_model` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub d_ff: Option<usize>,
}

impl StackConfig {
    /// A stack of `n_layers` layers with the usual feed-forward width, 4 · `d_model`.
    #[must_use]
    pub fn new(d_model: usize, n_heads: usize, n_layers: usize) -> Self {
        Self { d_model, n_heads, n_layers, d_ff: None }
    }

    /// Width of the hidden layer of the feed-forward network.
    #[must_use]
    pub fn d_ff(&self) -> usize {
        self.d_ff.unwrap_or(self.d_model.saturating_mul(4))
    }

    fn validate(&self, part: &'static str) -> Result<(), ConfigError> {
        let sizes =
            [("d_model", self.d_model), ("n_heads", self.n_heads), ("n_layers", self.n_layers), ("d_ff", self.d_ff())];
        for (size, found) in sizes {
            check_size(part, size, found)?;
        }
        if !self.d_model.is_multiple_of(self.n_heads) {
            return Err(ConfigError::HeadsDoNotDivideWidth { part, d_model: self.d_model, n_heads: self.n_heads });
        }
        Ok(())
    }
}

/// How positions enter the embedding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// One trained vector per position.
    #[default]
    Learned,
    /// Fixed sines and cosines (Vaswani et al. 2017, section 3.5).
    Sinusoidal,
}

/// The source of the queries of the decoder's cross-attention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrossAttentionQuery {
    /// The output of the layer's self-attention, as in Vaswani et al. (2017).
    #[default]
    SelfAttended,
    /// The input of the layer. The program published with the paper does this, so its checkpoints need this option.
    LayerInput,
}

/// The source of the output projection's weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputProjection {
    /// The decoder's token embedding.
    #[default]
    Shared,
    /// A matrix of its own.
    Separate,
}

/// Whether each layer of a stack has its own weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerWeights {
    /// Each layer has its own weights.
    #[default]
    Separate,
    /// One layer is applied repeatedly: a universal transformer (Dehghani et al. 2019).
    Shared,
}

impl LayerWeights {
    /// The number under which the weights of layer `index` are stored.
    pub(crate) fn index(self, index: usize) -> usize {
        match self {
            Self::Separate => index,
            Self::Shared => 0,
        }
    }
}

/// Everything that defines a transformer except its weights.
///
/// # Examples
/// ```
/// use numformer_model::{StackConfig, TransformerConfig};
///
/// let config = TransformerConfig::new(1328, 128, StackConfig::new(64, 4, 1), StackConfig::new(64, 4, 1));
/// assert!(config.validate().is_ok());
/// assert_eq!(config.encoder.d_ff(), 256);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerConfig {
    /// Number of token ids, in the source and in the target.
    pub vocab_size: usize,
    /// Longest sequence, delimiters included.
    pub max_positions: usize,
    /// Id of the token that begins and ends every sequence.
    pub delimiter_id: u32,
    /// Id of the token that pads the shorter sequences of a batch.
    pub padding_id: u32,
    /// The encoder's sizes.
    pub encoder: StackConfig,
    /// The decoder's sizes.
    pub decoder: StackConfig,
    /// How positions enter the embedding.
    #[serde(default)]
    pub positions: Positions,
    /// The source of the queries of the cross-attention.
    #[serde(default)]
    pub cross_attention_query: CrossAttentionQuery,
    /// The source of the output projection's weight.
    #[serde(default)]
    pub output_projection: OutputProjection,
    /// Whether each layer of the two halves has its own weights.
    #[serde(default, skip_serializing_if = "is_default")]
    pub layer_weights: LayerWeights,
    /// Whether each layer has a gate by which it may pass on its input unchanged (Csordás et al. 2022).
    #[serde(default, skip_serializing_if = "is_default")]
    pub copy_gate: bool,
    /// Fraction of coefficients dropped in training, after the embeddings and at the end of each sub-layer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dropout: f64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl TransformerConfig {
    /// A model with the standard options, the delimiter at id 0 and padding at id 1.
    #[must_use]
    pub fn new(vocab_size: usize, max_positions: usize, encoder: StackConfig, decoder: StackConfig) -> Self {
        Self {
            vocab_size,
            max_positions,
            delimiter_id: 0,
            padding_id: 1,
            encoder,
            decoder,
            positions: Positions::default(),
            cross_attention_query: CrossAttentionQuery::default(),
            output_projection: OutputProjection::default(),
            layer_weights: LayerWeights::default(),
            copy_gate: false,
            dropout: 0.0,
        }
    }

    /// Checks that a model of these sizes can exist.
    ///
    /// # Errors
    /// When a size is zero or too large, the heads do not divide the width, a special id lies outside the vocabulary,
    /// the special ids are equal, or the dropout rate is not from 0 to below 1.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_at_most("model", "vocab_size", self.vocab_size, LARGEST_VOCABULARY)?;
        check_at_most("model", "max_positions", self.max_positions, LARGEST)?;
        self.encoder.validate("encoder")?;
        self.decoder.validate("decoder")?;
        check_special_ids(self.vocab_size, self.delimiter_id, self.padding_id)?;
        check_dropout(self.dropout)
    }
}

/// Far beyond the paper's largest width (1,024). A larger size is probably a mistake, and would abort the program when
/// memory runs out.
const LARGEST: usize = 1 << 16;

/// Far beyond the largest vocabulary of the paper's encodings, which has some 30,000 symbols.
pub(crate) const LARGEST_VOCABULARY: usize = 1 << 24;

/// Checks a size that must be positive and not implausibly large.
pub(crate) fn check_size(part: &'static str, size: &'static str, found: usize) -> Result<(), ConfigError> {
    check_at_most(part, size, found, LARGEST)
}

/// Checks a size that must be positive and at most `limit`.
pub(crate) fn check_at_most(
    part: &'static str,
    size: &'static str,
    found: usize,
    limit: usize,
) -> Result<(), ConfigError> {
    at_least_one(part, size, found)?;
    if found > limit {
        return Err(ConfigError::TooLarge { part, size, limit, found });
    }
    Ok(())
}

pub(crate) fn check_special_ids(vocab_size: usize, delimiter_id: u32, padding_id: u32) -> Result<(), ConfigError> {
    for (token, id) in [("delimiter", delimiter_id), ("padding", padding_id)] {
        if id as usize >= vocab_size {
            return Err(ConfigError::IdOutsideVocabulary { token, id, vocab_size });
        }
    }
    if delimiter_id == padding_id {
        return Err(ConfigError::PaddingIsDelimiter { id: padding_id });
    }
    Ok(())
}

pub(crate) fn check_dropout(found: f64) -> Result<(), ConfigError> {
    if (0.0..1.0).contains(&found) { Ok(()) } else { Err(ConfigError::Dropout { found }) }
}

pub(crate) fn at_least_one(part: &'static str, size: &'static str, found: usize) -> Result<(), ConfigError> {
    if found == 0 {
        return Err(ConfigError::ZeroSize { part, size });
    }
    Ok(())
}

/// The reason why no model can have the sizes of a configuration.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A size is zero.
    #[error("{part}: {size} must be at least 1, found 0")]
    ZeroSize {
        /// `model`, `encoder` or `decoder`.
        part: &'static str,
        /// Name of the size.
        size: &'static str,
    },
    /// A size is beyond the memory of any machine.
    #[error("{part}: {size} must be at most {limit}, found {found}")]
    TooLarge {
        /// `model`, `encoder` or `decoder`.
        part: &'static str,
        /// Name of the size.
        size: &'static str,
        /// Largest value.
        limit: usize,
        /// Value found.
        found: usize,
    },
    /// The width cannot be shared evenly among the heads.
    #[error("{part}: d_model must be a multiple of n_heads, found d_model {d_model} and n_heads {n_heads}")]
    HeadsDoNotDivideWidth {
        /// `encoder` or `decoder`.
        part: &'static str,
        /// Width found.
        d_model: usize,
        /// Heads found.
        n_heads: usize,
    },
    /// A special token has no id in the vocabulary.
    #[error("the {token} id must be below the vocabulary's size {vocab_size}, found {id}")]
    IdOutsideVocabulary {
        /// `delimiter` or `padding`.
        token: &'static str,
        /// Id found.
        id: u32,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// Padding could not be distinguished from the end of a sequence.
    #[error("delimiter and padding must have different ids, found {id} for both")]
    PaddingIsDelimiter {
        /// Id found.
        id: u32,
    },
    /// The model cannot be built.
    #[error("the model cannot be built: {reason}")]
    NotBuilt {
        /// Why.
        reason: String,
    },
    /// The dropout rate is not from 0 to below 1.
    #[error("dropout must be from 0 to below 1, found {found}")]
    Dropout {
        /// Rate found.
        found: f64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> TransformerConfig {
        TransformerConfig::new(20, 8, StackConfig::new(8, 2, 1), StackConfig::new(12, 3, 2))
    }

    #[test]
    fn asymmetric_sizes_are_accepted() {
        assert_eq!(small().validate(), Ok(()));
    }

    #[test]
    fn heads_must_divide_the_width() {
        let mut config = small();
        config.decoder.n_heads = 5;
        let error = config.validate().expect_err("12 is not a multiple of 5");
        assert_eq!(error.to_string(), "decoder: d_model must be a multiple of n_heads, found d_model 12 and n_heads 5");
    }

    #[test]
    fn zero_sizes_are_named() {
        let mut config = small();
        config.encoder.n_layers = 0;
        let error = config.validate().expect_err("no layers");
        assert_eq!(error.to_string(), "encoder: n_layers must be at least 1, found 0");
        config.encoder.n_layers = 1;
        config.encoder.n_heads = 0;
        assert!(config.validate().is_err());
        config.encoder = StackConfig::new(usize::MAX, 1, 1);
        assert!(matches!(config.validate(), Err(ConfigError::TooLarge { size: "d_model", .. })));
        let config = TransformerConfig { vocab_size: usize::MAX, ..small() };
        assert!(matches!(config.validate(), Err(ConfigError::TooLarge { size: "vocab_size", .. })));
        let config = TransformerConfig { max_positions: usize::MAX, ..small() };
        assert!(matches!(config.validate(), Err(ConfigError::TooLarge { size: "max_positions", .. })));
    }

    #[test]
    fn special_ids_lie_in_the_vocabulary_and_differ() {
        let mut config = small();
        config.padding_id = 20;
        assert!(matches!(config.validate(), Err(ConfigError::IdOutsideVocabulary { id: 20, .. })));
        config.padding_id = config.delimiter_id;
        assert!(matches!(config.validate(), Err(ConfigError::PaddingIsDelimiter { id: 0 })));
    }

    #[test]
    fn dropout_leaves_something() {
        for dropout in [-0.1, 1.0, f64::NAN] {
            let config = TransformerConfig { dropout, ..small() };
            assert!(matches!(config.validate(), Err(ConfigError::Dropout { .. })), "{dropout}");
        }
        assert_eq!(TransformerConfig { dropout: 0.9, ..small() }.validate(), Ok(()));
    }

    #[test]
    fn files_of_the_first_version_are_read_and_written_as_before() {
        let json = r#"{"vocab_size":20,"max_positions":8,"delimiter_id":0,"padding_id":1,
            "encoder":{"d_model":8,"n_heads":2,"n_layers":1},"decoder":{"d_model":12,"n_heads":3,"n_layers":2},
            "positions":"learned","cross_attention_query":"self_attended","output_projection":"shared"}"#;
        assert_eq!(serde_json::from_str::<TransformerConfig>(json).expect("an older file"), small());
        assert_eq!(serde_json::to_string(&small()).expect("plain data"), json.replace(['\n', ' '], ""));
    }

    #[test]
    fn json_round_trip_keeps_every_option() {
        let mut config = small();
        config.positions = Positions::Sinusoidal;
        config.cross_attention_query = CrossAttentionQuery::LayerInput;
        config.output_projection = OutputProjection::Separate;
        config.encoder.d_ff = Some(24);
        config.layer_weights = LayerWeights::Shared;
        config.copy_gate = true;
        config.dropout = 0.1;
        let json = serde_json::to_string(&config).expect("plain data");
        assert_eq!(serde_json::from_str::<TransformerConfig>(&json).expect("its own output"), config);
    }
}
