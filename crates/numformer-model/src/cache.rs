//! What a decoder remembers between steps of generation.

use crate::attention::KeysValues;

/// Keys and values of the tokens decoded so far and of the memory, per layer.
///
/// Start from `Cache::default()` for each batch; successive calls of
/// [`Transformer::decode`](crate::Transformer::decode) with the same cache continue the sequence.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    pub(crate) layers: Vec<LayerCache>,
    pub(crate) len_tokens: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct LayerCache {
    pub(crate) past: Option<KeysValues>,
    pub(crate) memory: Option<KeysValues>,
}

impl Cache {
    /// Number of tokens decoded so far.
    #[must_use]
    pub fn len_tokens(&self) -> usize {
        self.len_tokens
    }
}
