//! `numformer export`.

use std::path::PathBuf;

use anyhow::{Chain, Result};
use clap::Args;
use numformer_experiment::{Moment, stored_model};

use crate::output::write;
use crate::{causes, passed_over};

/// Write the model of a run to a directory of its own, without what only training needs.
///
/// The directory has config.json, vocabulary.json, encodings.json and model.safetensors, for numformer score and train
/// --start-from, and for other programs. By default, the model is that of the run's latest checkpoint.
#[derive(Args)]
#[command(after_help = "Examples:
  numformer export runs/transpose-3x3-seed0 --output model
  numformer export runs/transpose-3x3-seed0 --checkpoint within_5% --bf16 --output model")]
pub(crate) struct Arguments {
    /// The directory of the run.
    run: PathBuf,
    /// The directory to write; it must not exist yet.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Which checkpoint: latest, a step, or a metric, such as within_5%, for the best one by that metric.
    #[arg(long, value_name = "WHICH", default_value_t = Moment::Latest)]
    checkpoint: Moment,
    /// Round the weights to bf16: half as many bytes.
    #[arg(long)]
    bf16: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { run, output, checkpoint, bf16 } = arguments;
    let (model, step, skipped) = stored_model(run, checkpoint.clone())?;
    for error in &skipped {
        passed_over::warn_of(&causes(Chain::new(error)), step);
    }
    if *bf16 { model.save_in_bf16(output) } else { model.save(output) }?;
    let counts = model.config.parameter_counts();
    let precision = if *bf16 { "bf16" } else { "f32" };
    write(&format!("{}: {} parameters in {precision}, after {step} steps\n", output.display(), counts.total()))
}
