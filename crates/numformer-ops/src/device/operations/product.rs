//! Products of matrices.

use candle_core::{Result, bail};

use crate::device::accelerator::Accelerator;
use crate::device::executor::RawProduct;
use crate::device::region::{Element, Region};
use crate::kernels::Store;
use crate::operations::linear::Activation;

use super::arguments::size;

/// C = op(A)·op(B) with C `[m, n]`, all row-major.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// `[m, k]`, or `[k, m]` if it is transposed.
    pub a: Region,
    /// `[k, n]`, or `[n, k]` if it is transposed.
    pub b: Region,
    /// `[m, n]`.
    pub c: Region,
    /// m, n and k.
    pub sizes: [usize; 3],
    /// Whether A is stored transposed, and whether B is.
    pub transposed: [bool; 2],
    /// Whether C is replaced or added to.
    pub store: Store,
}

impl Accelerator {
    /// Multiplies two matrices of the same element type. For matrices of `Bf16`, C may be of `F32`. Sums are in `f32`.
    ///
    /// # Errors
    /// When the sizes disagree, or the device fails.
    pub fn multiply(&mut self, product: &Product) -> Result<()> {
        self.product(product, None, Activation::Identity)
    }

    /// A product, to each row of which a bias and an activation may be applied.
    pub(super) fn product(&mut self, product: &Product, bias: Option<Region>, activation: Activation) -> Result<()> {
        let Product { a, b, c, sizes, transposed, store } = *product;
        let raw = RawProduct {
            sizes,
            a: a.address(),
            b: b.address(),
            c: c.address(),
            input: a.element(),
            output: c.element(),
            transposed,
            bias: bias.map(Region::address),
            relu: activation == Activation::Relu,
            accumulate: store == Store::Add,
        };
        let [m, n, k] = sizes;
        self.check("multiply", "A", a, raw.input, m * k)?;
        self.check("multiply", "B", b, raw.input, k * n)?;
        self.check("multiply", "C", c, raw.output, m * n)?;
        if let Some(bias) = bias {
            self.check("multiply", "bias", bias, raw.output, n)?;
            if !bias.address().is_multiple_of(16) {
                bail!("multiply: expected a bias at an address that is a multiple of 16 bytes");
            }
        }
        let fits = matches!(
            (raw.input, raw.output),
            (Element::F32 | Element::Bf16, Element::F32) | (Element::Bf16, Element::Bf16)
        );
        if !fits {
            bail!(
                "multiply: expected F32 or Bf16, found {:?} times {:?} in {:?}",
                a.element(),
                b.element(),
                c.element()
            );
        }
        for n in [m, n, k] {
            size("multiply", n)?;
        }
        if m * n == 0 {
            return Ok(());
        }
        if k == 0 {
            bail!("multiply: expected sums of at least one term");
        }
        // SAFETY: the matrices are regions of this device, and have the lengths that the sizes require.
        unsafe { self.raw_multiply(&raw) }
    }
}
