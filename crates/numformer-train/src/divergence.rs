//! What to do when training diverges.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A policy for steps whose loss or gradient is not finite. Such a step never updates the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "policy", deny_unknown_fields)]
pub enum DivergencePolicy {
    /// The run ends with an error. Its checkpoints stay.
    #[default]
    Stop,
    /// The step is left out and counted. Its examples are not learned from.
    Skip {
        /// The most steps that may be left out in a row. One more ends the run.
        #[serde(default = "ten")]
        limit: u32,
    },
    /// The run goes back to its last regular checkpoint that has given a finite loss, or to its beginning. It goes on
    /// from there at a lower learning rate.
    RollBack {
        /// Multiplies the learning rate of all steps from then on: above 0, below 1.
        #[serde(default = "half")]
        lr_factor: f64,
        /// The most times that the run may go back. One more ends the run.
        #[serde(default = "ten")]
        limit: u32,
    },
}

fn ten() -> u32 {
    10
}

fn half() -> f64 {
    0.5
}

/// A step that could not be taken, and what was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DivergenceReport {
    /// The step that the run is at once the divergence was handled: the diverged step if it was left out, an earlier
    /// one if the run went back, the last one if the run ended.
    pub step: u64,
    /// The step that could not be taken.
    pub diverged: u64,
    /// Loss found.
    #[serde(with = "any_float")]
    pub loss: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Gradient norm found.
    #[serde(with = "any_float")]
    pub gradient_norm: f64,
    /// What was done.
    pub remedy: Remedy,
}

/// What was done about a divergence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// The step was left out.
    Skipped,
    /// The run went back.
    RolledBack,
    /// The run ended, with an error.
    Stopped,
}

impl fmt::Display for DivergenceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, diverged, loss, lr, gradient_norm, remedy } = self;
        write!(f, "diverged at step {diverged} (loss {loss}, gradient norm {gradient_norm}, learning rate {lr:e}): ")?;
        match remedy {
            Remedy::Skipped => f.write_str("skipped"),
            Remedy::RolledBack => write!(f, "rolled back to step {step}, with a lower learning rate"),
            Remedy::Stopped => write!(f, "stopped after step {step}"),
        }
    }
}

/// JSON cannot express numbers that are not finite, so they are written as text.
mod any_float {
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum NumberOrText {
        Number(f64),
        Text(String),
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() {
            NumberOrText::Number(*value).serialize(serializer)
        } else {
            NumberOrText::Text(value.to_string()).serialize(serializer)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(value) => Ok(value),
            NumberOrText::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_written_and_read() {
        let report = DivergenceReport {
            step: 4,
            diverged: 7,
            loss: f64::INFINITY,
            lr: 1e-3,
            gradient_norm: 2.0,
            remedy: Remedy::RolledBack,
        };
        let json = serde_json::to_string(&report).expect("plain data");
        assert!(json.contains(r#""loss":"inf","lr":0.001,"gradient_norm":2.0,"remedy":"rolled_back""#), "{json}");
        assert_eq!(serde_json::from_str::<DivergenceReport>(&json).expect("read back"), report);
        let nan = serde_json::from_str::<DivergenceReport>(&json.replace("inf", "NaN")).expect("read");
        assert!(nan.loss.is_nan());
    }

    #[test]
    fn policies_are_named_in_toml() {
        #[derive(Deserialize)]
        struct Table {
            divergence: DivergencePolicy,
        }
        let read = |toml: &str| toml::from_str::<Table>(toml).map(|table| table.divergence);
        let skip = read(r#"divergence = { policy = "skip", limit = 3 }"#).expect("a policy");
        assert_eq!(skip, DivergencePolicy::Skip { limit: 3 });
        let back = read(r#"divergence = { policy = "roll-back" }"#).expect("a policy");
        assert_eq!(back, DivergencePolicy::RollBack { lr_factor: 0.5, limit: 10 });
        read(r#"divergence = { policy = "skip", lr_factor = 0.5 }"#).expect_err("of another policy");
    }
}
