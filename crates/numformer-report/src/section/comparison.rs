//! Several runs side by side.

use numformer_experiment::Experiment;

use crate::chart::line_chart::Series;
use crate::{Cell, ReportError, Table};

use super::curves::{Horizontal, accuracy_axis, line_figure, loss_axis};
use super::summary::{self, within_five_percent};
use super::{Block, Named};

/// Tables and curves of several runs; empty for a single run.
pub(crate) fn comparison(runs: &[Named<'_>]) -> Result<Vec<Block>, ReportError> {
    if runs.len() < 2 {
        return Ok(Vec::new());
    }
    let mut blocks = vec![Block::section("comparison", "Comparison")];

    let table = summary::table("Runs side by side", &runs.iter().collect::<Vec<_>>());
    blocks.push(Block::Table { name: "comparison".to_owned(), table });

    blocks.extend(differences(runs));

    let horizontals = Horizontal::of(runs.iter().map(|named| named.run));
    for horizontal in &horizontals {
        let losses = runs.iter().map(|named| {
            let points = named.run.steps.iter().map(|report| (report.step, report.examples, report.loss));
            Series { name: named.label.clone(), points: horizontal.points(named.run, points) }
        });
        let losses: Vec<_> = losses.collect();
        let axis = loss_axis(&losses);
        blocks.extend(line_figure("comparison-loss", "Training loss", horizontal, axis, losses, Vec::new())?);
    }
    for horizontal in &horizontals {
        let accuracies = runs.iter().map(|named| {
            let points =
                named.run.evaluations.iter().filter_map(|report| {
                    Some((report.step, report.examples, within_five_percent(&report.evaluation)?))
                });
            Series { name: named.label.clone(), points: horizontal.points(named.run, points) }
        });
        let title = "Validation accuracy within 5%";
        let axis = accuracy_axis();
        blocks.extend(line_figure("comparison-accuracy", title, horizontal, axis, accuracies.collect(), Vec::new())?);
    }
    Ok(blocks)
}

/// The differences between the experiments of those runs that have one; `None` if there are fewer than two of them.
fn differences(runs: &[Named<'_>]) -> Option<Block> {
    let known = runs.iter().filter_map(|named| Some((named.label.as_str(), named.run.experiment.as_ref()?)));
    let known: Vec<(&str, &Experiment)> = known.collect();
    let ((_, first), others) = known.split_first().filter(|(_, others)| !others.is_empty())?;
    let differences: Vec<_> = others.iter().map(|(_, other)| first.differences(other)).collect();
    let mut keys: Vec<(&str, &str)> = Vec::new();
    for difference in differences.iter().flatten() {
        if keys.iter().all(|(key, _)| *key != difference.key) {
            keys.push((&difference.key, &difference.left));
        }
    }
    if keys.is_empty() {
        let is_of_all = known.len() == runs.len();
        return is_of_all.then(|| Block::Paragraph("All are runs of the same experiment.".to_owned()));
    }
    let labels = known.iter().map(|(label, _)| *label);
    let columns: Vec<&str> = ["key"].into_iter().chain(labels).collect();
    let mut table = Table::new("Differences between the experiments", &columns);
    for (key, left) in keys {
        let mut row = vec![Cell::text(key), Cell::text(left)];
        row.extend(differences.iter().map(|differences| {
            Cell::text(differences.iter().find(|other| other.key == key).map_or(left, |other| &other.right))
        }));
        table.push(row);
    }
    Some(Block::Table { name: "differences".to_owned(), table })
}
