//! Observers: what a run reports.

pub(crate) mod appended_file;
pub(crate) mod metrics_log;
pub(crate) mod observer;
pub(crate) mod progress;
pub(crate) mod tensorboard;
