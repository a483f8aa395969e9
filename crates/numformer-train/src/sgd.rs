//! Stochastic gradient descent over flat vectors.

use serde::{Deserialize, Serialize};

use crate::optimizer::{Optimizer, Update};

/// The constants of stochastic gradient descent; the learning rate and the weight decay come with every update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SgdConfig {
    /// Share of its velocity that a weight keeps: from 0 (none), below 1.
    pub momentum: f64,
    /// Whether the gradient counts as if it had been taken one step of momentum ahead (Sutskever et al. 2013).
    pub nesterov: bool,
}

/// Stochastic gradient descent with momentum: $v \leftarrow \mu v + g$, and a weight moves by $-\eta v$, or by
/// $-\eta (g + \mu v)$ with Nesterov's form.
///
/// # Reference
/// Sutskever, Martens, Dahl, Hinton (2013), *On the importance of initialization and momentum in deep learning*, with the
/// learning rate outside the velocity. <https://proceedings.mlr.press/v28/sutskever13.html>
#[derive(Clone, Debug)]
pub struct Sgd {
    config: SgdConfig,
    updates: u64,
    velocity: Vec<f32>,
}

impl Sgd {
    /// A fresh optimizer for `len` coefficients.
    #[must_use]
    pub fn new(config: SgdConfig, len: usize) -> Self {
        Self { config, updates: 0, velocity: vec![0.0; len] }
    }
}

impl Optimizer for Sgd {
    fn update(&mut self, update: Update, parameters: &mut [f32], gradients: &[f32]) {
        assert_eq!([gradients.len(), self.velocity.len()], [parameters.len(); 2], "as long as the parameters");
        self.updates += 1;
        let momentum = self.config.momentum as f32;
        let [lr, scale, decay] =
            [update.lr, update.gradient_scale, update.lr * update.weight_decay].map(|value| value as f32);
        for ((x, v), g) in parameters.iter_mut().zip(&mut self.velocity).zip(gradients) {
            let g = scale * g;
            *v = momentum * *v + g;
            let direction = if self.config.nesterov { g + momentum * *v } else { *v };
            *x -= decay * *x + lr * direction;
        }
    }

    fn updates(&self) -> u64 {
        self.updates
    }

    fn set_updates(&mut self, updates: u64) {
        self.updates = updates;
    }

    fn state(&self) -> Vec<(&'static str, &[f32])> {
        vec![("velocity", &self.velocity)]
    }

    fn state_mut(&mut self) -> Vec<(&'static str, &mut [f32])> {
        vec![("velocity", &mut self.velocity)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_follow_the_formula() {
        for nesterov in [false, true] {
            let mut sgd = Sgd::new(SgdConfig { momentum: 0.9, nesterov }, 2);
            let mut x = [1f32, -2.0];
            let (mut v, mut w) = ([0f64; 2], [1f64, -2.0]);
            for t in 1..=4 {
                let lr = 0.01 * f64::from(t);
                let g = [0.5 * f64::from(t), -0.25];
                let update = Update { lr, gradient_scale: 0.5, weight_decay: 0.1 };
                sgd.update(update, &mut x, &g.map(|g| g as f32));
                for i in 0..2 {
                    let g = 0.5 * g[i];
                    v[i] = 0.9 * v[i] + g;
                    let direction = if nesterov { g + 0.9 * v[i] } else { v[i] };
                    w[i] -= lr * 0.1 * w[i] + lr * direction;
                    assert!((f64::from(x[i]) - w[i]).abs() < 1e-6, "{} {}", x[i], w[i]);
                }
            }
        }
    }

    #[test]
    fn without_momentum_it_is_plain_descent() {
        let mut sgd = Sgd::new(SgdConfig::default(), 1);
        let mut x = [1f32];
        sgd.update(Update::at(0.5), &mut x, &[1.0]);
        sgd.update(Update::at(0.5), &mut x, &[0.25]);
        assert_eq!(x.map(f32::to_bits), [0.375f32.to_bits()]);
    }
}
