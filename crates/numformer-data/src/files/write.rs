//! Writing examples to files.

use std::fmt::Write as _;
use std::io::Write;
use std::ops::Range;

use faer::Mat;
use numformer_distributed::{Communicator, Solo};
use serde_json::json;

use crate::files::making::{CHUNK, Line, cut, in_chunks, render_into};
use crate::files::parquet;
use crate::{DatasetError, Example, Format, Split, Task};

/// The number of chunks that each thread makes before any is written. It bounds the memory while it keeps threads busy.
const CHUNKS_PER_THREAD: u64 = 16;

/// The number of threads that a rank is taken to have.
const THREADS_OF_A_RANK: usize = 8;

/// Writes the examples `range` of a split, in order. The threads of the current rayon pool make them. The bytes do not
/// depend on the number of threads. Returns the number of matrices that were drawn again because their answer could not
/// be trusted or written. Text is written in large pieces and flushed at the end, so `out`
/// need not be buffered.
///
/// # Errors
/// When an example cannot be made, or `out` cannot be written to; for Parquet without the feature `parquet`, always.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use numformer_data::{Format, Split, Task, write_examples};
/// use numformer_encoding::Positional;
/// use numformer_problems::{Transpose, UniformEntries};
///
/// let p1000 = Arc::new(Positional::p1000());
/// let task = Task::new(Transpose, UniformEntries::new(1, 2, 10.0)?, p1000.clone(), p1000)?;
/// let mut tsv = Vec::new();
/// write_examples(&task, 7, Split::Train, 0..1, Format::Tsv, &mut tsv)?;
/// assert_eq!(String::from_utf8(tsv)?, "V1 V2 + 528 E-2 - 681 E-3\tV2 V1 + 528 E-2 - 681 E-3\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_examples(
    task: &Task,
    seed: u64,
    split: Split,
    range: Range<u64>,
    format: Format,
    out: impl Write + Send,
) -> Result<u64, DatasetError> {
    write_examples_across(task, seed, split, range, format, out, &Solo)
}

/// Like [`write_examples`], but several processes make the examples. All must call this, and each writes all examples,
/// the same bytes as one process, to its own `out`: give [`sink`](std::io::sink) to all but one.
///
/// # Errors
/// When [`write_examples`] fails, or another process does.
pub fn write_examples_across(
    task: &Task,
    seed: u64,
    split: Split,
    range: Range<u64>,
    format: Format,
    out: impl Write + Send,
    ranks: &dyn Communicator,
) -> Result<u64, DatasetError> {
    // All ranks must cut alike, whatever their numbers of threads.
    let threads = if ranks.size() == 1 { rayon::current_num_threads() } else { THREADS_OF_A_RANK * ranks.size() };
    let groups = cut(range.clone(), CHUNK * CHUNKS_PER_THREAD * threads as u64);
    match format {
        Format::Tsv => write_text(groups, out, ranks, |line, text| tsv_line(task, seed, split, line, text)),
        Format::Jsonl => write_text(groups, out, ranks, |line, text| jsonl_line(task, seed, split, line, text)),
        Format::Parquet => parquet::write(task, seed, split, range, out, ranks),
    }
}

fn write_text(
    groups: impl Iterator<Item = Range<u64>>,
    mut out: impl Write,
    ranks: &dyn Communicator,
    line: impl Fn(&mut Line, &mut String) -> Result<(), DatasetError> + Send + Sync,
) -> Result<u64, DatasetError> {
    let mut rejected = 0;
    for group in groups {
        let chunks = in_chunks(group, ranks, |chunk| {
            let mut text = String::new();
            let mut made = Line::default();
            for index in chunk {
                made.index = index;
                line(&mut made, &mut text)?;
            }
            Ok((text, made.rejected))
        })?;
        for (text, again) in chunks {
            out.write_all(text.as_bytes()).map_err(DatasetError::Write)?;
            rejected += again;
        }
    }
    out.flush().map_err(DatasetError::Write)?;
    Ok(rejected)
}

fn tsv_line(task: &Task, seed: u64, split: Split, line: &mut Line, text: &mut String) -> Result<(), DatasetError> {
    let Example { src, tgt, .. } = line.make(task, seed, split)?;
    render_into(task, src, text);
    text.push('\t');
    render_into(task, tgt, text);
    text.push('\n');
    Ok(())
}

fn jsonl_line(task: &Task, seed: u64, split: Split, line: &mut Line, text: &mut String) -> Result<(), DatasetError> {
    let index = line.index;
    let example = line.make(task, seed, split)?;
    let problem = task.problems().nth(example.problem).expect("an example is of a problem of its task").name();
    // An object would sort its keys, but a reader expects the index first.
    write!(text, r#"{{"index":{index},"problem":{},"src":"#, json!(problem)).expect("strings grow");
    write!(text, "{}", json!(rows(&example.input))).expect("strings grow");
    write!(text, r#","tgt":{},"src_tokens":""#, json!(rows(&example.output))).expect("strings grow");
    // In the encodings of this workspace, symbols hold neither quotes nor backslashes, but in a custom encoding they
    // may.
    let mut tokens = String::new();
    for (sequence, end) in [(&example.src, "\",\"tgt_tokens\":\""), (&example.tgt, "\"}\n")] {
        tokens.clear();
        render_into(task, sequence, &mut tokens);
        let quoted = json!(tokens).to_string();
        text.push_str(&quoted[1..quoted.len() - 1]);
        text.push_str(end);
    }
    Ok(())
}

fn rows(matrix: &Mat<f64>) -> Vec<Vec<f64>> {
    (0..matrix.nrows()).map(|i| (0..matrix.ncols()).map(|j| matrix[(i, j)]).collect()).collect()
}
