//! In what two experiments differ.

use std::fmt::{self, Display};

use numformer_data::Split;
use serde::{Deserialize, Serialize};

use crate::divergence::DivergencePolicy;
use crate::{DataConfig, Experiment};

impl Experiment {
    /// The first key in which `other` differs and on which a run depends: `None` when a run of this experiment can go on as
    /// one of `other`, with the weights that it would have had.
    ///
    /// No run depends on `train.steps`, `stop`, `log`, `checkpoint.keep`, `checkpoint.best`, `evaluate.set` and `expected`, nor
    /// on where its files of examples lie: checkpoints tell whether they hold the same. It depends on the others of these where they steer it or figures would be compared that are not of the same examples:
    ///
    /// - `checkpoint.every`, where the run goes back to a checkpoint when it diverges,
    /// - `evaluate.every`, there, too, and where a stage ends by a goal,
    /// - `evaluate.examples` and `evaluate.seed`, there, too, and where `other` has `checkpoint.best` or `stop.patience`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        let depends = |difference: &Difference| other.depends_on(&difference.key) && !difference.is_moved_file();
        self.differences(other).into_iter().find(depends)
    }

    /// Whether a run of this experiment depends on the value of a key.
    fn depends_on(&self, key: &str) -> bool {
        let goes_back = matches!(self.train.divergence, DivergencePolicy::RollBack { .. });
        let is_steered = goes_back || self.stage.iter().any(|stage| stage.until.is_some());
        let compares = !self.checkpoint.best.is_empty() || self.stop.patience.is_some();
        match key {
            "train.steps" | "checkpoint.keep" => false,
            "checkpoint.every" => goes_back,
            "evaluate.every" => is_steered,
            "evaluate.examples" | "evaluate.seed" => is_steered || compares,
            _ => !["stop", "log", "expected", "checkpoint.best", "evaluate.set"].iter().any(|part| is_part(key, part)),
        }
    }

    /// In what `other`, as which a run goes on, differs; but when the run ends and what is expected of it is not told: a run
    /// that was made longer is as one that was longer from the beginning.
    pub(crate) fn changes(&self, other: &Self) -> Vec<Difference> {
        let is_end = |key: &str| key == "train.steps" || is_part(key, "stop") || is_part(key, "expected");
        self.differences(other).into_iter().filter(|difference| !is_end(&difference.key)).collect()
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

/// Whether a key is `of`, or stands somewhere in it.
pub(crate) fn is_part(key: &str, of: &str) -> bool {
    key.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// What stands for a value that is not there.
const ABSENT: &str = "absent";

/// A key with different values in two experiments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// Dotted path of the key.
    pub key: String,
    /// Value in the first experiment, as TOML; `absent` without one.
    #[serde(rename = "from")]
    pub left: String,
    /// Value in the second.
    #[serde(rename = "to")]
    pub right: String,
}

impl Difference {
    /// Whether this is the place of a file of examples, of which there is one in both experiments.
    fn is_moved_file(&self) -> bool {
        let is_file = [Split::Train, Split::Validation, Split::Test].map(DataConfig::key).contains(&&*self.key);
        is_file && self.left != ABSENT && self.right != ABSENT
    }
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
        let [left, right] = [left, right].map(|value| value.map_or(ABSENT.to_owned(), toml::Value::to_string));
        differences.push(Difference { key: path.to_owned(), left, right });
    }
}
