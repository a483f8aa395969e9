//! The learning rate as a pure function of the step.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// The learning rate of every step. A schedule remembers nothing between steps. Closures are schedules too.
///
/// # Examples
/// ```
/// use numformer_train::Schedule;
///
/// let halving = |step: u64| 1e-3 * 0.5f64.powi((step / 1000) as i32);
/// assert_eq!(halving.lr(2500), 2.5e-4);
/// ```
pub trait Schedule: Send {
    /// Learning rate of the update that follows `step` updates.
    fn lr(&self, step: u64) -> f64;
}

impl<F: Fn(u64) -> f64 + Send> Schedule for F {
    fn lr(&self, step: u64) -> f64 {
        self(step)
    }
}

/// A [`Schedule`] that is linear from `initial_lr` to `lr` over `warmup_steps` updates. After that it follows
/// [`AfterWarmUp`]: constant by default.
///
/// # Examples
/// ```
/// use numformer_train::{AfterWarmUp, Schedule, WarmUp};
///
/// let schedule = WarmUp::new(1e-3, 100).then(AfterWarmUp::InverseSqrt);
/// assert_eq!(schedule.lr(100), 1e-3);
/// assert_eq!(schedule.lr(400), 5e-4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarmUp {
    initial_lr: f64,
    lr: f64,
    warmup_steps: u64,
    then: AfterWarmUp,
}

/// The course of the learning rate after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "after_warmup", deny_unknown_fields)]
pub enum AfterWarmUp {
    /// It stays the same.
    #[default]
    Constant,
    /// η √(w / t) after t updates. Warm-up reaches η after w updates; w is 1 if there is no warm-up.
    InverseSqrt,
    /// Half a cosine from η down to the minimum, repeated. Period i, counted from 0, is `period · multiplierⁱ` updates
    /// long, and both its ends are multiplied by `shrinkⁱ`.
    ///
    /// # Reference
    /// Loshchilov and Hutter (2017), *SGDR: stochastic gradient descent with warm restarts*, equation (5).
    /// <https://arxiv.org/abs/1608.03983>
    Cosine {
        /// Updates of the first period; 0 counts as 1.
        period: u64,
        /// Factor from the length of one period to that of the next: at least 1.
        #[serde(default = "one")]
        multiplier: f64,
        /// Factor from the ends of one period to those of the next: above 0, at most 1.
        #[serde(default = "one")]
        shrink: f64,
        /// The learning rate at the end of the first period.
        #[serde(default)]
        min_lr: f64,
    },
}

fn one() -> f64 {
    1.0
}

impl WarmUp {
    /// Warm-up from 1e-7, as in the paper's runs.
    #[must_use]
    pub fn new(lr: f64, warmup_steps: u64) -> Self {
        Self { initial_lr: 1e-7, lr, warmup_steps, then: AfterWarmUp::Constant }
    }

    /// Sets the course after warm-up.
    #[must_use]
    pub fn then(self, then: AfterWarmUp) -> Self {
        Self { then, ..self }
    }
}

impl Schedule for WarmUp {
    fn lr(&self, step: u64) -> f64 {
        let Self { initial_lr, lr, warmup_steps, then } = *self;
        if step < warmup_steps {
            let slope = (lr - initial_lr) / warmup_steps as f64;
            return initial_lr + step as f64 * slope;
        }
        match then {
            AfterWarmUp::Constant => lr,
            AfterWarmUp::InverseSqrt => lr * (warmup_steps.max(1) as f64 / step.max(1) as f64).sqrt(),
            AfterWarmUp::Cosine { period, multiplier, shrink, min_lr } => {
                let (restarts, done) = restarts((step - warmup_steps) as f64, period.max(1) as f64, multiplier);
                let (high, low) = (lr * shrink.powf(restarts), min_lr * shrink.powf(restarts));
                low + 0.5 * (high - low) * (1.0 + (PI * done).cos())
            }
        }
    }
}

/// How many periods are over after `t` updates, and what fraction of the current one is done.
fn restarts(t: f64, period: f64, multiplier: f64) -> (f64, f64) {
    let whole = (t / period).floor();
    if multiplier <= 1.0 {
        return (whole, t / period - whole);
    }
    // The loop is short: the periods grow geometrically, or the first terms of the sum already exceed t.
    let (mut count, mut begin, mut length) = (0.0, 0.0, period);
    while t >= begin + length && count <= whole {
        begin += length;
        length *= multiplier;
        count += 1.0;
    }
    (count, (t - begin) / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_follows_the_reference_run() {
        // Learning rates recorded from the program published with the paper: warm-up over 5 updates to 1e-3.
        let recorded = [1e-7, 2.0008e-4, 4.0006e-4, 6.0004e-4, 8.0002e-4, 1e-3, 1e-3];
        let schedule = WarmUp::new(1e-3, 5);
        for (step, expected) in (0..).zip(recorded) {
            let found = schedule.lr(step);
            assert!((found - expected).abs() <= 1e-12, "step {step}: {found}");
        }
    }

    #[test]
    fn no_warm_up_is_constant() {
        assert_eq!(WarmUp::new(0.5, 0).lr(0).to_bits(), 0.5f64.to_bits());
    }

    #[test]
    fn the_inverse_square_root_goes_on_from_the_end_of_warm_up() {
        let schedule = WarmUp::new(1e-3, 100).then(AfterWarmUp::InverseSqrt);
        for (step, expected) in [(50, 5.0005e-4), (100, 1e-3), (225, 1e-3 / 1.5), (10_000, 1e-4)] {
            assert!((schedule.lr(step) - expected).abs() < 1e-12, "step {step}: {}", schedule.lr(step));
        }
        let at_once = WarmUp::new(1.0, 0).then(AfterWarmUp::InverseSqrt);
        assert!((at_once.lr(0) - 1.0).abs() < 1e-15 && (at_once.lr(4) - 0.5).abs() < 1e-15);
    }

    /// Periods of 10, 20 and 40 updates after a warm-up of 5, each of half the height.
    #[test]
    fn cosines_restart_longer_and_lower() {
        let cosine = AfterWarmUp::Cosine { period: 10, multiplier: 2.0, shrink: 0.5, min_lr: 0.2 };
        let schedule = WarmUp::new(1.0, 5).then(cosine);
        let expected = [
            (5, 1.0),
            (10, 0.6),
            (14, 0.2 + 0.4 * (1.0 + (0.9 * PI).cos())),
            (15, 0.5),
            (25, 0.3),
            (35, 0.25),
            (55, 0.15),
            (75, 0.125),
        ];
        for (step, expected) in expected {
            assert!((schedule.lr(step) - expected).abs() < 1e-12, "step {step}: {}", schedule.lr(step));
        }
    }

    #[test]
    fn no_period_gives_a_number() {
        let cosine = AfterWarmUp::Cosine { period: 0, multiplier: 1.0, shrink: 1.0, min_lr: 0.0 };
        assert!((0..5).all(|step| WarmUp::new(1.0, 0).then(cosine).lr(step).is_finite()));
    }

    #[test]
    fn equal_periods_repeat() {
        let cosine = AfterWarmUp::Cosine { period: 7, multiplier: 1.0, shrink: 1.0, min_lr: 0.0 };
        let schedule = WarmUp::new(1.0, 0).then(cosine);
        for step in 0..50 {
            let expected = 0.5 * (1.0 + (PI * (step % 7) as f64 / 7.0).cos());
            assert!((schedule.lr(step) - expected).abs() < 1e-12, "step {step}");
        }
    }
}
