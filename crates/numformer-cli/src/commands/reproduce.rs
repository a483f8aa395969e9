//! `numformer reproduce`: runs presets and compares the results with what is expected.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use clap::Args;
use numformer_experiment::presets::{self, PRESETS, Suite};
use numformer_experiment::{Experiment, Outcome, RunDir, Scorecard, StoredRun};
use numformer_report::TrainingTime;
use numformer_train::StopReason;

use crate::budget::Budget;
use crate::commands::train::{run_in, start_threads};
use crate::device::DeviceName;
use crate::ranks::Ranks;
use crate::signals::Signals;
use crate::verbosity::Verbosity;
use crate::{layout, output, passed_over};

/// Run presets, judge them on fresh matrices, and compare the results with what is expected.
///
/// Finished runs are not repeated, and an interrupted run continues: the same command resumes where it stopped. The
/// page, scorecard.md, and its figures, scorecard.json (scorecard-desk.* and scorecard-paper.* for the other suites),
/// are rewritten after each run. They hold every run of the suite found in --runs, and earlier entries whose presets
/// have not changed. On a terminal, only the first table of the page is printed; otherwise, the whole page.
#[derive(Args)]
#[command(after_help = "Examples:
  numformer reproduce
  numformer reproduce --only transpose-3x3 --seeds 0,1,2
  numformer reproduce --suite paper --budget 60 --out results
  numformer reproduce --list")]
pub(crate) struct Arguments {
    /// Which presets: cpu, which train in minutes on two cores; desk, the paper's sizes on two cores; or paper, published
    /// configurations.
    #[arg(long, default_value_t = Suite::Cpu)]
    suite: Suite,
    /// Only these presets of the suite, separated by commas.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Seeds, separated by commas: each preset is run with every seed.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    seeds: Vec<u64>,
    /// Limit on the training time of each run in this command; what it has learned by then is judged, and it can
    /// continue later.
    #[arg(long, value_name = "MINUTES", value_parser = minutes)]
    budget: Option<f64>,
    /// Number of unseen matrices that each model is judged on, in each of its test sets.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    examples: u64,
    /// The directory of the runs.
    #[arg(long, value_name = "DIR", default_value = "runs/reproduce")]
    runs: PathBuf,
    /// The directory for the page and its figures.
    #[arg(long, value_name = "DIR", default_value = "docs/results")]
    out: PathBuf,
    /// Where to train: cpu, or cuda:N, the NVIDIA GPU with that number (cuda is cuda:0).
    #[arg(long, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    /// Number of threads; the results do not depend on it [default: one per core].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Run nothing; only rewrite the page from all existing runs of the suite.
    #[arg(long, conflicts_with_all = ["only", "seeds", "budget"])]
    list: bool,
}

/// The file in a run's directory that holds its outcome.
const OUTCOME: &str = "outcome.json";

/// The directory beside the page that holds the figures of the learning curves.
const CURVES: &str = "curves";

pub(crate) fn run(arguments: &Arguments, verbosity: Verbosity) -> Result<()> {
    let experiments = experiments(arguments)?;
    if !arguments.list {
        start_threads(arguments.threads)?;
        let signals = Signals::handled(verbosity, 1).context("cannot handle signals")?;
        for experiment in &experiments {
            for &seed in &arguments.seeds {
                let experiment = Experiment { seed, ..experiment.clone() };
                if !reproduce(&experiment, arguments, verbosity, &signals)? {
                    report!("interrupted; the same command continues from here");
                    return Ok(());
                }
                write_scorecard(arguments)?;
            }
        }
    }
    let scorecard = write_scorecard(arguments)?;
    output::write(&match layout::width_of_terminal() {
        Some(columns) => format!("{scorecard:columns$}\n"),
        None => scorecard.to_markdown(),
    })
}

/// The presets that were asked for.
fn experiments(arguments: &Arguments) -> Result<Vec<Experiment>> {
    let of_suite: Vec<&str> =
        PRESETS.iter().filter(|preset| preset.suite == arguments.suite).map(|preset| preset.name).collect();
    if let Some(name) = arguments.only.iter().find(|name| !of_suite.contains(&name.as_str())) {
        if let Some(preset) = presets::find(name) {
            bail!("--only: `{name}` is of another suite: use --suite {}", preset.suite);
        }
        bail!("--only: expected presets of the suite {} ({}), found `{name}`", arguments.suite, of_suite.join(", "));
    }
    let is_asked = |name: &&str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == name);
    of_suite.into_iter().filter(is_asked).map(|name| Ok(Experiment::preset(name)?)).collect()
}

/// Runs an experiment and judges it, unless this was done before. Returns false if it was interrupted.
fn reproduce(experiment: &Experiment, arguments: &Arguments, verbosity: Verbosity, signals: &Signals) -> Result<bool> {
    let path = arguments.runs.join(format!("{}-seed{}", experiment.name, experiment.seed));
    if let Some(outcome) = read_outcome(&path)?
        && is_judged_as(&outcome, experiment)
        && outcome.is_complete
        && outcome.evaluation.count >= arguments.examples
    {
        return Ok(true);
    }
    if !verbosity.quiet {
        report!("{}", path.display());
    }
    let budget = arguments.budget.map(|minutes| Budget::new(Duration::from_secs_f64(60.0 * minutes)));
    let (run, ended) =
        run_in(experiment, path.clone(), arguments.device, verbosity, signals.clone(), budget.clone(), &Ranks::solo())?;
    if let Some(Err(error)) = run.run_dir().map(RunDir::write_learning_curve) {
        report!("warning: cannot draw the learning curve: {error}");
    }
    match &ended.stop {
        StopReason::Completed | StopReason::Asked(_) => {}
        StopReason::Interrupted => return Ok(false),
        stop => bail!("{stop}"),
    }
    let is_complete = !budget.is_some_and(|budget| budget.is_used());
    let stored = StoredRun::load(&path)?;
    passed_over::warn(&stored);
    if signals.have_come() {
        return Ok(false);
    }
    if !verbosity.quiet {
        report!("judging it on {} unseen matrices of each test set", arguments.examples);
    }
    // The run is saved already. The outcome is written once all sets are judged.
    let table = signals.ending_at_once(|| stored.evaluate_sets(arguments.examples).map_err(Error::from))?;
    let mut sets: Vec<_> = table.iter().map(|(name, evaluation)| (name.to_owned(), evaluation.clone())).collect();
    // The first is the test split itself.
    let (_, evaluation) = sets.remove(0);
    let time = TrainingTime::read(&path.join("timings.jsonl"))?;
    let hardware = hardware(time.threads());
    let hardware = match run.device_name() {
        Some(device) => format!("{device}; {hardware}"),
        None => hardware,
    };
    let outcome = Outcome {
        experiment: experiment.clone(),
        step: stored.step(),
        examples: experiment.train.examples(stored.step()),
        seconds: time.total().unwrap_or(0.0),
        ended: ended.stop.to_string(),
        is_complete,
        evaluation,
        sets,
        hardware,
        commit: commit(),
        curve: None,
    };
    write_file(&path.join(OUTCOME), &format!("{}\n", serde_json::to_string_pretty(&outcome)?))?;
    Ok(true)
}

/// The outcome of the run in a directory; `None` if it was not judged yet.
fn read_outcome(run: &Path) -> Result<Option<Outcome>> {
    let path = run.join(OUTCOME);
    match fs::read_to_string(&path) {
        Ok(json) => match serde_json::from_str(&json) {
            Ok(outcome) => Ok(Some(outcome)),
            Err(error) => {
                // The run itself may be intact: it is judged again when it is asked for.
                report!("warning: passed over {}, which is damaged: {error}", path.display());
                Ok(None)
            }
        },
        // A log beside the runs is no run.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes the outcomes of all runs of the suite, in the order of the presets and then of the seeds.
fn write_scorecard(arguments: &Arguments) -> Result<Scorecard> {
    let mut paths: Vec<PathBuf> = match fs::read_dir(&arguments.runs) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", arguments.runs.display())),
    };
    paths.sort();
    // Everyone can run the cpu suite, so it has the plain name.
    let name = match arguments.suite {
        Suite::Cpu => "scorecard".to_owned(),
        suite => format!("scorecard-{suite}"),
    };
    let figures = arguments.out.join(format!("{name}.json"));
    let mut outcomes = BTreeMap::new();
    for outcome in earlier(&figures)? {
        // Outcomes of presets that have changed since are dropped.
        if let Some((place, outcome)) = placed(outcome, arguments.suite, Placed::AsThePreset)? {
            outcomes.insert((place, outcome.experiment.seed), outcome);
        }
    }
    for path in paths {
        if let Some(outcome) = read_outcome(&path)?
            && let Some((place, outcome)) = placed(outcome, arguments.suite, Placed::Any)?
        {
            keep_curve(&path, &outcome.experiment, &arguments.out)?;
            outcomes.insert((place, outcome.experiment.seed), outcome);
        }
    }
    if outcomes.is_empty() {
        bail!("there are no runs of the suite {} in {}", arguments.suite, arguments.runs.display());
    }
    let mut scorecard = Scorecard { outcomes: outcomes.into_values().collect() };
    for outcome in &mut scorecard.outcomes {
        let curve = curve(&outcome.experiment);
        outcome.curve = arguments.out.join(&curve).is_file().then_some(curve);
    }
    write_file(&arguments.out.join(format!("{name}.md")), &scorecard.to_markdown())?;
    write_file(&figures, &format!("{}\n", serde_json::to_string_pretty(&scorecard)?))?;
    Ok(scorecard)
}

/// The path of the figure of a run's learning curve, from where the page is.
fn curve(Experiment { name, seed, .. }: &Experiment) -> String {
    format!("{CURVES}/{name}-seed{seed}.svg")
}

/// Copies the figure of the learning curve of the run at `path` to beside the page in `out`.
fn keep_curve(path: &Path, experiment: &Experiment, out: &Path) -> Result<()> {
    let figure = path.join(RunDir::LEARNING_CURVE);
    match fs::read_to_string(&figure) {
        Ok(svg) => write_file(&out.join(curve(experiment)), &svg),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", figure.display())),
    }
}

/// The outcomes that an earlier call wrote.
fn earlier(figures: &Path) -> Result<Vec<Outcome>> {
    match fs::read_to_string(figures) {
        Ok(json) => {
            let scorecard: Scorecard = serde_json::from_str(&json)
                .with_context(|| format!("{} is damaged: restore it, or delete it to begin anew", figures.display()))?;
            Ok(scorecard.outcomes)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", figures.display())),
    }
}

/// Which outcomes are accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Placed {
    /// Those of experiments that equal the current preset of that name.
    AsThePreset,
    /// Those of experiments with the name of a preset.
    Any,
}

/// The place of an outcome's preset in a suite, and the outcome with the current expectation, which may have changed since
/// the run.
fn placed(mut outcome: Outcome, suite: Suite, which: Placed) -> Result<Option<(usize, Outcome)>> {
    let name = &outcome.experiment.name;
    let Some(place) = PRESETS.iter().position(|preset| preset.suite == suite && preset.name == name) else {
        return Ok(None);
    };
    let preset = Experiment { seed: outcome.experiment.seed, ..Experiment::preset(PRESETS[place].name)? };
    if is_judged_as(&outcome, &preset) {
        outcome.experiment.expected = preset.expected;
    } else if which == Placed::AsThePreset {
        return Ok(None);
    }
    Ok(Some((place, outcome)))
}

/// Whether this experiment would have the same outcome. A run can continue when the matrices that it is judged on change,
/// but its outcome is then a different one.
fn is_judged_as(outcome: &Outcome, experiment: &Experiment) -> bool {
    outcome.experiment.difference(experiment).is_none() && outcome.experiment.evaluate == experiment.evaluate
}

/// Writes to a file beside `path` first and renames it, so that a reader always finds a complete file. Makes the
/// directory.
fn write_file(path: &Path, text: &str) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    let beside = path.with_extension("partial");
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The processor, and the smallest and largest number of threads that trained; without these, that of this process.
fn hardware(threads: Option<(usize, usize)>) -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processor = field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let widest = ["avx512f", "avx2"]
        .into_iter()
        .find(|set| field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == *set)));
    let vectors = widest.map_or_else(String::new, |set| format!(" ({set})"));
    let threads = match threads.unwrap_or((rayon::current_num_threads(), rayon::current_num_threads())) {
        (1, 1) => "1 thread".to_owned(),
        (fewest, most) if fewest == most => format!("{most} threads"),
        (fewest, most) => format!("{fewest} to {most} threads"),
    };
    format!("{processor}{vectors}, {threads}")
}

/// The commit that is checked out where the command runs, or the version of the program.
fn commit() -> String {
    let git = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=10"]).output();
    let described = git.ok().filter(|output| output.status.success());
    let text = described.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|| format!("version {}", env!("CARGO_PKG_VERSION")))
}

fn minutes(text: &str) -> Result<f64, String> {
    // Longer than a year is a mistake.
    const MOST: f64 = 527_040.0;
    let minutes = text.parse().ok().filter(|minutes: &f64| *minutes > 0.0 && *minutes <= MOST);
    minutes.ok_or_else(|| format!("expected a positive number of minutes, at most {MOST}"))
}
