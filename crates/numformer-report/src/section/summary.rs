//! A run at a glance.

use numformer_encoding::Layout;
use numformer_evaluate::Evaluation;
use numformer_experiment::MatricesConfig;
use numformer_metrics::Tolerance;

use crate::format::{count, percent, significant};
use crate::{Cell, ReportedRun, Table};

use super::{Block, Named};

pub(super) const FIVE_PERCENT: Tolerance = Tolerance::relative(0.05);

type Facts = fn(&ReportedRun) -> Vec<(String, Cell)>;

/// The facts about a run at a glance, each with its name, in groups. Runs may differ in what is known about them.
const FACTS: [Facts; 3] = [of_experiment, of_log, of_custom_figures];

/// What the experiment says; nothing without one.
fn of_experiment(run: &ReportedRun) -> Vec<(String, Cell)> {
    let Some(experiment) = &run.experiment else { return Vec::new() };
    let problems: Vec<&str> = experiment.problem.0.iter().map(|problem| problem.name.as_str()).collect();
    let encoding = &experiment.encoding;
    let input = match encoding.input_layout {
        Layout::RowMajor => encoding.input.clone(),
        Layout::LowerTriangle => format!("{}, lower triangles", encoding.input),
        Layout::LeadingBlocks => format!("{}, leading blocks first", encoding.input),
    };
    let facts = [
        ("problem", problems.join(" + ")),
        ("trained on", run.trained_on()),
        ("dimension", run.of_matrices(dimension)),
        ("input encoding", input),
        ("output encoding", encoding.output.clone()),
    ];
    facts.map(|(name, text)| (name.to_owned(), Cell::text(text))).into()
}

/// How long it trained, and the last of its usual figures.
fn of_log(run: &ReportedRun) -> Vec<(String, Cell)> {
    let (steps, examples) = (run.last_step(), run.last_examples());
    let optional = |value: Option<f64>, show: fn(f64) -> String| {
        value.map_or_else(Cell::none, |value| Cell::number(show(value), value))
    };
    let [validation, test] = evaluations(run);
    let exact = |evaluation: Option<&Evaluation>| optional(evaluation.map(|evaluation| evaluation.exact), percent);
    let facts = [
        ("steps", Cell::number(count(steps), steps as f64)),
        ("steps that diverged", Cell::number(count(run.diverged), run.diverged as f64)),
        ("training examples", Cell::number(count(examples), examples as f64)),
        ("training time, s", optional(run.time.total(), significant)),
        ("loss, nats per token", optional(run.steps.last().map(|step| step.loss), significant)),
        ("validation within 5%", optional(validation.and_then(within_five_percent), percent)),
        ("validation exact", exact(validation)),
        ("test within 5%", optional(test.and_then(within_five_percent), percent)),
        ("test exact", exact(test)),
    ];
    facts.map(|(name, cell)| (name.to_owned(), cell)).into()
}

/// The last of its custom figures.
fn of_custom_figures(run: &ReportedRun) -> Vec<(String, Cell)> {
    let evaluations = ["validation", "test"].into_iter().zip(evaluations(run));
    let figures = evaluations.flat_map(|(of, evaluation)| {
        let figures = evaluation.into_iter().flat_map(|evaluation| &evaluation.custom);
        figures
            .map(move |(name, figure)| (format!("{of} {name}"), Cell::number(significant(figure.value), figure.value)))
    });
    figures.collect()
}

/// The last evaluation on the validation set, and that on the test split.
fn evaluations(run: &ReportedRun) -> [Option<&Evaluation>; 2] {
    let validation = run.evaluations.last().map(|report| &report.evaluation);
    [validation, run.results.as_ref().map(|results| &results.evaluation)]
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
    for group in FACTS {
        let columns: Vec<_> = runs.iter().map(|named| group(named.run)).collect();
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in columns.iter().flatten() {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        for name in names {
            let cells = columns.iter().map(|facts| {
                let cell = facts.iter().find(|(other, _)| other == name).map(|(_, cell)| cell.clone());
                // A column mixes text and numbers, so all cells are aligned left.
                Cell { is_number: false, ..cell.unwrap_or_else(Cell::none) }
            });
            table.push([Cell::text(name)].into_iter().chain(cells).collect());
        }
    }
    table
}

/// The first section of a run.
pub(crate) fn summary(named: &Named<'_>) -> Vec<Block> {
    vec![Block::Table { name: format!("{}-summary", named.prefix), table: table("At a glance", &[named]) }]
}
