//! `numformer runs`: lists runs, or compares them side by side.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use numformer_evaluate::text::{self, Align};
use numformer_experiment::RunSummary;

use crate::{layout, output};

/// List the runs in a directory, or compare several.
#[derive(Args)]
#[command(after_help = "Examples:
  numformer runs list
  numformer runs compare runs/first runs/second")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the runs in a directory, sorted by name.
    List {
        /// The directory of the runs.
        #[arg(default_value = "runs")]
        dir: PathBuf,
        /// Print a JSON object for each run.
        #[arg(long)]
        json: bool,
    },
    /// Show runs side by side, with the differences between their experiments.
    Compare {
        /// Directories of runs.
        #[arg(required = true, num_args = 2..)]
        runs: Vec<PathBuf>,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.action {
        Action::List { dir, json } => {
            let runs = RunSummary::read_all(dir)?;
            if *json {
                let lines = runs.iter().map(|run| Ok(serde_json::to_string(run)? + "\n"));
                return output::write(&lines.collect::<Result<String>>()?);
            }
            if runs.is_empty() {
                report!("no runs in {}", dir.display());
                if dir.join("experiment.toml").is_file() {
                    report!("it is itself a run: give the directory that contains it");
                }
                return Ok(());
            }
            output::write(&table(&runs, &names(&runs)))
        }
        Action::Compare { runs } => {
            let summaries: Vec<RunSummary> =
                runs.iter().map(|path| RunSummary::read(path)).collect::<Result<_, _>>()?;
            let names = names(&summaries);
            let mut text = table(&summaries, &names);
            let (first, others) = summaries.split_first().context("two or more")?;
            for (other, name) in others.iter().zip(&names[1..]) {
                let differences = first.experiment.differences(&other.experiment);
                writeln!(text, "\n{name} compared with {}:", names[0])?;
                if differences.is_empty() {
                    writeln!(text, "  the same experiment")?;
                }
                for difference in differences {
                    writeln!(text, "  {}: {} -> {}", difference.key, difference.left, difference.right)?;
                }
            }
            output::write(&text::folded(&text, layout::width()))
        }
    }
}

/// The names of the directories, or the full paths if two have the same name.
fn names(runs: &[RunSummary]) -> Vec<String> {
    let name = |run: &RunSummary| run.path.file_name().unwrap_or(run.path.as_os_str()).to_string_lossy().into_owned();
    let names: Vec<String> = runs.iter().map(name).collect();
    let is_unique = names.iter().collect::<BTreeSet<_>>().len() == names.len();
    if is_unique { names } else { runs.iter().map(|run| run.path.display().to_string()).collect() }
}

/// One line for each run, where there is room.
fn table(runs: &[RunSummary], names: &[String]) -> String {
    let percent = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.2}%", 100.0 * share));
    let rows = runs.iter().zip(names).map(|(run, name)| {
        vec![
            name.clone(),
            format!("{}/{}", run.step, run.experiment.train.steps),
            run.examples.to_string(),
            run.loss.map_or_else(|| "-".to_owned(), |loss| format!("{loss:.4}")),
            percent(run.accuracy),
            percent(run.exact),
        ]
    });
    let titles = ["run", "steps", "examples", "loss", "5%", "exact"];
    text::table(&titles, &rows.collect::<Vec<_>>(), Align::Right, layout::width())
}
