//! Reproducible dropout.

use candle_core::{Result, Shape, Tensor};
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::mode::Mode;
use crate::parameters::fnv1a;

/// Sets each coefficient to zero with a given probability, and scales up the others so that their mean is unchanged. It
/// acts in training only.
///
/// Dropout masks are functions of the run's seed, the step and the place in the model. A run that resumes from a
/// checkpoint drops the same coefficients as without the interruption.
///
/// # Reference
/// Srivastava et al. (2014), *Dropout: A Simple Way to Prevent Neural Networks from Overfitting*. For its place in a
/// transformer: Vaswani et al. (2017), section 5.4.
///
/// # Examples
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use numformer_model::{Dropout, Mode};
///
/// let dropout = Dropout::new(0.5, "decoder.layers.0.feed_forward_norm");
/// let x = Tensor::ones((2, 8), DType::F32, &Device::Cpu)?;
/// let y = dropout.forward(&x, Mode::Train { seed: 1, step: 7 })?;
/// assert!(y.flatten_all()?.to_vec1::<f32>()?.iter().all(|y| [0.0, 2.0].contains(y)));
/// assert_eq!(dropout.forward(&x, Mode::Evaluate)?.to_vec2::<f32>()?, x.to_vec2::<f32>()?);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    rate: f64,
    place: u64,
}

impl Dropout {
    /// Drops at `rate`, from 0 to below 1. Places with different names drop independently.
    #[must_use]
    pub fn new(rate: f64, place: &str) -> Self {
        Self { rate, place: fnv1a(place) }
    }

    /// The number of the place in the key of its masks.
    #[must_use]
    pub fn place(&self) -> u64 {
        self.place
    }

    /// The random numbers of 32 bits below this one drop their entry: a rate of 1/2 drops the lower half of the numbers.
    #[must_use]
    pub fn dropped_below(&self) -> u32 {
        (self.rate * 2f64.powi(32)) as u32
    }

    /// The factor of the entries that are kept.
    #[must_use]
    pub fn kept(&self) -> f32 {
        (1.0 / (1.0 - self.rate)) as f32
    }

    /// Drops entries of `x` in training.
    ///
    /// # Errors
    /// When a device fails.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        match self.mask(x.shape(), mode)? {
            None => Ok(x.clone()),
            Some(mask) => x * mask.to_device(x.device())?.to_dtype(x.dtype())?,
        }
    }

    /// The mask to multiply by, on the CPU: zeros, and 1 / (1 − rate) elsewhere. `None` if nothing is dropped. Entry i has
    /// word i of the stream of ChaCha8 whose key is the seed, the step, the place, and a constant.
    pub(crate) fn mask(&self, shape: &Shape, mode: Mode) -> Result<Option<Tensor>> {
        let Mode::Train { seed, step } = mode else { return Ok(None) };
        if self.rate <= 0.0 {
            return Ok(None);
        }
        let mut key = [0; 32];
        for (part, value) in key.chunks_exact_mut(8).zip([seed, step, self.place, fnv1a("dropout")]) {
            part.copy_from_slice(&value.to_le_bytes());
        }
        let mut rng = ChaCha8Rng::from_seed(key);
        let (dropped_below, kept) = (self.dropped_below(), self.kept());
        let mask = (0..shape.elem_count()).map(|_| if rng.next_u32() < dropped_below { 0.0 } else { kept }).collect();
        Tensor::from_vec::<_, f32>(mask, shape, &candle_core::Device::Cpu).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;

    fn dropped(rate: f64, place: &str, mode: Mode) -> Vec<f32> {
        let ones = Tensor::ones((100, 100), DType::F32, &Device::Cpu).expect("ones");
        let y = Dropout::new(rate, place).forward(&ones, mode).expect("on the CPU");
        y.flatten_all().and_then(|y| y.to_vec1()).expect("a vector")
    }

    const TRAIN: Mode = Mode::Train { seed: 1, step: 7 };

    #[test]
    fn masks_depend_on_seed_step_and_place_alone() {
        let mask = dropped(0.5, "here", TRAIN);
        assert_eq!(mask, dropped(0.5, "here", TRAIN));
        let others =
            [("there", TRAIN), ("here", Mode::Train { seed: 2, step: 7 }), ("here", Mode::Train { seed: 1, step: 8 })];
        for (place, mode) in others {
            let other = dropped(0.5, place, mode);
            let equal = mask.iter().zip(&other).filter(|(a, b)| a.total_cmp(b).is_eq()).count();
            // Half of 10,000, with a standard deviation of 50.
            assert!(equal.abs_diff(5_000) < 250, "{place} {mode:?}: {equal} equal");
        }
    }

    #[test]
    fn masks_are_stable() {
        // A change here changes every run with dropout: announce it as value-breaking.
        let mask = dropped(0.5, "here", TRAIN);
        assert_eq!(mask[..8], STABLE);
    }
    const STABLE: [f32; 8] = [2.0, 0.0, 2.0, 0.0, 2.0, 2.0, 2.0, 2.0];

    #[test]
    fn the_given_share_is_dropped_and_the_mean_kept() {
        for rate in [0.1, 0.25, 0.9] {
            let y = dropped(rate, "here", TRAIN);
            let zeros = y.iter().filter(|y| **y <= 0.0).count() as f64 / 1e4;
            // Standard deviation of the fraction: at most 0.005.
            assert!((zeros - rate).abs() < 0.02, "{zeros} of {rate}");
            assert!(y.iter().all(|y| *y <= 0.0 || (f64::from(*y) * (1.0 - rate) - 1.0).abs() < 1e-6));
        }
    }

    #[test]
    fn nothing_is_dropped_in_use_or_at_rate_zero() {
        let ones = vec![1.0; 10_000];
        assert_eq!(dropped(0.5, "here", Mode::Evaluate), ones);
        assert_eq!(dropped(0.0, "here", TRAIN), ones);
    }

    #[test]
    fn the_gradient_is_the_mask() {
        let x = Var::ones(64, DType::F32, &Device::Cpu).expect("ones");
        let y = Dropout::new(0.5, "here").forward(&x, TRAIN).expect("on the CPU");
        let store = y.sum_all().and_then(|sum| sum.backward()).expect("gradients");
        let gradient = store.get(&x).expect("x has one").to_vec1::<f32>().expect("a vector");
        assert_eq!(gradient, y.to_vec1::<f32>().expect("a vector"));
    }
}
