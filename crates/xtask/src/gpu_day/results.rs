//! Results that came back, as a folder of docs/results.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::gpu_day::figures::{self, Figures, LineTime, Metrics};
use crate::gpu_day::page::{self, Course};

/// The files that are kept beside the page. The checkpoint and the logs are not.
const KEPT: [&str; 4] = ["figures.json", "metrics.jsonl", "timings.jsonl", "learning-curve.svg"];

/// Reads a folder of results and writes a folder of pages. Returns the path of the page.
pub(super) fn publish(from: &Path, pages: &Path, name: Option<&str>) -> Result<PathBuf> {
    let path = from.join("figures.json");
    let json = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let figures =
        figures::parse(&json).with_context(|| format!("{} is not what run.sh of gpu-day writes", path.display()))?;
    let metrics: Vec<Metrics> = optional_lines(&from.join("metrics.jsonl"))?;
    let times: Vec<LineTime> = optional_lines(&from.join("timings.jsonl"))?;
    let curve = from.join("learning-curve.svg").exists();
    let course = Course { metrics: &metrics, steps_per_second: figures::steps_per_second(&times), has_curve: curve };
    let text = page::page(&figures, &course);

    let name = name.map_or_else(|| default_name(&figures), str::to_owned);
    let to = pages.join(&name);
    // A page that was written by hand is not overwritten by mistake.
    if to.exists() && !to.join("figures.json").exists() {
        bail!("{} exists and holds no figures.json: choose another --name", to.display());
    }
    fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
    for file in KEPT {
        let (file, kept) = (from.join(file), to.join(file));
        if file.exists() {
            fs::copy(&file, &kept).with_context(|| format!("cannot copy {}", file.display()))?;
        } else if kept.exists() {
            fs::remove_file(&kept).with_context(|| format!("cannot remove {}", kept.display()))?;
        }
    }
    let page = to.join("README.md");
    fs::write(&page, text).with_context(|| format!("cannot write {}", page.display()))?;
    Ok(page)
}

/// As h200-2026-11-30: the last word of the GPU's name that has a digit, and the date.
fn default_name(figures: &Figures) -> String {
    let words = figures.machine.gpu.split(|c: char| !c.is_ascii_alphanumeric());
    let model = words.filter(|word| word.contains(|c: char| c.is_ascii_digit())).find(|word| !word.ends_with("GB"));
    format!("{}-{}", model.unwrap_or("no-gpu").to_lowercase(), figures.date)
}

fn optional_lines<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Vec<T>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    figures::lines(&text).with_context(|| format!("{} is damaged", path.display()))
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process;

    use super::*;

    const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/gpu_day/sample");

    /// An empty folder of its own for each test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("gpu-day-{name}-{}", process::id()));
            fs::create_dir_all(&path).expect("a folder");
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_came_back_becomes_a_folder() {
        let pages = Folder::new("pages");
        let page = publish(Path::new(SAMPLE), &pages.0, None).expect("a page");
        assert_eq!(page, pages.0.join("h200-2026-11-30/README.md"));
        for file in ["figures.json", "metrics.jsonl", "timings.jsonl"] {
            assert!(page.with_file_name(file).exists(), "{file}");
        }
        // Again, over the first.
        publish(Path::new(SAMPLE), &pages.0, None).expect("a page");
        assert_eq!(
            publish(Path::new(SAMPLE), &pages.0, Some("first")).expect("a page"),
            pages.0.join("first/README.md")
        );
    }

    #[test]
    fn what_is_missing_or_damaged_is_named() {
        let [from, pages] = ["from", "to"].map(Folder::new);
        let message = || format!("{:#}", publish(&from.0, &pages.0, None).expect_err("it is not whole"));
        assert!(message().contains("figures.json"), "{}", message());
        fs::write(from.0.join("figures.json"), "{\n").expect("written");
        assert!(message().contains("is not what run.sh of gpu-day writes: EOF"), "{}", message());
        fs::copy(Path::new(SAMPLE).join("figures.json"), from.0.join("figures.json")).expect("copied");
        fs::write(from.0.join("metrics.jsonl"), "damaged\n").expect("written");
        assert!(message().contains("metrics.jsonl is damaged: line 1"), "{}", message());
        fs::remove_file(from.0.join("metrics.jsonl")).expect("removed");
        publish(&from.0, &pages.0, None).expect("a run may have failed before training");

        fs::create_dir(pages.0.join("by-hand")).expect("a folder");
        let error = publish(&from.0, &pages.0, Some("by-hand")).expect_err("not ours").to_string();
        assert!(error.ends_with("choose another --name"), "{error}");
    }

    #[test]
    fn names_come_from_the_gpu() {
        let mut figures = figures::parse(include_str!("sample/figures.json")).expect("the sample");
        for (gpu, name) in [
            ("NVIDIA H200", "h200-2026-11-30"),
            ("NVIDIA A100-SXM4-80GB", "a100-2026-11-30"),
            ("NVIDIA GeForce RTX 4090", "4090-2026-11-30"),
            ("", "no-gpu-2026-11-30"),
        ] {
            gpu.clone_into(&mut figures.machine.gpu);
            assert_eq!(default_name(&figures), name);
        }
    }
}
