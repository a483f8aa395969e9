//! The loss and its gradient.

use candle_core::{Result, bail};

use super::arguments::{arguments, named, size};
use crate::device::accelerator::Accelerator;
use crate::device::executor::Launch;
use crate::device::region::{Element, Region};

impl Accelerator {
    /// Writes the cross-entropy of each row to `losses` `[rows]` and replaces the logits `[rows, v]` by their gradients
    /// times `share`, a word of memory. A row does not count if its target is not a class.
    ///
    /// Targets are smoothed: all classes share the fraction ε = `smoothing` of a target's weight evenly. The loss of a
    /// row z with target t is log Σ exp z − (1 − ε)·zₜ − ε·mean(z).
    ///
    /// # Errors
    /// When the sizes disagree, `smoothing` is not between 0 and 1, or the device fails.
    ///
    /// # Reference
    /// Szegedy et al. (2016), *Rethinking the inception architecture for computer vision*, section 7.
    /// <https://arxiv.org/abs/1512.00567>
    pub fn cross_entropy(
        &mut self,
        losses: Region,
        logits: Region,
        targets: Region,
        share: Region,
        smoothing: f32,
    ) -> Result<()> {
        const OP: &str = "cross_entropy";
        let rows = targets.len();
        self.check(OP, "targets", targets, Element::U32, rows)?;
        self.check(OP, "losses", losses, Element::F32, rows)?;
        self.check(OP, "share", share, Element::U32, 1)?;
        if rows == 0 || logits.is_empty() {
            bail!("{OP}: expected at least one row and one class");
        }
        if !(0.0..=1.0).contains(&smoothing) {
            bail!("{OP}: expected a smoothing between 0 and 1, found {smoothing}");
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
                smoothing.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel; there is a target and a loss for each row.
        unsafe { self.launch(&launch) }
    }
}
