//! Symbols as text for people to read.

use crate::TokenId;

/// Appends the symbols of `ids`, separated by spaces.
pub(crate) fn render_into(symbols: &[String], ids: &[TokenId], text: &mut String) {
    for (position, &id) in ids.iter().enumerate() {
        if position > 0 {
            text.push(' ');
        }
        match symbols.get(id.0 as usize) {
            Some(symbol) => text.push_str(symbol),
            None => text.push_str(&symbol_or_unknown(symbols, id)),
        }
    }
}

/// The symbol, shortened if it is so long that it would hide the message around it.
pub(crate) fn shortened(symbol: &str) -> String {
    const LONGEST: usize = 40;
    match symbol.char_indices().nth(LONGEST) {
        None => symbol.to_owned(),
        Some((end, _)) => format!("{}…", &symbol[..end]),
    }
}

/// The symbol of an id, for people to read.
pub(crate) fn symbol_or_unknown(symbols: &[String], TokenId(id): TokenId) -> String {
    symbols.get(id as usize).cloned().unwrap_or_else(|| format!("<unknown {id}>"))
}
