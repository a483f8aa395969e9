//! Stochastic gradient descent over flat vectors.

use numformer_model::FlatLayout;
use serde::{Deserialize, Serialize};

use crate::optimizers::optimizer::{Optimizer, Update};

/// The constants of stochastic gradient descent; the learning rate and the weight decay come with every update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SgdConfig {
    /// Share of its velocity that a weight keeps: at least 0 (none), below 1.
    pub momentum: f64,
    /// Whether to treat the gradient as if it were taken one step of momentum ahead (Sutskever et al. 2013).
    pub nesterov: bool,
}

/// Stochastic gradient descent with momentum: v ← μv + g, and a weight moves by -ηv, or by -η(g + μv) with Nesterov's
/// form.
///
/// # Reference
/// Sutskever, Martens, Dahl, Hinton (2013), *On the importance of initialization and momentum in deep learning*, with
/// the learning rate outside the velocity. <https://proceedings.mlr.press/v28/sutskever13.html>
#[derive(Clone, Debug, Default)]
pub struct Sgd {
    config: SgdConfig,
    velocity: Vec<f32>,
}

impl Sgd {
    /// A fresh optimizer.
    #[must_use]
    pub fn new(config: SgdConfig) -> Self {
        Self { config, velocity: Vec::new() }
    }
}

impl Optimizer for Sgd {
    fn begin(&mut self, layout: &FlatLayout) {
        self.velocity = vec![0.0; layout.len()];
    }

    fn update(&mut self, update: Update, weights: &mut [f32], gradients: &[f32]) {
        let momentum = self.config.momentum as f32;
        let [lr, scale, decay] =
            [update.lr, update.gradient_scale, update.lr * update.weight_decay].map(|value| value as f32);
        for ((x, v), g) in weights.iter_mut().zip(&mut self.velocity).zip(gradients) {
            let g = scale * g;
            *v = momentum * *v + g;
            let direction = if self.config.nesterov { g + momentum * *v } else { *v };
            *x -= decay * *x + lr * direction;
        }
    }

    fn memory(&self) -> Vec<(&str, &[f32])> {
        vec![("velocity", &self.velocity)]
    }

    fn memory_mut(&mut self) -> Vec<(&str, &mut [f32])> {
        vec![("velocity", &mut self.velocity)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizers::optimizer::layout;

    #[test]
    fn updates_follow_the_formula() {
        for nesterov in [false, true] {
            let mut sgd = Sgd::new(SgdConfig { momentum: 0.9, nesterov });
            sgd.begin(&layout(2));
            let mut x = [1f32, -2.0];
            let (mut v, mut w) = ([0f64; 2], [1f64, -2.0]);
            for t in 1..=4u32 {
                let lr = 0.01 * f64::from(t);
                let g = [0.5 * f64::from(t), -0.25];
                let update = Update { gradient_scale: 0.5, weight_decay: 0.1, ..Update::at(t.into(), lr) };
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
        let mut sgd = Sgd::default();
        sgd.begin(&layout(1));
        let mut x = [1f32];
        sgd.update(Update::at(1, 0.5), &mut x, &[1.0]);
        sgd.update(Update::at(2, 0.5), &mut x, &[0.25]);
        assert_eq!(x.map(f32::to_bits), [0.375f32.to_bits()]);
    }
}
