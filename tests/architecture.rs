//! The crates and what they use are those that `docs/architecture.md` lists.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::Value;

type Uses = BTreeMap<String, BTreeSet<String>>;

/// The crates of the table, with what they use.
fn documented() -> Uses {
    let page = fs::read_to_string("docs/architecture.md").unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `numformer"));
    let row = |row: &str| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let uses = cells[2].split(", ").filter(|name| !name.is_empty()).map(|name| format!("numformer-{name}"));
        (format!("numformer{}", cells[0].trim_end_matches('`')), uses.collect())
    };
    rows.map(row).collect()
}

/// The crates of the workspace, with those of them that they depend on; tests aside.
fn declared() -> Uses {
    let output = Command::new(env!("CARGO")).args(["metadata", "--no-deps", "--format-version", "1"]).output().unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let uses = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let names =
            dependencies.filter(|dependency| dependency["kind"].is_null()).map(|dependency| &dependency["name"]);
        names.map(|name| name.as_str().unwrap().to_owned()).filter(|name| name.starts_with("numformer")).collect()
    };
    packages
        .map(|package| (package["name"].as_str().unwrap().to_owned(), uses(package)))
        .filter(|(name, _)| name != "xtask")
        .collect()
}

#[test]
fn crates_use_what_the_page_says() {
    assert_eq!(documented(), declared());
}
