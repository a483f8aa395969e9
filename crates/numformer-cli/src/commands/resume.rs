//! `numformer resume`.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use numformer_experiment::{Draft, StopConfig};

use crate::commands::train::{Ending, checked, train};
use crate::verbosity::Verbosity;

/// Resume a run from its last checkpoint.
///
/// The result is the same, bit for bit, as without the interruption. A run that has taken all its steps is judged
/// again. With --set, the run continues with new values for keys of log, stop, evaluate and checkpoint, and keeps
/// them; they must not affect its weights. To change what does, start another run with --start-from.
#[derive(Args)]
#[command(after_help = "Examples:
  numformer resume runs/transpose-3x3-seed0
  numformer resume runs/transpose-3x3-seed0 --steps 2500   # make it longer
  numformer resume runs/transpose-3x3-seed0 --ignore-stop  # beyond its target
  numformer resume runs/transpose-3x3-seed0 --set log.every=10 --set checkpoint.keep=5")]
pub(crate) struct Arguments {
    /// The directory of the run.
    run: PathBuf,
    /// Total number of optimizer updates, instead of the experiment's.
    #[arg(long)]
    steps: Option<u64>,
    /// Override a key of the experiment that does not affect the weights; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Take all steps, whatever the experiment's [stop] says.
    #[arg(long)]
    ignore_stop: bool,
    #[command(flatten)]
    ending: Ending,
}

pub(crate) fn run(arguments: Arguments, verbosity: Verbosity) -> Result<()> {
    let ranks = arguments.ending.join()?;
    let verbosity = ranks.verbosity(verbosity);
    ranks.run(|| {
        let file = arguments.run.join("experiment.toml");
        ensure!(
            file.is_file(),
            "{} is not a run: expected experiment.toml in it, as `numformer train` writes it",
            arguments.run.display()
        );
        let mut draft = Draft::load(&file.to_string_lossy(), &arguments.settings)?;
        let experiment = &mut draft.experiment;
        experiment.train.steps = arguments.steps.unwrap_or(experiment.train.steps);
        if arguments.ignore_stop {
            experiment.stop = StopConfig::default();
        }
        let experiment = checked(draft, verbosity)?;
        arguments.ending.start_threads()?;
        train(experiment, arguments.run.clone(), &arguments.ending, verbosity, &ranks)
    })
}
