//! `numformer train --dry-run`: what would run.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::HumanDuration;
use numformer_data::{BatchSource, Split};
use numformer_evaluate::text;
use numformer_experiment::{Catalogue, Experiment, Run, TrainConfig};
use numformer_train::{DivergencePolicy, Observer, Start, StepReport, StopReason};

use crate::layout;
use crate::output::write;

/// Steps taken to estimate the time: the first is slower than the others.
const STEPS: u64 = 4;

/// How many numbers of four bytes training keeps for each parameter: the weight, its gradient and what the optimizer
/// remembers. If several batches make a step, there is one more gradient. If the run may roll back, there are two more
/// copies of the weight and of what the optimizer remembers.
fn numbers_per_parameter(train: &TrainConfig) -> Result<u64> {
    let remembered = Catalogue::standard().optimizer(&train.optimizer)?.memory().len() as u64;
    let of_accumulation = u64::from(train.accumulate > 1);
    let copies = if matches!(train.divergence, DivergencePolicy::RollBack { .. }) { 2 * (1 + remembered) } else { 0 };
    Ok(2 + remembered + of_accumulation + copies)
}

/// Prints sizes, memory and time of the run that would be saved at `path`, and leaves nothing there.
pub(crate) fn report(experiment: &Experiment, path: &Path) -> Result<()> {
    let task = Arc::new(experiment.task(&Catalogue::standard())?);
    let counts = experiment.model_config(&task, &Catalogue::standard())?.parameter_counts();
    let batch = task.batches(experiment.seed, Split::Train, experiment.train.batch_size).batch(0)?;
    let mean = |lengths: &[u32]| lengths.iter().sum::<u32>() as f64 / lengths.len() as f64;
    let (how, step) = time_of_a_step(experiment)?;
    let steps = u32::try_from(experiment.train.steps).unwrap_or(u32::MAX);

    let width = layout::width();
    let entry = |name: &str, text: String| text::entry(&format!("{name:<13}"), &text, width);
    let mut text = format!("run:         {}\n", path.display());
    text += &entry("vocabulary:", format!("{} symbols", task.vocabulary().len()));
    text += &entry(
        "tokens:",
        format!(
            "{:.1} in the source and {:.1} in the target on average, at most {} and {}, delimiters included",
            mean(&batch.src.lengths),
            mean(&batch.tgt.lengths),
            task.max_src_len(),
            task.max_tgt_len()
        ),
    );
    text += &text::folded(&format!("parameters:\n{counts}\n"), width);
    let bytes = 4 * numbers_per_parameter(&experiment.train)? * counts.total();
    text += &entry("memory:", format!("{:.0} MB for weights, gradients and optimizer", bytes as f64 / 1e6));
    text += &entry("gradients:", how);
    text += &entry(
        "time:",
        format!(
            "{:.3} s per step, about {} for {} steps of {} examples, without evaluations",
            step.as_secs_f64(),
            HumanDuration(step.saturating_mul(steps)),
            experiment.train.steps,
            experiment.train.examples(1)
        ),
    );
    write(&text)
}

/// How gradients are computed, and the time of the shortest of a few steps.
fn time_of_a_step(experiment: &Experiment) -> Result<(String, Duration)> {
    let mut short = experiment.clone();
    short.train.steps = STEPS;
    // Measures the experiment proper, because most steps belong to it.
    short.stage.clear();
    short.evaluate.examples = 1;
    let mut run = Run::new(short)?.with_observer(Clock::default());
    run.run()?;
    let Clock { how, ends } = run.trainer().observer::<Clock>().context("the clock is gone")?;
    let steps = ends.windows(2).map(|pair| pair[1].duration_since(pair[0]));
    Ok((how.clone(), steps.min().unwrap_or_default()))
}

/// Records how gradients are computed and when each step ended.
#[derive(Default)]
struct Clock {
    how: String,
    ends: Vec<Instant>,
}

impl Observer for Clock {
    fn on_start(&mut self, start: &Start<'_>) -> ControlFlow<StopReason> {
        start.how.clone_into(&mut self.how);
        ControlFlow::Continue(())
    }

    fn on_step(&mut self, _: &StepReport) -> ControlFlow<StopReason> {
        self.ends.push(Instant::now());
        ControlFlow::Continue(())
    }
}
