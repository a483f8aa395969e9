//! Adam over flat vectors.

use numformer_ops::{AdamStep, adam_update};

/// Adam's constants; the learning rate comes with every update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay (Loshchilov & Hutter 2019); 0 for none.
    pub weight_decay: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// The Adam optimizer.
///
/// ε is added to √v, not to its bias-corrected form: update $t$ moves a weight by
/// $-\eta\,\frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t}\,\frac{m}{\sqrt v + \varepsilon}$.
///
/// # Reference
/// Kingma, Ba (2015), *Adam: a method for stochastic optimization*, the note after algorithm 1.
/// <https://arxiv.org/abs/1412.6980>
#[derive(Clone, Debug)]
pub struct Adam {
    config: AdamConfig,
    updates: u64,
    first_moment: Vec<f32>,
    second_moment: Vec<f32>,
}

impl Adam {
    /// A fresh optimizer for `len` coefficients.
    #[must_use]
    pub fn new(config: AdamConfig, len: usize) -> Self {
        Self::resume(config, 0, vec![0.0; len], vec![0.0; len])
    }

    /// An optimizer that goes on after `updates` updates.
    ///
    /// # Panics
    /// When the moments have different lengths.
    #[must_use]
    pub fn resume(config: AdamConfig, updates: u64, first_moment: Vec<f32>, second_moment: Vec<f32>) -> Self {
        assert_eq!(first_moment.len(), second_moment.len());
        Self { config, updates, first_moment, second_moment }
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

    /// One update at learning rate `lr`; gradients count times `gradient_scale`, which clips them.
    ///
    /// # Panics
    /// When a slice has another length than the optimizer was made for.
    pub fn update(&mut self, lr: f64, gradient_scale: f64, parameters: &mut [f32], gradients: &[f32]) {
        self.updates += 1;
        let AdamConfig { beta1, beta2, epsilon, weight_decay } = self.config;
        let t = self.updates as f64;
        let correction = (1.0 - beta2.powf(t)).sqrt() / (1.0 - beta1.powf(t));
        let step = AdamStep {
            lr: (lr * correction) as f32,
            beta1,
            beta2,
            eps: epsilon as f32,
            gradient_scale: gradient_scale as f32,
            decay: (lr * weight_decay) as f32,
        };
        adam_update(&step, parameters, gradients, &mut self.first_moment, &mut self.second_moment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_follow_the_formula() {
        let config = AdamConfig { weight_decay: 0.1, ..AdamConfig::default() };
        let mut adam = Adam::new(config, 2);
        let mut x = [1f32, -2.0];
        let (mut m, mut v, mut w) = ([0f64; 2], [0f64; 2], [1f64, -2.0]);
        for t in 1..=3 {
            let lr = 0.01 * f64::from(t);
            let g = [0.5 * f64::from(t), -0.25];
            adam.update(lr, 0.5, &mut x, &g.map(|g| g as f32));
            for i in 0..2 {
                let g = 0.5 * g[i];
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let step = lr * (1.0 - 0.999f64.powi(t)).sqrt() / (1.0 - 0.9f64.powi(t));
                w[i] -= lr * 0.1 * w[i] + step * m[i] / (v[i].sqrt() + 1e-8);
                assert!((f64::from(x[i]) - w[i]).abs() < 1e-6, "{} {}", x[i], w[i]);
            }
        }
    }

    #[test]
    fn the_share_of_a_new_gradient_is_rounded_once() {
        // 1 - 0.999 in f32 is 0.00099998713.
        let mut adam = Adam::new(AdamConfig::default(), 1);
        adam.update(0.1, 1.0, &mut [1.0], &[1.0]);
        let moments = [adam.first_moment()[0], adam.second_moment()[0]];
        assert_eq!(moments.map(f32::to_bits), [0.1f32, 0.001].map(f32::to_bits));
    }

    #[test]
    fn a_resumed_optimizer_goes_on_bit_for_bit() {
        let gradient = [0.3f32, -0.7, 1e-3];
        let mut whole = Adam::new(AdamConfig::default(), 3);
        let mut x = [1f32; 3];
        whole.update(0.1, 1.0, &mut x, &gradient);
        let (m, v) = (whole.first_moment().to_vec(), whole.second_moment().to_vec());
        let mut resumed = Adam::resume(AdamConfig::default(), 1, m, v);
        let mut y = x;
        whole.update(0.1, 1.0, &mut x, &gradient);
        resumed.update(0.1, 1.0, &mut y, &gradient);
        assert_eq!(x.map(f32::to_bits), y.map(f32::to_bits));
    }
}
