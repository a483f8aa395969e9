//! The run as a person watches it.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use numformer_store::CheckpointError;

use crate::difference::Difference;
use crate::divergence::{DivergenceReport, Remedy};
use crate::observers::observer::{EvaluationReport, Observer, StageReport, Start, StepReport, StopReason};

/// Minimum time between plain lines.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// Minimum time between messages about a full disk.
const FULL_DISK_INTERVAL: Duration = Duration::from_secs(60);

/// An [`Observer`] that shows progress on standard error: a bar on a terminal, a plain line every few seconds
/// elsewhere.
///
/// This is the only place where the library writes to a standard stream, and only if you add it.
#[derive(Debug)]
pub struct Progress {
    display: Display,
    steps: u64,
    begin: Instant,
    begin_examples: u64,
    latest: Instant,
    told_full_disk: Option<Instant>,
    tells_checkpoints: bool,
}

#[derive(Debug)]
enum Display {
    Bar(ProgressBar),
    Plain,
    /// Shows only problems.
    Quiet,
}

impl Progress {
    /// Progress on standard error.
    #[must_use]
    pub fn stderr() -> Self {
        let display = if io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            Display::Bar(bar.with_style(style()))
        } else {
            Display::Plain
        };
        let now = Instant::now();
        Self {
            display,
            steps: 0,
            begin: now,
            begin_examples: 0,
            latest: now,
            told_full_disk: None,
            tells_checkpoints: false,
        }
    }

    /// Shows only problems on standard error: steps that diverge, and a full disk.
    #[must_use]
    pub fn quiet() -> Self {
        Self { display: Display::Quiet, ..Self::stderr() }
    }

    /// Also reports every checkpoint.
    #[must_use]
    pub fn with_checkpoints(self) -> Self {
        Self { tells_checkpoints: true, ..self }
    }

    fn line(&self, text: &str) {
        match &self.display {
            Display::Bar(bar) => bar.println(text),
            // A reader that went away must not end the run.
            Display::Plain => drop(writeln!(io::stderr(), "{text}")),
            Display::Quiet => {}
        }
    }

    /// Prints a line about a problem.
    fn warning(&self, text: &str) {
        match &self.display {
            Display::Quiet => drop(writeln!(io::stderr(), "{text}")),
            Display::Bar(_) | Display::Plain => self.line(text),
        }
    }

    fn examples_per_second(&self, examples: u64) -> f64 {
        let seconds = self.begin.elapsed().as_secs_f64().max(1e-9);
        examples.saturating_sub(self.begin_examples) as f64 / seconds
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:24} {pos}/{len} steps  {msg}  {eta} left").expect("the template is constant")
}

impl Observer for Progress {
    fn on_start(&mut self, start: &Start<'_>) -> ControlFlow<StopReason> {
        self.steps = start.steps;
        self.begin = Instant::now();
        self.begin_examples = start.step * start.examples_per_step;
        self.latest = self.begin;
        if let Display::Bar(bar) = &self.display {
            bar.set_length(start.steps);
            bar.set_position(start.step);
            bar.reset_eta();
        }
        let from = match start.step {
            0 => String::new(),
            step => format!(", from step {step}"),
        };
        self.line(&format!("{}: {} parameters, {} steps{from}", start.name, start.parameters, start.steps));
        for Difference { key, left, right } in start.changes {
            self.line(&format!("from here on, {key} is {right} instead of {left}"));
        }
        self.line(&format!("gradients by {}", start.how));
        ControlFlow::Continue(())
    }

    fn on_step(&mut self, step: &StepReport) -> ControlFlow<StopReason> {
        let rate = self.examples_per_second(step.examples);
        let state = format!("{rate:.0} examples/s  loss {:.4}  lr {:.1e}", step.loss, step.lr);
        match &self.display {
            Display::Bar(bar) => {
                bar.set_message(state);
                bar.set_position(step.step);
            }
            Display::Plain if self.latest.elapsed() >= PLAIN_INTERVAL => {
                self.latest = Instant::now();
                let batch = step.examples / step.step;
                let seconds = (self.steps - step.step) as f64 * batch as f64 / rate;
                let left = HumanDuration(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
                self.line(&format!("step {}/{}  {state}  {left:#} left", step.step, self.steps));
            }
            Display::Plain | Display::Quiet => {}
        }
        ControlFlow::Continue(())
    }

    fn on_divergence(&mut self, divergence: &DivergenceReport) -> ControlFlow<StopReason> {
        // The error that ends a run says the same.
        if divergence.remedy != Remedy::Stopped {
            self.warning(&divergence.to_string());
        }
        if let Display::Bar(bar) = &self.display {
            bar.set_position(divergence.step);
        }
        ControlFlow::Continue(())
    }

    fn on_stage(&mut self, stage: &StageReport) -> ControlFlow<StopReason> {
        self.line(&format!("stage {}, from step {}", stage.stage, stage.step));
        ControlFlow::Continue(())
    }

    fn on_full_disk(&mut self, error: &CheckpointError) -> ControlFlow<StopReason> {
        if self.told_full_disk.is_none_or(|told| told.elapsed() >= FULL_DISK_INTERVAL) {
            self.told_full_disk = Some(Instant::now());
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            self.warning(&format!("paused: {error}{cause}; the run goes on when there is room, nothing is lost"));
        }
        ControlFlow::Continue(())
    }

    fn on_evaluation(&mut self, evaluation: &EvaluationReport) -> ControlFlow<StopReason> {
        let EvaluationReport { step, examples, stage, evaluation } = evaluation;
        let stage = stage.as_ref().map(|stage| format!(" (stage {stage})")).unwrap_or_default();
        self.line(&format!("evaluation{stage}, step {step}, {examples} trained on  {evaluation}"));
        ControlFlow::Continue(())
    }

    fn on_checkpoint(&mut self, path: &Path) -> ControlFlow<StopReason> {
        if self.tells_checkpoints {
            self.line(&format!("saved {}", path.display()));
        }
        ControlFlow::Continue(())
    }

    fn on_end(&mut self, stop: &StopReason) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
        let elapsed = self.begin.elapsed();
        self.line(&format!("{stop}, trained for {:.1} s", elapsed.as_secs_f64()));
    }
}
