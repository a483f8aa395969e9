//! The learning rate as a pure function of the step.

/// The learning rate of every step, with nothing to remember between steps. Closures are schedules too.
///
/// # Examples
/// ```
/// use numformer_train::Schedule;
///
/// let halving = |step: u64| 1e-3 * 0.5f64.powi((step / 1000) as i32);
/// assert_eq!(halving.lr(2500), 2.5e-4);
/// ```
pub trait Schedule {
    /// Learning rate of the update that follows `step` updates.
    fn lr(&self, step: u64) -> f64;
}

impl<F: Fn(u64) -> f64> Schedule for F {
    fn lr(&self, step: u64) -> f64 {
        self(step)
    }
}

/// Linear from `initial_lr` to `lr` over `warmup_steps` updates, then constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarmUp {
    initial_lr: f64,
    lr: f64,
    warmup_steps: u64,
}

impl WarmUp {
    /// Warm-up from 1e-7, as the paper's runs have it.
    #[must_use]
    pub fn new(lr: f64, warmup_steps: u64) -> Self {
        Self { initial_lr: 1e-7, lr, warmup_steps }
    }
}

impl Schedule for WarmUp {
    fn lr(&self, step: u64) -> f64 {
        if step >= self.warmup_steps {
            return self.lr;
        }
        let slope = (self.lr - self.initial_lr) / self.warmup_steps as f64;
        self.initial_lr + step as f64 * slope
    }
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
}
