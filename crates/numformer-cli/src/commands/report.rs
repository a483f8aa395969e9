//! `numformer report`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use numformer_experiment::{Amount, Catalogue};
use numformer_report::{Report, ReportedRun, TestResults};

use crate::output;
use crate::partial_file::PartialFile;
use crate::passed_over::warn_of;
use crate::verbosity::Verbosity;

/// Write a report on runs: one HTML file with curves, accuracies, errors, the worst answers and the configuration.
///
/// The file is self-contained and needs no network. The models of the latest checkpoints are tested on unseen
/// matrices: those of the experiment's file of test examples, or else new ones like those they were trained on; and
/// on matrices of other laws. Several runs are also compared.
#[derive(Args)]
#[command(after_help = "Examples:
  numformer report runs/transpose-3x3-seed0
  numformer report runs/wigner runs/laplace --laws wigner,laplace,positive --out laws.html
  numformer report runs/wigner --svg figures --examples 10000")]
pub(crate) struct Arguments {
    /// Directories of runs.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// The file to write; `-` for standard output [default: report.html in the directory of the run, or in the
    /// working directory if there are several runs].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Also write each figure to an SVG file in this directory, in light colours.
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// Replace existing files.
    #[arg(long)]
    force: bool,
    /// Number of matrices to test each model on, of the test split and of each law; 0 for a report of only what was
    /// logged [default: the whole file of test examples, or 1,000 if they are drawn].
    #[arg(long)]
    examples: Option<u64>,
    /// Other laws of random matrices to test on, separated by commas, or `none` [default: all that suit the run's
    /// problem].
    #[arg(long, value_delimiter = ',')]
    laws: Option<Vec<String>>,
}

/// The report's name if none is given.
const REPORT: &str = "report.html";

pub(crate) fn run(arguments: &Arguments, verbosity: Verbosity) -> Result<()> {
    ensure!(
        arguments.examples != Some(0) || arguments.laws.is_none(),
        "--laws has no effect with --examples 0, which does not run the models: leave out one of them"
    );
    let laws = laws(arguments.laws.as_deref())?;
    let runs = arguments.runs.iter().map(|path| ReportedRun::read(path)).collect::<Result<Vec<_>, _>>()?;
    let out = match (&arguments.out, &arguments.runs[..]) {
        (Some(out), _) => out.clone(),
        (None, [run]) => run.join(REPORT),
        (None, _) => REPORT.into(),
    };
    // Checked before the work, which may take long and would be wasted.
    if !arguments.force {
        let dir_is_full = |dir: &PathBuf| fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
        let full = arguments.svg.iter().find(|dir| dir_is_full(dir));
        if let Some(taken) = full.or(Some(&out).filter(|out| out.is_file())) {
            bail!("{} already exists: --force replaces it", taken.display());
        }
    }
    let is_stream = out.as_os_str() == "-" || (out.exists() && !out.is_file() && !out.is_dir());
    let file = if is_stream { None } else { Some(PartialFile::create(&out)?) };
    if let Some(dir) = &arguments.svg {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        // Opened to check that it can be written to.
        PartialFile::create(&dir.join("figure.svg"))?;
    }

    let runs = runs.into_iter().map(|run| tested(run, arguments.examples, &laws, verbosity));
    let runs = runs.collect::<Result<Vec<_>>>()?;
    if arguments.laws.is_some()
        && let Some(law) = laws.iter().find(|law| !is_judged(&runs, law))
    {
        bail!("--laws: no run has a problem with matrices of the law `{law}`: leave it out");
    }
    let report = Report::new(runs)?;
    if let Some(dir) = &arguments.svg {
        for figure in report.figures() {
            write(&dir.join(format!("{}.svg", figure.name)), &figure.to_svg())?;
        }
    }
    let html = report.to_html();
    match file {
        None if out.as_os_str() == "-" => return output::write(&html),
        // For example a device.
        None => write(&out, &html)?,
        Some(mut file) => {
            file.file().write_all(html.as_bytes()).with_context(|| format!("cannot write {}", out.display()))?;
            file.finish()?;
        }
    }
    if !verbosity.quiet {
        report!("{}", out.display());
    }
    Ok(())
}

/// How many matrices a model is asked about if they are drawn.
const EXAMPLES: u64 = 1_000;

fn tested(run: ReportedRun, examples: Option<u64>, laws: &[String], verbosity: Verbosity) -> Result<ReportedRun> {
    // Without an experiment there is no model to test: the log is all there is to report.
    if examples == Some(0) || (examples.is_none() && run.experiment.is_none()) {
        return Ok(run);
    }
    if !verbosity.quiet {
        report!("testing {} on {} matrices of each law", run.path.display(), examples.unwrap_or(EXAMPLES));
    }
    let amount = examples.map_or(Amount::WholeFileOr(EXAMPLES), Amount::Exactly);
    let results = TestResults::of(&run.path, amount, laws);
    let results = results.context("--examples 0 reports what was logged, without the model")?;
    results.passed_over.iter().for_each(|problem| warn_of(problem, results.step));
    Ok(run.with_results(results))
}

/// Whether any run was asked about matrices of this law.
fn is_judged(runs: &[ReportedRun], law: &str) -> bool {
    let mut results = runs.iter().filter_map(|run| run.results.as_ref());
    results.any(|results| results.by_law.iter().any(|(name, _)| name == law))
}

/// The laws to ask about.
fn laws(chosen: Option<&[String]>) -> Result<Vec<String>> {
    let catalogue = Catalogue::standard();
    let known: Vec<String> = catalogue.laws().map(str::to_owned).collect();
    match chosen {
        None => Ok(known),
        Some([none]) if none == "none" => Ok(Vec::new()),
        Some(laws) => match laws.iter().find(|law| !known.contains(law)) {
            Some(law) => bail!("--laws: expected some of {}, found `{law}`", known.join(", ")),
            None => Ok(laws.to_vec()),
        },
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_an_experiment_is_tested_only_if_asked() {
        let dir = tempfile::tempdir().unwrap();
        let step = r#"{"event":"step","step":10,"examples":640,"loss":2.5,"lr":1e-3,"gradient_norm":1.0}"#;
        fs::write(dir.path().join("metrics.jsonl"), step).unwrap();
        let run = ReportedRun::read(dir.path()).unwrap();
        let verbosity = Verbosity { quiet: true, verbose: false };
        assert_eq!(tested(run.clone(), None, &[], verbosity).unwrap(), run);
        let error = format!("{:#}", tested(run, Some(5), &[], verbosity).unwrap_err());
        for text in ["--examples 0 reports what was logged", "expected a run in"] {
            assert!(error.contains(text), "{error}");
        }
    }
}
