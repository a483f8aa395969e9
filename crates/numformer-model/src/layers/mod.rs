//! The parts that models are built from.

pub(crate) mod attention;
pub(crate) mod copy_gate;
pub(crate) mod dropout;
pub(crate) mod embedding;
pub(crate) mod feed_forward;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod projection;
pub(crate) mod residual;
pub(crate) mod step_embedding;
