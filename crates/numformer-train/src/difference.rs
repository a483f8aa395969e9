//! A value that differs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A key with different values in two experiments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// Dotted path of the key.
    pub key: String,
    /// Value in the first experiment, as TOML; `absent` if it has none.
    #[serde(rename = "from")]
    pub left: String,
    /// Value in the second experiment.
    #[serde(rename = "to")]
    pub right: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, left, right } = self;
        write!(f, "{key} is {left} there and {right} here")
    }
}
