//! Sums over the batches of a step.

use candle_core::Result;

use super::arguments::{arguments, size};
use crate::device::accelerator::Accelerator;
use crate::device::executor::Launch;
use crate::device::region::{Element, Region};

impl Accelerator {
    /// sum ← sum + factor·x, in `F32`.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn add_scaled(&mut self, sum: Region, x: Region, factor: f32) -> Result<()> {
        const OP: &str = "add_scaled";
        self.check(OP, "sum", sum, Element::F32, sum.len())?;
        self.check(OP, "x", x, Element::F32, sum.len())?;
        let n = size(OP, sum.len())?;
        let launch = Launch {
            kernel: OP.to_owned(),
            grid: [n.div_ceil(256), 1, 1],
            block: [256, 1],
            arguments: arguments([sum.address().into(), x.address().into(), factor.into(), n.into()]),
        };
        // SAFETY: the arguments fit the kernel; both regions have `n` entries.
        unsafe { self.launch(&launch) }
    }

    /// x ← x / divisor, in `F32`, where `divisor` is one number; zeros if it is zero.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn divide(&mut self, x: Region, divisor: Region) -> Result<()> {
        const OP: &str = "divide";
        self.check(OP, "x", x, Element::F32, x.len())?;
        self.check(OP, "divisor", divisor, Element::F32, 1)?;
        let n = size(OP, x.len())?;
        let launch = Launch {
            kernel: OP.to_owned(),
            grid: [n.div_ceil(256), 1, 1],
            block: [256, 1],
            arguments: arguments([x.address().into(), divisor.address().into(), n.into()]),
        };
        // SAFETY: the arguments fit the kernel; the first region has `n` entries, the second one.
        unsafe { self.launch(&launch) }
    }

    /// total ← total + factor·Σ losses, in `F32`, where `total` is one number. The sum is in double precision.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn add_losses(&mut self, total: Region, losses: Region, factor: f32) -> Result<()> {
        const OP: &str = "add_losses";
        self.check(OP, "total", total, Element::F32, 1)?;
        self.check(OP, "losses", losses, Element::F32, losses.len())?;
        let launch = Launch {
            kernel: OP.to_owned(),
            grid: [1, 1, 1],
            block: [1024, 1],
            arguments: arguments([
                total.address().into(),
                losses.address().into(),
                factor.into(),
                size(OP, losses.len())?.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel; it reads as many losses as there are.
        unsafe { self.launch(&launch) }
    }
}
