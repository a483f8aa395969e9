//! A run at a glance.

use numformer_evaluate::Evaluation;
use numformer_experiment::MatricesConfig;
use numformer_metrics::Tolerance;

use crate::format::{count, percent, significant};
use crate::{Cell, ReportedRun, Table};

use super::{Block, Named};

pub(super) const FIVE_PERCENT: Tolerance = Tolerance::relative(0.05);

/// The facts about a run at a glance, each with its name.
fn facts(run: &ReportedRun) -> Vec<(&'static str, Cell)> {
    let experiment = &run.experiment;
    let problems: Vec<&str> = experiment.problem.0.iter().map(|problem| problem.name.as_str()).collect();
    let encoding = &experiment.encoding;
    let (steps, examples) = (run.last_step(), run.last_examples());
    let optional = |value: Option<f64>, show: fn(f64) -> String| {
        value.map_or_else(Cell::none, |value| Cell::number(show(value), value))
    };
    let validation = run.evaluations.last().map(|report| &report.evaluation);
    let test = run.results.as_ref().map(|results| &results.evaluation);
    let exact = |evaluation: Option<&Evaluation>| optional(evaluation.map(|evaluation| evaluation.exact), percent);
    vec![
        ("problem", Cell::text(problems.join(" + "))),
        ("trained on", Cell::text(run.trained_on())),
        ("dimension", Cell::text(run.of_matrices(dimension))),
        ("input encoding", Cell::text(&encoding.input)),
        ("output encoding", Cell::text(&encoding.output)),
        ("steps", Cell::number(count(steps), steps as f64)),
        ("steps that diverged", Cell::number(count(run.diverged), run.diverged as f64)),
        ("training examples", Cell::number(count(examples), examples as f64)),
        ("training time, s", optional(run.time.total(), significant)),
        ("loss, nats per token", optional(run.steps.last().map(|step| step.loss), significant)),
        ("validation within 5%", optional(validation.and_then(within_five_percent), percent)),
        ("validation exact", exact(validation)),
        ("test within 5%", optional(test.and_then(within_five_percent), percent)),
        ("test exact", exact(test)),
    ]
}

/// The range of matrix shapes, from the smallest to the largest.
fn dimension(matrices: &MatricesConfig) -> Vec<String> {
    let shapes = matrices.shapes();
    let name = |shape: Option<&(usize, usize)>| shape.map_or_else(String::new, |(rows, cols)| format!("{rows}×{cols}"));
    let (first, last) = (name(shapes.first()), name(shapes.last()));
    vec![if first == last { first } else { format!("{first} to {last}") }]
}

pub(super) fn within_five_percent(evaluation: &Evaluation) -> Option<f64> {
    evaluation.accuracy.iter().find(|(tolerance, _)| *tolerance == FIVE_PERCENT).map(|(_, share)| *share)
}

/// Runs at a glance, with a column for each.
pub(super) fn table(caption: &str, runs: &[&Named<'_>]) -> Table {
    let labels = runs.iter().map(|named| named.label.as_str());
    let mut table = Table::new(caption, &[""].into_iter().chain(labels).collect::<Vec<_>>());
    let columns: Vec<_> = runs.iter().map(|named| facts(named.run)).collect();
    let names = columns.first().into_iter().flatten().map(|(name, _)| *name);
    for (index, name) in names.enumerate() {
        // A column mixes text and numbers, so all cells are aligned left.
        let cells = columns.iter().map(|facts| Cell { is_number: false, ..facts[index].1.clone() });
        table.push([Cell::text(name)].into_iter().chain(cells).collect());
    }
    table
}

/// The first section of a run.
pub(crate) fn summary(named: &Named<'_>) -> Vec<Block> {
    vec![Block::Table { name: format!("{}-summary", named.prefix), table: table("At a glance", &[named]) }]
}
