//! The training time until each step.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::ReportError;

/// Seconds of training until each logged step, across interruptions, and the threads that computed.
///
/// `timings.jsonl` counts seconds from the beginning of each process, and gives the number of the process. A process
/// that resumes from a checkpoint continues from the time at which the earlier process reached that step. Time that an
/// interruption wasted does not count.
///
/// # Examples
/// ```
/// use numformer_report::TrainingTime;
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("timings.jsonl");
/// // Stopped after step 30, and continued from a checkpoint of step 20.
/// let seconds = [(7, 10, 1.0), (7, 20, 2.0), (7, 30, 3.0), (8, 30, 1.5)];
/// let line = |(process, step, seconds)| format!("{{\"process\":{process},\"step\":{step},\"seconds\":{seconds}}}\n");
/// let lines = seconds.map(line);
/// std::fs::write(&path, lines.concat())?;
/// let time = TrainingTime::read(&path)?;
/// assert_eq!((time.at(20), time.at(30), time.at(40)), (Some(2.0), Some(3.5), None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingTime {
    seconds: BTreeMap<u64, f64>,
    threads: Option<(usize, usize)>,
}

#[derive(Deserialize)]
struct Timing {
    /// Number of the process; `None` in files of earlier versions.
    process: Option<u32>,
    step: u64,
    /// Seconds since the process began.
    seconds: f64,
    /// Number of threads; `None` in files of earlier versions.
    threads: Option<usize>,
}

impl TrainingTime {
    /// Reads `timings.jsonl`. Without this file, no times are known.
    ///
    /// # Errors
    /// When the file cannot be read, or a line other than the last is not a timing. If a crash has cut off the last
    /// line, it is ignored.
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
        let (mut before, mut last) = (0.0, (None, 0, 0.0));
        for (index, timing) in timings.iter().enumerate() {
            if index > 0 && timing.process != last.0 || timing.seconds < last.2 || timing.step < last.1 {
                // Another process: it repeats everything logged from its first step on.
                seconds.split_off(&timing.step);
                before = seconds.values().next_back().copied().unwrap_or(0.0);
            }
            last = (timing.process, timing.step, timing.seconds);
            seconds.insert(timing.step, before + timing.seconds);
        }
        let threads = timings.iter().filter_map(|timing| timing.threads);
        Self { seconds, threads: threads.clone().min().zip(threads.max()) }
    }

    /// Seconds of training until a step was logged; `None` if it was not.
    #[must_use]
    pub fn at(&self, step: u64) -> Option<f64> {
        self.seconds.get(&step).copied()
    }

    /// The smallest and the largest number of threads that computed; `None` if that was not recorded.
    #[must_use]
    pub fn threads(&self) -> Option<(usize, usize)> {
        self.threads
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
        let timing = |&(step, seconds): &(u64, f64)| Timing { process: None, step, seconds, threads: None };
        TrainingTime::of(&timings.iter().map(timing).collect::<Vec<_>>())
    }

    /// The second process resumes at a later step, and takes longer to reach it than the first process ran.
    #[test]
    fn processes_are_told_by_their_numbers() {
        let timing = |(process, step, seconds)| Timing {
            process: Some(process),
            step,
            seconds,
            threads: (process > 0).then_some(process as usize),
        };
        let of =
            |timings: &[(u32, u64, f64)]| TrainingTime::of(&timings.iter().copied().map(timing).collect::<Vec<_>>());
        let time = of(&[(1, 10, 1.0), (1, 20, 2.0), (2, 30, 5.0), (2, 40, 6.0)]);
        assert_eq!(time.threads(), Some((1, 2)));
        assert_eq!(of(&[(0, 10, 1.0)]).threads(), None);
        assert_eq!([10, 20, 30, 40].map(|step| time.at(step)), [Some(1.0), Some(2.0), Some(7.0), Some(8.0)]);
    }

    #[test]
    fn time_goes_on_across_processes_without_what_was_lost() {
        let time = of(&[(10, 1.0), (10, 1.2), (20, 2.0), (30, 3.0), (20, 5.0), (40, 7.0), (50, 1.0)]);
        // The second process resumes before step 20, the third after step 40.
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
