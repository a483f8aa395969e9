//! What the script writes about its run, in figures.json.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The version of figures.json that is read here, and written by the script.
const FORMAT: u32 = 1;

#[derive(Debug, Deserialize)]
pub(super) struct Figures {
    pub(super) format: u32,
    /// As 2026-11-30.
    pub(super) date: String,
    /// The time that was given, in seconds.
    pub(super) seconds: u64,
    /// The time that was taken, in seconds.
    pub(super) took: f64,
    pub(super) device: String,
    pub(super) machine: Machine,
    pub(super) versions: Versions,
    pub(super) steps: Vec<Step>,
    pub(super) tests: Vec<TestCounts>,
    pub(super) timings: Vec<Timing>,
    /// None if there was no time for it.
    pub(super) training: Option<Training>,
}

/// A machine; what it does not say is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Machine {
    pub(super) gpu: String,
    pub(super) memory: String,
    pub(super) driver: String,
    pub(super) processor: String,
    pub(super) cores: u32,
    pub(super) system: String,
}

/// Versions of programs; what is not there is empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Versions {
    pub(super) numformer: String,
    pub(super) commit: String,
    pub(super) capability: String,
    pub(super) torch: String,
}

/// Something that was tried.
#[derive(Debug, Deserialize)]
pub(super) struct Step {
    pub(super) phase: String,
    pub(super) name: String,
    pub(super) outcome: Outcome,
    pub(super) seconds: f64,
    /// What was found, or why it failed.
    pub(super) note: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    Passed,
    Failed,
    #[serde(rename = "left out")]
    LeftOut,
}

/// The tests of one program.
#[derive(Debug, Deserialize)]
pub(super) struct TestCounts {
    pub(super) name: String,
    pub(super) passed: u32,
    pub(super) failed: u32,
    pub(super) ignored: u32,
}

/// A report of `numformer bench` or of the script for PyTorch.
#[derive(Debug, Deserialize)]
pub(super) struct Timing {
    pub(super) config: String,
    pub(super) batch: u32,
    /// PyTorch only: how it ran.
    #[serde(default)]
    mode: Option<String>,
    pub(super) train_steps_per_s: Rate,
    #[serde(default)]
    pub(super) greedy_examples_per_s: Option<f64>,
}

impl Timing {
    /// Who was measured: `numformer`, or PyTorch's mode.
    pub(super) fn who(&self) -> &str {
        self.mode.as_deref().unwrap_or("numformer")
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Rate {
    pub(super) median: f64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Training {
    pub(super) name: String,
    pub(super) precision: String,
    /// Steps that were saved.
    pub(super) steps: u64,
    pub(super) seconds: f64,
    /// The first file of the checkpoint; empty if it was left out.
    pub(super) checkpoint: String,
}

/// A line of metrics.jsonl, as far as it is shown.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Metrics {
    pub(super) event: String,
    pub(super) step: u64,
    #[serde(default)]
    pub(super) examples: u64,
    #[serde(default)]
    pub(super) loss: Option<f64>,
    #[serde(default)]
    pub(super) count: Option<u64>,
    #[serde(default)]
    pub(super) exact: Option<f64>,
    /// Tolerances with shares.
    #[serde(default)]
    pub(super) accuracy: Vec<(f64, f64)>,
}

/// A line of timings.jsonl.
#[derive(Debug, Deserialize)]
pub(super) struct LineTime {
    #[serde(default)]
    process: u32,
    step: u64,
    seconds: f64,
}

/// Reads figures.json.
pub(super) fn parse(json: &str) -> Result<Figures> {
    let figures: Figures = serde_json::from_str(json)?;
    ensure!(figures.format == FORMAT, "expected format {FORMAT}, found {}", figures.format);
    let is_date = figures.date.len() == 10 && figures.date.chars().all(|c| c.is_ascii_digit() || c == '-');
    ensure!(is_date, "expected a date as 2026-11-30, found `{}`", figures.date);
    Ok(figures)
}

/// Reads a file of JSON lines. The last one may be cut.
pub(super) fn lines<T: for<'a> Deserialize<'a>>(text: &str) -> Result<Vec<T>> {
    let last = text.lines().count();
    let parsed = text.lines().enumerate().map(|(i, line)| {
        let parsed = serde_json::from_str(line).with_context(|| format!("line {}", i + 1));
        (i + 1, parsed)
    });
    let is_whole = |(number, parsed): &(usize, Result<T>)| parsed.is_ok() || *number < last || text.ends_with('\n');
    parsed.filter(is_whole).map(|(_, parsed)| parsed).collect()
}

/// Training steps per second of the process that took the most: between its first and its last line.
pub(super) fn steps_per_second(times: &[LineTime]) -> Option<f64> {
    let mut processes = BTreeMap::<u32, Vec<&LineTime>>::new();
    for time in times {
        processes.entry(time.process).or_default().push(time);
    }
    let spans = processes.values().filter_map(|times| {
        let (first, last) = (times.first()?, times.last()?);
        Some((last.step.checked_sub(first.step)?, last.seconds - first.seconds))
    });
    let (steps, seconds) = spans.max_by_key(|(steps, _)| *steps)?;
    (steps > 0 && seconds > 0.0).then(|| steps as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_expected_is_named() {
        for (json, expected) in [
            ("", "EOF while parsing"),
            (r#"{"format":1}"#, "missing field `date`"),
            (&sample().replace("\"format\":1", "\"format\":2"), "expected format 1, found 2"),
            (&sample().replace("\"date\":\"2", "\"date\":\"/"), "expected a date as 2026-11-30, found `/"),
            (&sample().replace("\"outcome\":\"passed\"", "\"outcome\":\"good\""), "unknown variant `good`"),
        ] {
            let error = parse(json).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    fn sample() -> String {
        include_str!("sample/figures.json").to_owned()
    }

    #[test]
    fn a_cut_last_line_is_left_out() {
        let whole = "{\"event\":\"step\",\"step\":1}\n";
        assert_eq!(lines::<Metrics>(&format!("{whole}{{\"event\":\"st")).expect("cut").len(), 1);
        let error = lines::<Metrics>(&format!("{{\"event\":\n{whole}")).expect_err("damaged").to_string();
        assert_eq!(error, "line 1");
        assert!(lines::<Metrics>("").expect("nothing").is_empty());
    }

    #[test]
    fn rates_are_those_of_the_longest_process() {
        let time = |process, step, seconds| LineTime { process, step, seconds };
        let times = [time(1, 100, 5.0), time(1, 200, 6.0), time(2, 300, 1.0), time(2, 900, 4.0)];
        assert_eq!(steps_per_second(&times), Some(200.0));
        assert_eq!(steps_per_second(&times[..1]), None);
        assert_eq!(steps_per_second(&[]), None);
    }
}
