//! For tests: words as text.

use crate::{DecodeError, NumberEncoding, TokenId};

/// The word for `x`, its symbols separated by spaces.
pub(crate) fn write(encoding: &dyn NumberEncoding, x: f64) -> String {
    let mut word = Vec::new();
    encoding.encode(x, &mut word).expect("a number in range");
    word.iter().map(|id| encoding.symbols()[id.0 as usize].as_str()).collect::<Vec<_>>().join(" ")
}

/// The number at the front of a text, and how many tokens follow it.
pub(crate) fn read(encoding: &dyn NumberEncoding, text: &str) -> Result<(f64, usize), DecodeError> {
    let id = |symbol| encoding.symbols().iter().position(|s| s == symbol).expect("a symbol of the encoding");
    let tokens: Vec<_> = text.split_whitespace().map(|symbol| TokenId(id(symbol) as u32)).collect();
    encoding.decode(&tokens).map(|(x, rest)| (x, rest.len()))
}
