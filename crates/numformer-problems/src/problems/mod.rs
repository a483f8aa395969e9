//! The problems, one per file.

mod transpose;

pub use transpose::Transpose;
