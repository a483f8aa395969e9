//! The choice of an optimizer.

use numformer_ops::device::{OptimizerKind, OptimizerStep, SgdStep};
use serde::{Deserialize, Serialize};

use crate::optimizers::adam::{Adam, AdamConfig};
use crate::optimizers::muon::{Muon, MuonConfig};
use crate::optimizers::optimizer::{Optimizer, Update};
use crate::optimizers::sgd::{Sgd, SgdConfig};

/// An optimizer, by name and constants.
///
/// In TOML, `optimizer = { name = "sgd", momentum = 0.9 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name")]
pub enum OptimizerConfig {
    /// [`Adam`].
    Adam(AdamConfig),
    /// [`Sgd`].
    Sgd(SgdConfig),
    /// [`Muon`].
    Muon(MuonConfig),
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self::Adam(AdamConfig::default())
    }
}

impl OptimizerConfig {
    /// A fresh optimizer.
    #[must_use]
    pub fn build(self) -> Box<dyn Optimizer> {
        match self {
            Self::Adam(config) => Box::new(Adam::new(config)),
            Self::Sgd(config) => Box::new(Sgd::new(config)),
            Self::Muon(config) => Box::new(Muon::new(config)),
        }
    }

    /// The kind of update by which a device does the same, if it can: it remembers the same vectors in the same order.
    #[must_use]
    pub fn kind(self) -> Option<OptimizerKind> {
        match self {
            Self::Adam(_) => Some(OptimizerKind::Adam),
            Self::Sgd(SgdConfig { nesterov, .. }) => Some(OptimizerKind::Sgd { nesterov }),
            Self::Muon(_) => None,
        }
    }

    /// The numbers of an update, for a device that can make it.
    #[must_use]
    pub fn step(self, update: Update) -> Option<OptimizerStep> {
        let Update { lr, weight_decay, .. } = update;
        match self {
            Self::Adam(config) => Some(OptimizerStep::Adam(config.step(update))),
            Self::Sgd(SgdConfig { momentum, nesterov }) => Some(OptimizerStep::Sgd(SgdStep {
                lr: lr as f32,
                momentum: momentum as f32,
                nesterov,
                decay: (lr * weight_decay) as f32,
            })),
            Self::Muon(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizers::candle_optimizer::{CandleOptimizer, CandleOptimizerConfig};
    use crate::optimizers::optimizer::{Update, layout};

    fn all() -> [OptimizerConfig; 4] {
        let sgd = |momentum, nesterov| OptimizerConfig::Sgd(SgdConfig { momentum, nesterov });
        [OptimizerConfig::default(), sgd(0.9, false), sgd(0.5, true), OptimizerConfig::Muon(MuonConfig::default())]
    }

    #[test]
    fn a_restored_optimizer_goes_on_bit_for_bit() {
        let gradient = [0.3f32, -0.7, 1e-3];
        for config in all() {
            let [mut whole, mut restored] = [config.build(), config.build()];
            whole.begin(&layout(3));
            restored.begin(&layout(3));
            let mut x = [1f32; 3];
            whole.update(Update::at(1, 0.1), &mut x, &gradient);
            for ((name, to), (same_name, from)) in restored.memory_mut().into_iter().zip(whole.memory()) {
                assert_eq!(name, same_name);
                to.copy_from_slice(from);
            }
            let mut y = x;
            whole.update(Update::at(2, 0.1), &mut x, &gradient);
            restored.update(Update::at(2, 0.1), &mut y, &gradient);
            assert_eq!(x.map(f32::to_bits), y.map(f32::to_bits), "{config:?}");
        }
    }

    #[test]
    fn muon_is_for_named_weights_on_the_host() {
        let optimizer = OptimizerConfig::Muon(MuonConfig::default());
        assert_eq!((optimizer.kind(), optimizer.step(Update::at(1, 0.1))), (None, None));
        let config = CandleOptimizerConfig { optimizer, lr: 0.1, weight_decay: 0.0 };
        let error = <CandleOptimizer as candle_nn::Optimizer>::new(Vec::new(), config).expect_err("no names");
        assert!(error.to_string().contains("Muon needs the names of the weights: use a `HostLearner`"), "{error}");
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
        let muon = read(r#"optimizer = { name = "muon", momentum = 0.9 }"#).expect("an optimizer");
        assert_eq!(muon, OptimizerConfig::Muon(MuonConfig { momentum: 0.9, ..MuonConfig::default() }));
        for wrong in [
            r#"optimizer = { name = "muon", nesterov = true }"#,
            r#"optimizer = { name = "rmsprop" }"#,
            r#"optimizer = { name = "sgd", beta1 = 0.9 }"#,
        ] {
            read(wrong).expect_err(wrong);
        }
    }
}
