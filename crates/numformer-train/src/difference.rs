//! In what two experiments differ.

use std::fmt::{self, Display};

use crate::{DataConfig, Experiment};

impl Experiment {
    /// The first key in which `other` differs, apart from when a run ends, what is expected of it, and where its files of examples
    /// lie: `None` when one run can serve both. Checkpoints tell whether the files hold the same.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        let mut other = other.clone();
        other.train.steps = self.train.steps;
        other.stop.clone_from(&self.stop);
        other.expected.clone_from(&self.expected);
        let DataConfig { train, validation, test, .. } = &mut other.data;
        for (own, other) in [(&self.data.train, train), (&self.data.validation, validation), (&self.data.test, test)] {
            if own.is_some() && other.is_some() {
                other.clone_from(own);
            }
        }
        self.differences(&other).into_iter().next()
    }

    /// Every key in which `other` differs.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let [left, right] =
            [self, other].map(|experiment| toml::Value::try_from(experiment).expect("an experiment is plain data"));
        let mut differences = Vec::new();
        compare("", Some(&left), Some(&right), &mut differences);
        differences
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

/// Compares what stands at `path` in two experiments.
fn compare(path: &str, left: Option<&toml::Value>, right: Option<&toml::Value>, differences: &mut Vec<Difference>) {
    if let (Some(toml::Value::Table(a)), Some(toml::Value::Table(b))) = (left, right) {
        let only_right = b.keys().filter(|key| !a.contains_key(*key));
        for key in a.keys().chain(only_right) {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            compare(&path, a.get(key), b.get(key), differences);
        }
    } else if left != right {
        let [left, right] = [left, right].map(|value| value.map_or("absent".to_owned(), toml::Value::to_string));
        differences.push(Difference { key: path.to_owned(), left, right });
    }
}
