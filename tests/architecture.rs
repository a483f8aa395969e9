//! The crates and what they use are those that `docs/architecture.md` lists; no file is long, and no files use each other in
//! a circle.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
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

/// All files of Rust below a directory.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() && entry.file_name().is_none_or(|name| name != "target") {
            found.extend(sources(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
    found
}

#[test]
fn no_file_is_long() {
    for dir in ["crates", "examples", "benches", "tests", "src"] {
        for file in sources(Path::new(dir)) {
            let lines = fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= 600, "{}: {lines} lines", file.display());
        }
    }
}

/// The modules of a crate, each with those that its code uses; documentation and tests aside.
fn modules(src: &Path) -> Uses {
    let mut code = BTreeMap::<String, String>::new();
    for file in sources(src) {
        let path = file.strip_prefix(src).unwrap().with_extension("");
        let module = path.iter().next().unwrap().to_str().unwrap().to_owned();
        let is_test = path.iter().any(|part| ["tests", "testing", "lib", "main"].iter().any(|name| part == *name));
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        if !is_test {
            code.entry(module).or_default().extend(lines.map(|line| format!("{line}\n")));
        }
    }
    // What the crate exports stands for the module that it comes from.
    let exports = fs::read_to_string(src.join("lib.rs")).unwrap_or_default();
    let exports = exports.split("pub use ").skip(1).filter_map(|export| export.split(';').next()?.split_once("::"));
    let mut owner: BTreeMap<&str, &str> = code.keys().map(|module| (module.as_str(), module.as_str())).collect();
    for (module, names) in exports.filter(|(module, _)| code.contains_key(*module)) {
        owner.extend(words(names).map(|name| (name, module)));
    }
    let uses = |(module, text): (&String, &String)| {
        let mut used = BTreeSet::new();
        for path in text.split("crate::").skip(1) {
            // A list of names, or one.
            let names = match path.strip_prefix('{') {
                Some(list) => list.split('}').next().unwrap(),
                None => path.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap(),
            };
            used.extend(words(names).filter_map(|name| owner.get(name)).map(|name| (*name).to_owned()));
        }
        used.remove(module);
        (module.clone(), used)
    };
    code.iter().map(uses).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    for entry in fs::read_dir("crates").unwrap().map(|entry| entry.unwrap().path()) {
        let mut uses = modules(&entry.join("src"));
        // Modules that use no others are taken away, until none is left.
        loop {
            let free: Vec<String> =
                uses.iter().filter(|(_, used)| used.is_empty()).map(|(name, _)| name.clone()).collect();
            if free.is_empty() {
                break;
            }
            uses.retain(|name, _| !free.contains(name));
            uses.values_mut().for_each(|used| used.retain(|name| !free.contains(name)));
        }
        // What is left is in a circle, or uses one.
        assert_eq!(uses, Uses::new(), "{}", entry.display());
    }
}
