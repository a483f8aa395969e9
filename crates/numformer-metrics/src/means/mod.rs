//! Means and shares.

pub(crate) mod accuracy;
pub(crate) mod grouped;
pub(crate) mod mean;
pub(crate) mod weighted_mean;
