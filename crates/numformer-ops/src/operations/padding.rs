//! Zeros after the end of each sequence.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::Lengths;
use crate::cpu::fresh::Fresh;
use crate::cpu::{host, parallel};

/// Zeroes `x[b, i, :]` for `i ≥ lengths[b]`; returns `x` itself if `lengths` is `None`.
///
/// Differentiable in `x`.
///
/// # Shapes
/// `x` is `[b, t, d]`; returns the same.
///
/// # Errors
/// When `x` does not have three dimensions, there is not one length per example, or candle refuses the device or the
/// dtype.
///
/// # Examples
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use numformer_ops::zero_padding;
///
/// let x = Tensor::ones((2, 2, 1), DType::F32, &Device::Cpu)?;
/// let y = zero_padding(&x, Some(&[2, 1]))?;
/// assert_eq!(y.to_vec3::<f32>()?, [[[1.0], [1.0]], [[1.0], [0.0]]]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn zero_padding(x: &Tensor, lengths: Lengths<'_>) -> Result<Tensor> {
    let [batch, t, d] = host::dims("zero_padding", "x", x)?;
    host::check_lengths("zero_padding", lengths, batch)?;
    match lengths {
        None => Ok(x.clone()),
        Some(lengths) if host::accepts(&[x]) => {
            x.contiguous()?.apply_op1(ZeroPadding { t, d, lengths: lengths.to_vec() })
        }
        Some(_) => composition(x, lengths),
    }
}

/// [`zero_padding`] in candle's own operations.
pub fn composition(x: &Tensor, lengths: Lengths<'_>) -> Result<Tensor> {
    let Some(lengths) = lengths else { return Ok(x.clone()) };
    let (batch, t, _) = x.dims3()?;
    let valid: Vec<f32> =
        lengths.iter().flat_map(|n| (0..t).map(move |i| if i < *n as usize { 1.0 } else { 0.0 })).collect();
    x.broadcast_mul(&Tensor::from_vec(valid, (batch, t, 1), x.device())?.to_dtype(x.dtype())?)
}

#[derive(Debug)]
struct ZeroPadding {
    t: usize,
    d: usize,
    lengths: Vec<u32>,
}

impl ZeroPadding {
    fn apply(&self, x: &[f32]) -> Vec<f32> {
        let mut y = Fresh::new(x.len());
        let example = self.t * self.d;
        parallel::for_each(y.chunks(example).zip(x.chunks(example)).zip(&self.lengths), |((y, x), length)| {
            let valid = self.t.min(*length as usize) * self.d;
            y.clear()[..valid].copy_from_slice(&x[..valid]);
        });
        y.finish()
    }
}

impl CustomOp1 for ZeroPadding {
    fn name(&self) -> &'static str {
        "zero_padding"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(host::stored(self.apply(host::slice(x, layout)?), layout.shape()))
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let gradient = gradient.contiguous()?;
        Ok(Some(host::tensor(self.apply(&host::read(&gradient)?), gradient.shape())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_on_any_threads, check_gradients, check_other_dtypes, check_views, random};

    #[test]
    fn value_and_gradient_match_the_composition() -> Result<()> {
        for (t, d) in [(1, 1), (7, 33), (33, 4)] {
            let lengths = [t as u32, 0, 1, t as u32 + 5];
            let x = random((4, t, d), 1)?;
            let both = |x: &[Tensor]| composition(&x[0], Some(&lengths));
            check_gradients(std::slice::from_ref(&x), |x| zero_padding(&x[0], Some(&lengths)), both)?;
            check_gradients(&[x], |x| zero_padding(&x[0], None), |x| Ok(x[0].clone()))?;
        }
        Ok(())
    }

    #[test]
    fn a_value_that_is_not_a_number_is_hidden() -> Result<()> {
        let x = Tensor::full(f32::NAN, (1, 2, 1), &candle_core::Device::Cpu)?;
        let y = zero_padding(&x, Some(&[0]))?;
        assert_eq!(y.to_vec3::<f32>()?, [[[0.0], [0.0]]]);
        Ok(())
    }

    #[test]
    fn strides_change_nothing() -> Result<()> {
        for (t, d) in [(1, 1), (7, 33), (33, 7)] {
            check_views(&[random((3, t, d), 1)?], |x| zero_padding(&x[0], Some(&[0, 1, t as u32])))?;
        }
        Ok(())
    }

    #[test]
    fn other_dtypes_agree() -> Result<()> {
        check_other_dtypes(&[random((2, 3, 4), 1)?], |x| zero_padding(&x[0], Some(&[2, 0])))
    }

    #[test]
    fn threads_do_not_change_the_bits() {
        assert_same_on_any_threads(&[random((4, 9, 5), 1).unwrap()], |x| zero_padding(&x[0], Some(&[9, 3, 0, 1])));
    }

    #[test]
    fn wrong_arguments_are_named() -> Result<()> {
        let error = zero_padding(&random((2, 3, 4), 1)?, Some(&[1])).unwrap_err().to_string();
        assert!(error.contains("zero_padding: expected 2 lengths, found 1"), "{error}");
        let error = zero_padding(&random((2, 3), 1)?, None).unwrap_err().to_string();
        assert!(error.contains("expected x with 3 dimensions, found shape [2, 3]"), "{error}");
        Ok(())
    }
}
