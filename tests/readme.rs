//! The links of `README.md` and of the pages in `docs` lead somewhere: in the repository, and in the documentation that
//! rustdoc makes of them, where `src/lib.rs` defines the same labels. The results in `README.md` are those of the page.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What the lines `[label]: target` define.
fn definitions<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, &'a str> {
    lines.filter_map(|line| line.strip_prefix('[')?.split_once("]: ")).collect()
}

/// A page without its code.
fn prose(page: &str) -> String {
    let text: String = page.split("```").step_by(2).collect();
    text.split('`').step_by(2).collect()
}

/// What follows each `start`, up to the `end`.
fn between<'a>(text: &'a str, start: &str, end: char) -> BTreeSet<&'a str> {
    text.split(start).skip(1).map(|rest| rest.split(end).next().unwrap()).collect()
}

/// The anchors of a page's headings.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.split("```").step_by(2).flat_map(str::lines).filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        words.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    };
    headings.map(anchor).collect()
}

/// Checks the links of a page; `labels` are those that `src/lib.rs` defines for it.
fn check(file: &Path, labels: &BTreeMap<&str, &str>) {
    let page = fs::read_to_string(file).unwrap();
    let text = prose(&page);
    let inline = between(&text, "](", ')');
    let (own, others): (Vec<&str>, Vec<&str>) = inline.into_iter().partition(|target| target.starts_with('#'));
    for target in own {
        assert!(anchors(&page).contains(&target[1..]), "{}: no heading {target}", file.display());
    }
    for target in others {
        assert!(target.starts_with("https://"), "{}: {target} needs a label", file.display());
    }
    let definitions = definitions(page.lines());
    for label in between(&text, "][", ']') {
        assert!(definitions.contains_key(label), "{}: [{label}] is not defined", file.display());
        assert!(labels.contains_key(label), "src/lib.rs does not define [{label}] of {}", file.display());
    }
    for target in definitions.values() {
        let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
        let path = file.parent().unwrap().join(path);
        assert!(path.is_file(), "{}: {target} is not there", file.display());
        let found = anchor.is_empty() || anchors(&fs::read_to_string(path).unwrap()).contains(anchor);
        assert!(found, "{}: no heading {target}", file.display());
    }
}

/// The results in `README.md` are those of the page: means over the seeds.
#[test]
fn results_are_those_of_the_scorecard() {
    let page = fs::read_to_string("docs/results/scorecard-desk.json").unwrap();
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    let outcomes = page["outcomes"].as_array().unwrap();
    let readme = fs::read_to_string("README.md").unwrap();
    let rows: Vec<Vec<&str>> = readme
        .lines()
        .filter(|line| line.starts_with("| `desk-"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() >= 5, "{rows:?}");
    for row in rows {
        let runs: Vec<_> =
            outcomes.iter().filter(|run| run["experiment"]["name"] == row[0].trim_matches('`')).collect();
        let mean = |figure: &dyn Fn(&serde_json::Value) -> f64| {
            runs.iter().map(|run| figure(run)).sum::<f64>() / runs.len() as f64
        };
        let within = |place: usize| mean(&|run| 100.0 * run["evaluation"]["accuracy"][place][1].as_f64().unwrap());
        let minutes = mean(&|run| run["seconds"].as_f64().unwrap() / 60.0);
        let examples: u64 = row[3].replace(',', "").parse().unwrap();
        assert_eq!(row[1..3], [0, 2].map(|place| format!("{:.1}%", within(place))), "{row:?}");
        assert!(runs.iter().all(|run| run["examples"] == examples && run["evaluation"]["count"] == 10_000), "{row:?}");
        assert_eq!(row[4..], [format!("{minutes:.1}"), runs.len().to_string()], "{row:?}");
    }
}

#[test]
fn links_lead_somewhere() {
    let facade = fs::read_to_string("src/lib.rs").unwrap();
    let defined = |comment| definitions(facade.lines().filter_map(move |line| line.trim_start().strip_prefix(comment)));
    check(Path::new("README.md"), &defined("//! "));
    let pages: Vec<PathBuf> = fs::read_dir("docs").unwrap().map(|entry| entry.unwrap().path()).collect();
    let pages = pages.iter().filter(|page| page.extension().is_some_and(|extension| extension == "md"));
    assert!(pages.map(|page| check(page, &defined("/// "))).count() > 7);
}
