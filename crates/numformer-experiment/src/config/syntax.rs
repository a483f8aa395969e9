//! The position of mistakes in TOML files, and suggestions for what was meant.

use numformer_evaluate::text::did_you_mean;
use toml::de::{DeTable, DeValue};

/// A mistake in the text of an experiment, and its position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}, line {line}: {message}{hint}")]
pub struct SyntaxError {
    /// The file or preset.
    pub origin: String,
    /// Line, from 1.
    pub line: usize,
    /// What was found.
    pub message: String,
    /// The nearest known name, if one is near, and the others.
    pub hint: String,
}

impl SyntaxError {
    pub(crate) fn new(toml: &str, origin: &str, error: &toml::de::Error) -> Self {
        let start = error.span().map_or(0, |span| span.start.min(toml.len()));
        let (message, hint) = message_and_hint(error);
        Self { origin: origin.to_owned(), line: 1 + toml[..start].matches('\n').count(), message, hint }
    }
}

/// The message of an error and, if the error is about an unknown name, the nearest known one.
pub(crate) fn message_and_hint(error: &toml::de::Error) -> (String, String) {
    let message = error.message().trim().replace('\n', ", ");
    // serde writes "unknown field `x`, expected one of `a`, `b`": the names are in backticks.
    let mut names = message.split('`').skip(1).step_by(2);
    let mut hint = match names.next() {
        Some(unknown) if message.starts_with("unknown ") => did_you_mean(unknown, names),
        _ => String::new(),
    };
    let message = message.replace("unknown field", "unknown key");
    match message.split_once(", expected ") {
        // The suggestion comes before the long list of names.
        Some((unknown, known)) if !hint.is_empty() => {
            hint += &format!(" expected {known}");
            (unknown.to_owned(), hint)
        }
        _ => (message, hint),
    }
}

/// The line, from 1, of the key with this dotted path. If a value is given, it is the line of the first such key with
/// that value. The search includes lists of tables.
pub(crate) fn line_of(toml: &str, key: &str, value: Option<&str>) -> Option<usize> {
    fn find(found: &toml::Spanned<DeValue<'_>>, path: &[&str], value: Option<&str>) -> Option<usize> {
        match (found.get_ref(), path) {
            (DeValue::Array(elements), _) => elements.iter().find_map(|element| find(element, path, value)),
            (DeValue::Table(table), [first, rest @ ..]) => find(table.get(*first)?, rest, value),
            (found_value, []) if value.is_none() || found_value.as_str() == value => Some(found.span().start),
            _ => None,
        }
    }
    let table = DeTable::parse(toml).ok()?;
    let [first, rest @ ..] = &key.split('.').collect::<Vec<_>>()[..] else { return None };
    let start = find(table.get_ref().get(*first)?, rest, value)?;
    Some(1 + toml[..start].matches('\n').count())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn the_suggestion_comes_before_the_names() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only what is refused is looked at")]
        struct Keys {
            warmup_steps: u32,
            steps: u32,
        }
        let toml = "steps = 1\nwarmup = 2\n";
        let error = toml::from_str::<Keys>(toml).expect_err("an unknown key");
        let expected =
            "a.toml, line 2: unknown key `warmup`; did you mean `warmup_steps`? expected `warmup_steps` or `steps`";
        assert_eq!(SyntaxError::new(toml, "a.toml", &error).to_string(), expected);
        let error = toml::from_str::<Keys>("xyz = 2\n").expect_err("an unknown key");
        let expected = "a.toml, line 1: unknown key `xyz`, expected `warmup_steps` or `steps`";
        assert_eq!(SyntaxError::new("xyz = 2\n", "a.toml", &error).to_string(), expected);
    }

    #[test]
    fn lines_are_those_of_keys() {
        let toml = "name = \"a\"\n[[problem]]\nname = \"a\"\n[[problem]]\nname = \"b\"\n[train]\nsteps = 0\n";
        assert_eq!(line_of(toml, "name", None), Some(1));
        assert_eq!(line_of(toml, "problem.name", Some("b")), Some(5));
        assert_eq!(line_of(toml, "train.steps", None), Some(7));
        for (key, value) in [("train.lr", None), ("problem.name", Some("c")), ("name.name", None)] {
            assert_eq!(line_of(toml, key, value), None, "{key}");
        }
    }
}
