//! How long training took to reach a step.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::ReportError;

/// Seconds of training until each logged step, across interruptions.
///
/// `timings.jsonl` counts from the beginning of each process. A process that goes on from a checkpoint begins where the
/// one before it had that step; what was lost with the interruption is not counted.
///
/// # Examples
/// ```
/// use numformer_report::TrainingTime;
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("timings.jsonl");
/// // Stopped after step 30, and continued from a checkpoint of step 20.
/// let seconds = [(10, 1.0), (20, 2.0), (30, 3.0), (30, 1.5)];
/// let lines = seconds.map(|(step, seconds)| format!("{{\"step\":{step},\"seconds\":{seconds}}}\n"));
/// std::fs::write(&path, lines.concat())?;
/// let time = TrainingTime::read(&path)?;
/// assert_eq!((time.at(20), time.at(30), time.at(40)), (Some(2.0), Some(3.5), None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingTime {
    seconds: BTreeMap<u64, f64>,
}

#[derive(Deserialize)]
struct Timing {
    step: u64,
    /// Since the process began.
    seconds: f64,
}

impl TrainingTime {
    /// Reads `timings.jsonl`; nothing is known if there is no such file.
    ///
    /// # Errors
    /// When the file cannot be read, or a line but the last is not a timing (the last may have been cut by a crash, and is
    /// then left out).
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read(path).map_err(|source| ReportError::Io { path: path.to_owned(), source })?;
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        let mut timings = Vec::with_capacity(lines.len());
        for (index, line) in lines.iter().enumerate() {
            match serde_json::from_slice::<Timing>(line) {
                Ok(timing) => timings.push(timing),
                Err(_) if index + 1 == lines.len() => {}
                Err(source) => {
                    let expected = "a step and its seconds";
                    return Err(ReportError::Damaged { path: path.to_owned(), line: index + 1, expected, source });
                }
            }
        }
        Ok(Self::of(&timings))
    }

    fn of(timings: &[Timing]) -> Self {
        let mut seconds = BTreeMap::<u64, f64>::new();
        let (mut before, mut last) = (0.0, (0, 0.0));
        for timing in timings {
            if timing.seconds < last.1 || timing.step < last.0 {
                // Another process: what was logged from its first step on is done again.
                seconds.split_off(&timing.step);
                before = seconds.values().next_back().copied().unwrap_or(0.0);
            }
            last = (timing.step, timing.seconds);
            seconds.insert(timing.step, before + timing.seconds);
        }
        Self { seconds }
    }

    /// Seconds of training until a step was logged; `None` if it was not.
    #[must_use]
    pub fn at(&self, step: u64) -> Option<f64> {
        self.seconds.get(&step).copied()
    }

    /// Seconds of training until the last logged step.
    #[must_use]
    pub fn total(&self) -> Option<f64> {
        self.seconds.values().next_back().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(timings: &[(u64, f64)]) -> TrainingTime {
        TrainingTime::of(&timings.iter().map(|&(step, seconds)| Timing { step, seconds }).collect::<Vec<_>>())
    }

    #[test]
    fn time_goes_on_across_processes_without_what_was_lost() {
        let time = of(&[(10, 1.0), (10, 1.2), (20, 2.0), (30, 3.0), (20, 5.0), (40, 7.0), (50, 1.0)]);
        // The second process took up before step 20, the third after step 40.
        let found = [10, 20, 30, 40, 50].map(|step| time.at(step));
        assert_eq!(found, [Some(1.2), Some(6.2), None, Some(8.2), Some(9.2)]);
        assert_eq!(time.total(), Some(9.2));
    }

    #[test]
    fn a_damaged_line_is_named_unless_it_is_the_last() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("timings.jsonl");
        let good = "{\"step\":1,\"seconds\":0.5}\n";
        fs::write(&path, format!("{good}{{\"step\":2,\"sec")).expect("written");
        assert_eq!(TrainingTime::read(&path).expect("a torn end").total(), Some(0.5));
        fs::write(&path, format!("{good}\u{fffd}\n{good}")).expect("written");
        let error = TrainingTime::read(&path).expect_err("damaged").to_string();
        assert!(error.contains("timings.jsonl, line 2: expected a step"), "{error}");
        assert_eq!(TrainingTime::read(&dir.path().join("none")).expect("no file").total(), None);
    }
}
