//! The sizes and options of a recurrent model.

use serde::{Deserialize, Serialize};

use super::cell::Cell;
use crate::config::{
    ConfigError, LARGEST_VOCABULARY, OutputProjection, check_at_most, check_dropout, check_size, check_special_ids,
};

/// Everything that defines a recurrent encoder-decoder except its weights.
///
/// The two halves have the same sizes, because the encoder's last states are the decoder's first.
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
    /// The kind of recurrent layer.
    pub cell: Cell,
    /// Number of token ids, in the source and in the target.
    pub vocab_size: usize,
    /// Id of the token that begins and ends every sequence.
    pub delimiter_id: u32,
    /// Id of the token that pads the shorter sequences of a batch.
    pub padding_id: u32,
    /// Width of embeddings and states.
    pub d_model: usize,
    /// Number of layers of each half.
    pub n_layers: usize,
    /// Where the weight of the output projection comes from.
    #[serde(default)]
    pub output_projection: OutputProjection,
    /// Fraction of coefficients dropped in training, after the embeddings and after each layer. The state that a layer
    /// passes on to its next step is not dropped.
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
    /// When a size is zero, a special id lies outside the vocabulary, or the dropout rate is not from 0 to below 1.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_at_most("model", "vocab_size", self.vocab_size, LARGEST_VOCABULARY)?;
        check_size("model", "d_model", self.d_model)?;
        check_size("model", "n_layers", self.n_layers)?;
        check_special_ids(self.vocab_size, self.delimiter_id, self.padding_id)?;
        check_dropout(self.dropout)
    }
}
