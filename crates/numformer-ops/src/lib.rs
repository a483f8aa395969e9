//! Fused differentiable operations for candle. TODO

mod adam;
mod allocator;
mod attention;
mod embedding;
mod exp;
mod fresh;
mod host;
mod linear;
mod matrix;
mod norm;
mod padding;
mod parallel;
mod projection_loss;
mod scratch;
mod simd;
#[cfg(test)]
mod testing;

pub use adam::{AdamStep, adam_update, sum_of_squares};
pub use allocator::RecyclingAllocator;
pub use attention::{Causality, attention};
pub use embedding::embedding;
pub use linear::{Activation, linear};
pub use norm::{add_layer_norm, layer_norm};
pub use padding::zero_padding;
pub use projection_loss::projection_cross_entropy;

/// Valid lengths, one for each example of a batch; none where every position is valid.
pub type Lengths<'a> = Option<&'a [u32]>;

/// The operations composed of candle's own, on any device: what ours are tested and measured against.
pub mod reference {
    pub use crate::attention::composition as attention;
    pub use crate::embedding::composition as embedding;
    pub use crate::linear::composition as linear;
    pub use crate::norm::{add_composition as add_layer_norm, composition as layer_norm};
    pub use crate::padding::composition as zero_padding;
    pub use crate::projection_loss::composition as projection_cross_entropy;
}
