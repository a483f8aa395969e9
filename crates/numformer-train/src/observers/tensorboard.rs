//! The record of a run for TensorBoard.

use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, SystemTime};

use numformer_evaluate::FigureName;

use crate::divergence::{DivergenceReport, Remedy};
use crate::observers::appended_file::AppendedFile;
use crate::observers::observer::{EvaluationReport, Observer, Start, StepReport, StopReason};

/// An [`Observer`] that writes event files for TensorBoard. Open them with `tensorboard --logdir DIR`.
///
/// The scalars of steps are `train/loss`, `train/lr` and `train/gradient_norm`. The scalars of evaluations are
/// `validation/cross_entropy`, `validation/exact`, `validation/decodable`, `validation/coefficients` and one per
/// tolerance, such as `validation/within_5%`. All are written against the step. Evaluations of a stage are under
/// `validation of STAGE`.
///
/// Every start or continuation of a run writes its own file. A continuation tells TensorBoard to forget what came after
/// its checkpoint.
///
/// An event file is a sequence of [TFRecords](https://www.tensorflow.org/tutorials/load_data/tfrecord). Each record is
/// a protocol buffer of TensorFlow's message `Event`.
///
/// # Examples
/// ```
/// use numformer_train::TensorBoard;
///
/// # let dir = tempfile::tempdir()?;
/// let board = TensorBoard::in_dir(&dir.path().join("tensorboard"), 100); // for `Trainer::with_observer`
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TensorBoard {
    dir: PathBuf,
    every: u64,
    file: Option<AppendedFile>,
}

impl TensorBoard {
    /// Event files in `dir`, with every `every`-th step and every evaluation. The directory is made when the run
    /// begins.
    #[must_use]
    pub fn in_dir(dir: &Path, every: u64) -> Self {
        Self { dir: dir.to_owned(), every, file: None }
    }

    fn start(&mut self, step: u64) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let now = since_epoch();
        let mut file = AppendedFile::new(self.new_file(now)?);
        file.open()?;
        file.write(&record(&event(now, 0, &Payload::Version)))?;
        if step > 0 {
            file.write(&record(&event(now, step + 1, &Payload::Restart)))?;
        }
        self.file = Some(file);
        Ok(())
    }

    /// Creates a new file. Two runs of one process may begin in the same second.
    fn new_file(&self, now: Duration) -> io::Result<PathBuf> {
        for number in 0u64.. {
            // TensorBoard requires `tfevents` in the name, and reads files in the order of their names.
            let (seconds, process) = (now.as_secs(), process::id());
            let path = self.dir.join(format!("events.out.tfevents.{seconds:010}.{process}.{number:03}.numformer"));
            match File::create_new(&path) {
                Ok(_) => return Ok(path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("there are not so many files")
    }

    fn write(&mut self, step: u64, payload: &Payload<'_>) -> ControlFlow<StopReason> {
        let Some(file) = &mut self.file else { return ControlFlow::Continue(()) };
        let written = file.write(&record(&event(since_epoch(), step, payload)));
        self.check(written)
    }

    fn check(&self, result: io::Result<()>) -> ControlFlow<StopReason> {
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                let dir = self.dir.display();
                ControlFlow::Break(StopReason::Failed(format!("cannot write event files in {dir}: {error}")))
            }
        }
    }
}

impl Observer for TensorBoard {
    fn on_start(&mut self, start: &Start<'_>) -> ControlFlow<StopReason> {
        let started = self.start(start.step);
        self.check(started)
    }

    fn on_step(&mut self, step: &StepReport) -> ControlFlow<StopReason> {
        if !step.step.is_multiple_of(self.every) {
            return ControlFlow::Continue(());
        }
        let scalars = [("loss", step.loss), ("lr", step.lr), ("gradient_norm", step.gradient_norm)];
        let scalars = scalars.map(|(name, value)| (format!("train/{name}"), value));
        self.write(step.step, &Payload::Scalars(&scalars))
    }

    fn on_divergence(&mut self, divergence: &DivergenceReport) -> ControlFlow<StopReason> {
        match divergence.remedy {
            Remedy::Skipped | Remedy::Stopped => ControlFlow::Continue(()),
            Remedy::RolledBack => self.write(divergence.step + 1, &Payload::Restart),
        }
    }

    fn on_evaluation(&mut self, report: &EvaluationReport) -> ControlFlow<StopReason> {
        // A stage is judged on its own examples.
        let set = report.stage.as_ref().map_or("validation".to_owned(), |stage| format!("validation of {stage}"));
        let custom = report.evaluation.custom.keys().map(|name| FigureName::Custom(name.clone()));
        let figures = FigureName::standard().chain(custom).filter_map(|figure| {
            let value = figure.of(&report.evaluation)?.value;
            Some((format!("{set}/{figure}"), value))
        });
        self.write(report.step, &Payload::Scalars(&figures.collect::<Vec<_>>()))
    }

    fn before_checkpoint(&mut self, _step: u64) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), AppendedFile::sync)
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The content of an event.
enum Payload<'a> {
    /// The first event of a file.
    Version,
    /// A restart: everything written earlier for this step and later ones is void.
    Restart,
    Scalars(&'a [(String, f64)]),
}

/// The message `Event` of TensorFlow's `event.proto`.
fn event(time: Duration, step: u64, payload: &Payload<'_>) -> Vec<u8> {
    let mut event = Vec::new();
    tag(&mut event, 1, Wire::Fixed64);
    event.extend_from_slice(&time.as_secs_f64().to_le_bytes());
    tag(&mut event, 2, Wire::Varint);
    varint(&mut event, step);
    match payload {
        Payload::Version => bytes(&mut event, 3, b"brain.Event:2"),
        Payload::Restart => {
            // SessionLog: status = START.
            let mut log = Vec::new();
            tag(&mut log, 1, Wire::Varint);
            varint(&mut log, 1);
            bytes(&mut event, 7, &log);
        }
        Payload::Scalars(scalars) => {
            let mut summary = Vec::new();
            for (name, scalar) in *scalars {
                let mut value = Vec::new();
                bytes(&mut value, 1, name.as_bytes());
                tag(&mut value, 2, Wire::Fixed32);
                value.extend_from_slice(&(*scalar as f32).to_le_bytes());
                bytes(&mut summary, 1, &value);
            }
            bytes(&mut event, 5, &summary);
        }
    }
    event
}

/// How a protocol buffer field is encoded.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

fn tag(message: &mut Vec<u8>, field: u64, wire: Wire) {
    varint(message, (field << 3) | wire as u64);
}

fn bytes(message: &mut Vec<u8>, field: u64, content: &[u8]) {
    tag(message, field, Wire::Bytes);
    varint(message, content.len() as u64);
    message.extend_from_slice(content);
}

/// Writes seven bits per byte, the lowest first. The eighth bit says that more bytes follow.
fn varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

/// A TFRecord: the length, the length's checksum, the data, the data's checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &checksum(&length), data, &checksum(data)].concat()
}

/// CRC-32C, rotated and shifted. This keeps checksums good for data that itself contains checksums.
fn checksum(data: &[u8]) -> [u8; 4] {
    const SHIFT: u32 = 0xa282_ead8;
    crc32c::crc32c(data).rotate_right(15).wrapping_add(SHIFT).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_of_a_file_is_its_version() {
        let event = event(Duration::ZERO, 0, &Payload::Version);
        let expected = [&[0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0x1a, 13][..], b"brain.Event:2"].concat();
        assert_eq!(event, expected);
        let record = record(&event);
        assert_eq!(record.len(), 8 + 4 + event.len() + 4);
        assert_eq!(record[..8], (event.len() as u64).to_le_bytes());
    }

    #[test]
    fn checksums_are_masked_crc_32c() {
        // The check value of CRC-32C is the checksum of the digits 1 to 9: 0xe3069283.
        let masked = 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(checksum(b"123456789"), masked.to_le_bytes());
    }

    #[test]
    fn scalars_are_summary_values() {
        let event = event(Duration::from_secs(1), 300, &Payload::Scalars(&[("a".to_owned(), 0.5)]));
        let time = [&[0x09][..], &1f64.to_le_bytes()].concat();
        let step = [0x10, 0xac, 0x02];
        let summary = [0x2a, 10, 0x0a, 8, 0x0a, 1, b'a', 0x15, 0, 0, 0, 0x3f];
        assert_eq!(event, [&time[..], &step, &summary].concat());
    }

    #[test]
    fn a_restart_is_the_start_of_a_session() {
        let event = event(Duration::ZERO, 5, &Payload::Restart);
        // Field 7, a message of two bytes: its field 1 is 1, START.
        assert_eq!(event, [0x09, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 5, 0x3a, 2, 0x08, 1]);
    }

    #[test]
    fn runs_that_begin_in_the_same_second_have_files_of_their_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut boards = [TensorBoard::in_dir(dir.path(), 1), TensorBoard::in_dir(dir.path(), 1)];
        for board in &mut boards {
            board.start(0).expect("a file");
        }
        for (board, step) in boards.iter_mut().zip([1, 2]) {
            assert!(board.write(step, &Payload::Scalars(&[("loss".to_owned(), 1.0)])).is_continue());
        }
        let now = Duration::from_secs(7);
        let [first, second] = [(); 2].map(|()| boards[0].new_file(now).expect("a file"));
        assert!(first < second, "{} {}", first.display(), second.display());
        let sizes = dir.path().read_dir().expect("listed").map(|entry| entry.expect("a file").metadata());
        let sizes: Vec<u64> =
            sizes.map(|metadata| metadata.expect("its size").len()).filter(|size| *size > 0).collect();
        assert!(sizes.len() == 2 && sizes[0] == sizes[1], "{sizes:?}");
    }

    #[test]
    fn a_place_that_cannot_be_written_ends_the_run_with_its_name() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut board = TensorBoard::in_dir(file.path(), 1);
        let started = board.start(0);
        let ControlFlow::Break(StopReason::Failed(reason)) = board.check(started) else { panic!("expected a failure") };
        assert!(reason.contains(&file.path().display().to_string()), "{reason}");
    }
}
