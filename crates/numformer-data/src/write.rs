//! Writing examples to files.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;

use faer::Mat;
use numformer_encoding::TokenId;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use rayon::prelude::*;
use serde_json::json;

use crate::{DatasetError, Example, Format, Split, Task};

/// The number of examples that one thread makes at a time. This is at least a hundred microseconds of work.
const CHUNK: u64 = 64;

/// The number of chunks that each thread makes before any is written. It bounds the memory while it keeps threads busy.
const CHUNKS_PER_THREAD: u64 = 16;

/// The largest number of tokens in a row group of a Parquet file. A row group is held in memory before it is written.
const ROW_GROUP_TOKENS: u64 = 1 << 22;

/// Writes the examples `range` of a split, in order. The threads of the current rayon pool make them. The bytes do not
/// depend on the number of threads. Returns the number of matrices that were drawn again because their answer could not
/// be trusted or written.
///
/// # Errors
/// When an example cannot be made, or `out` cannot be written to.
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
    let groups = cut(range.clone(), CHUNK * CHUNKS_PER_THREAD * rayon::current_num_threads() as u64);
    match format {
        Format::Tsv => write_text(groups, out, |line, text| tsv_line(task, seed, split, line, text)),
        Format::Jsonl => write_text(groups, out, |line, text| jsonl_line(task, seed, split, line, text)),
        Format::Parquet => {
            // This must not depend on the number of threads: the bytes would differ.
            let rows = ROW_GROUP_TOKENS / (task.max_src_len() + task.max_tgt_len()) as u64;
            write_parquet(task, seed, split, cut(range, rows.max(1)), out)
        }
    }
}

/// Cuts a range into parts of this size; the last may be shorter.
fn cut(range: Range<u64>, size: u64) -> impl Iterator<Item = Range<u64>> {
    let Range { start, end } = range;
    let count = end.saturating_sub(start).div_ceil(size);
    (0..count).map(move |part| start + part * size..end.min((start + part * size).saturating_add(size)))
}

/// Applies `make` to every index, in parallel; results are in order.
fn in_chunks<T: Send>(
    group: Range<u64>,
    make: impl Fn(Range<u64>) -> Result<T, DatasetError> + Send + Sync,
) -> Result<Vec<T>, DatasetError> {
    cut(group, CHUNK).collect::<Vec<_>>().into_par_iter().map(make).collect()
}

fn write_text(
    groups: impl Iterator<Item = Range<u64>>,
    mut out: impl Write,
    line: impl Fn(&mut Line, &mut String) -> Result<(), DatasetError> + Send + Sync,
) -> Result<u64, DatasetError> {
    let mut rejected = 0;
    for group in groups {
        let chunks = in_chunks(group, |chunk| {
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

/// The buffers of a thread that makes lines.
#[derive(Default)]
struct Line {
    index: u64,
    example: Example,
    rejected: u64,
}

impl Line {
    fn make(&mut self, task: &Task, seed: u64, split: Split) -> Result<&Example, DatasetError> {
        let Self { index, example, rejected } = self;
        task.example_into(seed, split, *index, example)
            .map_err(|source| DatasetError::Example { index: *index, source })?;
        *rejected += u64::from(example.rejected);
        Ok(example)
    }
}

/// The symbols of a sequence, without the delimiters around it.
fn render_into(task: &Task, tokens: &[TokenId], text: &mut String) {
    task.vocabulary().render_into(&tokens[1..tokens.len() - 1], text);
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

const SCHEMA: &str = "message examples {
    REQUIRED INT64 index (UINT_64);
    REQUIRED BYTE_ARRAY problem (UTF8);
    REQUIRED BYTE_ARRAY src_tokens (UTF8);
    REQUIRED BYTE_ARRAY tgt_tokens (UTF8);
}";

/// The columns of some examples.
#[derive(Default)]
struct Columns {
    index: Vec<i64>,
    text: [Vec<ByteArray>; 3],
    rejected: u64,
}

fn write_parquet(
    task: &Task,
    seed: u64,
    split: Split,
    groups: impl Iterator<Item = Range<u64>>,
    out: impl Write + Send,
) -> Result<u64, DatasetError> {
    let schema = Arc::new(parse_message_type(SCHEMA).expect("the schema above is well formed"));
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(concat!("numformer ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut writer = SerializedFileWriter::new(out, schema, Arc::new(properties)).map_err(parquet_write)?;
    let mut rejected = 0;
    for group in groups {
        let mut columns = Columns::default();
        for chunk in in_chunks(group, |chunk| columns_of(task, seed, split, chunk))? {
            columns.index.extend(chunk.index);
            columns.text.iter_mut().zip(chunk.text).for_each(|(column, values)| column.extend(values));
            rejected += chunk.rejected;
        }
        write_row_group(&mut writer, &columns).map_err(parquet_write)?;
    }
    writer.close().map_err(parquet_write)?;
    Ok(rejected)
}

fn columns_of(task: &Task, seed: u64, split: Split, chunk: Range<u64>) -> Result<Columns, DatasetError> {
    let names: Vec<ByteArray> = task.problems().map(|problem| ByteArray::from(problem.name())).collect();
    let mut columns = Columns::default();
    let mut line = Line::default();
    for index in chunk {
        line.index = index;
        let example = line.make(task, seed, split)?;
        // Parquet writes unsigned integers with the bits of signed ones.
        columns.index.push(index.cast_signed());
        columns.text[0].push(names[example.problem].clone());
        for (column, sequence) in columns.text[1..].iter_mut().zip([&example.src, &example.tgt]) {
            let mut tokens = String::new();
            render_into(task, sequence, &mut tokens);
            column.push(ByteArray::from(tokens.into_bytes()));
        }
    }
    columns.rejected = line.rejected;
    Ok(columns)
}

fn write_row_group<W: Write + Send>(
    writer: &mut SerializedFileWriter<W>,
    columns: &Columns,
) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    let next = "the schema has four columns";
    let mut index = group.next_column()?.expect(next);
    index.typed::<Int64Type>().write_batch(&columns.index, None, None)?;
    index.close()?;
    for values in &columns.text {
        let mut column = group.next_column()?.expect(next);
        column.typed::<ByteArrayType>().write_batch(values, None, None)?;
        column.close()?;
    }
    group.close().map(drop)
}

fn parquet_write(error: ParquetError) -> DatasetError {
    DatasetError::Write(match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    })
}
