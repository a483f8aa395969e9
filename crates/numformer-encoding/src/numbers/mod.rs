//! Encodings of numbers.

pub(crate) mod balanced;
pub(crate) mod decimal;
pub(crate) mod encoding_name;
pub(crate) mod floating;
pub(crate) mod number;
pub(crate) mod positional;
pub(crate) mod preset;
