//! Embeddings of ids.

use candle_core::{Result, bail};

use super::arguments::{arguments, named, size};
use crate::device::accelerator::Accelerator;
use crate::device::executor::{Argument, Launch};
use crate::device::region::{Element, Region};

impl Accelerator {
    /// Writes `tokens[ids[r]] + positions[r % length + offset]` to row `r` of `sum`; `offset` is a word of memory, or
    /// zero if absent. An id or a position beyond its table counts as zeros.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn embed(
        &mut self,
        sum: Region,
        ids: Region,
        [tokens, positions]: [Region; 2],
        length: usize,
        offset: Option<Region>,
        d: usize,
    ) -> Result<()> {
        const OP: &str = "embed";
        let rows = ids.len();
        self.check(OP, "ids", ids, Element::U32, rows)?;
        self.check(OP, "sum", sum, sum.element(), rows * d)?;
        if d == 0 || length == 0 {
            bail!("{OP}: expected sequences and vectors that are not empty, found {length} and {d}");
        }
        let tables = [("tokens", tokens), ("positions", positions)];
        for (name, table) in tables {
            self.check(OP, name, table, Element::F32, table.len() / d * d)?;
        }
        if let Some(offset) = offset {
            self.check(OP, "offset", offset, Element::U32, 1)?;
        }
        let launch = Launch {
            kernel: named(OP, sum.element())?,
            grid: [size(OP, rows.div_ceil(4))?, 1, 1],
            block: [128, 1],
            arguments: arguments([
                sum.address().into(),
                ids.address().into(),
                tokens.address().into(),
                positions.address().into(),
                offset.map_or(Argument::NULL, |offset| offset.address().into()),
                size(OP, rows)?.into(),
                size(OP, length)?.into(),
                size(OP, d)?.into(),
                size(OP, tokens.len() / d)?.into(),
                size(OP, positions.len() / d)?.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel, which reads no row beyond a table.
        unsafe { self.launch(&launch) }
    }

    /// Adds row `r` of `d_sum` `[rows, d]` to row `keys[r]` of `table` `[v, d]`. `order` lists each row once, so that
    /// rows with equal keys are adjacent; otherwise the sums are wrong. A key beyond the table is ignored.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn scatter(&mut self, table: Region, d_sum: Region, [keys, order]: [Region; 2], d: usize) -> Result<()> {
        const OP: &str = "scatter";
        let rows = keys.len();
        self.check(OP, "keys", keys, Element::U32, rows)?;
        self.check(OP, "order", order, Element::U32, rows)?;
        self.check(OP, "d_sum", d_sum, d_sum.element(), rows * d)?;
        if d == 0 {
            bail!("{OP}: expected vectors that are not empty");
        }
        self.check(OP, "table", table, Element::F32, table.len() / d * d)?;
        let launch = Launch {
            kernel: named(OP, d_sum.element())?,
            grid: [size(OP, rows)?, size(OP, d.div_ceil(32))?, 1],
            block: [32, 8],
            arguments: arguments([
                table.address().into(),
                d_sum.address().into(),
                keys.address().into(),
                order.address().into(),
                size(OP, rows)?.into(),
                size(OP, d)?.into(),
                size(OP, table.len() / d)?.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel, which uses no row or key out of range.
        unsafe { self.launch(&launch) }
    }
}
