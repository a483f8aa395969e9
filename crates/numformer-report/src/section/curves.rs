//! Learning curves, against examples and against time.

use std::collections::BTreeSet;

use crate::chart::line_chart::{Axis, LineChart, Series};
use crate::format::{count, percent_short, short, short_of_any_size, significant};
use crate::markup::file_name;
use crate::{Cell, ReportError, ReportedRun, Table};

use super::{Block, Named};

/// The quantity on the horizontal axis of curves.
pub(super) struct Horizontal {
    /// The last part of the figures' names.
    suffix: &'static str,
    /// The last word of their titles.
    against: &'static str,
    /// The name of the axis, with its unit.
    axis: &'static str,
    /// The last value.
    end: f64,
    /// Number of seconds in the unit of time; `None` for examples.
    unit: Option<f64>,
}

impl Horizontal {
    /// Examples, and time in a suitable unit if it is known for any run.
    pub(super) fn of<'a>(runs: impl Iterator<Item = &'a ReportedRun> + Clone) -> Vec<Self> {
        let examples = runs.clone().map(|run| run.last_examples() as f64).fold(1.0, f64::max);
        let axis = "training examples";
        let mut all = vec![Self { suffix: "examples", against: "examples", axis, end: examples, unit: None }];
        if let Some(seconds) = runs.filter_map(|run| run.time.total()).reduce(f64::max).filter(|total| *total > 0.0) {
            let (unit, axis) = match seconds {
                s if s < 300.0 => (1.0, "training time, seconds"),
                s if s < 4.0 * 3600.0 => (60.0, "training time, minutes"),
                _ => (3600.0, "training time, hours"),
            };
            all.push(Self { suffix: "time", against: "time", axis, end: seconds / unit, unit: Some(unit) });
        }
        all
    }

    /// Points of a curve, from steps, examples and values. Against time, points without a known time are omitted.
    pub(super) fn points(&self, run: &ReportedRun, values: impl Iterator<Item = (u64, u64, f64)>) -> Vec<(f64, f64)> {
        let point = |(step, examples, value): (u64, u64, f64)| {
            let x = match self.unit {
                None => examples as f64,
                Some(unit) => run.time.at(step)? / unit,
            };
            value.is_finite().then_some((x, value))
        };
        values.filter_map(point).collect()
    }
}

impl Horizontal {
    /// The beginnings of all stages but the first. Stages without a known time are omitted.
    fn stages(&self, run: &ReportedRun) -> Vec<f64> {
        let place = |step: u64| match self.unit {
            None => Some(run.examples_at(step)),
            Some(unit) => Some(run.time.at(step)? / unit),
        };
        run.stages.iter().skip(1).filter_map(|stage| place(stage.step)).collect()
    }
}

/// The vertical axis of curves.
pub(super) struct Vertical {
    axis: Axis,
    /// The format of its values in a sentence.
    in_words: fn(f64) -> String,
}

/// The axis of losses, which starts at 0 and includes all of them.
pub(super) fn loss_axis(series: &[Series]) -> Vertical {
    let highest = series.iter().flat_map(|series| &series.points).map(|point| point.1).fold(1e-6, f64::max);
    let axis = Axis { name: "loss, nats per token".to_owned(), range: 0.0..1.05 * highest, format: short };
    Vertical { axis, in_words: |loss| short(to_four_decimals(loss)) }
}

pub(super) fn accuracy_axis() -> Vertical {
    let axis = Axis { name: "share of answers".to_owned(), range: 0.0..1.05, format: percent_short };
    Vertical { axis, in_words: |share| percent_short(to_four_decimals(share)) }
}

/// Larger numbers are left out of charts, like those that are not finite: the length of their axis might not be.
const LARGEST: f64 = 1e300;

/// The axis of a custom figure of any size and sign, which includes 0 and all of its values.
fn custom_axis(series: &Series) -> Vertical {
    let values = series.points.iter().map(|point| point.1);
    let (lowest, highest) =
        values.fold((0.0, 1e-12), |(low, high): (f64, f64), value| (low.min(value), high.max(value)));
    let range = 1.05 * lowest..1.05 * highest;
    let axis = Axis { name: "value on the validation set".to_owned(), range, format: short_of_any_size };
    Vertical { axis, in_words: significant }
}

/// A figure of lines with its numbers; `None` without points.
pub(super) fn line_figure(
    name: &str,
    title: &str,
    horizontal: &Horizontal,
    y: Vertical,
    series: Vec<Series>,
    marks: Vec<f64>,
) -> Result<Option<Block>, ReportError> {
    if series.iter().all(|series| series.points.is_empty()) {
        return Ok(None);
    }
    let Vertical { axis: y, in_words } = y;
    let mut sentences = format!("Line chart of {} against {}. ", y.name, horizontal.axis);
    let mut table = Table::new(format!("{title} against {}", horizontal.against), &["line", horizontal.axis, &y.name]);
    for Series { name, points } in &series {
        if let (Some(first), Some(last)) = (points.first(), points.last()) {
            let [first, last] = [first.1, last.1].map(in_words);
            sentences += &format!("{name}: {first} at the start, {last} at the end. ");
        }
        for &(x, value) in points {
            table.push(vec![
                Cell::text(name),
                Cell::number(significant(x), x),
                Cell::number(significant(value), value),
            ]);
        }
    }
    let x = Axis { name: horizontal.axis.to_owned(), range: 0.0..horizontal.end, format: short };
    let drawing = LineChart { x, y, series, marks }.to_svg();
    let title = format!("{title} against {}", horizontal.against);
    let name = format!("{name}-{}", horizontal.suffix);
    Block::figure(name, &title, sentences.trim_end().to_owned(), table, drawing).map(Some)
}

/// Rounds a value to few digits, for use in a sentence.
fn to_four_decimals(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// The learning curves of a run.
pub(crate) fn curves(named: &Named<'_>) -> Result<Vec<Block>, ReportError> {
    let Named { run, prefix, .. } = named;
    let mut blocks = vec![Block::heading(3, "Learning curves")];
    if let [first, .., _] = &run.stages[..] {
        let later: Vec<String> =
            run.stages[1..].iter().map(|stage| format!("{} after {} steps", stage.stage, count(stage.step))).collect();
        let stages = format!("Vertical lines mark where a stage begins: {} first, {}.", first.stage, later.join(", "));
        blocks.push(Block::Paragraph(stages));
    }
    let horizontals = Horizontal::of([*run].into_iter());
    for horizontal in &horizontals {
        let steps = run.steps.iter().map(|report| (report.step, report.examples, report.loss));
        let losses = vec![Series { name: "training loss".to_owned(), points: horizontal.points(run, steps) }];
        let axis = loss_axis(&losses);
        let name = format!("{prefix}-loss");
        blocks.extend(line_figure(&name, "Training loss", horizontal, axis, losses, horizontal.stages(run))?);
    }
    let Some(last) = run.evaluations.last() else { return Ok(blocks) };
    for horizontal in &horizontals {
        let within = last.evaluation.accuracy.iter().enumerate().map(|(index, (tolerance, _))| {
            let reports = run.evaluations.iter();
            let points = reports
                .filter_map(|report| Some((report.step, report.examples, report.evaluation.accuracy.get(index)?.1)));
            Series { name: format!("within {tolerance}"), points: horizontal.points(run, points) }
        });
        let exact = run.evaluations.iter().map(|report| (report.step, report.examples, report.evaluation.exact));
        let exact = Series { name: "exact".to_owned(), points: horizontal.points(run, exact) };
        let series = within.chain([exact]).collect();
        let name = format!("{prefix}-accuracy");
        blocks.extend(line_figure(
            &name,
            "Validation accuracy",
            horizontal,
            accuracy_axis(),
            series,
            horizontal.stages(run),
        )?);
    }
    let custom = run.evaluations.iter().flat_map(|report| report.evaluation.custom.keys());
    let custom: BTreeSet<&str> = custom.map(String::as_str).collect();
    for (number, figure) in (1..).zip(custom) {
        // Names that differ may be the same as names of files, so they are numbered.
        let name = format!("{prefix}-custom-{number}-{}", file_name(figure));
        for horizontal in &horizontals {
            let values = run
                .evaluations
                .iter()
                .filter_map(|report| Some((report.step, report.examples, report.evaluation.custom.get(figure)?.value)));
            let values = values.filter(|(.., value)| value.abs() <= LARGEST);
            let series = Series { name: figure.to_owned(), points: horizontal.points(run, values) };
            let axis = custom_axis(&series);
            blocks.extend(line_figure(&name, figure, horizontal, axis, vec![series], horizontal.stages(run))?);
        }
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_of_custom_figures_include_zero_and_all_values() {
        let range = |values: &[f64]| {
            let points = values.iter().map(|value| (0.0, *value)).collect();
            custom_axis(&Series { name: String::new(), points }).axis.range
        };
        assert_eq!(range(&[1.0, 2.0]), 0.0..2.1);
        assert_eq!(range(&[-1.0, 2.0]), -1.05..2.1);
        for values in [&[][..], &[0.0], &[-3.0], &[-LARGEST, LARGEST]] {
            let range = range(values);
            assert!(range.start < range.end && (range.end - range.start).is_finite(), "{values:?}: {range:?}");
            assert!(range.contains(&0.0), "{range:?}");
        }
    }
}
