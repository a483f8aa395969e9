//! Accuracies with their confidence intervals: of all examples, and by dimension, problem and law.

use std::fmt::Display;

use numformer_data::Split;
use numformer_evaluate::{Estimate, Evaluation};
use numformer_metrics::Norm;

use crate::chart::interval_chart::{Interval, IntervalChart};
use crate::format::{count, percent, significant};
use crate::{Cell, ReportError, Table};

use super::{Block, Named};

/// The accuracies of a run: from its results on unseen matrices, or else from its last evaluation.
pub(crate) fn accuracy(named: &Named<'_>) -> Result<Vec<Block>, ReportError> {
    let Named { run, prefix, .. } = named;
    let (evaluation, split, name, step) = match (&run.results, run.evaluations.last()) {
        (Some(results), _) => (&results.evaluation, Split::Test, "test", results.step),
        (None, Some(report)) => (&report.evaluation, Split::Validation, "validation", report.step),
        (None, None) => return Ok(Vec::new()),
    };
    let of_file = run.experiment.as_ref().and_then(|experiment| experiment.data.file(split)?.file_name());
    let of_file = of_file.map_or_else(String::new, |file| format!(" of {}", file.to_string_lossy()));
    let sentence = format!(
        "Greedy decoding on {} {name} matrices{of_file} after {} steps. An answer is within a tolerance if its relative error \
         is below it; intervals are 95% Wilson intervals.",
        count(evaluation.count),
        count(step)
    );
    let mut blocks = vec![Block::heading(3, "Accuracy"), Block::Paragraph(sentence)];
    let passed_over = run.results.iter().flat_map(|results| &results.passed_over);
    blocks.extend(passed_over.map(|problem| {
        Block::Paragraph(format!("This is not the run's latest model: a newer checkpoint was passed over ({problem})."))
    }));
    blocks.extend([Block::Table { name: format!("{prefix}-accuracy"), table: figures(evaluation) }]);
    let by_norm = evaluation.norms.iter().map(|(norm, estimates)| (norm.to_string(), evaluation.count, estimates));
    let by_norm = by_norm.map(|(name, count, estimates)| (name, count, intervals(estimates))).collect();
    blocks.extend(interval_figure(named, "norm", tolerances(evaluation), by_norm)?);
    blocks.extend(groups(named, "dimension", evaluation.by_dimension.iter())?);
    blocks.extend(groups(named, "problem", evaluation.by_problem.iter())?);
    blocks.extend(groups(named, "law", evaluation.by_law.iter())?);
    if let Some(results) = run.results.as_ref().filter(|results| !results.by_set.is_empty()) {
        let sets = results.by_set.iter().map(|(name, evaluation)| (name.as_str(), evaluation));
        blocks.extend(groups(named, "set", [("test", &results.evaluation)].into_iter().chain(sets))?);
    }
    Ok(blocks)
}

fn intervals(estimates: &[Estimate]) -> Vec<Interval> {
    estimates.iter().map(|estimate| (estimate.share, estimate.interval)).collect()
}

fn tolerances(evaluation: &Evaluation) -> Vec<String> {
    let estimates = evaluation.norms.values().next().into_iter().flatten();
    estimates.map(|estimate| format!("within {}", estimate.tolerance)).collect()
}

/// The figures of an evaluation, in the L1 norm.
fn figures(evaluation: &Evaluation) -> Table {
    let columns = ["figure", "value", "lower bound", "upper bound"];
    let mut table = Table::new("Accuracy on unseen matrices, l1 norm", &columns);
    let mut share = |name: String, (share, (lower, upper)): Interval| {
        let cells = [share, lower, upper].map(|value| Cell::number(percent(value), value));
        table.push([Cell::text(name)].into_iter().chain(cells).collect());
    };
    for estimate in evaluation.norms.get(&Norm::L1).into_iter().flatten() {
        share(format!("within {}", estimate.tolerance), (estimate.share, estimate.interval));
    }
    share("exact".to_owned(), (evaluation.exact, evaluation.exact_interval));
    share("decodable".to_owned(), (evaluation.decodable, evaluation.decodable_interval));
    let mut figure = |name: &str, shown: String, value: f64| {
        table.push(vec![Cell::text(name), Cell::number(shown, value), Cell::none(), Cell::none()]);
    };
    figure("coefficients within 1%, mean share", percent(evaluation.coefficients), evaluation.coefficients);
    figure("cross-entropy, nats per token", significant(evaluation.cross_entropy), evaluation.cross_entropy);
    for (name, custom) in &evaluation.custom {
        figure(name, significant(custom.value), custom.value);
    }
    figure("matrices drawn again", count(evaluation.rejected), evaluation.rejected as f64);
    table
}

/// A figure of the groups of one kind; `None` without groups.
fn groups<'a>(
    named: &Named<'_>,
    kind: &str,
    groups: impl Iterator<Item = (impl Display, &'a Evaluation)>,
) -> Result<Option<Block>, ReportError> {
    let mut series = Vec::new();
    let mut rows = Vec::new();
    for (key, evaluation) in groups {
        let Some(l1) = evaluation.norms.get(&Norm::L1) else { continue };
        series = l1.iter().map(|estimate| format!("within {}", estimate.tolerance)).collect();
        series.push("exact".to_owned());
        let exact = (evaluation.exact, evaluation.exact_interval);
        rows.push((key.to_string(), evaluation.count, intervals(l1).into_iter().chain([exact]).collect()));
    }
    interval_figure(named, kind, series, rows)
}

fn interval_figure(
    named: &Named<'_>,
    kind: &str,
    series: Vec<String>,
    rows: Vec<(String, u64, Vec<Interval>)>,
) -> Result<Option<Block>, ReportError> {
    if rows.is_empty() {
        return Ok(None);
    }
    let title = format!("Accuracy by {kind}");
    let columns = [kind, "examples", "figure", "share", "lower bound", "upper bound"];
    let mut table = Table::new(title.clone(), &columns);
    let mut description = "Shares of answers with 95% intervals. ".to_owned();
    let mut drawn = Vec::new();
    for (name, examples, intervals) in rows {
        for (figure, &(share, (lower, upper))) in series.iter().zip(&intervals) {
            let shares = [share, lower, upper].map(|value| Cell::number(percent(value), value));
            let head = [Cell::text(&name), Cell::number(count(examples), examples as f64), Cell::text(figure)];
            table.push(head.into_iter().chain(shares).collect());
        }
        if let (Some(figure), Some((share, _))) = (series.first(), intervals.first()) {
            description += &format!("{name}: {} {figure}. ", percent(*share));
        }
        drawn.push((name, intervals));
    }
    let name = if kind == "norm" { "share of answers".to_owned() } else { "share of answers, l1 norm".to_owned() };
    let drawing = IntervalChart { name, series, groups: drawn }.to_svg();
    let name = format!("{}-by-{kind}", named.prefix);
    Block::figure(name, &title, description.trim_end().to_owned(), table, drawing).map(Some)
}
