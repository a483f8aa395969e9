//! A part of an experiment: built in, or custom and referred to by name.

use numformer_train::{AfterWarmUp, OptimizerConfig};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

/// A part of an experiment: a built-in one, or a custom one that the [`Catalogue`](crate::Catalogue) knows by name. In
/// TOML, `optimizer = { name = "lion", beta1 = 0.95 }`.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice<T> {
    /// A built-in part.
    BuiltIn(T),
    /// A custom part.
    Custom(CustomConfig),
}

/// A custom part: its name, and the options for its constructor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CustomConfig {
    /// The name in the [`Catalogue`](crate::Catalogue).
    pub name: String,
    /// Its options.
    #[serde(flatten)]
    pub options: Table,
}

impl<T: Default> Default for Choice<T> {
    fn default() -> Self {
        Self::BuiltIn(T::default())
    }
}

impl<T> From<T> for Choice<T> {
    fn from(built_in: T) -> Self {
        Self::BuiltIn(built_in)
    }
}

/// A kind of built-in part, and its names in TOML.
pub trait BuiltIn: Serialize + DeserializeOwned {
    /// The key that names the part.
    const TAG: &'static str;
    /// The names of all built-in parts.
    const NAMES: &'static [&'static str];
}

impl BuiltIn for OptimizerConfig {
    const TAG: &'static str = "name";
    const NAMES: &'static [&'static str] = &["adam", "sgd", "muon"];
}

impl BuiltIn for AfterWarmUp {
    const TAG: &'static str = "after_warmup";
    const NAMES: &'static [&'static str] = &["constant", "inverse-sqrt", "cosine"];
}

impl<T: BuiltIn> Serialize for Choice<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::BuiltIn(built_in) => built_in.serialize(serializer),
            Self::Custom(custom) => custom.serialize(serializer),
        }
    }
}

impl<'de, T: BuiltIn> Deserialize<'de> for Choice<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = Table::deserialize(deserializer)?;
        let custom =
            table.get("name").and_then(Value::as_str).filter(|name| T::TAG != "name" || !T::NAMES.contains(name));
        let read = match custom {
            Some(_) => table.clone().try_into().map(Self::Custom),
            None => table.clone().try_into().map(Self::BuiltIn),
        };
        read.map_err(|error: toml::de::Error| D::Error::custom(error.message()))
    }
}

#[cfg(test)]
mod tests {
    use numformer_train::SgdConfig;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Train {
        #[serde(default)]
        optimizer: Choice<OptimizerConfig>,
        #[serde(default)]
        schedule: Choice<AfterWarmUp>,
    }

    #[test]
    fn parts_are_read_as_they_are_written() {
        let sgd = OptimizerConfig::Sgd(SgdConfig { momentum: 0.9, nesterov: false });
        let read = |toml: &str| toml::from_str::<Train>(toml);
        let train = read(r#"optimizer = { name = "sgd", momentum = 0.9 }"#).expect("both");
        assert_eq!(train, Train { optimizer: sgd.into(), schedule: Choice::default() });
        let toml = r#"
            optimizer = { name = "lion", beta1 = 0.95 }
            schedule = { name = "triangle", period = 100 }
        "#;
        let train = read(toml).expect("both");
        let Choice::Custom(lion) = &train.optimizer else { panic!("{train:?}") };
        assert_eq!((lion.name.as_str(), lion.options["beta1"].as_float()), ("lion", Some(0.95)));
        assert_eq!(read(&toml::to_string(&train).expect("TOML")).expect("its own"), train);
        let json = serde_json::to_string(&train).expect("JSON");
        assert_eq!(serde_json::from_str::<Train>(&json).expect("its own"), train);
        let error = read(r#"optimizer = { name = "adam", beta = 0.9 }"#).expect_err("a mistake").to_string();
        assert!(error.contains("unknown field `beta`"), "{error}");
        let error = read(r#"schedule = { after_warmup = "linear" }"#).expect_err("a mistake").to_string();
        assert!(error.contains("unknown variant `linear`"), "{error}");
    }
}
