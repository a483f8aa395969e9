//! The figures of an evaluation.

pub(crate) mod evaluation_table;
pub(crate) mod figure;
pub(crate) mod figure_name;

use std::collections::BTreeMap;
use std::fmt;

use numformer_metrics::{Norm, Tolerance};
use serde::{Deserialize, Serialize};

use crate::answers::shape::Shape;
use crate::figures::figure::Figure;
use crate::text::{Align, entry, table};

/// The results of a model on a set of examples. A custom evaluation leaves the figures that it does not compute at
/// their defaults.
///
/// Intervals are Wilson's 95% confidence intervals for the share among all possible examples. Their ends are given to
/// six decimals. [`EvaluationMetrics`](crate::EvaluationMetrics) collects the figures; [`evaluate`](crate::evaluate)
/// computes them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Number of examples.
    pub count: u64,
    /// Share of answers whose relative error in the norm L1 is below each tolerance: this is what "accuracy" means
    /// unless a norm is named.
    pub accuracy: Vec<(Tolerance, f64)>,
    /// Share of answers equal to the exact one token for token.
    pub exact: f64,
    /// Share of answers that can be read as a matrix.
    pub decodable: f64,
    /// Mean cross-entropy per target token under teacher forcing, in nats.
    pub cross_entropy: f64,
    /// Number of matrices that were drawn for the examples but rejected: they had no answer that can be trusted and
    /// written.
    #[serde(default)]
    pub rejected: u64,
    /// Share of coefficients within 1% of the exact answer's, averaged over the examples. The share of an answer that
    /// cannot be read or has the wrong shape is zero.
    #[serde(default)]
    pub coefficients: f64,
    /// The accuracies in every norm, L1 included, with their intervals.
    #[serde(default)]
    pub norms: BTreeMap<Norm, Vec<Estimate>>,
    /// Interval of `exact`.
    #[serde(default = "anything")]
    pub exact_interval: (f64, f64),
    /// Interval of `decodable`.
    #[serde(default = "anything")]
    pub decodable_interval: (f64, f64),
    /// The figures of custom metrics, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub custom: BTreeMap<String, Figure>,
    /// The same figures for each shape of the input. This group, like the others, is empty if it would have only one
    /// entry.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_dimension: BTreeMap<Shape, Evaluation>,
    /// The same figures for each problem.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_problem: BTreeMap<String, Evaluation>,
    /// The same figures for each named law of random matrices.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_law: BTreeMap<String, Evaluation>,
}

/// The share of answers whose error is below a tolerance, with its interval.
///
/// Serialized as a list, `[tolerance, share, lower, upper]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "(Tolerance, f64, f64, f64)", into = "(Tolerance, f64, f64, f64)")]
pub struct Estimate {
    /// The tolerance.
    pub tolerance: Tolerance,
    /// The measured share.
    pub share: f64,
    /// The lower and the upper end of the interval.
    pub interval: (f64, f64),
}

impl From<(Tolerance, f64, f64, f64)> for Estimate {
    fn from((tolerance, share, lower, upper): (Tolerance, f64, f64, f64)) -> Self {
        Self { tolerance, share, interval: (lower, upper) }
    }
}

impl From<Estimate> for (Tolerance, f64, f64, f64) {
    fn from(Estimate { tolerance, share, interval: (lower, upper) }: Estimate) -> Self {
        (tolerance, share, lower, upper)
    }
}

/// The interval when nothing is known, as in logs of versions that wrote no intervals.
fn anything() -> (f64, f64) {
    (0.0, 1.0)
}

impl fmt::Display for Evaluation {
    /// Formats the figures on one line or, with `{:#}`, as tables with intervals, in per cent. If a width is given, as
    /// in `{:#40}`, tables wider than that become lists.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            for (tolerance, share) in &self.accuracy {
                write!(f, "{tolerance}: {:.1}  ", 100.0 * share)?;
            }
            write!(f, "exact: {:.1}  cross-entropy {:.4}", 100.0 * self.exact, self.cross_entropy)?;
            return self.custom.iter().try_for_each(|(name, figure)| write!(f, "  {name}: {:.4}", figure.value));
        }
        let width = f.width().filter(|width| *width > 0).map(|width| width.saturating_sub(INDENT.len()));
        // As wide as the longest of the names below.
        let per_cent = format!("{:<13}", "per cent");
        let titles: Vec<String> = [per_cent].into_iter().chain(self.norms.keys().map(Norm::to_string)).collect();
        let rows = self.accuracy.iter().enumerate().map(|(index, (tolerance, _))| {
            let estimates = self.norms.values().filter_map(|estimates| estimates.get(index));
            let cells = estimates.map(|estimate| percent::<2>(estimate.share, estimate.interval));
            [format!("within {tolerance}")].into_iter().chain(cells).collect()
        });
        let mut text = table(&titles, &rows.collect::<Vec<_>>(), Align::Left, width);
        let mut add = |name: &str, figure: &str| text += &entry(&format!("{name:<15}"), figure, width);
        add("exact", &percent::<2>(self.exact, self.exact_interval));
        add("decodable", &percent::<2>(self.decodable, self.decodable_interval));
        add("coefficients", &format!("{:.2}, mean share within 1%", 100.0 * self.coefficients));
        add("cross-entropy", &format!("{:.4}", self.cross_entropy));
        for (name, figure) in &self.custom {
            add(&format!("{name}  "), &format!("{:.4}", figure.value));
        }
        if self.rejected > 0 {
            add("drawn again", &self.rejected.to_string());
        }
        text += &groups("dimension", &self.by_dimension, width);
        text += &groups("problem", &self.by_problem, width);
        text += &groups("law", &self.by_law, width);
        let lines: Vec<String> = text.lines().map(|line| format!("{INDENT}{line}").trim_end().to_owned()).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// The indentation of each line of the tables.
const INDENT: &str = "  ";

/// A share and its interval with `DIGITS` decimals: `97.30 (95.21-98.50)`.
fn percent<const DIGITS: usize>(share: f64, (lower, upper): (f64, f64)) -> String {
    let [share, lower, upper] = [share, lower, upper].map(|x| 100.0 * x);
    format!("{share:.DIGITS$} ({lower:.DIGITS$}-{upper:.DIGITS$})")
}

/// A table with a line for each group, after an empty line. Empty if there are no groups.
fn groups<K: fmt::Display>(name: &str, groups: &BTreeMap<K, Evaluation>, width: Option<usize>) -> String {
    if groups.is_empty() {
        return String::new();
    }
    let (titles, rows) = side_by_side(name, groups.iter().map(|(key, group)| (key.to_string(), group)));
    format!("\n{}", table(&titles, &rows, Align::Left, width))
}

/// Titles and rows of a table of several sets of examples: their number, accuracies in the norm L1 and exact answers,
/// in per cent. All were judged by the same tolerances.
pub(crate) fn side_by_side<'a>(
    name: &str,
    sets: impl IntoIterator<Item = (String, &'a Evaluation)>,
) -> (Vec<String>, Vec<Vec<String>>) {
    let mut titles = Vec::new();
    let rows = sets.into_iter().map(|(set, evaluation)| {
        let within = evaluation.accuracy.iter().map(|(tolerance, _)| format!("within {tolerance}"));
        titles = [name.to_owned(), "examples".to_owned()].into_iter().chain(within).collect();
        titles.push("exact".to_owned());
        let shares = evaluation.norms.get(&Norm::L1).into_iter().flatten();
        let shares = shares.map(|estimate| percent::<1>(estimate.share, estimate.interval));
        let mut row = vec![set, evaluation.count.to_string()];
        row.extend(shares);
        // Logs of older versions have no intervals.
        row.extend(evaluation.accuracy.iter().skip(row.len() - 2).map(|(_, share)| format!("{:.1}", 100.0 * share)));
        row.push(percent::<1>(evaluation.exact, evaluation.exact_interval));
        row
    });
    let rows = rows.collect();
    (titles, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation() -> Evaluation {
        let json = r#"{"count":40,"accuracy":[[0.05,0.9],[0.005,0.5]],"exact":0.25,"decodable":1.0,"cross_entropy":0.125,
            "rejected":3,"coefficients":0.955,"exact_interval":[0.141924,0.401937],"decodable_interval":[0.912377,1.0],
            "norms":{"l1":[[0.05,0.9,0.769494,0.960428],[0.005,0.5,0.351961,0.648039]],
                "max":[[0.05,0.8,0.65245,0.895038],[0.005,0.25,0.141924,0.401937]]}}"#;
        serde_json::from_str(json).expect("an evaluation")
    }

    #[test]
    fn a_line_holds_the_figures_that_are_watched() {
        assert_eq!(evaluation().to_string(), "5%: 90.0  0.5%: 50.0  exact: 25.0  cross-entropy 0.1250");
    }

    #[test]
    fn the_table_holds_norms_and_intervals() {
        let expected = [
            "  per cent       l1                   max",
            "  within 5%      90.00 (76.95-96.04)  80.00 (65.25-89.50)",
            "  within 0.5%    50.00 (35.20-64.80)  25.00 (14.19-40.19)",
            "  exact          25.00 (14.19-40.19)",
            "  decodable      100.00 (91.24-100.00)",
            "  coefficients   95.50, mean share within 1%",
            "  cross-entropy  0.1250",
            "  drawn again    3",
        ];
        let table = format!("{:#}", evaluation());
        assert_eq!(table.lines().collect::<Vec<_>>(), expected, "{table}");
    }

    #[test]
    fn groups_are_listed_when_there_are_some() {
        let mut whole = evaluation();
        whole.by_dimension = [(10, 10), (5, 5)].map(|shape| (shape.into(), evaluation())).into();
        whole.by_law = [("wigner".to_owned(), evaluation())].into();
        let table = format!("{whole:#}");
        let groups: Vec<&str> = table.lines().skip_while(|line| !line.is_empty()).collect();
        let figures = "40        90.0 (76.9-96.0)  50.0 (35.2-64.8)  25.0 (14.2-40.2)";
        let head = "examples  within 5%         within 0.5%       exact";
        let expected = [
            String::new(),
            format!("  dimension  {head}"),
            format!("  5x5        {figures}"),
            format!("  10x10      {figures}"),
            String::new(),
            format!("  law     {head}"),
            format!("  wigner  {figures}"),
        ];
        assert_eq!(groups, expected, "{table}");
    }

    #[test]
    fn tables_that_are_too_wide_become_lists() {
        let mut whole = evaluation();
        whole.by_law = [("wigner".to_owned(), evaluation())].into();
        let expected = [
            "  per cent",
            "  within 5%",
            "      l1 90.00 (76.95-96.04),",
            "      max 80.00 (65.25-89.50)",
            "  within 0.5%",
            "      l1 50.00 (35.20-64.80),",
            "      max 25.00 (14.19-40.19)",
            "  exact          25.00 (14.19-40.19)",
            "  decodable      100.00 (91.24-100.00)",
            "  coefficients",
            "      95.50, mean share within 1%",
            "  cross-entropy  0.1250",
            "  drawn again    3",
            "",
            "  law",
            "  wigner",
            "      examples 40,",
            "      within 5% 90.0 (76.9-96.0),",
            "      within 0.5% 50.0 (35.2-64.8),",
            "      exact 25.0 (14.2-40.2)",
        ];
        let list = format!("{whole:#40}");
        assert_eq!(list.lines().collect::<Vec<_>>(), expected, "{list}");
        assert_eq!(format!("{whole:#100}"), format!("{whole:#}"));
        assert_eq!(format!("{whole:#0$}", 0), format!("{whole:#}"));
    }

    #[test]
    fn lines_without_the_newer_figures_are_read() {
        let json = r#"{"count":1,"accuracy":[[0.05,1.0]],"exact":1.0,"decodable":1.0,"cross_entropy":0.0}"#;
        let evaluation: Evaluation = serde_json::from_str(json).expect("an evaluation");
        assert_eq!((evaluation.exact_interval, evaluation.norms.len()), ((0.0, 1.0), 0));
        assert!(format!("{evaluation:#}").contains("within 5%"));
        let (titles, rows) = side_by_side("set", [("old".to_owned(), &evaluation)]);
        assert_eq!(titles, ["set", "examples", "within 5%", "exact"]);
        assert_eq!(rows, [["old", "1", "100.0", "100.0 (0.0-100.0)"]]);
    }
}
