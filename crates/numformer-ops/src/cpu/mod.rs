//! What the operations are made of on a CPU.

pub(crate) mod exp;
pub(crate) mod fresh;
pub(crate) mod host;
pub(crate) mod matrix;
pub(crate) mod parallel;
pub(crate) mod peak;
pub(crate) mod product;
pub(crate) mod scratch;
pub(crate) mod simd;
