//! The differences between experiments, and the keys that a run depends on.

use numformer_data::Split;
use numformer_train::{Difference, DivergencePolicy};

use crate::{DataConfig, Experiment, signed};

impl Experiment {
    /// The first key in which `other` differs and on which a run depends. `None` means that a run of this experiment
    /// can continue as a run of `other`, with the same weights as if it had been one from the beginning.
    ///
    /// No run depends on `train.steps`, `stop`, `log`, `checkpoint.keep`, `checkpoint.best`, `evaluate.set` and
    /// `expected`, nor on the paths of its files of examples: checkpoints record whether the contents are the same. It
    /// depends on the following keys if they affect training, or if figures on different examples would be compared:
    ///
    /// - `checkpoint.every`, if the run returns to a checkpoint when it diverges,
    /// - `evaluate.every`, in the same case, and if a stage ends by a goal,
    /// - `evaluate.examples`, `evaluate.seed` and `evaluate.metric`, in the same cases, and if `other` has
    ///   `checkpoint.best` or `stop.patience`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        let depends = |difference: &Difference| other.depends_on(&difference.key) && !is_moved_file(difference);
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
            "evaluate.examples" | "evaluate.seed" | "evaluate.metric" => is_steered || compares,
            _ => !["stop", "log", "expected", "checkpoint.best", "evaluate.set"].iter().any(|part| is_part(key, part)),
        }
    }

    /// The differences to `other`, as which a run continues. When the run ends and what is expected of it are left out:
    /// an extended run is the same as one that was longer from the beginning.
    pub(crate) fn changes(&self, other: &Self) -> Vec<Difference> {
        let is_end = |key: &str| key == "train.steps" || is_part(key, "stop") || is_part(key, "expected");
        let is_told = |difference: &Difference| !is_end(&difference.key) && !is_moved_file(difference);
        self.differences(other).into_iter().filter(is_told).collect()
    }

    /// Every key in which `other` differs.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let [left, right] = [self, other].map(|experiment| toml::Value::Table(signed::table(experiment)));
        let mut differences = Vec::new();
        compare("", Some(&left), Some(&right), &mut differences);
        differences
    }
}

/// Whether a key is `of`, or lies within it.
pub(crate) fn is_part(key: &str, of: &str) -> bool {
    key.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The placeholder for an absent value.
const ABSENT: &str = "absent";

/// Whether this key is the path of a file of examples that both experiments have.
fn is_moved_file(Difference { key, left, right }: &Difference) -> bool {
    let is_file = [Split::Train, Split::Validation, Split::Test].map(DataConfig::key).contains(&&**key);
    is_file && left != ABSENT && right != ABSENT
}

/// Adds the differences between the values at `path` in two experiments to `differences`.
pub(crate) fn compare(
    path: &str,
    left: Option<&toml::Value>,
    right: Option<&toml::Value>,
    differences: &mut Vec<Difference>,
) {
    if let (Some(toml::Value::Table(a)), Some(toml::Value::Table(b))) = (left, right) {
        let only_right = b.keys().filter(|key| !a.contains_key(*key));
        for key in a.keys().chain(only_right) {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            compare(&path, a.get(key), b.get(key), differences);
        }
    } else if left != right {
        let [left, right] = [left, right].map(|value| value.map_or(ABSENT.to_owned(), toml::Value::to_string));
        // NaN is not equal to itself, but that is no difference.
        if left != right {
            differences.push(Difference { key: path.to_owned(), left, right });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a run of the preset with these settings may continue with this change.
    fn goes_on(settings: &[&str], change: &str) -> bool {
        let preset = Experiment::preset("transpose-3x3").expect("embedded");
        let run = preset.with_settings(settings).expect("settings");
        let changed = run.with_settings(&[change]).expect("a setting");
        assert!(!run.differences(&changed).is_empty(), "{change} changes a key");
        run.difference(&changed).is_none()
    }

    const ROLL_BACK: &str = r#"train.divergence={policy="roll-back",lr_factor=0.5,limit=1}"#;
    const STAGE: &str = r#"stage=[{name="first",until={metric="exact",value=0.5}}]"#;
    const PLAIN_STAGE: &str = r#"stage=[{name="first",steps=3}]"#;
    const BEST: &str = r#"checkpoint.best=["exact"]"#;
    const PATIENCE: &str = r#"stop.patience={metric="exact",evaluations=3}"#;

    #[test]
    fn what_weights_do_not_depend_on_may_change() {
        let always = [
            "train.steps=7",
            "log.every=7",
            "log.tensorboard=true",
            "checkpoint.keep=7",
            r#"checkpoint.best=["cross_entropy"]"#,
            r#"stop.target={metric="exact",value=0.5}"#,
            r#"stop={patience={metric="exact",evaluations=3}}"#,
            r#"expected={metric="exact",value=0.5,source="us"}"#,
            r#"evaluate.set=[{name="other",noise=0.5}]"#,
        ];
        for settings in [&[][..], &[ROLL_BACK], &[STAGE], &[BEST], &[STAGE, ROLL_BACK, BEST]] {
            for change in always {
                assert!(goes_on(settings, change), "{change} of {settings:?}");
            }
        }
        for settings in [&[][..], &[PLAIN_STAGE]] {
            for change in ["checkpoint.every=7", "evaluate.every=7", "evaluate.examples=7", "evaluate.seed=7"] {
                assert!(goes_on(settings, change), "{change} of {settings:?}");
            }
        }
    }

    #[test]
    fn what_steers_or_is_compared_may_not() {
        for (setting, refused) in [
            (ROLL_BACK, &["checkpoint.every", "evaluate.every", "evaluate.examples", "evaluate.seed"][..]),
            (STAGE, &["evaluate.every", "evaluate.examples", "evaluate.seed"]),
            (BEST, &["evaluate.examples", "evaluate.seed"]),
            (PATIENCE, &["evaluate.examples", "evaluate.seed"]),
        ] {
            for key in ["checkpoint.every", "evaluate.every", "evaluate.examples", "evaluate.seed"] {
                assert_eq!(goes_on(&[setting], &format!("{key}=7")), !refused.contains(&key), "{key} with {setting}");
            }
        }
    }

    #[test]
    fn what_weights_depend_on_may_not_change() {
        for change in [
            "name=other",
            "seed=7",
            "start_from=runs/a",
            "problem.name=inversion",
            "matrices.bound=7.0",
            "encoding.output=p10",
            "data.noise=0.5",
            "data.bucket_window=7",
            "data.repeated.examples=7",
            "data.train=train.tsv",
            "data.validation=valid.tsv",
            "model.dropout=0.5",
            "model.encoder.n_layers=7",
            "model.number_vectors=values",
            "train.lr=0.5",
            "train.warmup_steps=7",
            "train.batch_size=7",
            "train.accumulate=7",
            "train.weight_decay=0.5",
            "train.precision=bf16",
            "train.optimizer.name=muon",
            "train.gradients=autodiff",
            ROLL_BACK,
            STAGE,
        ] {
            assert!(!goes_on(&[], change), "{change}");
        }
    }

    #[test]
    fn a_key_is_not_taken_for_another_that_begins_alike() {
        assert!(is_part("log", "log") && is_part("log.every", "log") && is_part("stop.target.value", "stop.target"));
        assert!(!is_part("logs", "log") && !is_part("log", "log.every") && !is_part("stop.targets", "stop.target"));
    }
}
