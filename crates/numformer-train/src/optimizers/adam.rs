//! Adam over flat vectors.

use numformer_model::FlatLayout;
use numformer_ops::{AdamStep, adam_update};
use serde::{Deserialize, Serialize};

use crate::optimizers::optimizer::{Optimizer, Update};

/// Adam's constants; the learning rate and the weight decay come with every update.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamConfig {
    /// Decay of the mean of gradients: at least 0, below 1.
    pub beta1: f64,
    /// Decay of the mean of squared gradients: at least 0, below 1.
    pub beta2: f64,
    /// Added to the root of the second moment: above 0.
    pub epsilon: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

/// The Adam optimizer. With an update's decoupled weight decay, it is AdamW.
///
/// ε is added to √v, not to its bias-corrected form: update t moves a weight by
/// `-η · √(1 - β₂ᵗ) / (1 - β₁ᵗ) · m / (√v + ε)`.
///
/// # Reference
/// Kingma, Ba (2015), *Adam: a method for stochastic optimization*, the note after algorithm 1.
/// <https://arxiv.org/abs/1412.6980>
#[derive(Clone, Debug, Default)]
pub struct Adam {
    config: AdamConfig,
    first_moment: Vec<f32>,
    second_moment: Vec<f32>,
}

impl Adam {
    /// A fresh optimizer.
    #[must_use]
    pub fn new(config: AdamConfig) -> Self {
        Self { config, first_moment: Vec::new(), second_moment: Vec::new() }
    }

    /// Mean of gradients, per coefficient.
    #[must_use]
    pub fn first_moment(&self) -> &[f32] {
        &self.first_moment
    }

    /// Mean of squared gradients, per coefficient.
    #[must_use]
    pub fn second_moment(&self) -> &[f32] {
        &self.second_moment
    }
}

impl AdamConfig {
    /// The update as an [`AdamStep`].
    pub(crate) fn step(self, update: Update) -> AdamStep {
        let Self { beta1, beta2, epsilon } = self;
        let Update { number, lr, gradient_scale, weight_decay } = update;
        let t = number as f64;
        let correction = (1.0 - beta2.powf(t)).sqrt() / (1.0 - beta1.powf(t));
        AdamStep {
            lr: (lr * correction) as f32,
            beta1,
            beta2,
            eps: epsilon as f32,
            gradient_scale: gradient_scale as f32,
            decay: (lr * weight_decay) as f32,
        }
    }
}

impl Optimizer for Adam {
    fn begin(&mut self, layout: &FlatLayout) {
        self.first_moment = vec![0.0; layout.len()];
        self.second_moment = vec![0.0; layout.len()];
    }

    fn update(&mut self, update: Update, weights: &mut [f32], gradients: &[f32]) {
        adam_update(&self.config.step(update), weights, gradients, &mut self.first_moment, &mut self.second_moment);
    }

    fn memory(&self) -> Vec<(&str, &[f32])> {
        vec![("first_moment", &self.first_moment), ("second_moment", &self.second_moment)]
    }

    fn memory_mut(&mut self) -> Vec<(&str, &mut [f32])> {
        vec![("first_moment", &mut self.first_moment), ("second_moment", &mut self.second_moment)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizers::optimizer::layout;

    #[test]
    fn updates_follow_the_formula() {
        let mut adam = Adam::default();
        adam.begin(&layout(2));
        let mut x = [1f32, -2.0];
        let (mut m, mut v, mut w) = ([0f64; 2], [0f64; 2], [1f64, -2.0]);
        for t in 1..=3u32 {
            let lr = 0.01 * f64::from(t);
            let g = [0.5 * f64::from(t), -0.25];
            let update = Update { gradient_scale: 0.5, weight_decay: 0.1, ..Update::at(t.into(), lr) };
            adam.update(update, &mut x, &g.map(|g| g as f32));
            for i in 0..2 {
                let g = 0.5 * g[i];
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let step = lr * (1.0 - 0.999f64.powi(t as i32)).sqrt() / (1.0 - 0.9f64.powi(t as i32));
                w[i] -= lr * 0.1 * w[i] + step * m[i] / (v[i].sqrt() + 1e-8);
                assert!((f64::from(x[i]) - w[i]).abs() < 1e-6, "{} {}", x[i], w[i]);
            }
        }
    }

    #[test]
    fn the_share_of_a_new_gradient_is_rounded_once() {
        // 1 - 0.999 in f32 is 0.00099998713.
        let mut adam = Adam::default();
        adam.begin(&layout(1));
        adam.update(Update::at(1, 0.1), &mut [1.0], &[1.0]);
        let moments = [adam.first_moment()[0], adam.second_moment()[0]];
        assert_eq!(moments.map(f32::to_bits), [0.1f32, 0.001].map(f32::to_bits));
    }
}
