//! Training and use of models on a device: everything stays there, and the host does not wait for it.
//!
//! - [`weights`]: the weights, what the optimizer remembers, and the end of a step; [`places`] and [`vectors`]: where the
//!   parameters lie;
//! - [`training`]: what all training on a device has in common;
//! - [`step`]: the fused step of the standard transformer, from [`inputs`] through [`stacks`] and [`sublayers`], with
//!   [`dropout`]; recorded once for each shape and then replayed;
//! - [`autodiff`]: training of any other model, by candle's automatic differentiation on the device;
//! - [`answering`]: the standard transformer in use, with greedy decoding recorded; [`generation`]: the memory for it.

mod generation;
mod places;
mod sizes;
mod stacks;
mod sublayers;
mod vectors;

pub(crate) mod answering;
pub(crate) mod autodiff;
mod dropout;
pub(crate) mod inputs;
pub(crate) mod step;
pub(crate) mod training;
pub(crate) mod weights;
