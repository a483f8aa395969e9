//! Batches of sequences of different lengths.

use candle_core::{Device, Error, Result, Tensor};
use numformer_ops::Lengths;

/// Token ids `[b, t]` with the valid length of each row.
#[derive(Clone, Debug)]
pub struct Padded {
    ids: Tensor,
    /// `None` if every row is full, so that no work is spent on masks.
    lengths: Option<Vec<u32>>,
}

impl Padded {
    /// Copies row-major `ids`, one row of `width` for each of `lengths`, to `device`.
    ///
    /// # Errors
    /// When `ids` does not hold that many rows, or a length exceeds the width.
    pub fn new(ids: &[u32], lengths: &[u32], width: usize, device: &Device) -> Result<Self> {
        if ids.len() != lengths.len() * width {
            return Err(Error::Msg(format!("expected {} rows of {width} ids, found {} ids", lengths.len(), ids.len())));
        }
        if let Some(length) = lengths.iter().find(|length| **length as usize > width) {
            return Err(Error::Msg(format!("expected lengths of at most {width}, found {length}")));
        }
        let full = lengths.iter().all(|length| *length as usize == width);
        Ok(Self {
            ids: Tensor::from_slice(ids, (lengths.len(), width), device)?,
            lengths: (!full).then(|| lengths.to_vec()),
        })
    }

    /// Rows that are valid throughout; `ids` is `[b, t]`.
    #[must_use]
    pub fn full(ids: Tensor) -> Self {
        Self { ids, lengths: None }
    }

    /// The ids, `[b, t]`.
    #[must_use]
    pub fn ids(&self) -> &Tensor {
        &self.ids
    }

    /// Valid length of each row; `None` if all rows are full.
    #[must_use]
    pub fn lengths(&self) -> Lengths<'_> {
        self.lengths.as_deref()
    }

    /// Number of rows.
    ///
    /// # Errors
    /// When the ids are not a matrix.
    pub fn batch_size(&self) -> Result<usize> {
        self.ids.dim(0)
    }

    /// Splits targets for teacher forcing into the decoder's input (all but the last column) and the tokens to predict
    /// (all but the first, with [`NO_TARGET`] beyond the end of a row). The lengths are those of the decoder's input.
    ///
    /// # Errors
    /// When there are fewer than two columns.
    pub fn shift(&self) -> Result<(Self, Tensor)> {
        let width = self.ids.dim(1)?;
        if width < 2 {
            return Err(Error::Msg(format!("expected targets of at least two tokens, found {width}")));
        }
        let lengths = self.lengths.as_ref();
        let lengths = lengths.map(|lengths| lengths.iter().map(|l| l.saturating_sub(1)).collect::<Vec<_>>());
        let mut expected = self.ids.narrow(1, 1, width - 1)?.contiguous()?;
        if let Some(lengths) = &lengths {
            // The ids may be on a device, which the host does not wait for.
            let valid = |length: &u32| {
                let length = *length;
                (0..width as u32 - 1).map(move |position| u8::from(position < length))
            };
            let valid: Vec<u8> = lengths.iter().flat_map(valid).collect();
            let valid = Tensor::from_vec(valid, expected.shape(), expected.device())?;
            expected = valid.where_cond(&expected, &Tensor::full(NO_TARGET, expected.shape(), expected.device())?)?;
        }
        Ok((Self { ids: self.ids.narrow(1, 0, width - 1)?.contiguous()?, lengths }, expected))
    }
}

/// Marks positions with nothing to predict, in the result of [`Padded::shift`]. The lengths alone define what is a
/// target: a padding token within a sequence is like any other token.
pub const NO_TARGET: u32 = u32::MAX;
