//! Layer norms.

use candle_core::{Result, bail};

use super::arguments::{arguments, named, size};
use super::partial_sums::chunks;
use crate::device::accelerator::Accelerator;
use crate::device::executor::{Argument, Launch};
use crate::device::region::{Element, Region};

impl Accelerator {
    /// Adds `residual`, if there is one, to `sum` `[rows, d]`. Writes the layer norm of the result to `y`, and the
    /// values that the gradients need to `moments` `[rows, 2]`. `weight` and `bias` are of `F32`, `[d]`.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn add_layer_norm(
        &mut self,
        y: Region,
        [sum, moments]: [Region; 2],
        residual: Option<Region>,
        [weight, bias]: [Region; 2],
        eps: f32,
    ) -> Result<()> {
        const OP: &str = "add_layer_norm";
        let rows = self.check_norm(OP, [sum, moments], weight)?;
        self.check(OP, "y", y, sum.element(), sum.len())?;
        self.check(OP, "bias", bias, Element::F32, weight.len())?;
        if let Some(residual) = residual {
            self.check(OP, "residual", residual, sum.element(), sum.len())?;
        }
        let launch = Launch {
            kernel: named(OP, sum.element())?,
            grid: [size(OP, rows.div_ceil(4))?, 1, 1],
            block: [128, 1],
            arguments: arguments([
                y.address().into(),
                sum.address().into(),
                moments.address().into(),
                residual.map_or(Argument::NULL, |residual| residual.address().into()),
                weight.address().into(),
                bias.address().into(),
                size(OP, rows)?.into(),
                size(OP, weight.len())?.into(),
                eps.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel; all matrices are [rows, d] and all vectors [d], as it assumes.
        unsafe { self.launch(&launch) }
    }

    /// The gradients of [`add_layer_norm`](Self::add_layer_norm): of the sum, `[rows, d]`, and of weight and bias,
    /// `[d]`, in `F32`.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn layer_norm_gradients(
        &mut self,
        d_sum: Region,
        [d_weight, d_bias]: [Region; 2],
        [sum, moments]: [Region; 2],
        weight: Region,
        d_y: Region,
    ) -> Result<()> {
        const OP: &str = "layer_norm_gradients";
        let rows = self.check_norm(OP, [sum, moments], weight)?;
        let d = weight.len();
        self.check(OP, "d_sum", d_sum, sum.element(), sum.len())?;
        self.check(OP, "d_y", d_y, sum.element(), sum.len())?;
        let (rows_of_chunk, count) = chunks(rows);
        let partials = self.scratch(2 * count * d)?;
        let launch = Launch {
            kernel: named("layer_norm_partials", sum.element())?,
            grid: [size(OP, d.div_ceil(32))?, size(OP, count)?, 1],
            block: [32, 8],
            arguments: arguments([
                partials.address().into(),
                sum.address().into(),
                moments.address().into(),
                d_y.address().into(),
                size(OP, rows)?.into(),
                size(OP, d)?.into(),
                size(OP, rows_of_chunk)?.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel; the matrices are [rows, d], and there is room for two rows of partial
        // sums for each chunk.
        unsafe { self.launch(&launch) }?;
        self.sum_partials([d_weight, d_bias], 2, partials, count)?;
        let launch = Launch {
            kernel: named("layer_norm_backward", sum.element())?,
            grid: [size(OP, rows.div_ceil(4))?, 1, 1],
            block: [128, 1],
            arguments: arguments([
                d_sum.address().into(),
                sum.address().into(),
                moments.address().into(),
                weight.address().into(),
                d_y.address().into(),
                size(OP, rows)?.into(),
                size(OP, d)?.into(),
            ]),
        };
        // SAFETY: as above.
        unsafe { self.launch(&launch) }
    }

    /// Checks the shapes of a layer norm and returns its number of rows.
    fn check_norm(&self, op: &str, [sum, moments]: [Region; 2], weight: Region) -> Result<usize> {
        let d = weight.len();
        if d == 0 || !sum.len().is_multiple_of(d) || sum.is_empty() {
            bail!("{op}: expected rows of {d} entries, found {} entries", sum.len());
        }
        let rows = sum.len() / d;
        self.check(op, "sum", sum, sum.element(), rows * d)?;
        self.check(op, "moments", moments, Element::F32, 2 * rows)?;
        self.check(op, "weight", weight, Element::F32, d)?;
        Ok(rows)
    }
}
