//! The affine map of a layer, with its activation.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::matrix::{MatMut, MatRef, Store, multiply};
use crate::scratch::Scratch;
use crate::simd::vectorized;
use crate::{host, parallel};

/// Rows of one task. Fixed, so that results do not depend on the number of threads.
const ROW_BLOCK: usize = 128;

/// Outputs whose weight gradients make one task.
const OUTPUT_BLOCK: usize = 32;

/// What follows the affine map of [`linear`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// max(y, 0), with derivative 0 at 0.
    Relu,
}

/// Affine map and activation: φ(x·Wᵀ + b).
///
/// Differentiable in `x`, `weight` and `bias`.
///
/// # Shapes
/// `x` is `[.., k]`, `weight` `[n, k]`, `bias` `[n]`; returns `[.., n]`.
///
/// # Errors
/// When the shapes disagree, or candle refuses the device or the dtype.
///
/// # Examples
/// ```
/// use candle_core::{Device, Tensor};
/// use numformer_ops::{Activation, linear};
///
/// let x = Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[1f32, 1.0], [-3.0, 0.0]], &Device::Cpu)?;
/// let bias = Tensor::new(&[0.5f32, 0.0], &Device::Cpu)?;
/// let y = linear(&x, &weight, &bias, Activation::Relu)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[3.5, 0.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor, activation: Activation) -> Result<Tensor> {
    let [n, k] = host::dims("linear", "weight", weight)?;
    host::check_dims("linear", "bias", bias, &[n])?;
    if x.dims().last() != Some(&k) {
        bail!("linear: expected x of shape [.., {k}], found {:?}", x.dims());
    }
    if !host::accepts(&[x, weight, bias]) {
        return composition(x, weight, bias, activation);
    }
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Linear { n, k, activation })
}

/// [`linear`] in candle's own operations.
pub fn composition(x: &Tensor, weight: &Tensor, bias: &Tensor, activation: Activation) -> Result<Tensor> {
    let (n, k) = weight.dims2()?;
    let mut dims = x.dims().to_vec();
    let rows = x.elem_count() / k.max(1);
    let y = x.reshape((rows, k))?.matmul(&weight.t()?)?.broadcast_add(bias)?;
    dims.pop();
    dims.push(n);
    let y = y.reshape(dims)?;
    match activation {
        Activation::Identity => Ok(y),
        // candle's `relu` has derivative 1 at 0.
        Activation::Relu => &y * y.gt(0f64)?.to_dtype(y.dtype())?,
    }
}

#[derive(Debug)]
struct Linear {
    n: usize,
    k: usize,
    activation: Activation,
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y = self.forward(
            host::slice(x, x_layout)?,
            host::slice(weight, weight_layout)?,
            host::slice(bias, bias_layout)?,
        );
        let mut dims = x_layout.dims().to_vec();
        dims.pop();
        dims.extend(bias_layout.dims());
        Ok(host::stored(y, dims))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let [d_x, d_weight, d_bias] =
            self.backward(&host::read(x)?, &host::read(weight)?, &host::read(y)?, &host::read(&gradient)?);
        Ok((
            Some(host::tensor(d_x, x.shape())?),
            Some(host::tensor(d_weight, weight.shape())?),
            Some(host::tensor(d_bias, bias.shape())?),
        ))
    }
}

impl Linear {
    fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let Self { n, k, activation } = *self;
        let weight = MatRef::filling(weight, k);
        let mut y = vec![0.0; x.len() / k * n];
        parallel::for_each(y.chunks_mut(ROW_BLOCK * n).zip(x.chunks(ROW_BLOCK * k)), |(y, x)| {
            multiply(MatMut::filling(y, n), Store::Replace, 1.0, MatRef::filling(x, k), weight.t());
            match activation {
                Activation::Identity => add_bias(y, bias),
                Activation::Relu => add_bias_relu(y, bias),
            }
        });
        y
    }

    /// The gradients of `x`, `weight` and `bias`.
    fn backward(&self, x: &[f32], weight: &[f32], y: &[f32], gradient: &[f32]) -> [Vec<f32>; 3] {
        let Self { n, k, activation } = *self;
        let mut d_x = vec![0.0; x.len()];
        let mut d_weight = vec![0.0; n * k];
        let mut d_bias = vec![0.0; n];
        let mut masked = (activation == Activation::Relu).then(|| Scratch::take(y.len()));
        let mut sums = Scratch::take(y.len().div_ceil(ROW_BLOCK * n) * n);

        let mut masked_blocks = masked.iter_mut().flat_map(|m| m.chunks_mut(ROW_BLOCK * n));
        let blocks = gradient
            .chunks(ROW_BLOCK * n)
            .zip(y.chunks(ROW_BLOCK * n))
            .zip(d_x.chunks_mut(ROW_BLOCK * k))
            .zip(sums.chunks_mut(n))
            .map(|(((gradient, y), d_x), sums)| (gradient, y, d_x, sums, masked_blocks.next()));
        parallel::for_each(blocks, |(gradient, y, d_x, sums, masked)| {
            let gradient = match masked {
                Some(masked) => {
                    mask(masked, gradient, y);
                    &*masked
                }
                None => gradient,
            };
            column_sums(sums, gradient);
            let (gradient, weight) = (MatRef::filling(gradient, n), MatRef::filling(weight, k));
            multiply(MatMut::filling(d_x, k), Store::Replace, 1.0, gradient, weight);
        });
        column_sums(&mut d_bias, &sums);

        let gradient = MatRef::filling(masked.as_deref().unwrap_or(gradient), n);
        parallel::for_each(d_weight.chunks_mut(OUTPUT_BLOCK * k).enumerate(), |(block, d_weight)| {
            let first = block * OUTPUT_BLOCK;
            let outputs = gradient.columns(first..first + d_weight.len() / k);
            multiply(MatMut::filling(d_weight, k), Store::Replace, 1.0, outputs.t(), MatRef::filling(x, k));
        });
        [d_x, d_weight, d_bias]
    }
}

vectorized! {
    fn add_bias(rows: &mut [f32], bias: &[f32]) {
        for row in rows.chunks_exact_mut(bias.len()) {
            for (y, b) in row.iter_mut().zip(bias) {
                *y += b;
            }
        }
    }
}

vectorized! {
    fn add_bias_relu(rows: &mut [f32], bias: &[f32]) {
        for row in rows.chunks_exact_mut(bias.len()) {
            for (y, b) in row.iter_mut().zip(bias) {
                let sum = *y + b;
                // Written so that NaN passes.
                *y = if sum <= 0.0 { 0.0 } else { sum };
            }
        }
    }
}

vectorized! {
    /// `masked` = `gradient` where the activation let its input through, else 0.
    fn mask(masked: &mut [f32], gradient: &[f32], y: &[f32]) {
        for ((masked, gradient), y) in masked.iter_mut().zip(gradient).zip(y) {
            *masked = if *y > 0.0 { *gradient } else { 0.0 };
        }
    }
}

vectorized! {
    /// `sums` = the sum over the rows of `rows`, in their order.
    fn column_sums(sums: &mut [f32], rows: &[f32]) {
        sums.fill(0.0);
        for row in rows.chunks_exact(sums.len()) {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{assert_same_on_any_threads, check_gradients, random};

    #[test]
    fn value_and_gradients_match_the_composition() -> Result<()> {
        for (dims, n) in [(vec![1], 1), (vec![7], 33), (vec![2, 3, 33], 7), (vec![300, 5], 40), (vec![4, 65, 16], 64)] {
            for activation in [Activation::Identity, Activation::Relu] {
                let k = dims[dims.len() - 1];
                let inputs = [random(dims.as_slice(), 1)?, random((n, k), 2)?, random(n, 3)?];
                check_gradients(
                    &inputs,
                    |t| linear(&t[0], &t[1], &t[2], activation),
                    |t| composition(&t[0], &t[1], &t[2], activation),
                )?;
            }
        }
        Ok(())
    }

    #[test]
    fn relu_has_no_gradient_at_zero() -> Result<()> {
        let x = candle_core::Var::zeros((1, 2), DType::F32, &candle_core::Device::Cpu)?;
        let (weight, bias) = (random((3, 2), 1)?, Tensor::zeros(3, DType::F32, x.device())?);
        for f in [linear, composition] {
            let gradients = f(&x, &weight, &bias, Activation::Relu)?.sum_all()?.backward()?;
            let d_x = gradients.get(&x).expect("x receives a gradient");
            assert_eq!(d_x.to_vec2::<f32>()?, [[0.0, 0.0]]);
        }
        Ok(())
    }

    #[test]
    fn transposed_inputs_are_taken() -> Result<()> {
        let (x, weight, bias) = (random((9, 4), 1)?.t()?, random((9, 6), 2)?.t()?, random(6, 3)?);
        check_gradients(
            &[x, weight, bias],
            |t| linear(&t[0].t()?.contiguous()?.t()?, &t[1], &t[2], Activation::Relu),
            |t| composition(&t[0], &t[1], &t[2], Activation::Relu),
        )
    }

    #[test]
    fn threads_do_not_change_the_bits() {
        assert_same_on_any_threads(
            &[random((500, 24), 1).unwrap(), random((70, 24), 2).unwrap(), random(70, 3).unwrap()],
            |t| linear(&t[0], &t[1], &t[2], Activation::Relu),
        );
    }

    #[test]
    fn other_dtypes_use_the_composition() -> Result<()> {
        let inputs = [random((5, 4), 1)?, random((3, 4), 2)?, random(3, 3)?];
        let wide: Vec<_> = inputs.iter().map(|t| t.to_dtype(DType::F64)).collect::<Result<_>>()?;
        let y = linear(&wide[0], &wide[1], &wide[2], Activation::Identity)?;
        assert_eq!(y.dtype(), DType::F64);
        Ok(())
    }

    #[test]
    fn wrong_shapes_are_named() -> Result<()> {
        let error = linear(&random((5, 4), 1)?, &random((3, 5), 2)?, &random(3, 3)?, Activation::Identity).unwrap_err();
        assert!(error.to_string().contains("expected x of shape [.., 5], found [5, 4]"), "{error}");
        let error = linear(&random((5, 4), 1)?, &random((3, 4), 2)?, &random(4, 3)?, Activation::Identity).unwrap_err();
        assert!(error.to_string().contains("expected bias of shape [3], found [4]"), "{error}");
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_map_is_linear_in_x(rows in 1usize..200, n in 1usize..40, k in 1usize..40, scale in -3.0f64..3.0) {
            let (x, weight) = (random((rows, k), 1).unwrap(), random((n, k), 2).unwrap());
            let zero = Tensor::zeros(n, DType::F32, x.device()).unwrap();
            let scaled = linear(&(&x * scale).unwrap(), &weight, &zero, Activation::Identity).unwrap();
            let y = (linear(&x, &weight, &zero, Activation::Identity).unwrap() * scale).unwrap();
            crate::testing::assert_close(&scaled, &y, 1e-5);
        }
    }
}
