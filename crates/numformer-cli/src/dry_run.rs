//! `numformer train --dry-run`: what would run.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use candle_core::Device;
use indicatif::HumanDuration;
use numformer_data::{BatchSource, Split};
use numformer_evaluate::text;
use numformer_experiment::{Catalogue, Experiment, Run, TrainConfig};
use numformer_train::{DivergencePolicy, Observer, Start, StepReport, StopReason};

use crate::layout;
use crate::output::write;
use crate::scaling::Scaling;

/// Groups of steps taken to estimate the time: the first is slower than the others.
const GROUPS: u64 = 4;

/// Steps in a group on a GPU, which is asked for its results at the end of each.
const STEPS_OF_A_DEVICE: u64 = 20;

/// How many numbers of four bytes training keeps for each parameter: the weight, its gradient and what the optimizer
/// remembers. If several batches make a step, there is one more gradient. If the run may roll back, there are two more
/// copies of the weight and of what the optimizer remembers.
fn numbers_per_parameter(train: &TrainConfig) -> Result<u64> {
    let remembered = Catalogue::standard().optimizer(&train.optimizer)?.memory().len() as u64;
    let of_accumulation = u64::from(train.accumulate > 1);
    let copies = if matches!(train.divergence, DivergencePolicy::RollBack { .. }) { 2 * (1 + remembered) } else { 0 };
    Ok(2 + remembered + of_accumulation + copies)
}

/// Prints sizes, memory and time of the run that would be saved at `path`, by this process and by several, and leaves
/// nothing there.
pub(crate) fn report(experiment: &Experiment, path: &Path, device: &Device, ranks: Option<usize>) -> Result<()> {
    let batch_size = experiment.train.batch_size;
    let task = Arc::new(experiment.task(&Catalogue::standard())?);
    let counts = experiment.model_config(&task, &Catalogue::standard())?.parameter_counts();
    let batch = task.batches(experiment.seed, Split::Train, experiment.train.batch_size).batch(0)?;
    let mean = |lengths: &[u32]| lengths.iter().sum::<u32>() as f64 / lengths.len() as f64;
    let (how, step) = time_of_a_step(experiment, device)?;
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
    if let Some(asked) = ranks {
        let ranks = asked.min(batch_size.max(1));
        if ranks < asked {
            let why = "a batch has one example for each rank, and train.batch_size is";
            text += &text::folded(&format!("ranks:       at most {ranks}: {why} {batch_size}\n"), width);
        }
        let mut share = experiment.clone();
        share.train.batch_size = batch_size.div_ceil(ranks);
        let least = (share.train.batch_size, time_of_a_step(&share, device)?.1);
        let scaling =
            Scaling { whole: (batch_size, step), least, parameters: counts.total(), is_gpu: !device.is_cpu() };
        text += &scaling.report(ranks, width);
    }
    write(&text)
}

/// How gradients are computed, and the time of a step in the fastest of a few groups.
fn time_of_a_step(experiment: &Experiment, device: &Device) -> Result<(String, Duration)> {
    let group = if device.is_cpu() { 1 } else { STEPS_OF_A_DEVICE };
    let mut short = experiment.clone();
    short.train.steps = GROUPS * group;
    short.log.every = group;
    // Measures the experiment proper, because most steps belong to it.
    short.stage.clear();
    short.evaluate.examples = 1;
    let mut run = Run::on_device(short, &Catalogue::standard(), device)?.with_observer(Clock::default());
    run.run()?;
    let Clock { how, ends } = run.trainer().observer::<Clock>().context("the clock is gone")?;
    let ends: Vec<_> = ends.iter().skip(group as usize - 1).step_by(group as usize).collect();
    let groups = ends.windows(2).map(|pair| pair[1].duration_since(*pair[0]));
    Ok((how.clone(), groups.min().unwrap_or_default() / group as u32))
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
