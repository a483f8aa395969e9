//! In what two experiments differ.

use std::fmt::{self, Display};

use crate::Experiment;

impl Experiment {
    /// The first key in which `other` differs, number of steps apart: `None` when one run can serve both.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        let mut other = other.clone();
        other.train.steps = self.train.steps;
        let tables =
            [self, &other].map(|experiment| toml::Value::try_from(experiment).expect("an experiment is plain data"));
        first_difference("", &tables[0], &tables[1])
    }
}

/// A key with different values in two experiments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Dotted path of the key.
    pub key: String,
    /// Value in the first experiment, as TOML; `absent` without one.
    pub left: String,
    /// Value in the second.
    pub right: String,
}

impl Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, left, right } = self;
        write!(f, "{key} is {left} there and {right} here")
    }
}

fn first_difference(path: &str, left: &toml::Value, right: &toml::Value) -> Option<Difference> {
    if let (Some(a), Some(b)) = (left.as_table(), right.as_table()) {
        let only_right = b.keys().filter(|key| !a.contains_key(*key));
        return a.keys().chain(only_right).find_map(|key| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match (a.get(key), b.get(key)) {
                (Some(a), Some(b)) => first_difference(&path, a, b),
                (a, b) => Some(Difference {
                    key: path,
                    left: a.map_or("absent".to_owned(), toml::Value::to_string),
                    right: b.map_or("absent".to_owned(), toml::Value::to_string),
                }),
            }
        });
    }
    (left != right).then(|| Difference { key: path.to_owned(), left: left.to_string(), right: right.to_string() })
}
