//! The data of a run that a report shows.

use std::path::{Path, PathBuf};

use numformer_experiment::{Experiment, MatricesConfig, RunDirError, RunSummary};
use numformer_train::{EvaluationReport, METRICS, Record, StageReport, StepReport, read_metrics};

use crate::{ReportError, TestResults, TrainingTime};

/// The data of a run that a report shows: its experiment, if it has one, its logs and, if its model was tested,
/// [`TestResults`].
#[derive(Clone, Debug, PartialEq)]
pub struct ReportedRun {
    /// Its directory.
    pub path: PathBuf,
    /// The experiment that was run; `None` for the run of a [`Trainer`](numformer_train::Trainer) without one.
    pub experiment: Option<Experiment>,
    /// The logged steps.
    pub steps: Vec<StepReport>,
    /// The logged evaluations on the validation set of the experiment itself, without those on the examples of stages.
    pub evaluations: Vec<EvaluationReport>,
    /// The beginnings of stages; the last is that of the experiment itself. Empty if the experiment has no other
    /// stages.
    pub stages: Vec<StageReport>,
    /// Number of steps that could not be taken because their loss or gradient was not finite.
    pub diverged: u64,
    /// The times at which the steps were reached.
    pub time: TrainingTime,
    /// The performance of the model on unseen matrices.
    pub results: Option<TestResults>,
}

impl ReportedRun {
    /// Reads the experiment and the logs of the run in a directory. The run may still be training.
    ///
    /// A directory with a log but no `experiment.toml` holds a run without an experiment, as a
    /// [`Trainer`](numformer_train::Trainer) with a [`MetricsLog`](numformer_train::MetricsLog) leaves it.
    ///
    /// # Errors
    /// When there is no run, it has logged nothing, or a file is damaged. The error names the file and the line.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let log = path.join(METRICS);
        let experiment = match RunSummary::read(path) {
            Ok(summary) => Some(summary.experiment),
            Err(RunDirError::NoRun { .. }) if log.exists() => None,
            Err(error) => return Err(error.into()),
        };
        let records = if log.exists() {
            read_metrics(&log).map_err(|source| ReportError::Io { path: log.clone(), source })?
        } else {
            Vec::new()
        };
        if records.is_empty() {
            return Err(ReportError::NothingLogged { path: log });
        }
        let (mut steps, mut evaluations, mut stages, mut diverged) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for record in records {
            match record {
                Record::Step(step) => steps.push(step),
                Record::Evaluation(evaluation) if evaluation.stage.is_none() => evaluations.push(evaluation),
                Record::Divergence(_) => diverged += 1,
                Record::Stage(stage) => stages.push(stage),
                Record::Evaluation(_) | Record::Change(_) => {}
            }
        }
        let time = TrainingTime::read(&path.join("timings.jsonl"))?;
        Ok(Self { path: path.to_owned(), experiment, steps, evaluations, stages, diverged, time, results: None })
    }

    /// Adds results of the model on unseen matrices.
    #[must_use]
    pub fn with_results(self, results: TestResults) -> Self {
        Self { results: Some(results), ..self }
    }

    /// The name of its directory.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    /// Number of updates at the last log entry.
    #[must_use]
    pub fn last_step(&self) -> u64 {
        let steps = self.steps.last().map(|step| step.step);
        steps.max(self.evaluations.last().map(|evaluation| evaluation.step)).unwrap_or(0)
    }

    /// Number of training examples seen at the last log entry.
    #[must_use]
    pub fn last_examples(&self) -> u64 {
        let steps = self.steps.last().map(|step| step.examples);
        steps.max(self.evaluations.last().map(|evaluation| evaluation.examples)).unwrap_or(0)
    }

    /// Number of training examples seen after this many steps, interpolated between the log entries around it.
    pub(crate) fn examples_at(&self, step: u64) -> f64 {
        let mut before = (0, 0);
        for report in &self.steps {
            let after = (report.step, report.examples);
            if after.0 >= step && after.0 > before.0 {
                let each = (after.1 - before.1) as f64 / (after.0 - before.0) as f64;
                return before.1 as f64 + each * (step - before.0) as f64;
            }
            before = after;
        }
        before.1 as f64
    }

    /// The names of the laws it was trained on; empty without an experiment.
    #[must_use]
    pub fn trained_on(&self) -> String {
        self.of_matrices(|matrices| matrices.law.0.clone())
    }

    /// The descriptions that `say` gives of the matrices of its problems, each listed once; empty without an experiment.
    pub(crate) fn of_matrices(&self, say: impl Fn(&MatricesConfig) -> Vec<String>) -> String {
        let matrices = self.experiment.iter().flat_map(|experiment| {
            let problems = experiment.problem.0.iter();
            problems.map(move |problem| problem.matrices.as_ref().unwrap_or(&experiment.matrices))
        });
        let mut said: Vec<String> = Vec::new();
        for what in matrices.flat_map(say) {
            if !said.contains(&what) {
                said.push(what);
            }
        }
        said.join(" + ")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;

    const STEP: &str = r#"{"event":"step","step":10,"examples":640,"loss":2.5,"lr":1e-3,"gradient_norm":1.0}"#;

    fn write_run(path: &Path, metrics: &str) {
        fs::create_dir_all(path).expect("made");
        let mut experiment = Experiment::preset("transpose-3x3").expect("embedded");
        experiment.train.lr = 1e-3;
        fs::write(path.join("experiment.toml"), experiment.to_toml()).expect("written");
        fs::write(path.join("metrics.jsonl"), metrics).expect("written");
    }

    /// A run with a falling loss and rising accuracies, as if it had been read.
    pub(crate) fn example(name: &str) -> ReportedRun {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join(name);
        let step = |step: u64| {
            let loss = 3.0 / step as f64;
            format!(
                r#"{{"event":"step","step":{step},"examples":{},"loss":{loss},"lr":1e-3,"gradient_norm":1.0}}"#,
                64 * step
            )
        };
        let evaluation = |step: u64, share: f64| {
            format!(
                r#"{{"event":"evaluation","step":{step},"examples":{},"count":10,"accuracy":[[0.05,{share}],[0.01,{share}]],"exact":{share},"decodable":1.0,"cross_entropy":0.5}}"#,
                64 * step
            )
        };
        write_run(&path, &[step(1), evaluation(1, 0.0), step(2), evaluation(2, 0.75)].join("\n"));
        let timings = [(1, 0.5), (1, 0.75), (2, 1.5), (2, 2.0)]
            .map(|(step, seconds)| format!("{{\"step\":{step},\"seconds\":{seconds}}}\n"));
        fs::write(path.join("timings.jsonl"), timings.concat()).expect("written");
        ReportedRun { path: name.into(), ..ReportedRun::read(&path).expect("a run") }
    }

    #[test]
    fn the_log_is_split_into_steps_and_evaluations() {
        let run = example("mine");
        assert_eq!((run.steps.len(), run.evaluations.len()), (2, 2));
        assert_eq!((run.last_step(), run.last_examples(), run.time.total()), (2, 128, Some(2.0)));
        assert_eq!((run.name().as_str(), run.trained_on().as_str()), ("mine", "uniform"));
    }

    #[test]
    fn what_stages_were_judged_by_is_set_apart() {
        let dir = tempfile::tempdir().expect("dir");
        let evaluation = r#"{"event":"evaluation","step":10,"examples":640,"stage":"small","count":5,"accuracy":[],"exact":1.0,"decodable":1.0,"cross_entropy":0.5}"#;
        let divergence = r#"{"event":"divergence","step":11,"diverged":11,"loss":"NaN","lr":1e-3,"gradient_norm":"NaN","remedy":"skipped"}"#;
        write_run(
            dir.path(),
            &[r#"{"event":"stage","step":0,"stage":"small"}"#, STEP, evaluation, divergence].join("\n"),
        );
        let run = ReportedRun::read(dir.path()).expect("a run");
        assert_eq!((run.steps.len(), run.evaluations.len(), run.diverged), (1, 0, 1));
        assert_eq!(run.stages, [StageReport { step: 0, stage: "small".to_owned() }]);
        assert_eq!([0, 5, 10, 20].map(|step| run.examples_at(step).round() as u64), [0, 320, 640, 640]);
    }

    #[test]
    fn what_is_damaged_or_empty_is_named() {
        let dir = tempfile::tempdir().expect("dir");
        let error = |metrics: &str| {
            write_run(dir.path(), metrics);
            let error = ReportedRun::read(dir.path()).expect_err(metrics);
            std::error::Error::source(&error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
        };
        for metrics in ["", "{\"event\":\"st"] {
            assert!(error(metrics).contains("metrics.jsonl, line 1, found an empty log"), "{}", error(metrics));
        }
        let damaged = error(&format!("{STEP}\nnonsense\n{STEP}\n"));
        assert!(damaged.contains("metrics.jsonl, line 2"), "{damaged}");
        for file in ["experiment.toml", "metrics.jsonl"] {
            fs::remove_file(dir.path().join(file)).expect("removed");
        }
        let error = ReportedRun::read(dir.path()).expect_err("no run").to_string();
        assert!(error.contains("expected a run in"), "{error}");
    }

    #[test]
    fn logs_alone_are_a_run_without_an_experiment() {
        let dir = tempfile::tempdir().expect("dir");
        fs::write(dir.path().join(METRICS), STEP).expect("written");
        let run = ReportedRun::read(dir.path()).expect("a run");
        assert_eq!((run.experiment.as_ref(), run.steps.len(), run.last_step()), (None, 1, 10));
        assert_eq!(run.trained_on(), "");
        // An experiment that cannot be read is not taken for none.
        fs::write(dir.path().join("experiment.toml"), "nonsense").expect("written");
        assert!(ReportedRun::read(dir.path()).is_err());
    }
}
