//! Runs that are divided among ranks, here threads of one process.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use numformer_data::Split;
use numformer_distributed::{Communicator, CommunicatorError, Solo};
use numformer_experiment::{Catalogue, Experiment, Run, RunError, StoredRun};
use numformer_testkit::on_ranks;
use numformer_train::{METRICS, Record, read_metrics};

type Ranks = Arc<dyn Communicator>;

fn tiny(settings: &[&str]) -> Experiment {
    let all = [
        "matrices.rows=2",
        "matrices.cols=2",
        "model.encoder.d_model=16",
        "model.decoder.d_model=16",
        "model.encoder.n_heads=2",
        "model.decoder.n_heads=2",
        "train.batch_size=6",
        "train.steps=12",
        "train.warmup_steps=2",
        "evaluate.every=4",
        "evaluate.examples=600",
        "checkpoint.every=4",
        "log.every=1",
    ];
    let preset = Experiment::preset("transpose-3x3").expect("a preset");
    preset.with_settings(&[&all, settings].concat()).expect("settings")
}

fn across(experiment: Experiment, ranks: &Ranks) -> Result<Run, RunError> {
    Run::across(experiment, &Catalogue::standard(), &Device::Cpu, Arc::clone(ranks))
}

/// Trains up to a step and leaves: the error, if any, in words.
fn train(dir: &Path, experiment: Experiment, ranks: &Ranks) -> Result<Vec<f32>, String> {
    let run = across(experiment, ranks).and_then(|run| run.in_dir(dir));
    let mut run = run.map_err(|error| error.to_string())?;
    assert_eq!(run.run_dir().is_some(), ranks.rank() == 0);
    run.run().map_err(|error| error.to_string())?;
    let evaluation = run.evaluate(Split::Test, 700).map_err(|error| error.to_string())?;
    assert_eq!(evaluation.count, 700);
    Ok(run.weights().to_vec())
}

fn losses(dir: &Path) -> Vec<f64> {
    let records = read_metrics(&dir.join(METRICS)).expect("metrics");
    let loss = |record| match record {
        Record::Step(step) => Some(step.loss),
        Record::Evaluation(evaluation) => Some(evaluation.evaluation.cross_entropy),
        _ => None,
    };
    records.into_iter().filter_map(loss).collect()
}

#[test]
fn a_run_on_ranks_is_that_of_one_and_goes_on_with_any_number_of_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let [alone, together] = ["alone", "together"].map(|name| dir.path().join(name));
    // Also in a stage, with buckets, and with examples that come again.
    let stage = "stage=[{ name = \"first\", steps = 3, matrices = { law = \"uniform\", rows = 1, cols = 2 } }]";
    let repeated = "data.repeated={ examples = 20, probability = 0.5 }";
    let experiment = |steps: &str| tiny(&["data.bucket_window=2", repeated, stage, steps]);
    train(&alone, experiment("train.steps=12"), &(Arc::new(Solo) as Ranks)).expect("a run");
    for (size, steps) in [(2, "train.steps=5"), (3, "train.steps=9"), (1, "train.steps=12")] {
        let weights = on_ranks(size, |ranks| train(&together, experiment(steps), &ranks).expect("a run"));
        assert!(weights.iter().all(|of_rank| *of_rank == weights[0]), "{size} ranks");
    }
    let (expected, found) = (losses(&alone), losses(&together));
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-5 * expected, "{found} {expected}");
    }
}

#[test]
fn ranks_of_different_runs_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = dir.path().join("run");
    let errors = on_ranks(2, |ranks| {
        let seed = format!("seed={}", ranks.rank());
        train(&run, tiny(&[&seed]), &ranks).expect_err("other seeds")
    });
    assert!(errors[1].starts_with("rank 1: expected the experiment of rank 0, hash "), "{errors:?}");
    assert!(errors[0].starts_with("another rank failed: rank 1: expected the experiment"), "{errors:?}");
    assert!(!run.exists(), "nothing is written");

    let errors = on_ranks(7, |ranks| train(&run, tiny(&[]), &ranks).expect_err("too many"));
    let expected = "expected at most 6 ranks, one for each example of a batch (train.batch_size), found 7";
    assert!(errors.iter().all(|error| error == expected), "{errors:?}");
}

#[test]
fn what_rank_0_cannot_begin_no_rank_begins() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = dir.path().join("run");
    on_ranks(2, |ranks| train(&run, tiny(&["train.steps=4"]), &ranks).expect("a run"));
    let before = fs::read(run.join(METRICS)).expect("metrics");
    let errors = on_ranks(2, |ranks| {
        let error =
            across(tiny(&["train.lr=0.5"]), &ranks).and_then(|other| other.in_dir(&run)).expect_err("another rate");
        (error.is_of_another_rank(), error.to_string())
    });
    assert!(!errors[0].0 && errors[0].1.contains("train.lr"), "{errors:?}");
    assert!(errors[1].0 && errors[1].1.contains("train.lr"), "{errors:?}");
    assert_eq!(fs::read(run.join(METRICS)).expect("metrics"), before);
}

#[test]
fn stored_runs_are_judged_together_as_by_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = dir.path().join("run");
    train(&run, tiny(&[]), &(Arc::new(Solo) as Ranks)).expect("a run");
    let alone = StoredRun::load(&run).expect("a run").evaluate_sets(1000).expect("figures");
    let together = on_ranks(3, |ranks| {
        StoredRun::load(&run).and_then(|stored| stored.across(ranks)?.evaluate_sets(1000)).expect("figures")
    });
    assert!(together.iter().all(|table| table.to_csv() == alone.to_csv()));
    let errors = on_ranks(2, |ranks| {
        let at = if ranks.rank() == 0 { 8 } else { 12 };
        let stored = StoredRun::load_at(&run, numformer_experiment::Moment::Step(at), &Catalogue::standard());
        stored.expect("a checkpoint").across(ranks).expect_err("another checkpoint")
    });
    let RunError::Ranks(CommunicatorError::Different { what, expected, found, .. }) = &errors[1] else {
        panic!("{errors:?}")
    };
    assert_eq!((&**what, &**expected, &**found), ("checkpoint", "step 8", "step 12"));
}
