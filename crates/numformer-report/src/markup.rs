//! Escaping of text for HTML, for addresses and for file names.

use std::fmt::Write as _;

/// Escapes `text` for use as text, or as the value of an attribute in double quotes.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // HTML allows no other control characters.
            c if c.is_control() && !matches!(c, '\n' | '\t') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Escapes `text` for use in an address (RFC 3986): all but unreserved characters become `%XX`.
pub(crate) fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("strings grow");
        }
    }
    encoded
}

/// Converts `text` for use in a file name: lowercase letters, digits, `.` and `-`.
pub(crate) fn file_name(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || c == '.' {
            name.push(c.to_ascii_lowercase());
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    name.trim_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_end_an_element_or_an_attribute() {
        assert_eq!(escape("a<b> & \"c\" 'd'\u{0}\n"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;\u{fffd}\n");
    }

    #[test]
    fn addresses_hold_unreserved_characters_only() {
        assert_eq!(percent_encode("5%, \"ü\"\n~a-b_c.d"), "5%25%2C%20%22%C3%BC%22%0A~a-b_c.d");
    }

    #[test]
    fn names_of_files_are_plain() {
        assert_eq!(file_name("../Räuber & Co. v1.5"), "r-uber-co.-v1.5");
        assert_eq!(file_name("..."), "");
    }
}
