//! Optimizers over flat vectors.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use crate::adam::{Adam, AdamConfig};
use crate::sgd::{Sgd, SgdConfig};

/// Moves weights along gradients: all of them in one flat vector, so that an update is one pass over slices.
///
/// What it remembers between updates is laid open, so that a run can be saved and go on bit for bit. For use with candle's
/// variables there is [`CandleOptimizer`](crate::CandleOptimizer).
pub trait Optimizer: Debug + Send {
    /// One update.
    ///
    /// # Panics
    /// When a slice has another length than the optimizer was made for.
    fn update(&mut self, update: Update, parameters: &mut [f32], gradients: &[f32]);

    /// Updates made so far.
    fn updates(&self) -> u64;

    /// Goes on as if so many updates had been made.
    fn set_updates(&mut self, updates: u64);

    /// What is remembered for each weight, by name: vectors as long as the weights.
    fn state(&self) -> Vec<(&'static str, &[f32])>;

    /// The same, to be restored.
    fn state_mut(&mut self) -> Vec<(&'static str, &mut [f32])>;
}

/// The numbers of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Learning rate.
    pub lr: f64,
    /// Multiplies the gradients first: 1, or less to clip their norm.
    pub gradient_scale: f64,
    /// Decoupled weight decay: each weight loses so much of itself times the learning rate; 0 for none.
    ///
    /// # Reference
    /// Loshchilov, Hutter (2019), *Decoupled weight decay regularization*. <https://arxiv.org/abs/1711.05101>
    pub weight_decay: f64,
}

impl Update {
    /// An update at this learning rate, without clipping or decay.
    #[must_use]
    pub fn at(lr: f64) -> Self {
        Self { lr, gradient_scale: 1.0, weight_decay: 0.0 }
    }
}

/// Which optimizer, with its constants.
///
/// In TOML, `optimizer = { name = "sgd", momentum = 0.9 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name")]
pub enum OptimizerConfig {
    /// [`Adam`].
    Adam(AdamConfig),
    /// [`Sgd`].
    Sgd(SgdConfig),
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::Adam(AdamConfig::default())
    }
}

impl OptimizerConfig {
    /// A fresh optimizer for `len` weights.
    #[must_use]
    pub fn build(self, len: usize) -> Box<dyn Optimizer> {
        match self {
            Self::Adam(config) => Box::new(Adam::new(config, len)),
            Self::Sgd(config) => Box::new(Sgd::new(config, len)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [OptimizerConfig; 3] {
        let sgd = |momentum, nesterov| OptimizerConfig::Sgd(SgdConfig { momentum, nesterov });
        [OptimizerConfig::default(), sgd(0.9, false), sgd(0.5, true)]
    }

    #[test]
    fn a_restored_optimizer_goes_on_bit_for_bit() {
        let gradient = [0.3f32, -0.7, 1e-3];
        for config in all() {
            let mut whole = config.build(3);
            let mut x = [1f32; 3];
            whole.update(Update::at(0.1), &mut x, &gradient);
            let mut restored = config.build(3);
            restored.set_updates(whole.updates());
            for ((name, to), (same_name, from)) in restored.state_mut().into_iter().zip(whole.state()) {
                assert_eq!(name, same_name);
                to.copy_from_slice(from);
            }
            let mut y = x;
            whole.update(Update::at(0.1), &mut x, &gradient);
            restored.update(Update::at(0.1), &mut y, &gradient);
            assert_eq!(x.map(f32::to_bits), y.map(f32::to_bits), "{config:?}");
            assert_eq!(restored.updates(), 2);
        }
    }

    #[test]
    fn optimizers_are_named_in_toml() {
        #[derive(Deserialize)]
        struct Table {
            optimizer: OptimizerConfig,
        }
        let read = |toml: &str| toml::from_str::<Table>(toml).map(|table| table.optimizer);
        let sgd = read(r#"optimizer = { name = "sgd", momentum = 0.9 }"#).expect("an optimizer");
        assert_eq!(sgd, OptimizerConfig::Sgd(SgdConfig { momentum: 0.9, nesterov: false }));
        let adam = read(r#"optimizer = { name = "adam", beta2 = 0.98 }"#).expect("an optimizer");
        assert_eq!(adam, OptimizerConfig::Adam(AdamConfig { beta2: 0.98, ..AdamConfig::default() }));
        for wrong in [r#"optimizer = { name = "rmsprop" }"#, r#"optimizer = { name = "sgd", beta1 = 0.9 }"#] {
            read(wrong).expect_err(wrong);
        }
    }
}
