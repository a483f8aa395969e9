//! The figures of several sets of examples, side by side.

use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::figures::{Evaluation, side_by_side};
use crate::text::{Align, table};

/// The results of a model on several sets of examples. `Display` shows a line for each set: accuracies in the norm L1
/// with their intervals, in per cent. If a width is given, as in `{:40}`, a table wider than that becomes a list. The
/// table is serialized as an object with an entry for each set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EvaluationTable {
    rows: Vec<(String, Evaluation)>,
}

impl EvaluationTable {
    /// Adds a set.
    pub fn push(&mut self, name: &str, evaluation: Evaluation) {
        self.rows.push((name.to_owned(), evaluation));
    }

    /// The sets, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Evaluation)> {
        self.rows.iter().map(|(name, evaluation)| (name.as_str(), evaluation))
    }

    /// The figures of a set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Evaluation> {
        self.rows.iter().find(|(known, _)| known == name).map(|(_, evaluation)| evaluation)
    }

    /// Whether the table has no sets.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All figures as comma-separated values, one per line: set, group, norm, figure, tolerance, share and the ends of
    /// its interval. Groups are `all` and, if there are several of a kind, `dimension 5x5`, `problem NAME` and `law
    /// NAME`.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut lines = "set,group,examples,norm,figure,tolerance,value,lower,upper\n".to_owned();
        for (set, evaluation) in self.iter() {
            push_lines(&mut lines, set, "all", evaluation);
            for (shape, group) in &evaluation.by_dimension {
                push_lines(&mut lines, set, &format!("dimension {shape}"), group);
            }
            for (kind, groups) in [("problem", &evaluation.by_problem), ("law", &evaluation.by_law)] {
                for (name, group) in groups {
                    push_lines(&mut lines, set, &format!("{kind} {name}"), group);
                }
            }
        }
        lines
    }
}

fn push_lines(lines: &mut String, set: &str, group: &str, evaluation: &Evaluation) {
    let Evaluation { count, exact, exact_interval, decodable, decodable_interval, .. } = evaluation;
    let begin = format!("{},{},{count}", quoted(set), quoted(group));
    for (norm, estimates) in &evaluation.norms {
        for estimate in estimates {
            let (lower, upper) = estimate.interval;
            let tolerance = estimate.tolerance.fraction();
            *lines += &format!("{begin},{norm},accuracy,{tolerance},{},{lower},{upper}\n", estimate.share);
        }
    }
    for (figure, share, (lower, upper)) in
        [("exact", exact, exact_interval), ("decodable", decodable, decodable_interval)]
    {
        *lines += &format!("{begin},,{figure},,{share},{lower},{upper}\n");
    }
    *lines += &format!("{begin},,coefficients,0.01,{},,\n", evaluation.coefficients);
    *lines += &format!("{begin},,cross_entropy,,{},,\n", evaluation.cross_entropy);
}

/// Formats a field as defined by RFC 4180.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

impl fmt::Display for EvaluationTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return Ok(());
        }
        let sets = self.rows.iter().map(|(name, evaluation)| (name.clone(), evaluation));
        let (mut titles, mut rows) = side_by_side("set", sets);
        titles.push("drawn again".to_owned());
        for (row, (_, evaluation)) in rows.iter_mut().zip(&self.rows) {
            row.push(evaluation.rejected.to_string());
        }
        let width = f.width().filter(|width| *width > 0);
        f.write_str(table(&titles, &rows, Align::Left, width).trim_end())
    }
}

impl Serialize for EvaluationTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.rows.len()))?;
        for (name, evaluation) in &self.rows {
            map.serialize_entry(name, evaluation)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> EvaluationTable {
        let json = r#"{"count":40,"accuracy":[[0.05,0.9],[0.005,0.5]],"exact":0.25,"decodable":1.0,"cross_entropy":0.125,
            "rejected":3,"coefficients":0.955,"exact_interval":[0.141924,0.401937],"decodable_interval":[0.912377,1.0],
            "norms":{"l1":[[0.05,0.9,0.769494,0.960428],[0.005,0.5,0.351961,0.648039]]}}"#;
        let evaluation: Evaluation = serde_json::from_str(json).expect("an evaluation");
        let grouped = Evaluation { by_law: [("wigner".to_owned(), evaluation.clone())].into(), ..evaluation.clone() };
        let mut table = EvaluationTable::default();
        table.push("test", evaluation);
        table.push("with, comma", grouped);
        table
    }

    #[test]
    fn sets_stand_in_lines() {
        let expected = [
            "set          examples  within 5%         within 0.5%       exact             drawn again",
            "test         40        90.0 (76.9-96.0)  50.0 (35.2-64.8)  25.0 (14.2-40.2)  3",
            "with, comma  40        90.0 (76.9-96.0)  50.0 (35.2-64.8)  25.0 (14.2-40.2)  3",
        ];
        let found = table().to_string();
        assert_eq!(found.lines().collect::<Vec<_>>(), expected, "{found}");
        let list = format!("{:40}", table());
        let first = ["set", "test", "    examples 40,", "    within 5% 90.0 (76.9-96.0),"];
        assert_eq!(list.lines().take(4).collect::<Vec<_>>(), first, "{list}");
    }

    #[test]
    fn every_figure_has_a_line_of_values() {
        let csv = table().to_csv();
        let expected = [
            "set,group,examples,norm,figure,tolerance,value,lower,upper",
            "test,all,40,l1,accuracy,0.05,0.9,0.769494,0.960428",
            "test,all,40,l1,accuracy,0.005,0.5,0.351961,0.648039",
            "test,all,40,,exact,,0.25,0.141924,0.401937",
            "test,all,40,,decodable,,1,0.912377,1",
            "test,all,40,,coefficients,0.01,0.955,,",
            "test,all,40,,cross_entropy,,0.125,,",
        ];
        assert_eq!(csv.lines().take(7).collect::<Vec<_>>(), expected, "{csv}");
        assert!(csv.contains("\n\"with, comma\",law wigner,40,l1,accuracy,0.05,"), "{csv}");
        assert!(csv.lines().all(|line| line.replace("\"with, comma\"", "").matches(',').count() == 8), "{csv}");
    }

    #[test]
    fn sets_are_serialized_in_their_order() {
        let json = serde_json::to_string(&table()).expect("plain data");
        assert!(
            json.starts_with(r#"{"test":{"count":40,"#) && json.contains(r#","with, comma":{"count":40,"#),
            "{json}"
        );
    }
}
