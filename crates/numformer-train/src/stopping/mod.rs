//! When a run stops.

pub(crate) mod goal;
pub(crate) mod patience;
pub(crate) mod stop_rule;
