//! The operations of a device, one theme per file: the layers of a transformer, its loss, and the end of a step.

mod accumulation;
mod arguments;
mod attention;
mod dropout;
mod elementwise;
mod embedding;
mod end_step;
mod generation;
mod layer_norm;
mod linear;
mod loss;
mod optimizer;
mod partial_sums;
mod product;

pub use attention::{AttentionCall, Heads};
pub use dropout::DropoutCall;
pub use optimizer::{OptimizerKind, OptimizerStep, SgdStep, StepNumbers};
pub use product::Product;
