//! Operations on each entry by itself.

use candle_core::{Result, bail};

use super::arguments::{arguments, named, size};
use crate::device::accelerator::Accelerator;
use crate::device::executor::Launch;
use crate::device::region::{Element, Region};

impl Accelerator {
    /// x ← x + y
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn add(&mut self, x: Region, y: Region) -> Result<()> {
        const OP: &str = "add";
        self.check(OP, "x", x, x.element(), x.len())?;
        self.check(OP, "y", y, x.element(), x.len())?;
        let n = size(OP, x.len())?;
        let launch = Launch {
            kernel: named(OP, x.element())?,
            grid: [n.div_ceil(256), 1, 1],
            block: [256, 1],
            arguments: arguments([x.address().into(), y.address().into(), n.into()]),
        };
        // SAFETY: the arguments fit the kernel; both regions have `n` entries.
        unsafe { self.launch(&launch) }
    }

    /// y ← x, rounded to bf16.
    ///
    /// # Errors
    /// When x is not of `F32` or y not of `Bf16`, the sizes disagree, or the device fails.
    pub fn round(&mut self, y: Region, x: Region) -> Result<()> {
        const OP: &str = "round";
        self.check(OP, "x", x, Element::F32, x.len())?;
        self.check(OP, "y", y, Element::Bf16, x.len())?;
        let n = size(OP, x.len())?;
        let launch = Launch {
            kernel: "round_to_bf16".to_owned(),
            grid: [n.div_ceil(256).min(4096), 1, 1],
            block: [256, 1],
            arguments: arguments([y.address().into(), x.address().into(), n.into()]),
        };
        // SAFETY: the arguments fit the kernel; both regions have `n` entries.
        unsafe { self.launch(&launch) }
    }

    /// Sets all entries to zero.
    ///
    /// # Errors
    /// When the region is not of `F32` or `U32`, or the device fails.
    pub fn clear(&mut self, x: Region) -> Result<()> {
        self.words("clear", x)
    }

    /// Adds one to each count.
    ///
    /// # Errors
    /// When the region is not of `U32`, or the device fails.
    pub fn increment(&mut self, x: Region) -> Result<()> {
        self.check("increment", "x", x, Element::U32, x.len())?;
        self.words("increment", x)
    }

    fn words(&mut self, op: &str, x: Region) -> Result<()> {
        if !matches!(x.element(), Element::F32 | Element::U32) {
            bail!("{op}: expected a region of F32 or U32, found {:?}", x.element());
        }
        self.check(op, "x", x, x.element(), x.len())?;
        let n = size(op, x.len())?;
        let launch = Launch {
            kernel: op.to_owned(),
            grid: [n.div_ceil(256), 1, 1],
            block: [256, 1],
            arguments: arguments([x.address().into(), n.into()]),
        };
        // SAFETY: the arguments fit the kernel, and there are `n` words.
        unsafe { self.launch(&launch) }
    }
}
