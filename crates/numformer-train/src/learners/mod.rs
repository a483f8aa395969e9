//! Weights that learn.

pub(crate) mod device_learner;
pub(crate) mod device_training;
pub(crate) mod gradients;
pub(crate) mod host_learner;
pub(crate) mod learner;
mod together;
