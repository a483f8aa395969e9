//! Dropout.

use candle_core::{Result, bail};

use super::arguments::{arguments, named, size};
use crate::device::accelerator::Accelerator;
use crate::device::executor::Launch;
use crate::device::region::{Element, Region};

/// Number of threads in a block, each of which makes the mask of 16 entries.
const THREADS: u32 = 128;

/// The sizes and the mask of a dropout on a tensor `[batch, t, d]`, whose examples are `width ≥ t` rows apart.
///
/// Entry (b, i, j) of the mask takes word (b·t + i)·d + j of the stream of ChaCha8 whose key is the seed, the step, the
/// place, and the FNV-1a hash of `dropout`, each as 64 bits with the lowest byte first. It is 0 if the word is below
/// `dropped_below`, else `kept`.
///
/// # Reference
/// Srivastava et al. (2014), *Dropout: A Simple Way to Prevent Neural Networks from Overfitting*.
#[derive(Clone, Copy, Debug)]
pub struct DropoutCall {
    /// Number of examples.
    pub batch: usize,
    /// Number of rows of an example in memory.
    pub width: usize,
    /// Number of entries in a row.
    pub d: usize,
    /// The place in the model: places with different numbers drop independently.
    pub place: u64,
    /// The rate at which entries are dropped, times 2^32.
    pub dropped_below: u32,
    /// The factor of all other entries: 1 / (1 − rate).
    pub kept: f32,
    /// [`NUMBERS`](Self::NUMBERS) words: the seed and the step, each as two words with the low one first, and t.
    pub numbers: Region,
}

impl DropoutCall {
    /// Number of words in [`numbers`](Self::numbers).
    pub const NUMBERS: usize = 5;

    /// The words of [`numbers`](Self::numbers).
    #[must_use]
    pub fn to_words(seed: u64, step: u64, t: u32) -> [u32; Self::NUMBERS] {
        let [low, high] = [|x: u64| x as u32, |x: u64| (x >> 32) as u32];
        [low(seed), high(seed), low(step), high(step), t]
    }
}

impl Accelerator {
    /// x ← x times the mask, in place, with x `[batch, width, d]`. Rows from t on stay as they are. A t above `width`
    /// counts as `width`.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn dropout(&mut self, x: Region, call: &DropoutCall) -> Result<()> {
        self.dropout_to(x, x, call)
    }

    /// out ← x times the mask, both `[batch, width, d]` and of the same type. Rows from t on are copied. A t above
    /// `width` counts as `width`.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn dropout_to(&mut self, out: Region, x: Region, call: &DropoutCall) -> Result<()> {
        const OP: &str = "dropout";
        let DropoutCall { batch, width, d, place, dropped_below, kept, numbers } = *call;
        let len = batch.checked_mul(width).and_then(|rows| rows.checked_mul(d));
        let Some(len) = len else { bail!("{OP}: x is larger than any memory") };
        self.check(OP, "x", x, x.element(), len)?;
        self.check(OP, "out", out, x.element(), len)?;
        self.check(OP, "numbers", numbers, Element::U32, DropoutCall::NUMBERS)?;
        let launch = Launch {
            kernel: named(OP, x.element())?,
            grid: [size(OP, len)?.div_ceil(16 * THREADS), 1, 1],
            block: [THREADS, 1],
            arguments: arguments([
                out.address().into(),
                x.address().into(),
                numbers.address().into(),
                place.into(),
                dropped_below.into(),
                kept.into(),
                size(OP, batch)?.into(),
                size(OP, width)?.into(),
                size(OP, d)?.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel; both matrices are [batch, width, d], with less than 2^31 entries, and
        // rows beyond the width are ignored.
        unsafe { self.launch(&launch) }
    }
}
