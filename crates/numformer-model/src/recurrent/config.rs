//! The sizes and options of a recurrent model.

use serde::{Deserialize, Serialize};

use super::cell::Cell;
use crate::config::{
    ConfigError, LARGEST_VOCABULARY, OutputProjection, check_at_most, check_dropout, check_size, check_special_ids,
};

/// Everything that defines a recurrent encoder-decoder but its weights.
///
/// The two halves have the same sizes, since the encoder's last states are the decoder's first.
///
/// # Examples
/// ```
/// use numformer_model::{Cell, RecurrentConfig};
///
/// let config = RecurrentConfig::new(Cell::Lstm, 1328, 128, 2);
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecurrentConfig {
    /// What a layer does with a token.
    pub cell: Cell,
    /// Number of token ids, in the source and in the target.
    pub vocab_size: usize,
    /// Id of the token that begins and ends every sequence.
    pub delimiter_id: u32,
    /// Id of the token that fills a batch after the end of its shorter sequences.
    pub padding_id: u32,
    /// Width of embeddings and states.
    pub d_model: usize,
    /// Number of layers of each half.
    pub n_layers: usize,
    /// Where the weight of the output projection comes from.
    #[serde(default)]
    pub output_projection: OutputProjection,
    /// Share of coefficients dropped in training, after the embeddings and after each layer; what a layer hands to
    /// itself is not touched.
    #[serde(default)]
    pub dropout: f64,
}

impl RecurrentConfig {
    /// A model with the standard options, the delimiter at id 0 and padding at id 1.
    #[must_use]
    pub fn new(cell: Cell, vocab_size: usize, d_model: usize, n_layers: usize) -> Self {
        Self {
            cell,
            vocab_size,
            delimiter_id: 0,
            padding_id: 1,
            d_model,
            n_layers,
            output_projection: OutputProjection::default(),
            dropout: 0.0,
        }
    }

    /// Checks that a model of these sizes can exist.
    ///
    /// # Errors
    /// When a size is zero, a special id lies outside the vocabulary, or dropout leaves nothing.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_at_most("model", "vocab_size", self.vocab_size, LARGEST_VOCABULARY)?;
        check_size("model", "d_model", self.d_model)?;
        check_size("model", "n_layers", self.n_layers)?;
        check_special_ids(self.vocab_size, self.delimiter_id, self.padding_id)?;
        check_dropout(self.dropout)
    }
}
