//! Layer normalisation, alone or after a residual sum.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

use crate::Store;
use crate::cpu::fresh::Fresh;
use crate::cpu::product::Operand;
use crate::cpu::scratch::Scratch;
use crate::cpu::simd::{add, dot, sum, triple_dot, vectorized};
use crate::cpu::{host, parallel};

/// Number of rows in a task. It is fixed, so that results do not depend on the number of threads.
const ROWS: usize = 64;

/// Layer normalisation over the last axis: (x − mean)/√(variance + ε)·weight + bias.
///
/// The variance is the biased one. Differentiable in `x`, `weight` and `bias`.
///
/// # Shapes
/// `x` is `[.., d]`, `weight` and `bias` are `[d]`; returns the shape of `x`.
///
/// # Errors
/// When the shapes disagree, or candle refuses the device or the dtype.
///
/// # Examples
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use numformer_ops::layer_norm;
///
/// let x = Tensor::new(&[[1f32, 3.0]], &Device::Cpu)?;
/// let (one, zero) = (Tensor::ones(2, DType::F32, x.device())?, Tensor::zeros(2, DType::F32, x.device())?);
/// assert_eq!(layer_norm(&x, &one, &zero, 1e-12)?.to_vec2::<f32>()?, [[-1.0, 1.0]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
///
/// # Reference
/// Ba, Kiros and Hinton (2016), *Layer Normalization*, eq. (3) and (4). <https://arxiv.org/abs/1607.06450>
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    check("layer_norm", x, weight, bias)?;
    if !host::accepts(&[x, weight, bias]) {
        return composition(x, weight, bias, eps);
    }
    x.contiguous()?.apply_op2(&stacked(weight, bias)?, LayerNorm::new(eps))
}

/// [`layer_norm`] of `x + residual`.
///
/// Differentiable in `x`, `residual`, `weight` and `bias`.
///
/// # Shapes
/// `x` and `residual` are `[.., d]`, `weight` and `bias` are `[d]`; returns the shape of `x`.
///
/// # Errors
/// When the shapes disagree, or candle refuses the device or the dtype.
///
/// # Examples
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use numformer_ops::add_layer_norm;
///
/// let (x, residual) = (Tensor::new(&[1f32, 1.0], &Device::Cpu)?, Tensor::new(&[0f32, 2.0], &Device::Cpu)?);
/// let (one, zero) = (Tensor::ones(2, DType::F32, x.device())?, Tensor::zeros(2, DType::F32, x.device())?);
/// assert_eq!(add_layer_norm(&x, &residual, &one, &zero, 1e-12)?.to_vec1::<f32>()?, [-1.0, 1.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn add_layer_norm(x: &Tensor, residual: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    check("add_layer_norm", x, weight, bias)?;
    host::check_dims("add_layer_norm", "residual", residual, x.dims())?;
    if !host::accepts(&[x, residual, weight, bias]) {
        return add_composition(x, residual, weight, bias, eps);
    }
    x.contiguous()?.apply_op3(&residual.contiguous()?, &stacked(weight, bias)?, LayerNorm::new(eps))
}

fn check(op: &str, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<()> {
    let [d] = host::dims(op, "weight", weight)?;
    host::check_dims(op, "bias", bias, &[d])?;
    if x.dims().last() != Some(&d) {
        bail!("{op}: expected x of shape [.., {d}], found {:?}", x.dims());
    }
    Ok(())
}

/// Weight and bias as the rows of one tensor, because a candle operation takes at most three tensors.
fn stacked(weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    Tensor::stack(&[weight, bias], 0)?.contiguous()
}

/// [`layer_norm`] in candle's own operations.
pub fn composition(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let dtype = x.dtype();
    let wide = match dtype {
        DType::F16 | DType::BF16 => x.to_dtype(DType::F32)?,
        _ => x.clone(),
    };
    let last = x.rank() - 1;
    let centred = wide.broadcast_sub(&wide.mean_keepdim(last)?)?;
    let variance = centred.sqr()?.mean_keepdim(last)?;
    let normal = centred.broadcast_div(&(variance + eps)?.sqrt()?)?.to_dtype(dtype)?;
    normal.broadcast_mul(weight)?.broadcast_add(bias)
}

/// [`add_layer_norm`] in candle's own operations.
pub fn add_composition(x: &Tensor, residual: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    composition(&(x + residual)?, weight, bias, eps)
}

vectorized! {
    /// Writes the normalised rows of `x` to `y`, and their mean and 1/√(variance + ε) to `moments`, on the calling thread
    /// alone. `x` and `y` are `[rows, d]`, `weight` and `bias` `[d]`. If `E` is not `f32`, `rounded` is `[rows, d]` too, and
    /// gets what is written to `y` as operands of the products that follow.
    ///
    /// # Panics
    /// When `rounded` has another length.
    pub fn layer_norm_rows[E: Operand](
        y: &mut [f32],
        rounded: &mut [E],
        x: &[f32],
        moments: &mut [[f32; 2]],
        weight: &[f32],
        bias: &[f32],
        eps: f32,
    ) {
        let d = weight.len();
        assert_eq!(rounded.len(), E::rounded_len(y.len()), "expected as many operands as entries");
        let mut rounded = rounded.chunks_exact_mut(d);
        for ((y, x), moments) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(moments) {
            normalize_row(y, x, moments, weight, bias, eps);
            E::round_all(rounded.next().unwrap_or_default(), y);
        }
    }
}

/// y = (x − mean)·scale·weight + bias
#[inline(always)]
fn normalize_row(y: &mut [f32], x: &[f32], moments: &mut [f32; 2], weight: &[f32], bias: &[f32], eps: f32) {
    let d = weight.len() as f32;
    let mean = sum(x) / d;
    for (y, x) in y.iter_mut().zip(x) {
        *y = x - mean;
    }
    let scale = (dot(y, y) / d + eps).sqrt().recip();
    *moments = [mean, scale];
    for ((y, weight), bias) in y.iter_mut().zip(weight).zip(bias) {
        *y = (*y * scale).mul_add(*weight, *bias);
    }
}

/// Replaces each row of `x`, the input of the normalisation, by its gradient. Writes the gradients of weight and bias,
/// or adds them to the values already there. `x` and `gradient` are `[rows, d]`, the others `[d]`; `rounded` is as in
/// [`layer_norm_rows`], for the gradient.
///
/// # Panics
/// When weight and its gradient have different lengths, or `rounded` has another length.
pub fn layer_norm_gradients<E: Operand>(
    x: &mut [f32],
    rounded: &mut [E],
    [d_weight, d_bias]: [&mut [f32]; 2],
    store: Store,
    moments: &[[f32; 2]],
    weight: &[f32],
    gradient: &[f32],
) {
    assert_eq!(weight.len(), d_weight.len(), "expected as many gradients as weights");
    assert_eq!(rounded.len(), E::rounded_len(x.len()), "expected as many operands as entries");
    if store == Store::Replace {
        d_weight.fill(0.0);
        d_bias.fill(0.0);
    }
    normalize_rows_backward(x, rounded, d_weight, d_bias, moments, weight, gradient);
}

#[derive(Debug)]
struct LayerNorm {
    eps: f32,
    /// Mean and 1/√(variance + ε) of each row, kept from the forward pass for the backward pass.
    moments: OnceLock<Vec<[f32; 2]>>,
}

impl CustomOp2 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        affine: &CpuStorage,
        affine_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y = self.forward(host::slice(x, x_layout)?, None, host::slice(affine, affine_layout)?);
        Ok(host::stored(y, x_layout.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        _y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let (d_x, d_affine) = self.backward(&host::read(x)?, None, &host::read(affine)?, &host::read(&gradient)?)?;
        Ok((Some(host::tensor(d_x, x.shape())?), Some(host::tensor(d_affine, affine.shape())?)))
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "add_layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
        affine: &CpuStorage,
        affine_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let residual = host::slice(residual, residual_layout)?;
        let y = self.forward(host::slice(x, x_layout)?, Some(residual), host::slice(affine, affine_layout)?);
        Ok(host::stored(y, x_layout.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        residual: &Tensor,
        affine: &Tensor,
        _y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let (d_x, d_affine) = self.backward(
            &host::read(x)?,
            Some(&host::read(residual)?),
            &host::read(affine)?,
            &host::read(&gradient)?,
        )?;
        let d_x = host::tensor(d_x, x.shape())?;
        Ok((Some(d_x.clone()), Some(d_x), Some(host::tensor(d_affine, affine.shape())?)))
    }
}

impl LayerNorm {
    fn new(eps: f64) -> Self {
        Self { eps: eps as f32, moments: OnceLock::new() }
    }

    fn forward(&self, x: &[f32], residual: Option<&[f32]>, affine: &[f32]) -> Vec<f32> {
        let d = affine.len() / 2;
        let (weight, bias) = affine.split_at(d);
        let mut y = Fresh::new(x.len());
        let mut moments = vec![[0.0; 2]; x.len() / d];
        let blocks = y.chunks(ROWS * d).zip(x.chunks(ROWS * d)).zip(moments.chunks_mut(ROWS)).enumerate();
        parallel::for_each(blocks, |(block, ((y, x), moments))| match residual {
            None => layer_norm_rows::<f32>(y.clear(), &mut [], x, moments, weight, bias, self.eps),
            Some(residual) => {
                let residual = &residual[block * ROWS * d..][..x.len()];
                let mut sum = Scratch::take(x.len());
                sum.copy_from_slice(x);
                add(&mut sum, residual);
                layer_norm_rows::<f32>(y.clear(), &mut [], &sum, moments, weight, bias, self.eps);
            }
        });
        // Set only once: candle runs the forward pass of an operation only when it is applied.
        let _ = self.moments.set(moments);
        y.finish()
    }

    /// The gradient of `x` (which is also that of `residual`) and of the stacked weight and bias.
    fn backward(
        &self,
        x: &[f32],
        residual: Option<&[f32]>,
        affine: &[f32],
        gradient: &[f32],
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let Some(moments) = self.moments.get() else { bail!("layer_norm: backward pass without a forward pass") };
        let d = affine.len() / 2;
        let mut d_x = Fresh::new(x.len());
        let mut sums = Scratch::take(moments.len().div_ceil(ROWS) * affine.len());
        let blocks = d_x.chunks(ROWS * d).zip(sums.chunks_mut(affine.len())).zip(moments.chunks(ROWS)).enumerate();
        parallel::for_each(blocks, |(block, ((d_x, sums), moments))| {
            let d_x = d_x.clear();
            let first = block * ROWS * d;
            let range = first..first + d_x.len();
            d_x.copy_from_slice(&x[range.clone()]);
            if let Some(residual) = residual {
                add(d_x, &residual[range.clone()]);
            }
            let (d_weight, d_bias) = sums.split_at_mut(d);
            let (weight, gradient) = (&affine[..d], &gradient[range]);
            layer_norm_gradients::<f32>(d_x, &mut [], [d_weight, d_bias], Store::Replace, moments, weight, gradient);
        });
        let mut d_affine = vec![0.0; affine.len()];
        for sums in sums.chunks_exact(affine.len()) {
            add(&mut d_affine, sums);
        }
        Ok((d_x.finish(), d_affine))
    }
}

vectorized! {
    /// Replaces each row x by its gradient, and adds the gradients of weight and bias.
    ///
    /// With g the gradient of the output, n = (x − mean)·s the normalised row and h = g·weight:
    /// dx = s·(h − mean(h) − n·mean(h·n)), d weight = Σ g·n and d bias = Σ g.
    fn normalize_rows_backward[E: Operand](
        rows: &mut [f32],
        rounded: &mut [E],
        d_weight: &mut [f32],
        d_bias: &mut [f32],
        moments: &[[f32; 2]],
        weight: &[f32],
        gradient: &[f32],
    ) {
        let d = weight.len();
        let mut rounded = rounded.chunks_exact_mut(d);
        for ((row, gradient), [mean, scale]) in rows.chunks_exact_mut(d).zip(gradient.chunks_exact(d)).zip(moments) {
            for (((x, g), d_weight), d_bias) in row.iter_mut().zip(gradient).zip(&mut *d_weight).zip(&mut *d_bias) {
                *x = (*x - mean) * scale;
                *d_weight = g.mul_add(*x, *d_weight);
                *d_bias += g;
            }
            let mean_h = dot(gradient, weight) / d as f32;
            let mean_hn = triple_dot(gradient, weight, row) / d as f32;
            for ((x, g), weight) in row.iter_mut().zip(gradient).zip(weight) {
                *x = scale * (g * weight - mean_h - *x * mean_hn);
            }
            E::round_all(rounded.next().unwrap_or_default(), row);
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use half::bf16;
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::simd::tests::at_each_level;
    use crate::testing::{
        Expected, assert_close, assert_entries_close, assert_same_on_any_threads, check_gradients, check_other_dtypes,
        check_views, entries, random,
    };

    const EPS: f64 = 1e-12;

    #[test]
    fn value_and_gradients_match_the_composition() -> Result<()> {
        for dims in [vec![7], vec![1, 33], vec![33, 7, 1], vec![5, 2], vec![3, 7, 64], vec![150, 16]] {
            let d = dims[dims.len() - 1];
            let inputs = [random(dims.as_slice(), 1)?, random(dims.as_slice(), 2)?, random(d, 3)?, random(d, 4)?];
            check_gradients(
                &inputs,
                |t| add_layer_norm(&t[0], &t[1], &t[2], &t[3], EPS),
                |t| add_composition(&t[0], &t[1], &t[2], &t[3], EPS),
            )?;
            check_gradients(
                &[inputs[0].clone(), inputs[2].clone(), inputs[3].clone()],
                |t| layer_norm(&t[0], &t[1], &t[2], EPS),
                |t| composition(&t[0], &t[1], &t[2], EPS),
            )?;
        }
        Ok(())
    }

    #[test]
    fn eps_is_inside_the_square_root() -> Result<()> {
        let x = Tensor::new(&[-1f32, 1.0], &Device::Cpu)?;
        let (one, zero) = (x.ones_like()?, x.zeros_like()?);
        // With variance 1 and ε = 3, the entries are divided by 2.
        assert_eq!(layer_norm(&x, &one, &zero, 3.0)?.to_vec1::<f32>()?, [-0.5, 0.5]);
        Ok(())
    }

    #[test]
    fn a_row_of_zeros_gives_the_bias() -> Result<()> {
        let bias = random(9, 1)?;
        let y = layer_norm(&bias.zeros_like()?, &random(9, 2)?, &bias, EPS)?;
        assert_eq!(y.to_vec1::<f32>()?, bias.to_vec1::<f32>()?);
        Ok(())
    }

    #[test]
    fn strides_change_nothing() -> Result<()> {
        for dims in [vec![1, 1], vec![7, 33], vec![33, 1, 7]] {
            let d = dims[dims.len() - 1];
            let inputs = [random(dims.as_slice(), 1)?, random(dims.as_slice(), 2)?, random(d, 3)?, random(d, 4)?];
            check_views(&inputs, |t| add_layer_norm(&t[0], &t[1], &t[2], &t[3], EPS))?;
            check_views(&[inputs[0].clone(), inputs[2].clone(), inputs[3].clone()], |t| {
                layer_norm(&t[0], &t[1], &t[2], EPS)
            })?;
        }
        Ok(())
    }

    #[test]
    fn other_dtypes_agree() -> Result<()> {
        let inputs = [random((3, 8), 1)?, random((3, 8), 2)?, random(8, 3)?, random(8, 4)?];
        check_other_dtypes(&inputs, |t| add_layer_norm(&t[0], &t[1], &t[2], &t[3], EPS))
    }

    #[test]
    fn threads_do_not_change_the_bits() {
        let inputs = [
            random((333, 24), 1).unwrap(),
            random((333, 24), 2).unwrap(),
            random(24, 3).unwrap(),
            random(24, 4).unwrap(),
        ];
        assert_same_on_any_threads(&inputs, |t| add_layer_norm(&t[0], &t[1], &t[2], &t[3], EPS));
    }

    #[test]
    fn wrong_shapes_are_named() -> Result<()> {
        let (x, d) = (random((2, 4), 1)?, random(3, 2)?);
        let error = layer_norm(&x, &d, &d, EPS).unwrap_err().to_string();
        assert!(error.contains("layer_norm: expected x of shape [.., 3], found [2, 4]"), "{error}");
        let four = random(4, 2)?;
        let error = add_layer_norm(&x, &four, &four, &four, EPS).unwrap_err().to_string();
        assert!(error.contains("add_layer_norm: expected residual of shape [2, 4], found [4]"), "{error}");
        Ok(())
    }

    proptest! {
        #![proptest_config(cases(32))]
        #[test]
        fn shifting_and_scaling_a_row_changes_nothing(
            rows in 1usize..100,
            d in 2usize..40,
            scale in 0.5f64..4.0,
            shift in -2.0f64..2.0,
        ) {
            let (x, one) = (random((rows, d), 1).unwrap(), random(d, 2).unwrap());
            let moved = x.affine(scale, shift).unwrap();
            let y = layer_norm(&x, &one, &one, 0.0).unwrap();
            assert_close(&layer_norm(&moved, &one, &one, 0.0).unwrap(), &y, 1e-3);
        }
    }

    #[test]
    fn rows_give_what_the_operation_gives() -> Result<()> {
        for (rows, d) in [(1, 1), (1, 7), (7, 33), (33, 16)] {
            let inputs = [random((rows, d), 1)?, random((rows, d), 2)?, random(d, 3)?, random(d, 4)?];
            let op = |t: &[Tensor]| add_layer_norm(&t[0], &t[1], &t[2], &t[3], EPS);
            let Expected { y: expected, d_y, gradients } = Expected::of(&op, &inputs)?;
            let [x, residual, weight, bias] = inputs.each_ref().map(entries);
            let passes = at_each_level(|| {
                let mut sum = x.clone();
                add(&mut sum, &residual);
                let mut y = vec![f32::NAN; x.len()];
                let mut rounded = vec![bf16::NAN; x.len()];
                let mut moments = vec![[f32::NAN; 2]; rows];
                layer_norm_rows(&mut y, &mut rounded, &sum, &mut moments, &weight, &bias, EPS as f32);
                assert!(rounded.iter().zip(&y).all(|(rounded, y)| *rounded == bf16::round(*y)));
                let [mut d_weight, mut d_bias] = [vec![f32::NAN; d], vec![f32::NAN; d]];
                let mut d_x = sum.clone();
                let parameters = [&mut d_weight[..], &mut d_bias];
                layer_norm_gradients(&mut d_x, &mut rounded, parameters, Store::Replace, &moments, &weight, &d_y);
                assert!(rounded.iter().zip(&d_x).all(|(rounded, d_x)| *rounded == bf16::round(*d_x)));
                let mut exact = vec![f32::NAN; x.len()];
                layer_norm_rows::<f32>(&mut exact, &mut [], &sum, &mut moments, &weight, &bias, EPS as f32);
                assert_eq!(exact, y);
                [y, d_x, d_weight, d_bias]
            });
            for [y, d_x, d_weight, d_bias] in &passes {
                assert_entries_close(y, &expected);
                for (found, expected) in [d_x, d_x, d_weight, d_bias].into_iter().zip(&gradients) {
                    assert_entries_close(found, expected);
                }
            }
        }
        Ok(())
    }
}
