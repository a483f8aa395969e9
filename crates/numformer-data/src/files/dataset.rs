//! Fixed sets of examples, read from files.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use numformer_encoding::TokenId;

use crate::files::parquet;
use crate::files::record::Record;
use crate::files::record_error::MAX_LINE;
use crate::shuffle::shuffled;
use crate::{Batch, BatchSource, DatasetError, Format, RecordError, Sequences, Task, TaskError, TextReader};

/// Examples that were read from a file, as tokens of a task.
///
/// They may come from [`write_examples`](crate::write_examples) or from any other program. Every source must be an
/// input of the task, and every target must be a matrix of the shape of its answer. Whether the target is the right
/// answer is not checked.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use numformer_data::{BatchSource, Dataset, Order, Task};
/// use numformer_encoding::Positional;
/// use numformer_problems::{Transpose, UniformEntries};
///
/// let p1000 = Arc::new(Positional::p1000());
/// let task = Task::new(Transpose, UniformEntries::new(1, 2, 10.0)?, p1000.clone(), p1000)?;
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("two.tsv");
/// std::fs::write(&path, "V1 V1 + 100 E-2\tV1 V1 + 100 E-2\nV1 V1 + 200 E-2\tV1 V1 + 200 E-2\n")?;
///
/// let dataset = Arc::new(Dataset::read(&path, &task)?);
/// let batches = dataset.batches(2, Order::AsRead);
/// assert_eq!(batches.batch(0)?.src.row(0), task.vocabulary().tokenize("<s> V1 V1 + 100 E-2 <s>")?.iter().map(|id|
/// id.0).collect::<Vec<_>>());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// All tokens, delimiters included: source and target of each example in turn.
    tokens: Vec<TokenId>,
    /// Where the sequences end: two for each example.
    ends: Vec<usize>,
    padding: TokenId,
}

/// The order in which examples of a [`Dataset`] are given out. After the last example comes the first again.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The order of the file.
    AsRead,
    /// Shuffled anew for each pass through the file, as this seed determines.
    Shuffled(u64),
}

impl Dataset {
    /// Reads a file whose name tells its [`Format`]. Text may be in UTF-8 or UTF-16, as for a [`TextReader`].
    ///
    /// A line of JSON needs either the fields `src_tokens` and `tgt_tokens`, or matrices as lists of rows in `src` and
    /// `tgt`; then `problem` names the problem, if the task has several.
    ///
    /// # Errors
    /// When the file cannot be read, holds no example, or has a record that is not an example of the task; for Parquet
    /// without the feature `parquet`, always.
    pub fn read(path: &Path, task: &Task) -> Result<Self, DatasetError> {
        let format = Format::of(path)?;
        let unreadable = |source| DatasetError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        let mut dataset = Self { tokens: Vec::new(), ends: Vec::new(), padding: task.vocabulary().padding() };
        let mut add = |number: u64, record: Result<Record, RecordError>| {
            let added = record.and_then(|record| dataset.add(record, task));
            added.map_err(|source| DatasetError::Record { path: path.to_owned(), number, source })
        };
        match format {
            Format::Tsv | Format::Jsonl => {
                let parse = if format == Format::Tsv { Record::from_tsv } else { Record::from_json };
                let (mut reader, mut line) = (BufReader::new(TextReader::new(file)), Vec::new());
                for number in 1.. {
                    line.clear();
                    let found = reader.by_ref().take(MAX_LINE + 1).read_until(b'\n', &mut line).map_err(unreadable)?;
                    if found == 0 {
                        break;
                    }
                    let record = || {
                        if found as u64 > MAX_LINE {
                            return Err(RecordError::TooLongLine);
                        }
                        let line = line.strip_suffix(b"\n").unwrap_or(&line);
                        parse(str::from_utf8(line)?.trim_end_matches('\r'))
                    };
                    add(number, record())?;
                }
            }
            Format::Parquet => parquet::read(path, file, add)?,
        }
        if dataset.is_empty() { Err(DatasetError::Empty { path: path.to_owned() }) } else { Ok(dataset) }
    }

    /// The number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len() / 2
    }

    /// Whether there are no examples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Source and target of an example, delimiters included.
    ///
    /// # Panics
    /// If there is no example `index`.
    #[must_use]
    pub fn example(&self, index: usize) -> (&[TokenId], &[TokenId]) {
        (self.sequence(2 * index), self.sequence(2 * index + 1))
    }

    fn sequence(&self, index: usize) -> &[TokenId] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.tokens[start..self.ends[index]]
    }

    /// A number that almost surely differs between different sets. It shows whether a file has changed.
    #[must_use]
    pub fn fingerprint(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        for (src, tgt) in (0..self.len()).map(|index| self.example(index)) {
            for sequence in [src, tgt] {
                hasher.update(&(sequence.len() as u64).to_le_bytes());
                sequence.iter().for_each(|token| hasher.update(&token.0.to_le_bytes()));
            }
        }
        hasher.finalize()
    }

    /// Batches of `batch_size` examples, without end: after the last example comes the first again.
    #[must_use]
    pub fn batches(self: &Arc<Self>, batch_size: usize, order: Order) -> DatasetBatches {
        DatasetBatches { dataset: Arc::clone(self), batch_size, order, passes: Mutex::default() }
    }

    fn add(&mut self, record: Record, task: &Task) -> Result<(), RecordError> {
        let (src, tgt) = record.sequences(task)?;
        for sequence in [src, tgt] {
            self.tokens.extend(sequence);
            self.ends.push(self.tokens.len());
        }
        Ok(())
    }
}

/// Batches of a [`Dataset`].
#[derive(Debug)]
pub struct DatasetBatches {
    dataset: Arc<Dataset>,
    batch_size: usize,
    order: Order,
    /// The orders of the passes that were last asked for, by the numbers of the passes.
    passes: Mutex<VecDeque<(u64, Arc<Vec<usize>>)>>,
}

/// The number of passes whose order is kept. A batch may span two passes, and threads that make batches ahead may be in
/// the next one.
const PASSES: usize = 3;

impl DatasetBatches {
    fn shuffled(&self, seed: u64, pass: u64) -> Arc<Vec<usize>> {
        let mut passes = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, order)) = passes.iter().find(|(number, _)| *number == pass) {
            return Arc::clone(order);
        }
        let order = Arc::new(shuffled(self.dataset.len(), [seed, pass, 0]));
        passes.truncate(PASSES - 1);
        passes.push_front((pass, Arc::clone(&order)));
        order
    }
}

impl BatchSource for DatasetBatches {
    fn batch(&self, index: u64) -> Result<Batch, TaskError> {
        self.rows(index, 0..self.batch_size)
    }

    fn batch_size(&self) -> usize {
        self.batch_size
    }

    fn rows(&self, index: u64, rows: Range<usize>) -> Result<Batch, TaskError> {
        let len = self.dataset.len() as u64;
        let first = index.wrapping_mul(self.batch_size as u64);
        let rows = rows.start.min(self.batch_size)..rows.end.min(self.batch_size);
        let places = rows.clone().map(|j| first.wrapping_add(j as u64));
        let (src, tgt): (Vec<_>, Vec<_>) = places
            .map(|place| {
                let (pass, place) = (place / len, (place % len) as usize);
                self.dataset.example(match self.order {
                    Order::AsRead => place,
                    Order::Shuffled(seed) => self.shuffled(seed, pass)[place],
                })
            })
            .unzip();
        let [src, tgt] = [src, tgt].map(|rows| Sequences::from_rows(&rows, self.dataset.padding));
        Ok(Batch { src, tgt, rejected: vec![0; rows.len()], laws: vec![None; rows.len()] })
    }
}
