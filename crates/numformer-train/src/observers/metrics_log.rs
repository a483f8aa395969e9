//! The record of a run as JSON lines.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::process;
use std::time::Instant;

use numformer_store::files::write_atomically;
use serde::{Deserialize, Serialize};

use crate::divergence::{DivergenceReport, Remedy};
use crate::observers::appended_file::AppendedFile;
use crate::observers::observer::{
    ChangeReport, EvaluationReport, Observer, StageReport, Start, StepReport, StopReason,
};

/// File name of the log of metrics, which depend on the experiment alone.
pub const METRICS: &str = "metrics.jsonl";
/// File name of the log of times.
const TIMINGS: &str = "timings.jsonl";

/// One line of a metrics log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "a log is read at once, and most of what is read of it are evaluations")]
pub enum Record {
    /// A training step.
    Step(StepReport),
    /// An evaluation on the validation set.
    Evaluation(EvaluationReport),
    /// A step that could not be taken.
    Divergence(DivergenceReport),
    /// The beginning of a stage.
    Stage(StageReport),
    /// The run goes on with changed values. Earlier lines were logged and judged with the old values.
    Change(ChangeReport),
}

impl Record {
    /// Updates taken when the line was written.
    #[must_use]
    pub fn step(&self) -> u64 {
        match self {
            Self::Step(report) => report.step,
            Self::Evaluation(report) => report.step,
            Self::Divergence(report) => report.step,
            Self::Stage(report) => report.step,
            Self::Change(report) => report.step,
        }
    }
}

/// Reads a metrics log.
///
/// # Errors
/// When the file cannot be read, or a line other than the last is not a record. A crash may cut the last line, which is
/// then left out.
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

/// An [`Observer`] that writes `metrics.jsonl` and `timings.jsonl`. The metrics depend only on the experiment and its
/// changes. The timings hold the times.
///
/// Two runs of one experiment give identical metrics. A run that goes on after an interruption first drops the lines
/// beyond its checkpoint, and so ends with the same file as an uninterrupted one. While the disk is full, lines wait in
/// memory.
#[derive(Debug)]
pub struct MetricsLog {
    metrics: AppendedFile,
    timings: AppendedFile,
    every: u64,
    begin: Instant,
}

/// Lines that are missing from a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last step that has a line.
    pub last: u64,
    /// The last step that should have a line.
    pub expected: u64,
}

#[derive(Serialize, Deserialize)]
struct Timing {
    /// Process id. It tells this process apart from earlier processes of the same run.
    #[serde(default)]
    process: u32,
    step: u64,
    /// Seconds since this process began to train.
    seconds: f64,
    /// Number of threads that compute; 0 in logs of earlier versions.
    #[serde(default)]
    threads: usize,
}

impl MetricsLog {
    /// A log in `dir` with a line for every `every`-th step and for every evaluation.
    #[must_use]
    pub fn in_dir(dir: &Path, every: u64) -> Self {
        let [metrics, timings] = [METRICS, TIMINGS].map(|name| AppendedFile::new(dir.join(name)));
        Self { metrics, timings, every: every.max(1), begin: Instant::now() }
    }

    /// The lines that are missing from the log of a run that goes on from `step`, if the log was lost or cut.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn gap(&self, step: u64) -> io::Result<Option<Gap>> {
        let expected = step - step % self.every;
        let records = read_up_to_damage(self.metrics.path())?;
        let steps = records.iter().filter(|record| match record {
            // The log was complete up to a change.
            Record::Step(_) | Record::Change(_) => true,
            // A step that was left out has this line instead of its own.
            Record::Divergence(report) => report.remedy == Remedy::Skipped,
            Record::Evaluation(_) | Record::Stage(_) => false,
        });
        let last = steps.map(Record::step).filter(|logged| *logged <= step).max().unwrap_or(0);
        Ok((last < expected).then_some(Gap { last, expected }))
    }

    /// Keeps the metrics up to `step` that `is_kept` accepts, and the timings up to `step`.
    fn keep(&mut self, step: u64, mut is_kept: impl FnMut(&Record) -> bool) -> io::Result<()> {
        let kept = read_up_to_damage(self.metrics.path())?.into_iter();
        let kept = kept.filter(|record| record.step() <= step && is_kept(record));
        let lines: Vec<String> = kept.map(|record| to_line(&record)).collect();
        replace(self.metrics.path(), lines.concat().as_bytes())?;
        let timings = read_bytes(self.timings.path())?;
        let is_kept = |line: &&[u8]| serde_json::from_slice(line).is_ok_and(|timing: Timing| timing.step <= step);
        let kept: Vec<&[u8]> = timings.split_inclusive(|byte| *byte == b'\n').filter(is_kept).collect();
        replace(self.timings.path(), &kept.concat())?;
        self.metrics.open()?;
        self.timings.open()
    }

    fn write(&mut self, record: &Record) -> ControlFlow<StopReason> {
        let timing = Timing {
            process: process::id(),
            step: record.step(),
            seconds: self.begin.elapsed().as_secs_f64(),
            threads: rayon::current_num_threads(),
        };
        let written = self.metrics.write(to_line(record).as_bytes());
        let written = written.and_then(|()| self.timings.write(to_line(&timing).as_bytes()));
        self.check(written)
    }

    fn check(&self, result: io::Result<()>) -> ControlFlow<StopReason> {
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                let path = self.metrics.path().display();
                ControlFlow::Break(StopReason::Failed(format!("cannot write the log {path}: {error}")))
            }
        }
    }
}

/// The records of a log before the first line that is not a record. A crash may leave such a line at the end; it counts
/// as not written. Empty if there is no log.
pub fn read_up_to_damage(path: &Path) -> io::Result<Vec<Record>> {
    let bytes = read_bytes(path)?;
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    Ok(lines.map_while(|line| serde_json::from_slice(line).ok()).collect())
}

/// The bytes of a file; empty if there is no file.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

/// Replaces the content of a file if it differs. Unchanged content needs no extra room on the disk.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if read_bytes(path)? == bytes { Ok(()) } else { write_atomically(path, bytes) }
}

fn to_line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("records are plain data") + "\n"
}

impl Observer for MetricsLog {
    fn on_start(&mut self, start: &Start<'_>) -> ControlFlow<StopReason> {
        self.begin = Instant::now();
        // A new run keeps nothing: existing lines are from a run that was killed before its first save.
        let is_new = start.step == 0;
        let mut roll_backs = 0;
        let kept = self.keep(start.step, |record| match record {
            _ if is_new => false,
            Record::Evaluation(report) => report.step < start.step || start.keeps_evaluation,
            // A change at this step has no checkpoint after it. The run goes on from the checkpoint before the change,
            // as if the change had not happened.
            Record::Change(report) => report.step < start.step,
            // The run will stop again where it stopped, and will go back again where it went back after its checkpoint.
            Record::Divergence(report) if report.remedy == Remedy::Stopped => false,
            Record::Divergence(report) if report.remedy == Remedy::RolledBack => {
                roll_backs += 1;
                roll_backs <= start.roll_backs
            }
            _ => true,
        });
        self.check(kept)?;
        if start.changes.is_empty() {
            return ControlFlow::Continue(());
        }
        self.write(&Record::Change(ChangeReport { step: start.step, changes: start.changes.to_vec() }))
    }

    fn on_step(&mut self, step: &StepReport) -> ControlFlow<StopReason> {
        if !step.step.is_multiple_of(self.every) {
            return ControlFlow::Continue(());
        }
        self.write(&Record::Step(step.clone()))
    }

    fn on_divergence(&mut self, divergence: &DivergenceReport) -> ControlFlow<StopReason> {
        if divergence.remedy == Remedy::RolledBack {
            let kept = self.keep(divergence.step, |_| true);
            self.check(kept)?;
        }
        self.write(&Record::Divergence(divergence.clone()))
    }

    fn on_stage(&mut self, stage: &StageReport) -> ControlFlow<StopReason> {
        self.write(&Record::Stage(stage.clone()))
    }

    fn on_evaluation(&mut self, evaluation: &EvaluationReport) -> ControlFlow<StopReason> {
        self.write(&Record::Evaluation(evaluation.clone()))
    }

    fn before_checkpoint(&mut self, _step: u64) -> io::Result<()> {
        self.metrics.sync()?;
        self.timings.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(dir: &tempfile::TempDir) -> MetricsLog {
        MetricsLog::in_dir(dir.path(), 2)
    }

    fn step(step: u64) -> StepReport {
        StepReport { step, examples: 64 * step, loss: 1.0 / step as f64, lr: 1e-3, gradient_norm: 0.5 }
    }

    #[test]
    fn a_continued_log_equals_an_uninterrupted_one() {
        let start = |step| Start {
            name: "run",
            step,
            steps: 8,
            examples_per_step: 64,
            roll_backs: 0,
            parameters: 0,
            how: "",
            changes: &[],
            keeps_evaluation: true,
        };
        let (whole, parts) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let mut log = MetricsLog::in_dir(whole.path(), 2);
        assert!(log.on_start(&start(0)).is_continue());
        (1..=8).for_each(|i| assert!(log.on_step(&step(i)).is_continue()));

        let mut log = MetricsLog::in_dir(parts.path(), 2);
        assert!(log.on_start(&start(0)).is_continue());
        (1..=6).for_each(|i| assert!(log.on_step(&step(i)).is_continue()));
        drop(log);
        // The power failed in the middle of a line, and unsynced data can be any bytes.
        // The last checkpoint is at step 4.
        let path = parts.path().join("metrics.jsonl");
        let mut torn = fs::read(&path).expect("log");
        torn.truncate(torn.len() - 10);
        torn.extend([0, 0xff, b'\n', 0xc3, b'{']);
        fs::write(&path, torn).expect("log");
        fs::write(parts.path().join("timings.jsonl"), [0xff, b'\n']).expect("log");
        assert_eq!(log_of(&parts).gap(4).expect("readable"), None);
        assert_eq!(log_of(&parts).gap(8).expect("readable"), Some(Gap { last: 4, expected: 8 }));
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
