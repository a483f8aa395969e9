//! A run at a glance.

use numformer_metrics::Tolerance;
use numformer_train::{Evaluation, Span};

use super::{Block, Named};
use crate::format::{count, percent, significant};
use crate::{Cell, ReportedRun, Table};

pub(super) const FIVE_PERCENT: Tolerance = Tolerance::relative(0.05);

/// What is said of a run at a glance, each with its name.
pub(super) fn facts(run: &ReportedRun) -> Vec<(&'static str, Cell)> {
    let experiment = &run.experiment;
    let problems: Vec<&str> = experiment.problem.0.iter().map(|problem| problem.name.as_str()).collect();
    let matrices = &experiment.matrices;
    let rows = span(matrices.rows);
    let dimensions = format!("{rows}×{}", matrices.cols.map_or(rows.clone(), span));
    let encoding = &experiment.encoding;
    let (steps, examples) = (run.last_step(), run.last_examples());
    let optional = |value: Option<f64>, show: fn(f64) -> String| {
        value.map_or_else(Cell::none, |value| Cell::number(show(value), value))
    };
    let validation = run.evaluations.last().map(|report| &report.evaluation);
    let test = run.assessment.as_ref().map(|assessment| &assessment.evaluation);
    let exact = |evaluation: Option<&Evaluation>| optional(evaluation.map(|evaluation| evaluation.exact), percent);
    vec![
        ("problem", Cell::text(problems.join(" + "))),
        ("trained on", Cell::text(run.trained_on())),
        ("dimension", Cell::text(dimensions)),
        ("input encoding", Cell::text(&encoding.input)),
        ("output encoding", Cell::text(&encoding.output)),
        ("steps", Cell::number(count(steps), steps as f64)),
        ("training examples", Cell::number(count(examples), examples as f64)),
        ("training time, s", optional(run.time.total(), significant)),
        ("loss, nats per token", optional(run.steps.last().map(|step| step.loss), significant)),
        ("validation within 5%", optional(validation.and_then(within_five_percent), percent)),
        ("validation exact", exact(validation)),
        ("test within 5%", optional(test.and_then(within_five_percent), percent)),
        ("test exact", exact(test)),
    ]
}

fn span(span: Span) -> String {
    if span.min == span.max { span.min.to_string() } else { format!("{}–{}", span.min, span.max) }
}

pub(super) fn within_five_percent(evaluation: &Evaluation) -> Option<f64> {
    evaluation.accuracy.iter().find(|(tolerance, _)| *tolerance == FIVE_PERCENT).map(|(_, share)| *share)
}

/// The section that a run begins with.
pub(crate) fn summary(named: &Named<'_>) -> Vec<Block> {
    let mut table = Table::new("At a glance", &["", named.label.as_str()]);
    for (name, cell) in facts(named.run) {
        // A column of all kinds: to the left.
        table.push(vec![Cell::text(name), Cell { is_number: false, ..cell }]);
    }
    vec![Block::Table { name: format!("{}-summary", named.prefix), table }]
}
