//! Sets of examples in files.

pub(crate) mod dataset;
pub(crate) mod dataset_error;
pub(crate) mod format;
pub(crate) mod making;
#[cfg_attr(not(feature = "parquet"), path = "no_parquet.rs")]
pub(crate) mod parquet;
pub(crate) mod record;
pub(crate) mod record_error;
pub(crate) mod text;
pub(crate) mod write;
