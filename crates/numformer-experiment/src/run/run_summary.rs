//! Summaries of runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use numformer_data::read_text;
use numformer_metrics::Tolerance;
use numformer_store::steps;
use numformer_train::{METRICS, Record, read_metrics};
use serde::Serialize;

use crate::experiment::Experiment;
use crate::run::run_dir::{EXPERIMENT, RunDirError};

/// A summary of a run: its experiment, and the last figures that it wrote.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunSummary {
    /// Its directory.
    pub path: PathBuf,
    /// The experiment of the run.
    pub experiment: Experiment,
    /// Updates taken when the run last wrote a figure or a checkpoint.
    pub step: u64,
    /// Training examples seen by then.
    pub examples: u64,
    /// Mean cross-entropy per target token of the last batch that was written, in nats.
    pub loss: Option<f64>,
    /// Share of answers within 5% at the last evaluation.
    pub accuracy: Option<f64>,
    /// Share of exact answers at the last evaluation.
    pub exact: Option<f64>,
}

impl RunSummary {
    /// Reads the run in the directory `path`. The run may still be in progress.
    ///
    /// # Errors
    /// When there is no run, or its files cannot be read.
    pub fn read(path: &Path) -> Result<Self, RunDirError> {
        let io_error = |source| RunDirError::Io { path: path.to_owned(), source };
        let file = path.join(EXPERIMENT);
        if !file.is_file() {
            return Err(RunDirError::NoRun { path: path.to_owned() });
        }
        let toml = read_text(&file).map_err(io_error)?;
        let experiment = Experiment::parse(&toml, &file.display().to_string())
            .map_err(|source| RunDirError::Unreadable { path: path.to_owned(), source: source.into() })?;
        let metrics = path.join(METRICS);
        let records = if metrics.exists() { read_metrics(&metrics).map_err(io_error)? } else { Vec::new() };
        let last = |of: fn(&Record) -> Option<f64>| records.iter().rev().find_map(of);
        let saved = steps(path).map_err(io_error)?.pop();
        let step = records.last().map(Record::step).max(saved).unwrap_or(0);
        Ok(Self {
            path: path.to_owned(),
            step,
            examples: experiment.train.examples(step),
            loss: last(|record| match record {
                Record::Step(report) => Some(report.loss),
                _ => None,
            }),
            accuracy: last(|record| match record {
                Record::Evaluation(report) if report.stage.is_none() => {
                    let accuracy = &report.evaluation.accuracy;
                    accuracy
                        .iter()
                        .find(|(tolerance, _)| *tolerance == Tolerance::relative(0.05))
                        .map(|(_, share)| *share)
                }
                _ => None,
            }),
            exact: last(|record| match record {
                Record::Evaluation(report) if report.stage.is_none() => Some(report.evaluation.exact),
                _ => None,
            }),
            experiment,
        })
    }

    /// Reads every run in `dir`, sorted by name; entries that hold no run are skipped.
    ///
    /// # Errors
    /// When `dir` or a run in it cannot be read.
    pub fn read_all(dir: &Path) -> Result<Vec<Self>, RunDirError> {
        let io_error = |source| RunDirError::Io { path: dir.to_owned(), source };
        let entries = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(io_error)?;
        let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        paths.retain(|path| path.join(EXPERIMENT).is_file());
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS_LINES: &str = r#"{"event":"step","step":10,"examples":640,"loss":2.5,"lr":1e-3,"gradient_norm":1.0}
{"event":"evaluation","step":20,"examples":1280,"count":5,"accuracy":[[0.05,0.6],[0.01,0.2]],"exact":0.2,"decodable":1.0,"cross_entropy":0.5}
{"event":"step","step":30,"examples":1920,"loss":1.5,"lr":1e-3,"gradient_norm":1.0}
"#;

    fn write_run(path: &Path, metrics: Option<&str>) {
        fs::create_dir_all(path).expect("made");
        let mut experiment = Experiment::preset("transpose-3x3").expect("embedded");
        experiment.train.batch_size = 64;
        fs::write(path.join(EXPERIMENT), experiment.to_toml()).expect("written");
        if let Some(metrics) = metrics {
            fs::write(path.join(METRICS), metrics).expect("written");
        }
    }

    #[test]
    fn the_last_figures_of_each_kind_are_shown() {
        let dir = tempfile::tempdir().expect("dir");
        write_run(&dir.path().join("b"), Some(METRICS_LINES));
        write_run(&dir.path().join("a"), None);
        fs::create_dir(dir.path().join("notes")).expect("made");
        let runs = RunSummary::read_all(dir.path()).expect("two runs");
        assert_eq!(runs.len(), 2);
        assert_eq!((runs[0].step, runs[0].loss, runs[0].accuracy), (0, None, None));
        let RunSummary { step, examples, loss, accuracy, exact, .. } = &runs[1];
        assert_eq!((*step, *examples), (30, 1920));
        assert_eq!((*loss, *accuracy, *exact), (Some(1.5), Some(0.6), Some(0.2)));
        // Interrupted before the next figure was written.
        fs::create_dir_all(dir.path().join("b/checkpoints/step-0000000034")).expect("made");
        assert_eq!(RunSummary::read(&dir.path().join("b")).expect("a run").step, 34);
    }

    #[test]
    fn what_is_no_run_is_named() {
        let dir = tempfile::tempdir().expect("dir");
        let error = RunSummary::read(dir.path()).expect_err("no run").to_string();
        assert!(error.contains("expected a run in") && error.contains("experiment.toml"), "{error}");
    }
}
