//! Optimizers over flat vectors.

use numformer_model::FlatLayout;
/// Moves weights along gradients. All weights are in one flat vector, so an update is one pass over slices.
///
/// What an optimizer remembers between updates is accessible, so a run can be saved and go on bit for bit. An optimizer
/// that remembers nothing needs only [`update`](Optimizer::update). Use [`CandleOptimizer`](crate::CandleOptimizer) for
/// candle's variables.
///
/// # Examples
/// An optimizer that moves each weight by the sign of its gradient, and decays only the weights of matrices:
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
///         let [lr, scale, decay] = [update.lr, update.gradient_scale, update.weight_decay].map(|x| x as f32);
///         for ((weight, gradient), is_decayed) in weights.iter_mut().zip(gradients).zip(&self.is_decayed) {
///             let decay = if *is_decayed { decay * *weight } else { 0.0 };
///             *weight -= lr * ((scale * gradient).signum() + decay);
///         }
///     }
/// }
/// ```
pub trait Optimizer: Send {
    /// Prepares for weights of this layout, which gives their names and shapes. Nothing is remembered about them yet.
    fn begin(&mut self, _layout: &FlatLayout) {}

    /// One update. Weights and gradients are as long as the layout. Multiply the gradients by
    /// [`Update::gradient_scale`] first: that is how their norm is clipped.
    fn update(&mut self, update: Update, weights: &mut [f32], gradients: &[f32]);

    /// What is remembered about each weight, by name: vectors as long as the weights. Names and lengths stay the same
    /// from [`begin`](Optimizer::begin) on, also before the first update.
    fn memory(&self) -> Vec<(&str, &[f32])> {
        Vec::new()
    }

    /// The [`memory`](Optimizer::memory), for restoring it: the same names in the same order, and vectors of the same
    /// lengths. An optimizer that implements one of the two methods needs both.
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
    /// The gradients are multiplied by this first: 1, or less to clip their norm.
    pub gradient_scale: f64,
    /// Decoupled weight decay: each weight loses this fraction of itself times the learning rate. 0 means no decay.
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

/// The layout of a vector, for tests of optimizers.
#[cfg(test)]
pub(crate) fn layout(len: usize) -> FlatLayout {
    FlatLayout::of_shapes([("x".to_owned(), len.into())])
}
