//! Memory and recordings of greedy decoding on a device.

use candle_core::Result;
use numformer_model::TokenRows;
use numformer_ops::device::{Accelerator, Recording, Region};

use super::sizes::Sizes;
use super::stacks::{DecodedStep, Encoded};

/// Memory and recordings for the answers to sources of one shape.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) shape: GenerationShape,
    /// Ids and lengths of the sources, `[batch, src]` and `[batch]`.
    pub(super) ids: Region,
    pub(super) lengths: Region,
    /// The position to write, and for each row the number of tokens written so far.
    pub(super) position: Region,
    pub(super) written: Region,
    /// The last token of each row, all tokens chosen so far (`[batch, longest]`), and whether each row has ended.
    pub(super) next: Region,
    pub(super) answers: Region,
    pub(super) ended: Region,
    pub(super) encoded: Encoded,
    pub(super) step: DecodedStep,
    pub(super) begin: Option<Recording>,
    pub(super) go_on: Option<Recording>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GenerationShape {
    pub(super) batch: usize,
    pub(super) src: usize,
    pub(super) longest: usize,
}

impl Generation {
    /// The sizes of the attention to the tokens written so far, to the sources, and among the sources.
    pub(super) fn sizes(&self) -> [Sizes; 3] {
        let GenerationShape { batch, src, longest } = self.shape;
        [
            Sizes { batch, t: 1, s: longest, key_lengths: self.written, masks: None },
            Sizes { batch, t: 1, s: src, key_lengths: self.lengths, masks: None },
            Sizes { batch, t: src, s: src, key_lengths: self.lengths, masks: None },
        ]
    }

    /// Writes the sources, and the state before the first token.
    pub(super) fn write(
        &self,
        device: &mut Accelerator,
        src: TokenRows<'_>,
        [delimiter, padding]: [u32; 2],
    ) -> Result<()> {
        let GenerationShape { batch, src: width, .. } = self.shape;
        let asked = src.lengths.len();
        let mut ids = Vec::with_capacity(batch * width);
        for at in 0..asked {
            ids.extend_from_slice(src.row(at));
            ids.resize((at + 1) * width, padding);
        }
        // Rows beyond the sources are empty, and have ended before they begin.
        ids.resize(batch * width, padding);
        let mut lengths = src.lengths.to_vec();
        lengths.resize(batch, 0);
        let ended: Vec<u32> = (0..batch).map(|row| u32::from(row >= asked)).collect();
        device.write_ids(self.ids, &ids)?;
        device.write_ids(self.lengths, &lengths)?;
        device.write_ids(self.position, &[0])?;
        device.write_ids(self.written, &vec![1; batch])?;
        device.write_ids(self.next, &vec![delimiter; batch])?;
        device.write_ids(self.ended, &ended)
    }
}
