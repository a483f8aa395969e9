//! Curves over tolerances and thresholds.

pub(crate) mod roc_curve;
pub(crate) mod tolerance_curve;
