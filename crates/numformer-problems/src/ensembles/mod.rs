//! The laws of random matrices, one per file.

mod uniform_entries;

pub use uniform_entries::UniformEntries;
