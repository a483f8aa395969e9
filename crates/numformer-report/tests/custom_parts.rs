//! Reports on runs of custom parts.

use std::error::Error;
use std::sync::Arc;

use numformer_data::Task;
use numformer_evaluate::{Answered, Better, Figure};
use numformer_experiment::{Catalogue, Experiment, Run, presets};
use numformer_metrics::Metric;
use numformer_report::{Report, ReportedRun, TestResults};

/// Number of answers.
#[derive(Clone, Default)]
struct Answers(u64);

impl Metric for Answers {
    type Sample = Answered;
    type Value = f64;

    fn update(&mut self, _: &Answered) {
        self.0 += 1;
    }
    fn merge(&mut self, other: &Self) {
        self.0 += other.0;
    }
    fn value(&self) -> Option<f64> {
        Some(self.0 as f64)
    }
}

#[test]
fn a_run_of_custom_parts_is_tested_with_their_catalogue() {
    let catalogue =
        Catalogue::standard().with_metric("answers", Better::More, |_: &Arc<Task>, _| Ok(Answers::default()));
    let toml = presets::find("transpose-3x3").expect("embedded").toml;
    let toml = toml.replace("examples = 256", "examples = 4\nmetric = [{ name = \"answers\" }]");
    let mut experiment = Experiment::from_toml(&toml, "custom.toml", &catalogue).expect("an experiment");
    (experiment.train.steps, experiment.evaluate.every) = (2, 1);
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("run");
    let mut run = Run::with_catalogue(experiment, &catalogue).expect("a run").in_dir(&path).expect("a directory");
    run.run().expect("trained");

    let error = TestResults::of(&path, 5, &["gaussian"]).expect_err("unknown to the standard catalogue");
    let cause = error.source().expect("an unknown metric");
    assert!(cause.to_string().contains("answers"), "{cause}");
    let results = TestResults::with_catalogue(&path, 5, &["gaussian"], &catalogue).expect("results");
    for evaluation in [&results.evaluation, &results.by_law[0].1] {
        assert_eq!(evaluation.custom["answers"], Figure::more_is_better(5.0));
    }
    let run = ReportedRun::read(&path).expect("a run").with_results(results);
    let html = Report::new(vec![run]).expect("drawn").to_html();
    for text in ["<td>validation answers</td><td>4</td>", "<td>test answers</td><td>5</td>"] {
        assert!(html.contains(text), "{text}");
    }
}
