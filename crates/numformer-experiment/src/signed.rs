//! Conversion of experiments to TOML tables, whose integers are signed.

use serde_json::Value as Json;
use toml::{Table, Value};

use crate::experiment::Experiment;

/// The largest integer of TOML.
pub(crate) const LARGEST: u64 = i64::MAX as u64;

/// Converts the experiment to a table. An integer too large for TOML becomes TOML's largest; no valid experiment holds
/// one.
pub(crate) fn table(experiment: &Experiment) -> Table {
    Table::try_from(experiment).unwrap_or_else(|_| match value(json(experiment)) {
        Some(Value::Table(table)) => table,
        _ => Table::new(),
    })
}

/// The dotted path of an integer that is too large for TOML, and the integer.
pub(crate) fn larger_than_toml(experiment: &Experiment) -> Option<(String, u64)> {
    fn search(path: &str, json: &Json) -> Option<(String, u64)> {
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match json {
            Json::Number(number) => {
                number.as_u64().filter(|found| *found > LARGEST).map(|found| (path.to_owned(), found))
            }
            Json::Array(items) => items.iter().find_map(|item| search(path, item)),
            Json::Object(map) => map.iter().find_map(|(key, item)| search(&below(key), item)),
            Json::Null | Json::Bool(_) | Json::String(_) => None,
        }
    }
    search("", &json(experiment))
}

fn json(experiment: &Experiment) -> Json {
    serde_json::to_value(experiment).expect("an experiment is plain data")
}

fn value(json: Json) -> Option<Value> {
    Some(match json {
        Json::Null => return None,
        Json::Bool(x) => Value::Boolean(x),
        Json::String(text) => Value::String(text),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(integer), ..) => Value::Integer(integer),
            (None, Some(_), _) => Value::Integer(i64::MAX),
            (None, None, x) => Value::Float(x?),
        },
        Json::Array(items) => Value::Array(items.into_iter().filter_map(value).collect()),
        Json::Object(map) => {
            Value::Table(map.into_iter().filter_map(|(key, item)| Some((key, value(item)?))).collect())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Catalogue, ExperimentError};

    #[test]
    fn integers_that_toml_has_not_are_named_and_never_a_panic() {
        let preset = Experiment::preset("transpose-3x3").expect("embedded");
        assert_eq!(larger_than_toml(&preset), None);
        for path in ["seed", "train.steps", "evaluate.every", "log.every", "checkpoint.keep"] {
            let mut changed = preset.clone();
            match path {
                "seed" => changed.seed = u64::MAX,
                "train.steps" => changed.train.steps = 1 << 63,
                "evaluate.every" => changed.evaluate.every = u64::MAX,
                "log.every" => changed.log.every = u64::MAX,
                _ => changed.checkpoint.keep = usize::MAX,
            }
            let error = changed.validate(&Catalogue::standard()).expect_err(path);
            assert!(matches!(&error, ExperimentError::TooLarge { key, .. } if key == path), "{path}: {error}");
            let differences = preset.differences(&changed);
            assert_eq!(differences.len(), 1, "{path}: {differences:?}");
            assert_eq!((&*differences[0].key, &*differences[0].right), (path, "9223372036854775807"));
            assert!(changed.with_settings(&["name=other"]).is_ok());
        }
    }

    #[test]
    fn a_table_is_the_same_by_both_ways() {
        let preset = Experiment::preset("eigenvalues-2x2-noise").expect("embedded");
        assert_eq!(value(json(&preset)), Some(Value::Table(table(&preset))));
    }
}
