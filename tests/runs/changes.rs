//! Runs that go on with other values than before, or stay where they ended.

use std::fs;
use std::path::Path;

use numformer::evaluate::FigureName;
use numformer::experiment::{Catalogue, Experiment, Moment, Run, RunDir, StoredRun, TrainConfig};
use numformer::train::{Goal, Record, read_metrics};

use super::{DieAfter, StopAfter, open, result, tiny, uninterrupted};

/// Stops after five steps, goes on with these settings, and returns the records of the whole.
fn changed(experiment: &Experiment, settings: &[&str], dir: &Path) -> Vec<Record> {
    open(experiment, dir).with_observer(StopAfter(5)).run().unwrap();
    let changed = experiment.with_settings(settings).unwrap();
    let mut run = open(&changed, dir);
    assert_eq!(run.gap().unwrap(), None, "nothing is missing");
    run.run().unwrap();
    let written = fs::read_to_string(dir.join("experiment.toml")).unwrap();
    assert_eq!(written, changed.to_toml());
    read_metrics(&dir.join("metrics.jsonl")).unwrap()
}

/// The run goes on to the same weights, and what it had logged stays.
#[test]
fn what_weights_do_not_depend_on_may_change_between_resumptions() {
    let dir = tempfile::tempdir().unwrap();
    let settings =
        ["log.every=3", "checkpoint.every=5", "checkpoint.keep=9", "evaluate.every=4", "evaluate.examples=7"];
    let records = changed(&tiny(), &settings, dir.path());
    assert_eq!(result(dir.path(), 12)[..2], uninterrupted(&tiny())[..2]);
    let Record::Change(report) = &records[3] else { panic!("{records:?}") };
    let changes: Vec<_> = report.changes.iter().map(|change| (&*change.key, &*change.left, &*change.right)).collect();
    let expected = [
        ("checkpoint.every", "4", "5"),
        ("checkpoint.keep", "2", "9"),
        ("evaluate.every", "5", "4"),
        ("evaluate.examples", "20", "7"),
        ("log.every", "2", "3"),
    ];
    assert_eq!((report.step, changes), (5, expected.to_vec()));
    let steps: Vec<u64> = records.iter().map(Record::step).collect();
    assert_eq!(steps, [2, 4, 5, 5, 6, 8, 9, 12, 12]);
    let counts = records.iter().filter_map(|record| match record {
        Record::Evaluation(report) => Some((report.step, report.evaluation.count)),
        _ => None,
    });
    assert_eq!(counts.collect::<Vec<_>>(), [(5, 20), (8, 7), (12, 7)]);

    // The change stays where it was, and is not told again.
    let same = tiny().with_settings(&settings).unwrap();
    let run = open(&same, dir.path());
    let history = &run.trainer().progress().history;
    assert_eq!(history.iter().map(|past| past.step).collect::<Vec<_>>(), [8, 12]);
    assert_eq!(run.former_experiment(), &same);
    drop(run);
    let longer = Experiment { train: TrainConfig { steps: 14, ..same.train.clone() }, ..same };
    open(&longer, dir.path()).run().unwrap();
    let again = read_metrics(&dir.path().join("metrics.jsonl")).unwrap();
    assert_eq!(again[..records.len()], records);
    assert_eq!(again.iter().filter(|record| matches!(record, Record::Change(_))).count(), 1);
}

/// A change has taken place when there is a checkpoint after it.
#[test]
fn a_changed_run_that_is_killed_before_its_next_checkpoint_is_changed_once() {
    let dir = tempfile::tempdir().unwrap();
    open(&tiny(), dir.path()).with_observer(StopAfter(5)).run().unwrap();
    let one = tiny().with_settings(&["log.every=1"]).unwrap();
    for _ in 0..2 {
        let mut run = open(&one, dir.path()).with_observer(DieAfter(7));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(run.run()))).unwrap_err();
    }
    let changes = || {
        let records = read_metrics(&dir.path().join("metrics.jsonl")).unwrap();
        records.into_iter().filter(|record| matches!(record, Record::Change(_))).count()
    };
    assert_eq!(changes(), 1);
    // As if it had not been.
    open(&tiny(), dir.path()).run().unwrap();
    assert_eq!(changes(), 0);
    assert!(result(dir.path(), 12) == uninterrupted(&tiny()));
}

#[test]
fn what_weights_depend_on_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    open(&tiny(), dir.path()).with_observer(StopAfter(5)).run().unwrap();
    let other = tiny().with_settings(&["train.lr=0.5", "log.every=1"]).unwrap();
    let error = RunDir::open(dir.path(), &other).unwrap_err().to_string();
    assert!(error.contains("train.lr is 0.001 there and 0.5 here") && error.contains("--start-from RUN"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    // Also where experiment.toml was edited by hand.
    fs::write(dir.path().join("experiment.toml"), other.to_toml()).unwrap();
    let error = Run::new(other).unwrap().in_dir(dir.path()).unwrap_err().to_string();
    assert!(error.contains("train.lr is 0.001 there and 0.5 here"), "{error}");
}

fn steps_of_checkpoints(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("checkpoints")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// As a run leaves it that is killed between saving and removing the oldest, or that is to keep fewer from here on.
#[test]
fn a_run_that_goes_on_keeps_as_many_checkpoints_as_it_should() {
    let dir = tempfile::tempdir().unwrap();
    let many = tiny().with_settings(&["checkpoint.every=1", "checkpoint.keep=4"]).unwrap();
    open(&many, dir.path()).with_observer(StopAfter(8)).run().unwrap();
    let names = |steps: &[u64]| steps.iter().map(|step| format!("step-{step:010}")).collect::<Vec<_>>();
    assert_eq!(steps_of_checkpoints(dir.path()), names(&[5, 6, 7, 8]));
    let few = many.with_settings(&["checkpoint.keep=2"]).unwrap();
    drop(open(&few, dir.path()));
    assert_eq!(steps_of_checkpoints(dir.path()), names(&[7, 8]));
    // Those that are the best stay as long as they are asked for.
    let best = many.with_settings(&[r#"checkpoint.best=["cross_entropy"]"#, "evaluate.every=1"]).unwrap();
    let other = tempfile::tempdir().unwrap();
    open(&best, other.path()).run().unwrap();
    let kept = StoredRun::load_at(other.path(), Moment::Best(FigureName::CrossEntropy), &Catalogue::standard());
    let kept = kept.unwrap().step();
    let one = best.with_settings(&["checkpoint.keep=1"]).unwrap();
    drop(open(&one, other.path()));
    let mut expected = vec![kept, 12];
    expected.dedup();
    assert_eq!(steps_of_checkpoints(other.path()), names(&expected));
    drop(open(&one.with_settings(&["checkpoint.best=[]"]).unwrap(), other.path()));
    assert_eq!(steps_of_checkpoints(other.path()), names(&[12]));
}

#[test]
fn a_run_ends_at_its_target() {
    let mut experiment = tiny();
    experiment.stop.target = Some(Goal::new(FigureName::CrossEntropy, 100.0));
    let dir = tempfile::tempdir().unwrap();
    // It stays there, whatever became of its log.
    for is_first in [true, false] {
        let report = open(&experiment, dir.path()).run().unwrap();
        assert_eq!((report.step, report.checkpoint.is_some()), (5, is_first));
        assert_eq!(report.stop.to_string(), "stopped: target reached at step 5: cross_entropy 100");
        fs::remove_file(dir.path().join("metrics.jsonl")).unwrap();
    }
}
