//! The Adam update and the gradient norm for clipping, as passes over slices.

use crate::cpu::parallel;
use crate::cpu::simd::{LANES, vectorized};

/// Number of entries in a task. It is fixed, so that results do not depend on the number of threads.
const CHUNK: usize = 16_384;

/// The parameters of one step of Adam, the same for every weight.
///
/// # Reference
/// Kingma and Ba (2015), *Adam: A Method for Stochastic Optimization*, section 2, which gives the efficient form with a
/// corrected step size. <https://arxiv.org/abs/1412.6980>. Decoupled decay: Loshchilov and Hutter (2019), *Decoupled
/// Weight Decay Regularization*, algorithm 2. <https://arxiv.org/abs/1711.05101>
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Step size with both bias corrections: lr·√(1 − β₂ᵗ)/(1 − β₁ᵗ).
    pub lr: f32,
    /// Decay of the first moment, β₁. Like β₂, it is in double precision, because 1 − β in `f32` would be off by 1e-5.
    pub beta1: f64,
    /// Decay of the second moment, β₂.
    pub beta2: f64,
    /// Added to √v, which has no bias correction.
    pub eps: f32,
    /// Factor applied to the gradients first: 1, or less to clip their norm.
    pub gradient_scale: f32,
    /// Fraction of each parameter subtracted before the step: learning rate times weight decay, or 0 without decay.
    pub decay: f32,
}

/// One step of Adam in one pass: m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², θ ← θ − decay·θ − lr·m/(√v + ε).
///
/// # Panics
/// When the four slices do not have the same length.
///
/// # Examples
/// ```
/// use numformer_ops::{AdamStep, adam_update};
///
/// // Without momentum and ε, a step changes each parameter by lr, against the sign of its gradient.
/// let step = AdamStep { lr: 0.5, beta1: 0.0, beta2: 0.0, eps: 0.0, gradient_scale: 1.0, decay: 0.0 };
/// let (mut theta, mut m, mut v) = ([1.0, 1.0], [0.0; 2], [0.0; 2]);
/// adam_update(&step, &mut theta, &[4.0, -9.0], &mut m, &mut v);
/// assert_eq!(theta, [0.5, 1.5]);
/// ```
pub fn adam_update(
    step: &AdamStep,
    parameters: &mut [f32],
    gradients: &[f32],
    first_moment: &mut [f32],
    second_moment: &mut [f32],
) {
    let lengths = [gradients.len(), first_moment.len(), second_moment.len()];
    assert_eq!(lengths, [parameters.len(); 3], "expected gradients and moments as long as the parameters");
    let chunks = parameters
        .chunks_mut(CHUNK)
        .zip(gradients.chunks(CHUNK))
        .zip(first_moment.chunks_mut(CHUNK))
        .zip(second_moment.chunks_mut(CHUNK));
    parallel::for_each(chunks, |(((theta, g), m), v)| update(step, theta, g, m, v));
}

/// Σ xᵢ² in `f64`, with the same order of additions for any number of threads.
///
/// # Examples
/// ```
/// assert_eq!(numformer_ops::sum_of_squares(&[3.0, 4.0]), 25.0);
/// ```
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let mut sums = vec![0.0; x.len().div_ceil(CHUNK)];
    parallel::for_each(sums.iter_mut().zip(x.chunks(CHUNK)), |(sum, x)| *sum = squares(x));
    sums.iter().sum()
}

vectorized! {
    fn update(step: &AdamStep, theta: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        let AdamStep { lr, eps, gradient_scale, decay, .. } = *step;
        let [beta1, beta2] = [step.beta1, step.beta2].map(|beta| beta as f32);
        let [rest1, rest2] = [step.beta1, step.beta2].map(|beta| (1.0 - beta) as f32);
        for (((theta, g), m), v) in theta.iter_mut().zip(g).zip(m).zip(v) {
            let g = g * gradient_scale;
            *m = beta1.mul_add(*m, rest1 * g);
            *v = beta2.mul_add(*v, rest2 * g * g);
            let kept = *theta - decay * *theta;
            *theta = kept - lr * *m / (v.sqrt() + eps);
        }
    }
}

vectorized! {
    fn squares(x: &[f32]) -> f64 {
        let mut lanes = [0.0f64; LANES];
        let (chunks, rest) = x.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane = f64::from(*x).mul_add(f64::from(*x), *lane);
            }
        }
        for (lane, x) in lanes.iter_mut().zip(rest) {
            *lane = f64::from(*x).mul_add(f64::from(*x), *lane);
        }
        lanes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::simd::tests::at_each_level;

    fn wave(n: usize, frequency: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * frequency).sin()).collect()
    }

    fn on_threads<T: Send>(threads: usize, f: impl Fn() -> T + Send + Sync) -> T {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a small pool starts").install(f)
    }

    /// ε is large enough to matter: without it, the scale of the gradients would cancel.
    const STEP: AdamStep =
        AdamStep { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 0.01, gradient_scale: 0.5, decay: 0.001 };

    fn three_steps(n: usize) -> Vec<f32> {
        let (mut theta, mut m, mut v) = (wave(n, 0.3), vec![0.0; n], vec![0.0; n]);
        for t in 1..=3 {
            adam_update(&STEP, &mut theta, &wave(n, t as f32), &mut m, &mut v);
        }
        theta
    }

    #[test]
    fn three_steps_follow_the_definition() {
        for n in [1, 7, 33, CHUNK + 5] {
            let found = three_steps(n);
            for i in [0, n / 2, n - 1] {
                let (mut theta, mut m, mut v) = (f64::from(wave(n, 0.3)[i]), 0.0f64, 0.0f64);
                for t in 1..=3 {
                    let g = 0.5 * f64::from(wave(n, t as f32)[i]);
                    m = 0.9 * m + 0.1 * g;
                    v = 0.999 * v + 0.001 * g * g;
                    theta = theta * (1.0 - 0.001) - 0.01 * m / (v.sqrt() + 0.01);
                }
                assert!((f64::from(found[i]) - theta).abs() < 1e-5, "entry {i} of {n}: {theta} and {}", found[i]);
            }
        }
    }

    #[test]
    fn threads_and_levels_do_not_change_the_bits() {
        let n = 3 * CHUNK + 11;
        assert_eq!(on_threads(1, || three_steps(n)), on_threads(2, || three_steps(n)));
        let x = wave(n, 0.7);
        let sums = [1, 2].map(|threads| on_threads(threads, || sum_of_squares(&x)).to_bits());
        assert_eq!(sums[0], sums[1]);
        let levels = at_each_level(|| (three_steps(1000), squares(&x[..1000])));
        assert!(levels.iter().all(|l| *l == levels[0]));
    }

    #[test]
    #[should_panic(expected = "as long as the parameters")]
    fn slices_of_other_lengths_are_refused() {
        adam_update(&STEP, &mut [0.0; 3], &[0.0; 2], &mut [0.0; 3], &mut [0.0; 3]);
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn sum_of_squares_matches_a_plain_sum(x in prop::collection::vec(-1e3f32..1e3, 0..200)) {
            let expected: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
            prop_assert!((sum_of_squares(&x) - expected).abs() <= 1e-12 * expected);
        }
    }
}
