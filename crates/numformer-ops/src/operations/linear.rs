//! The affine map of a layer, with its activation.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::cpu::fresh::Fresh;
use crate::cpu::matrix::{MatMut, MatRef, Store};
use crate::cpu::product::{Epilogue, Operand, Panels, multiply_packed};
use crate::cpu::scratch::Scratch;
use crate::cpu::simd::{add, vectorized};
use crate::cpu::{host, parallel};

/// The maximum number of rows multiplied at once: enough to pay for packing the weights, few enough for the cache.
const ROWS: usize = 640;

/// The maximum number of tasks in a pass. It is fixed, so that results do not depend on the number of threads.
const TASKS: usize = 8;

/// The maximum total number of entries in the private weight gradients of all tasks.
const PRIVATE: usize = 1 << 22;

/// The activation after the affine map of [`linear`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// No activation.
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

/// Writes φ(x·Wᵀ + b) to `y`, on the calling thread alone: `x` is `[rows, k]`, `bias` `[n]`, `y` `[rows, n]`, and
/// `weight_t` the packed transpose of the weight, whose type is that of the product's operands.
///
/// # Panics
/// When the lengths of the slices disagree.
pub fn linear_rows<S: Operand, E: Operand, O: Operand>(
    y: &mut [O],
    x: &[S],
    weight_t: &Panels<E>,
    bias: &[f32],
    activation: Activation,
) {
    let epilogue: Epilogue<'_> = match activation {
        Activation::Identity => Epilogue::Bias(bias),
        Activation::Relu => Epilogue::BiasRelu(bias),
    };
    multiply_packed(MatMut::filling(y, bias.len()), rows_of(x, weight_t), weight_t, &epilogue);
}

/// Writes x·Wᵀ + b + r to `y`, where the residual `r` is `[rows, n]` and the rest is as in [`linear_rows`].
///
/// # Panics
/// When the lengths of the slices disagree.
pub fn linear_rows_add<E: Operand>(y: &mut [f32], x: &[E], weight_t: &Panels<E>, bias: &[f32], residual: &[f32]) {
    let n = bias.len();
    let epilogue: Epilogue<'_> = Epilogue::BiasResidual(bias, MatRef::filling(residual, n));
    multiply_packed(MatMut::filling(y, n), rows_of(x, weight_t), weight_t, &epilogue);
}

/// The gradient of the input of an affine map, dY·W, which is any product: `d_y` is `[rows, n]`, `d_x` `[rows, k]`, and
/// `weight` the packed weight, whose type is that of the product's operands.
///
/// # Panics
/// When the lengths of the slices disagree.
pub fn linear_input_gradient<S: Operand, E: Operand, O: Operand>(
    d_x: &mut [O],
    store: Store,
    d_y: &[S],
    weight: &Panels<E>,
) {
    let epilogue: Epilogue<'_> = match store {
        Store::Replace => Epilogue::Replace(1.0),
        Store::Add => Epilogue::Add,
    };
    multiply_packed(MatMut::filling(d_x, weight.sizes()[1]), rows_of(d_y, weight), weight, &epilogue);
}

/// [`linear_input_gradient`] where the input is the output `x` of [`Activation::Relu`]: the gradient of what went into
/// the activation.
///
/// # Panics
/// When the lengths of the slices disagree.
pub fn linear_relu_input_gradient<E: Operand>(d_x: &mut [E], d_y: &[E], weight: &Panels<E>, x: &[E]) {
    let k = weight.sizes()[1];
    let epilogue = Epilogue::Mask(MatRef::filling(x, k));
    multiply_packed(MatMut::filling(d_x, k), rows_of(d_y, weight), weight, &epilogue);
}

/// The rows of a left operand for these panels.
fn rows_of<'a, S: Operand, E: Operand>(x: &'a [S], panels: &Panels<E>) -> MatRef<'a, S> {
    MatRef::filling(x, panels.sizes()[0])
}

/// The gradients of the weight and bias of an affine map, dYᵀ·X and the column sums of dY: `d_weight` is `[n, k]`,
/// `d_bias` `[n]`, `d_y` `[rows, n]`, and `x` the packed input, `[rows, k]`.
///
/// # Panics
/// When the lengths of the slices disagree.
pub fn linear_parameter_gradients<E: Operand>(
    d_weight: &mut [f32],
    d_bias: &mut [f32],
    store: Store,
    d_y: &[E],
    x: &Panels<E>,
) {
    let (n, k) = (d_bias.len(), x.sizes()[1]);
    let epilogue: Epilogue<'_> = match store {
        Store::Replace => Epilogue::Replace(1.0),
        Store::Add => Epilogue::Add,
    };
    if store == Store::Replace {
        d_bias.fill(0.0);
    }
    add_column_sums(d_bias, d_y);
    multiply_packed(MatMut::filling(d_weight, k), MatRef::filling(d_y, n).t(), x, &epilogue);
}

vectorized! {
    /// Sets the gradient to 0 where the output `y` of [`Activation::Relu`] is not positive.
    fn relu_gradient(d_y: &mut [f32], y: &[f32]) {
        for (d_y, y) in d_y.iter_mut().zip(y) {
            *d_y = if *y > 0.0 { *d_y } else { 0.0 };
        }
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
        let rows = parallel::share(x.len() / k, TASKS).min(ROWS);
        let mut y = Fresh::new(x.len() / k * n);
        let mut weight_t = Panels::<f32>::default();
        weight_t.pack_transpose(weight, k);
        parallel::for_each(y.chunks(rows * n).zip(x.chunks(rows * k)), |(y, x)| {
            linear_rows(y.clear(), x, &weight_t, bias, activation);
        });
        y.finish()
    }

    /// The gradients of `x`, `weight` and `bias`.
    ///
    /// Each task computes all three for some of the rows. The gradients of `weight` and `bias` are sums over rows, so
    /// each task adds them to private gradients, which are then summed in the order of the tasks.
    fn backward(&self, x: &[f32], weight: &[f32], y: &[f32], gradient: &[f32]) -> [Vec<f32>; 3] {
        let Self { n, k, .. } = *self;
        let rows = parallel::share(x.len() / k, (PRIVATE / (n * k)).clamp(2, TASKS));
        let mut d_x = Fresh::new(x.len());
        let mut private = Scratch::take(x.len().div_ceil(rows * k) * (n * k + n));
        let mut packed = Panels::<f32>::default();
        packed.pack_rows(weight, k);

        let tasks = d_x.chunks(rows * k).zip(private.chunks_mut(n * k + n)).enumerate();
        parallel::for_each(tasks, |(task, (d_x, private))| {
            let (d_weight, d_bias) = private.split_at_mut(n * k);
            let mut packed_x = Panels::default();
            for (block, d_x) in d_x.clear().chunks_mut(ROWS * k).enumerate() {
                let first = task * rows + block * ROWS;
                let end = first + d_x.len() / k;
                let x = &x[first * k..end * k];
                let outputs = first * n..end * n;
                let (gradient, y) = (&gradient[outputs.clone()], &y[outputs]);
                let masked = (self.activation == Activation::Relu).then(|| mask(gradient, y));
                let gradient = masked.as_deref().unwrap_or(gradient);
                linear_input_gradient(d_x, Store::Replace, gradient, &packed);
                let store = if block == 0 { Store::Replace } else { Store::Add };
                packed_x.pack_rows(x, k);
                linear_parameter_gradients(d_weight, d_bias, store, gradient, &packed_x);
            }
        });
        let mut d_weight = vec![0.0; n * k];
        let mut d_bias = vec![0.0; n];
        let parts = private.chunks_exact(n * k + n).map(|part| part.split_at(n * k));
        add_parts(&mut d_weight, parts.clone().map(|(d_weight, _)| d_weight));
        add_parts(&mut d_bias, parts.map(|(_, d_bias)| d_bias));
        [d_x.finish(), d_weight, d_bias]
    }
}

/// Adds the parts to `total` in order, on all threads.
///
/// # Panics
/// When a part is shorter than the total.
pub fn add_parts<'a>(total: &mut [f32], parts: impl Iterator<Item = &'a [f32]> + Clone + Sync) {
    const CHUNK: usize = 16_384;
    parallel::for_each(total.chunks_mut(CHUNK).enumerate(), |(chunk, total)| {
        for part in parts.clone() {
            add(total, &part[chunk * CHUNK..][..total.len()]);
        }
    });
}

/// `gradient` where the activation let its input through, and 0 elsewhere.
fn mask(gradient: &[f32], y: &[f32]) -> Scratch {
    let mut masked = Scratch::take(y.len());
    masked.copy_from_slice(gradient);
    relu_gradient(&mut masked, y);
    masked
}

vectorized! {
    /// Adds each row of `rows` to `sums`, in order.
    fn add_column_sums[E: Operand](sums: &mut [f32], rows: &[E]) {
        for row in rows.chunks_exact(sums.len()) {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += x.widen();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::simd::tests::at_each_level;
    use crate::testing::{
        Expected, assert_close, assert_entries_close, assert_same_on_any_threads, check_gradients, check_other_dtypes,
        check_views, entries, random,
    };

    #[test]
    fn value_and_gradients_match_the_composition() -> Result<()> {
        for (dims, n) in [
            (vec![1], 1),
            (vec![7], 33),
            (vec![2, 3, 33], 7),
            (vec![300, 5], 40),
            (vec![4, 65, 16], 64),
            (vec![5300, 3], 4),
        ] {
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
    fn what_is_not_a_number_passes_the_activation() -> Result<()> {
        let x = Tensor::full(f32::NAN, (1, 2), &candle_core::Device::Cpu)?;
        let y = linear(&x, &random((3, 2), 1)?, &random(3, 2)?, Activation::Relu)?;
        assert!(y.flatten_all()?.to_vec1::<f32>()?.iter().all(|y| y.is_nan()));
        Ok(())
    }

    #[test]
    fn strides_change_nothing() -> Result<()> {
        for (dims, n) in [(vec![1, 1], 1), (vec![7, 33], 7), (vec![33, 7, 1], 33)] {
            let k = dims[dims.len() - 1];
            let inputs = [random(dims.as_slice(), 1)?, random((n, k), 2)?, random(n, 3)?];
            check_views(&inputs, |t| linear(&t[0], &t[1], &t[2], Activation::Relu))?;
        }
        Ok(())
    }

    #[test]
    fn threads_do_not_change_the_bits() {
        assert_same_on_any_threads(
            &[random((500, 24), 1).unwrap(), random((70, 24), 2).unwrap(), random(70, 3).unwrap()],
            |t| linear(&t[0], &t[1], &t[2], Activation::Relu),
        );
    }

    #[test]
    fn other_dtypes_agree() -> Result<()> {
        let inputs = [random((5, 4), 1)?, random((3, 4), 2)?, random(3, 3)?];
        check_other_dtypes(&inputs, |t| linear(&t[0], &t[1], &t[2], Activation::Relu))
    }

    #[test]
    fn no_rows_give_no_rows() -> Result<()> {
        let x = Tensor::zeros((2, 0, 4), DType::F32, &candle_core::Device::Cpu)?;
        let y = linear(&x, &random((3, 4), 2)?, &random(3, 3)?, Activation::Relu)?;
        assert_eq!(y.dims(), [2, 0, 3]);
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
        #![proptest_config(cases(32))]
        #[test]
        fn the_map_is_linear_in_x(rows in 1usize..200, n in 1usize..40, k in 1usize..40, scale in -3.0f64..3.0) {
            let (x, weight) = (random((rows, k), 1).unwrap(), random((n, k), 2).unwrap());
            let zero = Tensor::zeros(n, DType::F32, x.device()).unwrap();
            let scaled = linear(&(&x * scale).unwrap(), &weight, &zero, Activation::Identity).unwrap();
            let y = (linear(&x, &weight, &zero, Activation::Identity).unwrap() * scale).unwrap();
            assert_close(&scaled, &y, 1e-5);
        }
    }

    #[test]
    fn rows_give_what_the_operation_gives() -> Result<()> {
        for (rows, k, n) in [(1, 1, 1), (7, 33, 5), (33, 7, 1), (5, 16, 33)] {
            for activation in [Activation::Identity, Activation::Relu] {
                let inputs = [random((rows, k), 1)?, random((n, k), 2)?, random(n, 3)?];
                let op = |t: &[Tensor]| linear(&t[0], &t[1], &t[2], activation);
                let Expected { y: expected, mut d_y, gradients } = Expected::of(&op, &inputs)?;
                let [x, weight, bias] = inputs.each_ref().map(entries);
                for y in at_each_level(|| {
                    let mut y = vec![f32::NAN; rows * n];
                    let mut weight_t = Panels::<f32>::default();
                    weight_t.pack_transpose(&weight, k);
                    linear_rows(&mut y, &x, &weight_t, &bias, activation);
                    y
                }) {
                    assert_entries_close(&y, &expected);
                }
                if activation == Activation::Relu {
                    relu_gradient(&mut d_y, &expected);
                }
                let [mut d_x, mut d_weight, mut d_bias] = [&x, &weight, &bias].map(|t| vec![f32::NAN; t.len()]);
                let mut packed = Panels::<f32>::default();
                packed.pack_rows(&weight, k);
                linear_input_gradient(&mut d_x, Store::Replace, &d_y, &packed);
                let mut packed_x = Panels::default();
                packed_x.pack_rows(&x, k);
                linear_parameter_gradients(&mut d_weight, &mut d_bias, Store::Replace, &d_y, &packed_x);
                for (found, expected) in [&d_x, &d_weight, &d_bias].into_iter().zip(&gradients) {
                    assert_entries_close(found, expected);
                }
                linear_input_gradient(&mut d_x, Store::Add, &d_y, &packed);
                linear_parameter_gradients(&mut d_weight, &mut d_bias, Store::Add, &d_y, &packed_x);
                for (found, expected) in [d_x, d_weight, d_bias].iter().zip(&gradients) {
                    assert_entries_close(found, &expected.iter().map(|g| 2.0 * g).collect::<Vec<_>>());
                }
            }
        }
        Ok(())
    }
}
