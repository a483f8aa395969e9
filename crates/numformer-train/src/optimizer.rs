//! Optimizers over flat vectors.

use numformer_model::FlatLayout;
use serde::{Deserialize, Serialize};

use crate::adam::{Adam, AdamConfig};
use crate::sgd::{Sgd, SgdConfig};

/// Moves weights along gradients: all of them in one flat vector, so that an update is one pass over slices.
///
/// What it remembers between updates is laid open, so that a run can be saved and go on bit for bit. An optimizer that
/// remembers nothing needs [`update`](Optimizer::update) alone. For use with candle's variables there is
/// [`CandleOptimizer`](crate::CandleOptimizer).
///
/// # Examples
/// One that moves each weight by the sign of its gradient, and decays those of matrices alone:
/// ```
/// use numformer_model::FlatLayout;
/// use numformer_train::{Optimizer, Update};
///
/// #[derive(Default)]
/// struct SignDescent {
///     is_decayed: Vec<bool>,
/// }
///
/// impl Optimizer for SignDescent {
///     fn begin(&mut self, layout: &FlatLayout) {
///         let of_slot = |slot: &numformer_model::Slot| vec![slot.shape().rank() == 2; slot.range().len()];
///         self.is_decayed = layout.slots().iter().flat_map(of_slot).collect();
///     }
///
///     fn update(&mut self, update: Update, weights: &mut [f32], gradients: &[f32]) {
///         let (lr, decay) = (update.lr as f32, update.weight_decay as f32);
///         for ((weight, gradient), is_decayed) in weights.iter_mut().zip(gradients).zip(&self.is_decayed) {
///             let decay = if *is_decayed { decay * *weight } else { 0.0 };
///             *weight -= lr * (gradient.signum() + decay);
///         }
///     }
/// }
/// ```
pub trait Optimizer: Send {
    /// Makes ready for weights of this layout, of which names and shapes are known: nothing is remembered of them yet.
    fn begin(&mut self, _layout: &FlatLayout) {}

    /// One update. Weights and gradients are as long as the layout.
    fn update(&mut self, update: Update, weights: &mut [f32], gradients: &[f32]);

    /// What is remembered of each weight, by name: vectors as long as the weights.
    fn memory(&self) -> Vec<(&str, &[f32])> {
        Vec::new()
    }

    /// The same, to be restored.
    fn memory_mut(&mut self) -> Vec<(&str, &mut [f32])> {
        Vec::new()
    }
}

impl<O: Optimizer + ?Sized> Optimizer for Box<O> {
    fn begin(&mut self, layout: &FlatLayout) {
        (**self).begin(layout);
    }

    fn update(&mut self, update: Update, weights: &mut [f32], gradients: &[f32]) {
        (**self).update(update, weights, gradients);
    }

    fn memory(&self) -> Vec<(&str, &[f32])> {
        (**self).memory()
    }

    fn memory_mut(&mut self) -> Vec<(&str, &mut [f32])> {
        (**self).memory_mut()
    }
}

/// The numbers of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Which update this is, counted from 1.
    pub number: u64,
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
    /// The `number`-th update, counted from 1, at this learning rate, without clipping or decay.
    #[must_use]
    pub fn at(number: u64, lr: f64) -> Self {
        Self { number, lr, gradient_scale: 1.0, weight_decay: 0.0 }
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
    /// A fresh optimizer.
    #[must_use]
    pub fn build(self) -> Box<dyn Optimizer> {
        match self {
            Self::Adam(config) => Box::new(Adam::new(config)),
            Self::Sgd(config) => Box::new(Sgd::new(config)),
        }
    }
}

/// The layout of a vector, for tests of optimizers.
#[cfg(test)]
pub(crate) fn layout(len: usize) -> FlatLayout {
    FlatLayout::of_shapes([("x".to_owned(), len.into())])
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
