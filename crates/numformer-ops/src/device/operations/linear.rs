//! Linear layers.

use candle_core::{Result, bail};

use crate::device::accelerator::Accelerator;
use crate::device::executor::{Argument, Launch};
use crate::device::region::{Element, Region};
use crate::kernels::Store;
use crate::operations::linear::Activation;

use super::arguments::{arguments, named, size};
use super::partial_sums::chunks;
use super::product::Product;

impl Accelerator {
    /// y = x·Wᵀ + b with an activation: x `[rows, d_in]`, W `[d_out, d_in]`, b `[d_out]`, y `[rows, d_out]`.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn linear(
        &mut self,
        y: Region,
        x: Region,
        weight: Region,
        bias: Region,
        [rows, d_in]: [usize; 2],
        activation: Activation,
    ) -> Result<()> {
        let sizes = [rows, bias.len(), d_in];
        let product = Product { a: x, b: weight, c: y, sizes, transposed: [false, true], store: Store::Replace };
        self.product(&product, Some(bias), activation)
    }

    /// The gradients of the weight and bias of [`linear`](Self::linear), in `F32`: d_y `[rows, d_out]`, x
    /// `[rows, d_in]`. If `hidden`, the output of a ReLU, is given, d_y is first replaced by the gradient before the
    /// ReLU.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn linear_parameter_gradients(
        &mut self,
        [d_weight, d_bias]: [Region; 2],
        d_y: Region,
        hidden: Option<Region>,
        x: Region,
        rows: usize,
    ) -> Result<()> {
        const OP: &str = "linear_parameter_gradients";
        let d_out = d_bias.len();
        self.check(OP, "d_bias", d_bias, Element::F32, d_out)?;
        self.check(OP, "d_y", d_y, d_y.element(), rows * d_out)?;
        if let Some(hidden) = hidden {
            self.check(OP, "hidden", hidden, d_y.element(), rows * d_out)?;
        }
        if d_out == 0 || rows == 0 {
            bail!("{OP}: expected at least one row and one column, found {rows} and {d_out}");
        }
        let (rows_of_chunk, count) = chunks(rows);
        let partials = self.scratch(count * d_out)?;
        let launch = Launch {
            kernel: named("column_partials", d_y.element())?,
            grid: [size(OP, d_out.div_ceil(32))?, size(OP, count)?, 1],
            block: [32, 8],
            arguments: arguments([
                partials.address().into(),
                d_y.address().into(),
                hidden.map_or(Argument::NULL, |hidden| hidden.address().into()),
                size(OP, rows)?.into(),
                size(OP, d_out)?.into(),
                size(OP, rows_of_chunk)?.into(),
            ]),
        };
        // SAFETY: the arguments fit the kernel; the matrices have the lengths that it assumes, and there is room for a
        // row of partial sums for each chunk.
        unsafe { self.launch(&launch) }?;
        self.sum_partials([d_bias, d_bias], 1, partials, count)?;
        let d_in = x.len() / rows;
        let sizes = [d_out, d_in, rows];
        self.multiply(&Product { a: d_y, b: x, c: d_weight, sizes, transposed: [true, false], store: Store::Replace })
    }

    /// The gradient of the input of [`linear`](Self::linear): d_x `[rows, d_in]`.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn linear_input_gradient(
        &mut self,
        d_x: Region,
        store: Store,
        d_y: Region,
        weight: Region,
        rows: usize,
    ) -> Result<()> {
        if rows == 0 {
            bail!("linear_input_gradient: expected at least one row");
        }
        let sizes = [rows, d_x.len() / rows, d_y.len() / rows];
        self.multiply(&Product { a: d_y, b: weight, c: d_x, sizes, transposed: [false, false], store })
    }
}
