//! Which tokens may follow.

pub(crate) mod matrix_grammar;
pub(crate) mod meaning;
pub(crate) mod word_grammar;
