//! `numformer evaluate`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use numformer_data::Split;
use numformer_evaluate::{EvaluationTable, ProblemFailures, failures_by_problem, text};
use numformer_experiment::{Amount, Catalogue, DataConfig, Experiment, Moment, OneOrMany, StoredRun};
use numformer_metrics::Tolerance;
use numformer_problems::Problem;
use serde_json::json;

use crate::commands::train::start_threads;
use crate::decoding::{DecodingArguments, TaskArguments};
use crate::device::DeviceArguments;
use crate::output::write;
use crate::ranks::{Ranks, RanksArguments};
use crate::{layout, passed_over};

/// Judge the model of a run on unseen matrices, including kinds that it was not trained on.
///
/// The matrices are those of the run's test split, and of each [[evaluate.set]] of its experiment. The test split is
/// the file data.test if the experiment names one, and drawn at random otherwise. With --set, they are those of the
/// changed experiment: from another file, as in data.test=other.tsv, or drawn according to the keys of problem,
/// matrices, data.noise and evaluate.seed. All are encoded with the tokens that the model knows; a matrix that cannot
/// be encoded is drawn again, and counted as rejected. By default, the model is that of the run's latest checkpoint.
#[derive(Args)]
#[command(after_help = "Examples:
  numformer evaluate runs/transpose-3x3-seed0
  numformer evaluate runs/transpose-3x3-seed0 --set matrices.law=gaussian --examples 10000 --json
  numformer evaluate runs/transpose-3x3-seed0 --decoding beam --beam-width 5 --constrained
  numformer evaluate runs/inversion-2x2-seed0 --failures --examples 10000
  numformer evaluate runs/wigner runs/laplace --grid laws --csv")]
pub(crate) struct Arguments {
    /// The directory of the run; with --grid, of several runs.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Which checkpoint: latest, a step, or a metric, such as within_5%, for the best one by that metric.
    #[arg(long, value_name = "WHICH", default_value_t = Moment::Latest)]
    checkpoint: Moment,
    /// Number of matrices in each set [default: the whole file, or 2,000 if they are drawn].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    examples: Option<u64>,
    /// Which unseen matrices; the sets of [[evaluate.set]] are judged with the test split only.
    #[arg(long, value_enum, default_value_t = Stream::Test)]
    split: Stream,
    /// Override a key of the experiment that determines the matrices, as in matrices.law=laplace; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Judge each run on the matrices of each law: the laws it was trained on against those it is tested on.
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with_all = ["settings", "split"])]
    grid: Option<Grid>,
    /// The laws of --grid, separated by commas [default: those that the runs were trained on].
    #[arg(long, value_delimiter = ',', requires = "grid")]
    laws: Vec<String>,
    /// Show why answers are wrong: which properties of exact answers they keep, whether the condition number of an
    /// answer predicts failure, and how many steps of Newton's or Rayleigh quotient iteration lead from answers to
    /// exact ones. Covers the split, not the sets; only for problems on inverses, eigenvectors and singular vectors.
    #[arg(long, conflicts_with_all = ["grid", "csv"])]
    failures: bool,
    #[command(flatten)]
    decoding: DecodingArguments,
    #[command(flatten)]
    task: TaskArguments,
    #[command(flatten)]
    device: DeviceArguments,
    #[command(flatten)]
    ranks: RanksArguments,
    /// Print the figures as one JSON object: as in metrics.jsonl, or by set if there are several; with --failures, an
    /// object with both, `evaluation` by set and `failures` by problem.
    #[arg(long)]
    json: bool,
    /// Print the figures as comma-separated values, one per line.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Stream {
    Validation,
    Test,
}

#[derive(Clone, Copy, ValueEnum)]
enum Grid {
    /// The laws of random matrices.
    #[value(alias = "ensembles")]
    Laws,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let ranks = arguments.ranks.join(arguments.device.name())?;
    ranks.run(|| {
        start_threads(None)?;
        match (arguments.grid, &arguments.runs[..]) {
            (Some(Grid::Laws), runs) => grid(arguments, runs, &ranks),
            (None, [run]) => one(arguments, run, &ranks),
            (None, runs) => bail!("expected one run, found {}; several runs need --grid", runs.len()),
        }
    })
}

/// How many matrices a set has if they are drawn.
const EXAMPLES: u64 = 2_000;

impl Arguments {
    fn amount(&self) -> Amount {
        self.examples.map_or(Amount::WholeFileOr(EXAMPLES), Amount::Exactly)
    }

    fn split(&self) -> Split {
        match self.split {
            Stream::Validation => Split::Validation,
            Stream::Test => Split::Test,
        }
    }

    /// Checks that no setting applies only to the other split.
    fn check_settings(&self) -> Result<()> {
        let (of_other, other): (&[&str], _) = match self.split {
            Stream::Validation => (&[DataConfig::key(Split::Test), "evaluate.set"], "test"),
            Stream::Test => (&[DataConfig::key(Split::Validation)], "validation"),
        };
        for setting in &self.settings {
            for key in Experiment::keys_of_setting(setting)? {
                let is_of_other = of_other.iter().any(|of_other| key.starts_with(of_other));
                ensure!(!is_of_other, "`{key}` has no effect here: it is for --split {other}");
            }
        }
        Ok(())
    }
}

fn load(arguments: &Arguments, run: &Path, ranks: &Ranks) -> Result<StoredRun> {
    let answering = arguments.decoding.answering(&arguments.task)?;
    let run = arguments.device.run(run, arguments.checkpoint.clone())?;
    if ranks.is_first() {
        passed_over::warn(&run);
    }
    Ok(run.with_answering(answering).across(ranks.communicator())?)
}

fn one(arguments: &Arguments, run: &Path, ranks: &Ranks) -> Result<()> {
    arguments.check_settings()?;
    let mut run = load(arguments, run, ranks)?;
    if !arguments.settings.is_empty() {
        run = run.with_settings(&arguments.settings)?;
    }
    let table = match arguments.split {
        Stream::Test => run.evaluate_sets(arguments.amount())?,
        Stream::Validation => {
            let mut table = EvaluationTable::default();
            table.push("validation", run.evaluate(Split::Validation, arguments.amount())?);
            table
        }
    };
    if !ranks.is_first() {
        return Ok(());
    }
    if arguments.csv {
        return write(&table.to_csv());
    }
    let failures = if arguments.failures { Some(failures(&run, arguments)?) } else { None };
    let evaluations: Vec<_> = table.iter().map(|(_, evaluation)| evaluation).collect();
    if arguments.json {
        let json = match (&evaluations[..], failures) {
            (_, Some(failures)) => serde_json::to_string(&json!({"evaluation": table, "failures": failures}))?,
            ([only], None) => serde_json::to_string(only)?,
            (_, None) => serde_json::to_string(&table)?,
        };
        return write(&format!("{json}\n"));
    }
    let first = evaluations[0];
    let of = match run.experiment().data.file(arguments.split()) {
        Some(file) => format!("the first {} matrices of {}", first.count, file.display()),
        None => format!("{} unseen matrices", first.count),
    };
    let columns = layout::columns();
    let mut text = format!("After {} steps, on {of}:\n{first:#columns$}\n", run.step());
    if evaluations.len() > 1 {
        write!(text, "\n{table:columns$}\n")?;
    }
    for (problem, failures) in failures.into_iter().flatten() {
        write!(text, "\n{problem}\n{failures:columns$}\n")?;
    }
    write(&text::folded(&text, layout::width()))
}

/// Why answers to the split are wrong, by problem.
fn failures(run: &StoredRun, arguments: &Arguments) -> Result<BTreeMap<String, ProblemFailures>> {
    let failures = failures_by_problem(run.task(), &run.solve_split(arguments.split(), arguments.amount())?);
    ensure!(
        !failures.is_empty(),
        "--failures: expected a problem on inverses, eigenvectors or singular vectors, found {}",
        run.task().problems().map(Problem::name).collect::<Vec<_>>().join(", ")
    );
    Ok(failures)
}

/// Prints a line for each run, with its accuracy within 5% on each law.
fn grid(arguments: &Arguments, paths: &[PathBuf], ranks: &Ranks) -> Result<()> {
    let runs = paths.iter().map(|path| load(arguments, path, ranks).with_context(|| path.display().to_string()));
    let runs = runs.collect::<Result<Vec<_>>>()?;
    let trained_on = |run: &StoredRun| {
        let OneOrMany(laws) = &run.experiment().matrices.law;
        laws.clone()
    };
    let laws = if arguments.laws.is_empty() {
        let mut laws: Vec<String> = runs.iter().flat_map(trained_on).collect();
        laws.sort_unstable();
        laws.dedup();
        laws
    } else {
        let known: Vec<String> = Catalogue::standard().laws().map(str::to_owned).collect();
        for law in &arguments.laws {
            ensure!(known.contains(law), "--laws: expected some of {}, found `{law}`", known.join(", "));
        }
        arguments.laws.clone()
    };
    let examples = arguments.amount().of_drawn();
    let tables = runs.iter().map(|run| Ok(run.evaluate_laws(&laws, examples)?)).collect::<Result<Vec<_>>>()?;
    if !ranks.is_first() {
        return Ok(());
    }
    let trained: Vec<String> = runs.iter().map(|run| trained_on(run).join("+")).collect();
    if arguments.json {
        let rows = paths.iter().zip(&trained).zip(&tables);
        let rows = rows.map(|((run, trained), by_law)| json!({"run": run, "trained_on": trained, "by_law": by_law}));
        return write(&format!("{}\n", serde_json::Value::from_iter(rows)));
    }
    let within = |table: &EvaluationTable, law: &str| {
        let evaluation = table.get(law)?;
        let five = evaluation.accuracy.iter().find(|(tolerance, _)| *tolerance == Tolerance::relative(0.05));
        five.map(|(_, share)| 100.0 * share)
    };
    let mut text = String::new();
    if arguments.csv {
        writeln!(text, "run,trained_on,tested_on,examples,within_5%,exact,drawn_again")?;
        for ((path, trained), table) in paths.iter().zip(&trained).zip(&tables) {
            for (law, evaluation) in table.iter() {
                let share = within(table, law).map(|share| (share / 100.0).to_string()).unwrap_or_default();
                let (count, exact, rejected) = (evaluation.count, evaluation.exact, evaluation.rejected);
                writeln!(text, "{},{trained},{law},{count},{share},{exact},{rejected}", path.display())?;
            }
        }
        return write(&text);
    }
    writeln!(text, "per cent of answers within 5%, on {examples} matrices of each law")?;
    let titles: Vec<&str> = ["run", "trained on"].into_iter().chain(laws.iter().map(String::as_str)).collect();
    let rows = paths.iter().zip(&trained).zip(&tables).map(|((path, trained), table)| {
        let cell = |law: &String| within(table, law).map_or_else(|| "-".to_owned(), |share| format!("{share:.1}"));
        [path.display().to_string(), trained.clone()].into_iter().chain(laws.iter().map(cell)).collect()
    });
    text += &text::table(&titles, &rows.collect::<Vec<_>>(), text::Align::Right, layout::width());
    write(&text::folded(&text, layout::width()))
}
