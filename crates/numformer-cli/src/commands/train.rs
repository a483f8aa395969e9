//! `numformer train`.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use numformer_data::Split;
use numformer_experiment::{Catalogue, Draft, Experiment, Run, RunDir, TrainConfig};
use numformer_train::{Gap, Progress, RunReport, StopReason};
use serde_json::json;

use crate::budget::Budget;
use crate::device::DeviceName;
use crate::output::write;
use crate::ranks::{Ranks, RanksArguments};
use crate::signals::Signals;
use crate::verbosity::Verbosity;
use crate::{dry_run, hint, launcher, layout};

/// Train a model on an experiment: a preset's name or a TOML file.
///
/// Progress goes to standard error, results to standard output. The same command, or `numformer resume RUN`,
/// continues an interrupted run from its last checkpoint; a larger --steps extends a finished run. Settings that do
/// not affect the weights, such as log.every, may then be changed. The exit code does not depend on how accurate the
/// model is.
///
/// On Ctrl-C or SIGTERM, the run finishes its step, saves, and ends with exit code 0; a second signal ends it at
/// once. On SIGUSR1, it saves and continues. While the disk is full, it waits.
///
/// `numformer presets list` names the presets.
#[derive(Args)]
#[command(after_help = "Examples:
  numformer train transpose-3x3
  numformer train transpose-3x3 --run-dir runs/first --seed 1
  numformer train transpose-5x5 --dry-run
  numformer train transpose-3x3 --set model.encoder.n_layers=2 --set problem.name=inversion
  numformer train larger.toml --start-from runs/transpose-3x3-seed0
  numformer train transpose-5x5 --set train.precision=bf16
  numformer train transpose-5x5 --device cuda:0 --set train.precision=bf16
  numformer train my.toml --quiet --json
  mpirun -n 4 numformer train transpose-5x5   # in 4 processes, if built with MPI")]
pub(crate) struct Arguments {
    /// Name of a preset, or path of a file that ends in .toml.
    experiment: String,
    /// Where the run is saved [default: runs/NAME-seedSEED].
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Seed of the weights and of the training examples, instead of the experiment's.
    #[arg(long)]
    seed: Option<u64>,
    /// Total number of optimizer updates, instead of the experiment's.
    #[arg(long)]
    steps: Option<u64>,
    /// Override a key of the experiment, as in train.lr=1e-3; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Print what would run, with its parameters, tokens, memory and time, and leave nothing behind.
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: also estimate the time of a step on up to this many processes, from measured times and the sizes of
    /// messages.
    #[arg(long, value_name = "N", requires = "dry_run", value_parser = clap::value_parser!(u16).range(1..))]
    ranks: Option<u16>,
    /// A run or model whose weights this run starts from, instead of the experiment's: the same model, except for its
    /// vocabulary and positions.
    #[arg(long, value_name = "DIR")]
    start_from: Option<PathBuf>,
    #[command(flatten)]
    ending: Ending,
}

/// How a run is computed and reported on, whether it is begun or resumed.
#[derive(Args)]
pub(crate) struct Ending {
    /// Number of threads; the results do not depend on it [default: one per core; under a launcher, the cores of the
    /// machine divided among its processes].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Where to train and evaluate: cpu, or cuda:N, the NVIDIA GPU with that number (cuda is cuda:0; under a launcher,
    /// each process takes the GPU of its number on the machine).
    #[arg(long, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    #[command(flatten)]
    ranks: RanksArguments,
    /// Print the report as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Starts this many threads that compute. If no number is given, there are as many as this process has cores.
pub(crate) fn start_threads(threads: Option<u16>) -> Result<()> {
    if let Some(threads) = threads.map(usize::from).or_else(launcher::threads) {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("cannot start threads")?;
    }
    Ok(())
}

impl Ending {
    /// Joins the processes that a launcher started beside this one.
    pub(crate) fn join(&self) -> Result<Ranks> {
        self.ranks.join(self.device)
    }

    pub(crate) fn start_threads(&self) -> Result<()> {
        start_threads(self.threads)
    }
}

/// How many unseen matrices a finished run is judged on.
const TEST_EXAMPLES: u64 = 2_000;
/// How many unseen matrices are shown in full.
const SHOWN_EXAMPLES: u64 = 3;

pub(crate) fn run(arguments: Arguments, verbosity: Verbosity) -> Result<()> {
    if arguments.dry_run {
        Ranks::alone("train --dry-run")?;
        let (experiment, path) = chosen(&arguments, verbosity)?;
        arguments.ending.start_threads()?;
        RunDir::check(&path, &experiment)?;
        let device = arguments.ending.device.open()?;
        warn_of_warmup(&experiment.train);
        return dry_run::report(&experiment, &path, &device, arguments.ranks.map(usize::from));
    }
    let ranks = arguments.ending.join()?;
    let verbosity = ranks.verbosity(verbosity);
    ranks.run(|| {
        let (experiment, path) = chosen(&arguments, verbosity)?;
        arguments.ending.start_threads()?;
        train(experiment, path, &arguments.ending, verbosity, &ranks)
    })
}

/// The checked experiment, and where it is run.
fn chosen(arguments: &Arguments, verbosity: Verbosity) -> Result<(Experiment, PathBuf)> {
    let mut draft = Draft::load(&arguments.experiment, &arguments.settings)?;
    let experiment = &mut draft.experiment;
    experiment.seed = arguments.seed.unwrap_or(experiment.seed);
    experiment.train.steps = arguments.steps.unwrap_or(experiment.train.steps);
    experiment.start_from = arguments.start_from.clone().or(experiment.start_from.take());
    let experiment = checked(draft, verbosity)?;
    let default = || format!("runs/{}-seed{}", experiment.name, experiment.seed).into();
    let path = arguments.run_dir.clone().unwrap_or_else(default);
    Ok((experiment, path))
}

/// The checked experiment, with absolute paths. Reports what the settings changed beyond the values that they set.
pub(crate) fn checked(mut draft: Draft, verbosity: Verbosity) -> Result<Experiment> {
    draft.experiment = draft.experiment.with_absolute_paths()?;
    for adaptation in draft.adaptations.iter().filter(|_| !verbosity.quiet) {
        report!("note: {adaptation}");
    }
    Ok(draft.check(&Catalogue::standard())?)
}

/// Warns if the run ends before its learning rate is reached.
fn warn_of_warmup(train: &TrainConfig) {
    if train.ends_in_warmup() {
        report!(
            "warning: the learning rate never reaches {:e}: train.warmup_steps is {}, train.steps {}",
            train.lr,
            train.warmup_steps,
            train.steps
        );
    }
}

/// Trains in a run directory, from its current state, and reports on what was learned.
pub(crate) fn train(
    experiment: Experiment,
    path: PathBuf,
    ending: &Ending,
    verbosity: Verbosity,
    ranks: &Ranks,
) -> Result<()> {
    // Handled from the beginning: an early signal must not end the process in the middle.
    let signals = Signals::handled(verbosity, ranks.communicator().size()).context("cannot handle signals")?;
    let over = signals.over();
    let ended = run_in(&experiment, path, ending.device, verbosity, signals, None, ranks);
    // Only the report is left, or that of an error, and a signal may end that.
    over.set();
    let (run, report) = ended?;

    // A test file is always used as a whole.
    let count = if run.experiment().data.test.is_some() { u64::MAX } else { TEST_EXAMPLES };
    let Some(run_dir) = run.run_dir() else {
        // Another rank reports. This one does its part of the evaluation.
        if matches!(report.stop, StopReason::Completed | StopReason::Asked(_)) {
            run.evaluate(Split::Test, count)?;
        }
        return Ok(());
    };
    let curve = run_dir.write_learning_curve();
    if let Err(error) = &curve {
        report!("warning: cannot draw the learning curve: {error}");
    }
    match report.stop {
        StopReason::Completed | StopReason::Asked(_) => {}
        StopReason::Interrupted => {
            if !verbosity.quiet {
                report!("saved after step {}; to resume:", report.step);
                report!("  {}", hint::command(&["numformer", "resume"], run_dir.path()));
            }
            return Ok(());
        }
        stop => bail!("{stop}"),
    }
    if let Some(stage) = run.stage_name() {
        report!("warning: the run ended in stage {stage}: the experiment proper was not trained");
    }
    if !verbosity.quiet {
        report!("judging it on unseen matrices");
    }
    let evaluation = run.evaluate(Split::Test, count)?;
    if ending.json {
        let report = json!({
            "run": run_dir.path(),
            "step": run.step(),
            "examples": experiment.train.examples(run.step()),
            "ended": report.stop.to_string(),
            "test": evaluation,
        });
        return write(&format!("{report}\n"));
    }
    let columns = layout::columns();
    let mut report = format!("On {} unseen matrices:\n{evaluation:#columns$}\n", evaluation.count);
    for solved in run.solve(Split::Test, SHOWN_EXAMPLES)? {
        writeln!(report, "\n{solved}")?;
    }
    writeln!(report, "\nrun:            {}", run_dir.path().display())?;
    writeln!(report, "metrics:        {}", run_dir.path().join("metrics.jsonl").display())?;
    if let Ok(curve) = curve {
        writeln!(report, "learning curve: {}", curve.display())?;
    }
    writeln!(report, "weights:        {}", run_dir.checkpoint_path(run.step()).display())?;
    write(&report)
}

/// Trains in a run directory, from its current state, until the run or its budget ends.
pub(crate) fn run_in(
    experiment: &Experiment,
    path: PathBuf,
    device: DeviceName,
    verbosity: Verbosity,
    signals: Signals,
    budget: Option<Budget>,
    ranks: &Ranks,
) -> Result<(Run, RunReport)> {
    // First comes what may fail, so that a mistake in the experiment leaves no directory behind.
    let run = ranks.run_of(experiment.clone(), device)?;
    let run = run.in_dir(path)?;
    for checkpoint in run.passed_over().iter().filter(|_| ranks.is_first()) {
        report!("warning: passed over a checkpoint: {}", crate::causes(anyhow::Chain::new(checkpoint)));
    }
    if let Some(Gap { last, expected }) = run.gap().context("cannot read the run's metrics")? {
        report!("warning: the metrics of steps {} to {expected} are lost: metrics.jsonl ends before them", last + 1);
    }
    if let (Some(taken_over), Some(path), false) = (run.taken_over(), &experiment.start_from, verbosity.quiet) {
        report!("starting from the weights of {}: {taken_over}", path.display());
    }
    if verbosity.verbose {
        report!("{} threads", rayon::current_num_threads());
    }
    // Several ranks do not wait: those without a disk would not know that rank 0 does.
    let run = if run.ranks().size() == 1 { run.waiting_for_space() } else { run };
    let mut run = run.with_observer(match verbosity {
        Verbosity { quiet: true, .. } => Progress::quiet(),
        Verbosity { verbose: true, .. } => Progress::stderr().with_checkpoints(),
        _ => Progress::stderr(),
    });
    if let Some(budget) = budget {
        run = run.with_observer(budget);
    }
    run = run.with_observer(signals);
    if ranks.is_first() {
        warn_of_warmup(&experiment.train);
    }
    let report = run.run()?;
    Ok((run, report))
}
