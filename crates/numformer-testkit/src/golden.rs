//! Recorded data in `tests/golden/`.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;

/// Reads the JSON file `name` of `tests/golden/` in the root of the workspace.
///
/// # Panics
/// When the file is missing or does not match `T`; the message gives the reason.
pub fn golden<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::golden;

    #[test]
    fn golden_files_say_where_they_come_from() {
        let data: Value = golden("encodings.json");
        assert!(data["about"].as_str().is_some_and(|about| about.starts_with("Recorded from")));
    }

    #[test]
    #[should_panic(expected = "no-such-file.json")]
    fn a_missing_file_is_named() {
        golden::<Value>("no-such-file.json");
    }
}
