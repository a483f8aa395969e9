//! Sums over many rows: each chunk of rows by itself, then a sum over the chunks.

use candle_core::Result;

use super::arguments::{arguments, size};
use crate::device::accelerator::Accelerator;
use crate::device::executor::Launch;
use crate::device::region::{Element, Region};

/// Maximum number of chunks of rows; each chunk is summed by itself, and a second pass adds the sums. Enough to keep a
/// whole device busy at the widths of these models, few enough for a short second pass.
const CHUNKS: usize = 64;

/// The number of rows in a chunk, and the number of chunks.
pub(super) fn chunks(rows: usize) -> (usize, usize) {
    let rows_of_chunk = rows.div_ceil(CHUNKS).max(8);
    (rows_of_chunk, rows.div_ceil(rows_of_chunk))
}

impl Accelerator {
    /// Makes room for the partial sums of operations on rows of up to `width` entries. Operations make this room
    /// themselves, except while they are recorded.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    pub fn reserve_scratch(&mut self, width: usize) -> Result<()> {
        self.scratch(width.saturating_mul(2 * CHUNKS)).map(drop)
    }

    /// Sums `[outputs, chunks, n]` over the chunks.
    pub(super) fn sum_partials(
        &mut self,
        outputs: [Region; 2],
        used: usize,
        partials: Region,
        chunks: usize,
    ) -> Result<()> {
        const OP: &str = "sum_partials";
        let n = outputs[0].len();
        for output in &outputs[..used] {
            self.check(OP, "output", *output, Element::F32, n)?;
        }
        self.check(OP, "partials", partials, Element::F32, used * chunks * n)?;
        let launch = Launch {
            kernel: OP.to_owned(),
            grid: [size(OP, n.div_ceil(256))?, size(OP, used)?, 1],
            block: [256, 1],
            arguments: arguments([
                outputs[0].address().into(),
                outputs[1].address().into(),
                partials.address().into(),
                size(OP, n)?.into(),
                size(OP, chunks)?.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel; the outputs and partial sums have the lengths that it assumes.
        unsafe { self.launch(&launch) }
    }
}
