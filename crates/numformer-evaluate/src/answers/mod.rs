//! Answers of a model, one by one.

pub(crate) mod answering;
pub(crate) mod pairs;
pub(crate) mod score;
pub(crate) mod shape;
pub(crate) mod solved;
