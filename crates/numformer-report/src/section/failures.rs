//! Why answers are wrong, and how useful they are as starting points.

use numformer_evaluate::{ProblemFailures, RefinementCounts};
use numformer_metrics::{Accuracy, Detection, Metric, RocCurve, StepCounts};
use numformer_problems::REFINED;

use crate::chart::line_chart::{Axis, LineChart, Series};
use crate::format::{count, percent, percent_short, significant};
use crate::{Cell, ReportError, Table};

use super::{Block, Named};

/// The analysis of failures for each problem that has one; empty if the run has no results.
pub(crate) fn failures(named: &Named<'_>) -> Result<Vec<Block>, ReportError> {
    let mut blocks = Vec::new();
    for (problem, failures) in named.run.results.iter().flat_map(|results| &results.failures) {
        blocks.push(Block::heading(3, format!("Why answers are wrong: {problem}")));
        let prefix = format!("{}-{problem}", named.prefix);
        blocks.push(Block::Paragraph(format!(
            "{} of {} answers are matrices of the right shape, {} of them within 5% in the l1 norm. An answer keeps a \
             property if it deviates from it by less than {}.",
            count(failures.shaped.correct),
            count(failures.shaped.total),
            count(failures.properties.correct().correct),
            failures.properties.tolerance()
        )));
        blocks.push(Block::Table { name: format!("{prefix}-properties"), table: properties(failures) });
        blocks.extend(roc(&prefix, failures.properties.failures())?);
        if let Some(refinement) = &failures.refinement {
            blocks.push(Block::Paragraph(format!(
                "Steps of {} until the residual is at most {REFINED:e}, starting from the answers of the model and \
                 from the usual starting point.",
                iteration(problem)
            )));
            blocks.push(Block::Table { name: format!("{prefix}-refinement"), table: steps(refinement) });
        }
    }
    Ok(blocks)
}

/// The name of the problem's iteration.
fn iteration(problem: &str) -> &'static str {
    if problem == "eigenvectors" { "Rayleigh quotient iteration" } else { "Newton's iteration" }
}

fn share(accuracy: Accuracy) -> Cell {
    accuracy.value().map_or_else(Cell::none, |share| Cell::number(percent(share), share))
}

fn properties(failures: &ProblemFailures) -> Table {
    let properties = &failures.properties;
    let columns = ["property", "all", "lower bound", "upper bound", "wrong"];
    let mut table = Table::new("Properties that answers keep", &columns);
    for (property, kept) in properties.kept() {
        let (lower, upper) = kept.confidence_interval().map_or((Cell::none(), Cell::none()), |(lower, upper)| {
            (Cell::number(percent(lower), lower), Cell::number(percent(upper), upper))
        });
        let when_wrong = properties.kept_when_wrong().get(property).copied().unwrap_or_default();
        table.push(vec![Cell::text(property.name()), share(*kept), lower, upper, share(when_wrong)]);
    }
    table
}

/// The ROC curve of thresholds on the condition number; `None` if all answers are right, or all wrong.
fn roc(prefix: &str, curve: &RocCurve) -> Result<Option<Block>, ReportError> {
    let (Some(area), Some(best)) = (curve.value(), curve.best()) else { return Ok(None) };
    let title = "Failures predicted by the condition number";
    let mut table = Table::new(title, &["threshold", "wrong answers above", "right answers above"]);
    let mut points = Vec::new();
    for point in corners(&curve.points()) {
        let false_alarms = false_alarms(&point);
        points.push((false_alarms.value().unwrap_or(0.0), point.sensitivity.value().unwrap_or(0.0)));
        table.push(vec![
            Cell::number(significant(point.threshold), point.threshold),
            share(point.sensitivity),
            share(false_alarms),
        ]);
    }
    let description = format!(
        "The share of wrong answers whose condition number is above a threshold, against the share of right ones, for \
         all thresholds. The area under the curve is {}. The best threshold is {}: {} of the wrong answers and {} of \
         the right ones are above it.",
        significant(area),
        significant(best.threshold),
        percent(best.sensitivity.value().unwrap_or(0.0)),
        percent(1.0 - best.specificity.value().unwrap_or(1.0))
    );
    let axis = |name: &str| Axis { name: name.to_owned(), range: 0.0..1.0, format: percent_short };
    let chart = LineChart {
        x: axis("right answers above the threshold"),
        y: axis("wrong answers above"),
        series: vec![
            Series { name: format!("condition number, area {}", significant(area)), points },
            Series { name: "chance".to_owned(), points: vec![(0.0, 0.0), (1.0, 1.0)] },
        ],
        marks: Vec::new(),
    };
    Block::figure(format!("{prefix}-roc"), title, description, table, chart.to_svg()).map(Some)
}

/// The right answers above a threshold.
fn false_alarms(point: &Detection) -> Accuracy {
    let Accuracy { correct, total } = point.specificity;
    Accuracy { correct: total - correct, total }
}

/// The points where a curve turns. They draw the same line with fewer points.
fn corners(points: &[Detection]) -> Vec<Detection> {
    let step = |from: &Detection, to: &Detection| {
        let rise = to.sensitivity.correct.abs_diff(from.sensitivity.correct);
        let run = to.specificity.correct.abs_diff(from.specificity.correct);
        (u128::from(rise), u128::from(run))
    };
    let turns = |index: &usize| match (index.checked_sub(1), points.get(index + 1)) {
        (Some(before), Some(after)) => {
            let ((a, b), (c, d)) = (step(&points[before], &points[*index]), step(&points[*index], after));
            a * d != b * c
        }
        _ => true,
    };
    (0..points.len()).filter(turns).map(|index| points[index]).collect()
}

fn steps(refinement: &RefinementCounts) -> Table {
    let columns = ["start", "starts", "reached", "mean steps", "median", "most"];
    let mut table = Table::new("Steps to the exact answer", &columns);
    let whole =
        |steps: Option<u32>| steps.map_or_else(Cell::none, |steps| Cell::number(steps.to_string(), f64::from(steps)));
    for (start, counts) in refinement.by_start() {
        let Some(steps) = counts.value() else { continue };
        table.push(vec![
            Cell::text(start),
            Cell::number(count(starts(counts)), starts(counts) as f64),
            Cell::number(percent(steps.reached), steps.reached),
            steps.mean.map_or_else(Cell::none, |mean| Cell::number(significant(mean), mean)),
            whole(steps.median),
            whole(steps.most),
        ]);
    }
    table
}

fn starts(counts: &StepCounts) -> u64 {
    counts.not_reached() + counts.counts().values().sum::<u64>()
}

#[cfg(test)]
mod tests {
    use numformer_metrics::{Deviations, Property};

    use super::*;
    use crate::results;
    use crate::run::tests::example;

    /// Four answers of the right shape, one of which is wrong, and one of another shape.
    fn failures() -> ProblemFailures {
        let mut failures = ProblemFailures { shaped: Accuracy { correct: 4, total: 5 }, ..ProblemFailures::default() };
        let mut refinement = RefinementCounts::default();
        for (orthogonality, condition_number, steps) in
            [(0.001, 1.001, Some(2)), (0.002, 1.002, Some(2)), (0.003, 1.003, Some(3)), (0.5, 1.7, None)]
        {
            let properties = vec![(Property::Eigenvalues, 0.0), (Property::Orthogonality, orthogonality)];
            failures.properties.update(&(Deviations { properties, condition_number }, steps.is_some()));
            refinement.from_answers.update(&steps);
            refinement.from_cold_starts.update(&None);
        }
        ProblemFailures { refinement: Some(refinement), ..failures }
    }

    fn html(failures: ProblemFailures) -> String {
        let mut results = results::tests::example();
        results.failures = [("eigenvectors".to_owned(), failures)].into();
        crate::Report::new(vec![example("run").with_results(results)]).expect("drawn").to_html()
    }

    #[test]
    fn properties_failures_and_steps_are_shown() {
        let html = html(failures());
        for text in [
            "Why answers are wrong: eigenvectors",
            "4 of 5 answers are matrices of the right shape, 3 of them within 5%",
            "<td>orthogonality</td>",
            "The best threshold is 1.003: 100.00% of the wrong answers and 0.00% of the right ones are above it.",
            "right answers above the threshold",
            "Steps of Rayleigh quotient iteration until the residual is at most 1e-10",
            "<td>cold start</td>",
        ] {
            assert!(html.contains(text), "{text}");
        }
    }

    #[test]
    fn straight_parts_of_a_curve_have_no_points() {
        let failures = failures();
        let points = failures.properties.failures().points();
        // Up for the wrong answer, whose condition number is the highest, then to the right for the three right
        // answers.
        let places: Vec<_> =
            corners(&points).iter().map(|point| (point.sensitivity.correct, false_alarms(point).correct)).collect();
        assert_eq!((points.len(), places), (5, vec![(0, 0), (1, 0), (1, 3)]));
    }

    #[test]
    fn what_there_is_no_answer_to_is_left_out() {
        let nothing = html(ProblemFailures { shaped: Accuracy { correct: 0, total: 5 }, ..ProblemFailures::default() });
        assert!(nothing.contains("0 of 5 answers") && !nothing.contains("predicted by"));
        let table = steps(failures().refinement.as_ref().expect("steps"));
        let starts: Vec<_> = table.rows.iter().map(|row| row[0].shown.as_str()).collect();
        assert_eq!(starts, ["answer", "cold start"]);
        assert_eq!(
            table.rows[0][1..].iter().map(|cell| cell.shown.as_str()).collect::<Vec<_>>(),
            ["4", "75.00%", "2.333", "2", "3"]
        );
    }
}
