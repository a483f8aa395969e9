//! The problems, one per file.

mod addition;
mod transpose;

pub use addition::Addition;
pub use transpose::Transpose;
