//! The record of a run as JSON lines.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::files::write_atomically;
use crate::observer::{EvaluationReport, Observer, Start, StepReport, StopReason};

/// Name of the log of what depends on the experiment alone.
pub(crate) const METRICS: &str = "metrics.jsonl";

/// One line of a metrics log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Record {
    /// A training step.
    Step(StepReport),
    /// A judgement on the validation set.
    Evaluation(EvaluationReport),
}

impl Record {
    /// Updates taken when the line was written.
    #[must_use]
    pub fn step(&self) -> u64 {
        match self {
            Self::Step(report) => report.step,
            Self::Evaluation(report) => report.step,
        }
    }
}

/// Reads a metrics log.
///
/// # Errors
/// When the file cannot be read, or a line but the last is not a record (the last may have been cut by a crash, and is
/// then left out).
pub fn read_metrics(path: &Path) -> io::Result<Vec<Record>> {
    let lines = BufReader::new(File::open(path)?).lines().collect::<io::Result<Vec<_>>>()?;
    let mut records = Vec::with_capacity(lines.len());
    for (i, line) in lines.iter().enumerate() {
        match serde_json::from_str(line) {
            Ok(record) => records.push(record),
            Err(_) if i + 1 == lines.len() => {}
            Err(error) => {
                let message = format!("{}, line {}: {error}", path.display(), i + 1);
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
    }
    Ok(records)
}

/// Writes `metrics.jsonl`, a function of the experiment alone, and `timings.jsonl`, which holds the times.
///
/// Two runs of one experiment give identical metrics. A run that goes on after an interruption first drops the lines
/// beyond its checkpoint, and so ends with the same file as an uninterrupted one.
#[derive(Debug)]
pub struct MetricsLog {
    metrics: PathBuf,
    timings: PathBuf,
    every: u64,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    metrics: File,
    timings: File,
    begin: Instant,
}

#[derive(Serialize)]
struct Timing {
    step: u64,
    /// Seconds since this process began to train.
    seconds: f64,
}

impl MetricsLog {
    /// A log in `dir` with a line for every `every`-th step and for every evaluation.
    #[must_use]
    pub fn in_dir(dir: &Path, every: u64) -> Self {
        Self { metrics: dir.join(METRICS), timings: dir.join("timings.jsonl"), every, open: None }
    }

    fn start(&mut self, step: u64) -> io::Result<()> {
        if self.metrics.exists() {
            let kept = read_metrics(&self.metrics)?.into_iter().filter(|record| record.step() <= step);
            let lines: Vec<String> = kept.map(|record| to_line(&record)).collect();
            write_atomically(&self.metrics, lines.concat().as_bytes())?;
        }
        let append = |path: &Path| OpenOptions::new().create(true).append(true).open(path);
        let (metrics, timings) = (append(&self.metrics)?, append(&self.timings)?);
        self.open = Some(Open { metrics, timings, begin: Instant::now() });
        Ok(())
    }

    fn write(&mut self, record: &Record) -> ControlFlow<StopReason> {
        let Some(open) = &mut self.open else { return ControlFlow::Continue(()) };
        let timing = Timing { step: record.step(), seconds: open.begin.elapsed().as_secs_f64() };
        let written = open.metrics.write_all(to_line(record).as_bytes());
        let written = written.and_then(|()| open.timings.write_all(to_line(&timing).as_bytes()));
        self.check(written)
    }

    fn check(&self, result: io::Result<()>) -> ControlFlow<StopReason> {
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                let path = self.metrics.display();
                ControlFlow::Break(StopReason::Failed(format!("cannot write {path}: {error}")))
            }
        }
    }
}

fn to_line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("records are plain data") + "\n"
}

impl Observer for MetricsLog {
    fn on_start(&mut self, start: &Start<'_>) -> ControlFlow<StopReason> {
        let started = self.start(start.step);
        self.check(started)
    }

    fn on_step(&mut self, step: &StepReport) -> ControlFlow<StopReason> {
        if !step.step.is_multiple_of(self.every) {
            return ControlFlow::Continue(());
        }
        self.write(&Record::Step(step.clone()))
    }

    fn on_evaluation(&mut self, evaluation: &EvaluationReport) -> ControlFlow<StopReason> {
        self.write(&Record::Evaluation(evaluation.clone()))
    }

    fn on_checkpoint(&mut self, _path: &Path) -> ControlFlow<StopReason> {
        let Some(open) = &self.open else { return ControlFlow::Continue(()) };
        // A checkpoint promises that the lines up to its step are there.
        let synced = open.metrics.sync_data();
        self.check(synced)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn step(step: u64) -> StepReport {
        StepReport { step, examples: 64 * step, loss: 1.0 / step as f64, lr: 1e-3, gradient_norm: 0.5 }
    }

    #[test]
    fn a_continued_log_equals_an_uninterrupted_one() {
        let experiment = crate::Experiment::preset("transpose-3x3").expect("embedded");
        let start = |step| Start { experiment: &experiment, step, parameters: 0, gradients: "" };
        let (whole, parts) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let mut log = MetricsLog::in_dir(whole.path(), 2);
        assert!(log.on_start(&start(0)).is_continue());
        (1..=8).for_each(|i| assert!(log.on_step(&step(i)).is_continue()));

        let mut log = MetricsLog::in_dir(parts.path(), 2);
        assert!(log.on_start(&start(0)).is_continue());
        (1..=6).for_each(|i| assert!(log.on_step(&step(i)).is_continue()));
        drop(log);
        // The process died in the middle of a line; its last checkpoint is at step 4.
        let path = parts.path().join("metrics.jsonl");
        let mut torn = fs::read(&path).expect("log");
        torn.truncate(torn.len() - 10);
        fs::write(&path, torn).expect("log");
        let mut log = MetricsLog::in_dir(parts.path(), 2);
        assert!(log.on_start(&start(4)).is_continue());
        (5..=8).for_each(|i| assert!(log.on_step(&step(i)).is_continue()));

        let read = |dir: &Path| fs::read_to_string(dir.join("metrics.jsonl")).expect("log");
        assert_eq!(read(whole.path()).lines().count(), 4);
        assert_eq!(read(whole.path()), read(parts.path()));
        assert_eq!(read_metrics(&path).expect("log")[3], Record::Step(step(8)));
    }

    #[test]
    fn evaluations_with_groups_are_read_back() {
        let figures = r#""count":2,"accuracy":[[0.05,0.5]],"exact":0.5,"decodable":1.0,"cross_entropy":0.25,"rejected":0,
            "coefficients":0.75,"norms":{"l1":[[0.05,0.5,0.094531,0.905469]]},"exact_interval":[0.094531,0.905469],
            "decodable_interval":[0.34238,1.0]"#;
        let line = format!(
            r#"{{"event":"evaluation","step":7,"examples":448,{figures},"by_dimension":{{"5x5":{{{figures}}}}}}}"#
        );
        let line = line.split_whitespace().collect::<String>();
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("metrics.jsonl");
        fs::write(&path, line.clone() + "\n").expect("written");
        let records = read_metrics(&path).expect("a record");
        let Record::Evaluation(EvaluationReport { evaluation, .. }) = &records[0] else { panic!("{records:?}") };
        assert_eq!(evaluation.by_dimension[&(5, 5).into()].count, 2);
        assert_eq!(to_line(&records[0]), line + "\n");
    }

    #[test]
    fn a_damaged_line_is_named() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("metrics.jsonl");
        fs::write(&path, "{}\nnot a record\n").expect("written");
        let error = read_metrics(&path).expect_err("no record").to_string();
        assert!(error.contains("metrics.jsonl, line 1"), "{error}");
    }
}
