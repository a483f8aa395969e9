//! `numformer resume`.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use numformer_train::{Catalogue, Experiment, StopConfig};

use crate::train::{Ending, train, warn_of_warmup};
use crate::verbosity::Verbosity;

/// Go on with a run from its last checkpoint.
///
/// The run ends as it would have without the interruption, with the same bits. A run that has taken all its steps is
/// judged again.
#[derive(Args)]
#[command(after_help = "Examples:
  numformer resume runs/transpose-3x3-seed0
  numformer resume runs/transpose-3x3-seed0 --steps 5000   # make it longer
  numformer resume runs/transpose-3x3-seed0 --ignore-stop  # beyond its target")]
pub(crate) struct Arguments {
    /// The directory of the run.
    run: PathBuf,
    /// Optimizer updates in all, instead of the experiment's.
    #[arg(long)]
    steps: Option<u64>,
    /// Take all steps, whatever the experiment's [stop] says.
    #[arg(long)]
    ignore_stop: bool,
    #[command(flatten)]
    ending: Ending,
}

pub(crate) fn run(arguments: Arguments, verbosity: Verbosity) -> Result<()> {
    let file = arguments.run.join("experiment.toml");
    ensure!(
        file.is_file(),
        "{} is not a run: expected experiment.toml in it, as `numformer train` writes it",
        arguments.run.display()
    );
    let mut experiment = Experiment::load(&file.to_string_lossy())?;
    experiment.train.steps = arguments.steps.unwrap_or(experiment.train.steps);
    if arguments.ignore_stop {
        experiment.stop = StopConfig::default();
    }
    experiment.validate(&Catalogue::standard())?;
    warn_of_warmup(&experiment.train);
    arguments.ending.start_threads()?;
    train(experiment, arguments.run, &arguments.ending, verbosity)
}
