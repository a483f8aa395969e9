//! The operations of a device, one theme per file: the layers of a transformer, its loss, and the end of a step.

mod arguments;
mod attention;
mod elementwise;
mod embedding;
mod end_step;
mod generation;
mod layer_norm;
mod linear;
mod loss;
mod partial_sums;
mod product;

pub use attention::{AttentionCall, Heads};
pub use end_step::StepNumbers;
pub use product::Product;
