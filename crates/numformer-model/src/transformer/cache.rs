//! What a decoder remembers between steps of generation.

use candle_core::{Result, Tensor};

use crate::batched::Batched;
use crate::layers::attention::KeysValues;

/// Keys and values of the tokens decoded so far, per layer.
///
/// Start from `Cache::default()` for each batch. Successive calls of [`Seq2Seq::decode`](crate::Seq2Seq::decode) with
/// the same cache continue the sequence.
#[derive(Debug, Default)]
pub struct Cache {
    pub(crate) layers: Vec<Past>,
    pub(crate) len_tokens: usize,
}

impl Cache {
    /// Number of tokens decoded so far.
    #[must_use]
    pub fn len_tokens(&self) -> usize {
        self.len_tokens
    }
}

impl Batched for Cache {
    fn select(&self, rows: &[u32]) -> Result<Self> {
        Ok(Self { layers: self.layers.select(rows)?, len_tokens: self.len_tokens })
    }
}

/// Keys and values of one layer, with room for more tokens. They are written in place, so a clone would share later
/// writes.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// `[b, capacity, d]` each; `None` before the first token.
    room: Option<KeysValues>,
    len: usize,
}

impl Past {
    /// Number of tokens that the first allocation has room for.
    const LEAST_ROOM: usize = 32;

    /// Appends the keys and values of the next tokens. Gradients do not pass.
    pub(crate) fn append(&mut self, next: &KeysValues) -> Result<()> {
        let added = next.len_tokens()?;
        let capacity = self.room.as_ref().map_or(Ok(0), KeysValues::len_tokens)?;
        if self.len + added > capacity {
            // The room doubles each time, so a token is copied about once.
            let capacity = (self.len + added).max(2 * capacity).max(Self::LEAST_ROOM);
            let grown = next.map(|tensor| {
                let (batch, _, width) = tensor.dims3()?;
                Tensor::zeros((batch, capacity, width), tensor.dtype(), tensor.device())
            })?;
            if self.len > 0 {
                grown.write(&self.valid()?, 0)?;
            }
            self.room = Some(grown);
        }
        if let Some(room) = &self.room {
            room.write(next, self.len)?;
        }
        self.len += added;
        Ok(())
    }

    /// All of the room, and the length in use in each row. This is for a single query, which sees everything in use.
    pub(crate) fn room(&self) -> Result<(&KeysValues, Vec<u32>)> {
        let room = self.room.as_ref().ok_or_else(nothing)?;
        Ok((room, vec![self.len as u32; room.batch_size()?]))
    }

    /// A copy of the part in use.
    pub(crate) fn valid(&self) -> Result<KeysValues> {
        let room = self.room.as_ref().ok_or_else(nothing)?;
        room.map(|tensor| tensor.narrow(1, 0, self.len)?.contiguous())
    }
}

fn nothing() -> candle_core::Error {
    candle_core::Error::Msg("expected tokens in the cache, found none".to_owned())
}

impl Batched for Past {
    fn select(&self, rows: &[u32]) -> Result<Self> {
        Ok(Self { room: self.room.select(rows)?, len: self.len })
    }
}
