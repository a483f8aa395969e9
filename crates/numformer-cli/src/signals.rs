//! Signals that the system sends to a process that trains.

use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(unix)]
use std::thread;

use numformer_store::CheckpointError;
use numformer_train::{DivergenceReport, Observer, StepReport, StopReason};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
#[cfg(unix)]
use signal_hook::iterator;

use crate::verbosity::Verbosity;

/// Added to the number of the signal, this is the exit code of a process that is interrupted a second time, by the
/// convention of shells.
const BY_SIGNAL: i32 = 128;

/// Saves and ends a run at Ctrl-C and SIGTERM. At SIGUSR1, which queue systems send before they end a job, it saves and
/// goes on.
#[derive(Clone, Debug)]
pub(crate) struct Signals {
    end: Arc<AtomicBool>,
    save: Arc<AtomicBool>,
}

impl Signals {
    /// Handles the signals of this process from now on. Acknowledges the first one, if a thread can wait for it on this
    /// system and the user did not ask for quiet.
    pub(crate) fn handled(verbosity: Verbosity, ranks: usize) -> io::Result<Self> {
        let signals = Self { end: Arc::default(), save: Arc::default() };
        for signal in [SIGINT, SIGTERM] {
            // The order matters: at the first signal, the shutdown is checked before the flag is set.
            flag::register_conditional_shutdown(signal, BY_SIGNAL + signal, Arc::clone(&signals.end))?;
            flag::register(signal, Arc::clone(&signals.end))?;
        }
        #[cfg(unix)]
        {
            flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&signals.save))?;
            if !verbosity.quiet {
                let mut first = iterator::Signals::new([SIGINT, SIGTERM])?;
                // A step, or a part of an evaluation, can take seconds.
                thread::spawn(move || {
                    if first.forever().next().is_some() {
                        // Replaces the progress bar, which is drawn again below.
                        let clear = if io::stderr().is_terminal() { "\r\x1b[2K" } else { "" };
                        // A launcher sends the same signal when another process has died.
                        let others = if ranks > 1 { ", if the other processes still run" } else { "" };
                        report!(
                            "{clear}the run will save and end after this step, or this part of an evaluation{others}; the \
                             next signal ends it at once"
                        );
                    }
                });
            }
        }
        #[cfg(not(unix))]
        let _ = (verbosity, ranks);
        Ok(signals)
    }
}

/// Tells the handlers that the run is over: the next signal ends the process at once.
pub(crate) struct Over(Arc<AtomicBool>);

impl Over {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Signals {
    /// Whether a signal asked for the end.
    pub(crate) fn have_come(&self) -> bool {
        self.end.load(Ordering::Relaxed)
    }

    /// Does work that can be done again: a signal during it ends the process at once.
    pub(crate) fn ending_at_once<T>(&self, work: impl FnOnce() -> T) -> T {
        // A signal may have come already.
        let had_come = self.end.swap(true, Ordering::Relaxed);
        let done = work();
        self.end.store(had_come, Ordering::Relaxed);
        done
    }

    /// A flag to set when the run is over.
    pub(crate) fn over(&self) -> Over {
        Over(Arc::clone(&self.end))
    }

    fn flow(&self) -> ControlFlow<StopReason> {
        if self.have_come() {
            return ControlFlow::Break(StopReason::Interrupted);
        }
        ControlFlow::Continue(())
    }
}

impl Observer for Signals {
    fn on_step(&mut self, _: &StepReport) -> ControlFlow<StopReason> {
        self.flow()
    }

    fn while_evaluating(&mut self) -> ControlFlow<StopReason> {
        let flow = self.flow();
        if flow.is_break() {
            report!("evaluation interrupted: it will be repeated when the run is resumed");
        }
        flow
    }

    fn on_divergence(&mut self, _: &DivergenceReport) -> ControlFlow<StopReason> {
        self.flow()
    }

    fn on_full_disk(&mut self, _: &CheckpointError) -> ControlFlow<StopReason> {
        self.flow()
    }

    fn wants_checkpoint(&mut self) -> bool {
        self.save.swap(false, Ordering::Relaxed)
    }
}
