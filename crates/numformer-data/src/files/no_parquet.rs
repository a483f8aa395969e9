//! What stands for Apache Parquet in a build without it.

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use numformer_distributed::Communicator;

use crate::files::record::Record;
use crate::{DatasetError, RecordError, Split, Task};

/// # Errors
/// Always.
pub(super) fn read(
    _path: &Path,
    _file: File,
    _add: impl FnMut(u64, Result<Record, RecordError>) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    Err(DatasetError::NoParquet)
}

/// # Errors
/// Always.
pub(super) fn write(
    _task: &Task,
    _seed: u64,
    _split: Split,
    _range: Range<u64>,
    _out: impl Write + Send,
    _ranks: &dyn Communicator,
) -> Result<u64, DatasetError> {
    Err(DatasetError::NoParquet)
}
