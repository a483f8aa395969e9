//! The encoder's output, which a transformer's decoder reads.

use candle_core::{Result, Tensor};
use numformer_ops::Lengths;

use crate::batched::Batched;
use crate::layers::attention::KeysValues;

/// The encoder's output for a batch of sources.
#[derive(Clone, Debug)]
pub struct Memory {
    states: Tensor,
    cross: Vec<KeysValues>,
    lengths: Option<Vec<u32>>,
}

impl Memory {
    /// The encoder's states, and their keys and values for each layer of the decoder.
    pub(crate) fn new(states: Tensor, cross: Vec<KeysValues>, lengths: Lengths<'_>) -> Self {
        Self { states, cross, lengths: lengths.map(<[u32]>::to_vec) }
    }

    /// The encoder's states, `[b, s, d_model]`, zero at padding.
    #[must_use]
    pub fn states(&self) -> &Tensor {
        &self.states
    }

    /// Keys and values of the states, for each layer of the decoder. They are computed once, however many tokens are
    /// written.
    pub(crate) fn cross(&self) -> &[KeysValues] {
        &self.cross
    }

    /// Valid length of each source; `None` if all are full.
    #[must_use]
    pub fn lengths(&self) -> Lengths<'_> {
        self.lengths.as_deref()
    }
}

impl Batched for Memory {
    fn select(&self, rows: &[u32]) -> Result<Self> {
        Ok(Self {
            states: self.states.select(rows)?,
            cross: self.cross.select(rows)?,
            lengths: self.lengths.as_ref().map(|lengths| rows.iter().map(|row| lengths[*row as usize]).collect()),
        })
    }
}
