//! The affine map of a layer whose weight stays as it is.

use candle_core::{Result, Tensor, bail};
use half::bf16;

use super::linear::{Activation, linear_rows};
use crate::cpu::fresh::Fresh;
use crate::cpu::product::{Operand, Panels};
use crate::cpu::{host, parallel};

/// The maximum number of tasks in a call, and the fewest rows of each. They are fixed, so that results do not depend on
/// the number of threads.
const TASKS: usize = 8;
const ROWS: usize = 32;

/// The affine map φ(x·Wᵀ + b) of [`linear`](crate::linear) with a weight that is packed once for many calls, in host
/// memory. It has no gradients.
///
/// # Shapes
/// `x` is `[.., k]`, W `[n, k]`, b `[n]`; the result is `[.., n]`.
///
/// # Examples
/// ```
/// use candle_core::{Device, Tensor};
/// use numformer_ops::{Activation, PackedLinear};
///
/// let weight = Tensor::new(&[[1f32, 1.0], [-3.0, 0.0]], &Device::Cpu)?;
/// let bias = Tensor::new(&[0.5f32, 0.0], &Device::Cpu)?;
/// let map = PackedLinear::new(&weight, &bias)?.expect("f32 in host memory");
/// let y = map.forward(&Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?, Activation::Relu)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[3.5, 0.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Debug)]
pub struct PackedLinear {
    weight_t: Weight,
    bias: Vec<f32>,
    d_in: usize,
}

#[derive(Debug)]
enum Weight {
    F32(Panels<f32>),
    Bf16(Panels<bf16>),
}

impl PackedLinear {
    /// Packs `weight` `[n, k]`, with the `bias` `[n]`. `None` if the tensors are not `f32` in host memory, or empty.
    ///
    /// # Errors
    /// When the shapes disagree.
    pub fn new(weight: &Tensor, bias: &Tensor) -> Result<Option<Self>> {
        Self::with(weight, bias, |weight, k| Weight::F32(packed(weight, k)))
    }

    /// [`new`](Self::new) with operands of products rounded to bf16, the weight and the input alike.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn in_bf16(weight: &Tensor, bias: &Tensor) -> Result<Option<Self>> {
        Self::with(weight, bias, |weight, k| Weight::Bf16(packed(weight, k)))
    }

    fn with(weight: &Tensor, bias: &Tensor, pack: impl Fn(&[f32], usize) -> Weight) -> Result<Option<Self>> {
        let [n, k] = host::dims("PackedLinear", "weight", weight)?;
        host::check_dims("PackedLinear", "bias", bias, &[n])?;
        if !host::accepts(&[weight, bias]) {
            return Ok(None);
        }
        let (weight, bias) = (weight.contiguous()?, bias.to_vec1()?);
        let weight_t = pack(&host::read(&weight)?, k);
        Ok(Some(Self { weight_t, bias, d_in: k }))
    }

    /// φ(x·Wᵀ + b): `[.., k]` to `[.., n]`.
    ///
    /// # Errors
    /// When the last axis of `x` is not `k`, or `x` is not `f32` in host memory.
    pub fn forward(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        if x.dims().last() != Some(&self.d_in) {
            bail!("PackedLinear: expected x of shape [.., {}], found {:?}", self.d_in, x.dims());
        }
        let mut dims = x.dims().to_vec();
        dims.pop();
        dims.push(self.bias.len());
        if x.elem_count() == 0 {
            return host::tensor(Vec::new(), dims);
        }
        let x = x.contiguous()?;
        let x = host::read(&x)?;
        let y = match &self.weight_t {
            Weight::F32(weight_t) => self.rows(&x, weight_t, activation),
            Weight::Bf16(weight_t) => self.rows(&x, weight_t, activation),
        };
        host::tensor(y, dims)
    }

    fn rows<E: Operand>(&self, x: &[f32], weight_t: &Panels<E>, activation: Activation) -> Vec<f32> {
        let (n, k) = (self.bias.len(), self.d_in);
        let rows = (x.len() / k).div_ceil(TASKS).next_multiple_of(ROWS);
        let mut y = Fresh::new(x.len() / k * n);
        parallel::for_each(y.chunks(rows * n).zip(x.chunks(rows * k)), |(y, x)| {
            linear_rows(y.clear(), x, weight_t, &self.bias, activation);
        });
        y.finish()
    }
}

fn packed<E: Operand>(weight: &[f32], k: usize) -> Panels<E> {
    let mut panels = Panels::default();
    panels.pack_transpose(weight, k);
    panels
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::linear;
    use crate::testing::{assert_close, random};

    #[test]
    fn the_map_is_that_of_the_operation() -> Result<()> {
        for (dims, n) in [(vec![1], 1), (vec![7], 33), (vec![2, 3, 33], 7), (vec![300, 5], 40), (vec![0, 4], 3)] {
            let k = dims[dims.len() - 1];
            let (x, weight, bias) = (random(dims.as_slice(), 1)?, random((n, k), 2)?, random(n, 3)?);
            for activation in [Activation::Identity, Activation::Relu] {
                let expected = linear(&x, &weight, &bias, activation)?;
                let maps = [PackedLinear::new(&weight, &bias)?, PackedLinear::in_bf16(&weight, &bias)?];
                for (map, tolerance) in maps.into_iter().zip([1e-6, 2e-2]) {
                    let map = map.expect("f32 in host memory");
                    let found = map.forward(&x, activation)?;
                    assert_eq!(found.dims(), expected.dims());
                    if found.elem_count() > 0 {
                        assert_close(&found, &expected, tolerance);
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn other_types_and_shapes_are_not_packed() -> Result<()> {
        let (weight, bias) = (random((3, 4), 1)?, random(3, 2)?);
        assert!(PackedLinear::new(&weight.to_dtype(DType::F64)?, &bias.to_dtype(DType::F64)?)?.is_none());
        let error = PackedLinear::new(&weight, &random(4, 2)?).expect_err("another bias").to_string();
        assert!(error.contains("expected bias of shape [3], found [4]"), "{error}");
        let map = PackedLinear::new(&weight, &bias)?.expect("f32 in host memory");
        let error = map.forward(&Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?, Activation::Identity);
        assert!(error.expect_err("another width").to_string().contains("[.., 4], found [2, 3]"));
        Ok(())
    }
}
