//! Ending a run when its time is up.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use numformer_train::{Observer, StepReport, StopReason};

/// Saves and ends a run when this process has trained it for the given time.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    time: Duration,
    begin: Instant,
    is_used: Arc<AtomicBool>,
}

impl Budget {
    /// A budget of `time`, which starts now.
    pub(crate) fn new(time: Duration) -> Self {
        Self { time, begin: Instant::now(), is_used: Arc::default() }
    }

    /// Whether the time was up and this budget, or a copy of it, ended a run.
    pub(crate) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }
}

impl Observer for Budget {
    fn on_step(&mut self, _: &StepReport) -> ControlFlow<StopReason> {
        if self.begin.elapsed() < self.time {
            return ControlFlow::Continue(());
        }
        self.is_used.store(true, Ordering::Relaxed);
        ControlFlow::Break(StopReason::Asked(format!(
            "the budget of {} minutes is used up",
            self.time.as_secs_f64() / 60.0
        )))
    }
}
