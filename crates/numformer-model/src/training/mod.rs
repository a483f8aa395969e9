//! Loss and gradients of a batch.

pub(crate) mod autodiff;
pub(crate) mod flat;
pub(crate) mod training_step;
pub(crate) mod weights;
