//! A generated answer.

/// One generated answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hypothesis {
    /// The tokens between the delimiters.
    pub ids: Vec<u32>,
    /// How the sequence ended.
    pub end: End,
}

/// How a generated sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With the closing delimiter.
    Delimiter,
    /// At the maximum length, unfinished.
    Limit,
}
