//! The crates and what they use are those that `docs/architecture.md` lists; no file is long, and no files use each
//! other in a circle.
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

/// A file of a crate by its path: `task/builder`, or `task` for `task/mod.rs`.
fn name_of(file: &Path, src: &Path) -> String {
    let path = file.strip_prefix(src).unwrap().with_extension("");
    let path = if path.ends_with("mod") { path.parent().unwrap() } else { &path };
    path.to_str().unwrap().to_owned()
}

/// The files of a crate, each with those that its code uses; documentation and tests aside.
fn files(src: &Path) -> Uses {
    let mut code = BTreeMap::<String, String>::new();
    for file in sources(src) {
        let name = name_of(&file, src);
        let is_test = name.split('/').any(|part| ["tests", "testing", "lib", "main"].contains(&part));
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        if !is_test {
            code.insert(name, lines.map(|line| format!("{line}\n")).collect());
        }
    }
    // What the crate exports stands for the file that it comes from.
    let exports = fs::read_to_string(src.join("lib.rs")).unwrap_or_default();
    let mut owner = BTreeMap::new();
    for export in exports.split("pub use ").skip(1).filter_map(|export| export.split(';').next()) {
        let (path, names) = export.split_at(export.rfind("::").unwrap_or_default());
        owner.extend(words(names).map(|name| (name.to_owned(), path.replace("::", "/"))));
    }
    let file_at = |path: &str| {
        let path = owner.get(path.split('/').next().unwrap()).map_or(path, String::as_str);
        let mut parts: Vec<&str> = path.split('/').collect();
        while !parts.is_empty() && !code.contains_key(&parts.join("/")) {
            parts.pop();
        }
        parts.join("/")
    };
    let uses = |(name, text): (&String, &String)| {
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let bases = [("crate::", ""), ("self::", name.as_str()), ("super::", folder)];
        let mut used = BTreeSet::new();
        for (start, base) in bases {
            for path in text.split(start).skip(1) {
                // A list of names, or one.
                let names: Vec<&str> = match path.strip_prefix('{') {
                    Some(list) => list.split('}').next().unwrap().split(',').map(str::trim).collect(),
                    None => path.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).take(1).collect(),
                };
                let full = |name: &str| format!("{base}/{}", name.replace("::", "/"));
                used.extend(names.into_iter().map(|name| file_at(full(name).trim_matches('/'))));
            }
        }
        used.remove(name);
        used.remove("");
        (name.clone(), used)
    };
    code.iter().map(uses).collect()
}

/// The folders of a crate, each with those that its files use.
fn folders(files: &Uses) -> Uses {
    let folder = |file: &String| file.split('/').next().unwrap().to_owned();
    let mut uses = Uses::new();
    for (file, used) in files {
        uses.entry(folder(file)).or_default().extend(used.iter().map(folder));
    }
    for (name, used) in &mut uses {
        used.remove(name);
    }
    uses
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

/// What is left when those that use no others are taken away again and again: what is in a circle, or uses one.
fn in_circles(mut uses: Uses) -> Uses {
    loop {
        let free: Vec<String> = uses.iter().filter(|(_, used)| used.is_empty()).map(|(name, _)| name.clone()).collect();
        if free.is_empty() {
            return uses;
        }
        uses.retain(|name, _| !free.contains(name));
        uses.values_mut().for_each(|used| used.retain(|name| !free.contains(name)));
    }
}

#[test]
fn no_files_and_no_folders_use_each_other_in_a_circle() {
    for entry in fs::read_dir("crates").unwrap().map(|entry| entry.unwrap().path()) {
        let files = files(&entry.join("src"));
        assert!(files.values().any(|used| !used.is_empty()) || files.len() < 7, "{}: nothing found", entry.display());
        assert_eq!(in_circles(folders(&files)), Uses::new(), "{}", entry.display());
        assert_eq!(in_circles(files), Uses::new(), "{}", entry.display());
    }
}
