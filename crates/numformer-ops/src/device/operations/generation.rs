//! The steps of greedy generation.

use candle_core::{Result, bail};

use super::arguments::{arguments, named, size};
use crate::device::accelerator::Accelerator;
use crate::device::executor::Launch;
use crate::device::region::{Element, Region};

impl Accelerator {
    /// Copies row `i` of `x` `[n, d]` to row `position`, a word of memory, of table `i` of `y` `[n, rows, d]`. Nothing
    /// is copied if the position is beyond the tables.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn append(&mut self, y: Region, x: Region, position: Region, n: usize) -> Result<()> {
        const OP: &str = "append";
        if n == 0 || x.is_empty() {
            bail!("{OP}: expected rows that are not empty");
        }
        let d = x.len() / n;
        let rows = y.len() / x.len();
        self.check(OP, "x", x, x.element(), n * d)?;
        self.check(OP, "y", y, x.element(), n * rows * d)?;
        self.check(OP, "position", position, Element::U32, 1)?;
        let launch = Launch {
            kernel: named(OP, x.element())?,
            grid: [size(OP, x.len())?.div_ceil(256), 1, 1],
            block: [256, 1],
            arguments: arguments([
                y.address().into(),
                x.address().into(),
                position.address().into(),
                size(OP, n)?.into(),
                size(OP, d)?.into(),
                size(OP, rows)?.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel, which writes nothing beyond a table.
        unsafe { self.launch(&launch) }
    }

    /// Chooses the next token of each sequence: the largest of its logits, the first among equals. It is written to
    /// `next` and to column `position` of `answers` `[batch, width]`. A sequence ends after `delimiter`, and then gets
    /// `padding`.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn choose(
        &mut self,
        [next, answers, ended]: [Region; 3],
        logits: Region,
        position: Region,
        [delimiter, padding]: [u32; 2],
    ) -> Result<()> {
        const OP: &str = "choose";
        let batch = next.len();
        self.check(OP, "next", next, Element::U32, batch)?;
        self.check(OP, "ended", ended, Element::U32, batch)?;
        self.check(OP, "position", position, Element::U32, 1)?;
        if batch == 0 || logits.is_empty() {
            bail!("{OP}: expected at least one sequence and one token");
        }
        let (v, width) = (logits.len() / batch, answers.len() / batch);
        self.check(OP, "logits", logits, logits.element(), batch * v)?;
        self.check(OP, "answers", answers, Element::U32, batch * width)?;
        let launch = Launch {
            kernel: named(OP, logits.element())?,
            grid: [size(OP, batch)?, 1, 1],
            block: [256, 1],
            arguments: arguments([
                next.address().into(),
                answers.address().into(),
                ended.address().into(),
                logits.address().into(),
                position.address().into(),
                size(OP, v)?.into(),
                size(OP, width)?.into(),
                delimiter.into(),
                padding.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel, with a row of logits and of answers for each sequence.
        unsafe { self.launch(&launch) }
    }
}
