//! Operations of models, with their gradients: on slices, and as operations of candle.

pub(crate) mod adam;
pub(crate) mod attention;
pub(crate) mod embedding;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod packed_linear;
pub(crate) mod padding;
pub(crate) mod projection_loss;
