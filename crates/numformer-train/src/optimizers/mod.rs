//! The rules that change the weights.

pub(crate) mod adam;
pub(crate) mod candle_optimizer;
pub(crate) mod muon;
pub(crate) mod optimizer;
pub(crate) mod optimizer_config;
pub(crate) mod sgd;
