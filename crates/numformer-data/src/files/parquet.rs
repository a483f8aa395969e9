//! Examples in Apache Parquet.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Arc;

use numformer_distributed::Communicator;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::{Row, RowAccessor};
use parquet::schema::parser::parse_message_type;
use serde::{Deserialize, Serialize};

use crate::files::making::{Line, cut, in_chunks, render_into};
use crate::files::record::Record;
use crate::{DatasetError, RecordError, Split, Task};

/// The largest number of tokens in a row group. A row group is held in memory before it is written.
const ROW_GROUP_TOKENS: u64 = 1 << 22;

const SCHEMA: &str = "message examples {
    REQUIRED INT64 index (UINT_64);
    REQUIRED BYTE_ARRAY problem (UTF8);
    REQUIRED BYTE_ARRAY src_tokens (UTF8);
    REQUIRED BYTE_ARRAY tgt_tokens (UTF8);
}";

/// Reads all rows of a file, and hands each to `add` with its number.
///
/// # Errors
/// When the file is not in this format, is damaged or lacks a column, and the first error of `add`.
pub(super) fn read(
    path: &Path,
    file: File,
    mut add: impl FnMut(u64, Result<Record, RecordError>) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    let damaged = |source: ParquetError| DatasetError::Parquet { path: path.to_owned(), source: source.into() };
    let reader = without_panic(|| SerializedFileReader::new(file)).map_err(damaged)?;
    let fields = reader.metadata().file_metadata().schema().get_fields().to_vec();
    let column = |name: &'static str| {
        let index = fields.iter().position(|field| field.name() == name);
        index.ok_or_else(|| DatasetError::Column { path: path.to_owned(), name })
    };
    let columns = [column("src_tokens")?, column("tgt_tokens")?];
    let mut rows = without_panic(|| reader.get_row_iter(None)).map_err(damaged)?;
    for number in 1.. {
        let Some(row) = without_panic(|| rows.next().transpose()).map_err(damaged)? else { break };
        add(number, record(&row, columns).map_err(|source| RecordError::Cell(source.into())))?;
    }
    Ok(())
}

fn record(row: &Row, [src, tgt]: [usize; 2]) -> Result<Record, ParquetError> {
    Ok(Record::Tokens { src: row.get_string(src)?.clone(), tgt: row.get_string(tgt)?.clone() })
}

/// The crate `parquet` panics on some damaged files. A file must not be able to end the program.
fn without_panic<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    // What was being read is dropped, so that no inconsistent state can be seen.
    let read = panic::catch_unwind(AssertUnwindSafe(read));
    read.unwrap_or_else(|_| Err(ParquetError::General("the file is damaged".to_owned())))
}

/// The columns of some examples.
#[derive(Default, Serialize, Deserialize)]
struct Columns {
    index: Vec<i64>,
    /// The place of each example's problem among those of the task.
    problem: Vec<usize>,
    src: Vec<String>,
    tgt: Vec<String>,
    rejected: u64,
}

/// Writes the examples `range` of a split.
///
/// # Errors
/// When an example cannot be made, or `out` cannot be written to.
pub(super) fn write(
    task: &Task,
    seed: u64,
    split: Split,
    range: Range<u64>,
    out: impl Write + Send,
    ranks: &dyn Communicator,
) -> Result<u64, DatasetError> {
    // This must not depend on the number of threads: the bytes would differ.
    let rows = ROW_GROUP_TOKENS / (task.max_src_len() + task.max_tgt_len()) as u64;
    let groups = cut(range, rows.max(1));
    let schema = Arc::new(parse_message_type(SCHEMA).expect("the schema above is well formed"));
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(concat!("numformer ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut writer = SerializedFileWriter::new(out, schema, Arc::new(properties)).map_err(unwritable)?;
    let mut rejected = 0;
    for group in groups {
        let mut columns = Columns::default();
        for chunk in in_chunks(group, ranks, |chunk| columns_of(task, seed, split, chunk))? {
            columns.index.extend(chunk.index);
            columns.problem.extend(chunk.problem);
            columns.src.extend(chunk.src);
            columns.tgt.extend(chunk.tgt);
            rejected += chunk.rejected;
        }
        write_row_group(&mut writer, task, columns).map_err(unwritable)?;
    }
    writer.close().map_err(unwritable)?;
    Ok(rejected)
}

fn columns_of(task: &Task, seed: u64, split: Split, chunk: Range<u64>) -> Result<Columns, DatasetError> {
    let mut columns = Columns::default();
    let mut line = Line::default();
    for index in chunk {
        line.index = index;
        let example = line.make(task, seed, split)?;
        // Parquet writes unsigned integers with the bits of signed ones.
        columns.index.push(index.cast_signed());
        columns.problem.push(example.problem);
        for (column, sequence) in [(&mut columns.src, &example.src), (&mut columns.tgt, &example.tgt)] {
            let mut tokens = String::new();
            render_into(task, sequence, &mut tokens);
            column.push(tokens);
        }
    }
    columns.rejected = line.rejected;
    Ok(columns)
}

fn write_row_group<W: Write + Send>(
    writer: &mut SerializedFileWriter<W>,
    task: &Task,
    columns: Columns,
) -> Result<(), ParquetError> {
    let names: Vec<ByteArray> = task.problems().map(|problem| ByteArray::from(problem.name())).collect();
    let problems: Vec<_> = columns.problem.iter().map(|problem| names[*problem].clone()).collect();
    let texts =
        [columns.src, columns.tgt].map(|column| column.into_iter().map(|text| text.into_bytes().into()).collect());
    let mut group = writer.next_row_group()?;
    let next = "the schema has four columns";
    let mut index = group.next_column()?.expect(next);
    index.typed::<Int64Type>().write_batch(&columns.index, None, None)?;
    index.close()?;
    for values in [problems].into_iter().chain(texts) {
        let mut column = group.next_column()?.expect(next);
        column.typed::<ByteArrayType>().write_batch(&values, None, None)?;
        column.close()?;
    }
    group.close().map(drop)
}

fn unwritable(error: ParquetError) -> DatasetError {
    DatasetError::Write(match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    })
}
