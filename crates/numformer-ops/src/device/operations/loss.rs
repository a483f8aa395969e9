//! The loss and its gradient.

use candle_core::{Result, bail};

use super::arguments::{arguments, named, size};
use crate::device::accelerator::Accelerator;
use crate::device::executor::Launch;
use crate::device::region::{Element, Region};

impl Accelerator {
    /// Writes the cross-entropy of each row to `losses` and replaces the logits `[rows, v]` by their gradients times
    /// `share`, a word of memory. A row does not count if its target is not a class.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn cross_entropy(&mut self, losses: Region, logits: Region, targets: Region, share: Region) -> Result<()> {
        const OP: &str = "cross_entropy";
        let rows = targets.len();
        self.check(OP, "targets", targets, Element::U32, rows)?;
        self.check(OP, "losses", losses, Element::F32, rows)?;
        self.check(OP, "share", share, Element::U32, 1)?;
        if rows == 0 || logits.is_empty() {
            bail!("{OP}: expected at least one row and one class");
        }
        let v = logits.len() / rows;
        self.check(OP, "logits", logits, logits.element(), rows * v)?;
        let launch = Launch {
            kernel: named(OP, logits.element())?,
            grid: [size(OP, rows)?, 1, 1],
            block: [256, 1],
            arguments: arguments([
                losses.address().into(),
                logits.address().into(),
                targets.address().into(),
                share.address().into(),
                size(OP, v)?.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel; there is a target and a loss for each row.
        unsafe { self.launch(&launch) }
    }
}
