//! Text from other programs, which may not write it in UTF-8.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// A reader that converts text of another program from UTF-8 or UTF-16 to UTF-8 without a byte order mark.
///
/// A byte order mark at the start tells the encoding. Windows programs write one, for example the `>` of PowerShell.
/// Without a mark, a null byte among the first two bytes means UTF-16, since no other text begins with one. Everything
/// else is passed on as it is, whether it is UTF-8 or not. Text is given as soon as it has arrived, so that a reader of
/// lines can answer each line before the next is written.
///
/// # Examples
/// ```
/// use std::io::Read;
/// use numformer_data::TextReader;
///
/// let mut text = String::new();
/// TextReader::new(&b"\xff\xfe1\x00 \x00-\x002\x00"[..]).read_to_string(&mut text)?;
/// assert_eq!(text, "1 -2");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct TextReader<R> {
    inner: R,
    /// `None` until it is known.
    encoding: Option<Encoding>,
    /// Bytes that have not been translated yet: a part of a mark, or of a character.
    raw: Vec<u8>,
    /// What has been translated, of which `given` bytes were read.
    text: Vec<u8>,
    given: usize,
}

#[derive(Clone, Copy, Debug)]
enum Encoding {
    /// UTF-8, or anything else that is not UTF-16.
    Utf8,
    Utf16 {
        unit: fn([u8; 2]) -> u16,
    },
}

/// The number of bytes that are asked for at a time.
const CHUNK: usize = 8 << 10;

impl<R: Read> TextReader<R> {
    /// A reader of `inner` that has read nothing yet.
    pub fn new(inner: R) -> Self {
        Self { inner, encoding: None, raw: Vec::new(), text: Vec::new(), given: 0 }
    }

    /// Waits for more bytes and translates what it can; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        let before = self.raw.len();
        self.raw.resize(before + CHUNK, 0);
        let found = loop {
            match self.inner.read(&mut self.raw[before..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                found => break found,
            }
        };
        self.raw.truncate(before + *found.as_ref().unwrap_or(&0));
        let is_end = found? == 0;
        self.text.clear();
        self.given = 0;
        let encoding = match self.encoding {
            Some(encoding) => encoding,
            None => match encoding_of(&self.raw, is_end)? {
                // More of the mark is needed.
                None => return Ok(true),
                Some((encoding, mark)) => {
                    self.raw.drain(..mark);
                    *self.encoding.insert(encoding)
                }
            },
        };
        match encoding {
            Encoding::Utf8 => self.text.append(&mut self.raw),
            Encoding::Utf16 { unit } => {
                let (pairs, _) = self.raw.as_chunks::<2>();
                let mut units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
                // The first half of a character waits for the second.
                units.pop_if(|last| !is_end && (0xd800..0xdc00).contains(last));
                self.raw.drain(..2 * units.len());
                if is_end && !self.raw.is_empty() {
                    return Err(invalid("expected UTF-16, as at the start, found an odd number of bytes"));
                }
                for character in char::decode_utf16(units) {
                    let character = character.map_err(|_| {
                        invalid("expected UTF-16, as at the start, found half a character (a lone surrogate)")
                    })?;
                    self.text.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
        }
        Ok(!is_end)
    }
}

impl<R: Read> Read for TextReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.given == self.text.len() && !buffer.is_empty() {
            if !self.advance()? && self.text.is_empty() {
                return Ok(0);
            }
        }
        let found = (&self.text[self.given..]).read(buffer)?;
        self.given += found;
        Ok(found)
    }
}

/// The encoding that the first bytes tell and the length of the mark; `None` if more bytes are needed.
fn encoding_of(start: &[u8], is_end: bool) -> io::Result<Option<(Encoding, usize)>> {
    let little = Encoding::Utf16 { unit: u16::from_le_bytes };
    let big = Encoding::Utf16 { unit: u16::from_be_bytes };
    Ok(match start {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => {
            return Err(invalid("expected text in UTF-8 or UTF-16, found UTF-32"));
        }
        // A mark, or the beginning of one.
        [] | [0xef] | [0xef, 0xbb] | [0xff] | [0xff, 0xfe] | [0xff, 0xfe, _] | [0xfe] | [0] if !is_end => None,
        [0xef, 0xbb, 0xbf, ..] => Some((Encoding::Utf8, 3)),
        [0xff, 0xfe, ..] => Some((little, 2)),
        [0xfe, 0xff, ..] => Some((big, 2)),
        [0, 0, ..] => Some((Encoding::Utf8, 0)),
        [0, _, ..] => Some((big, 0)),
        [_, 0, ..] => Some((little, 0)),
        _ => Some((Encoding::Utf8, 0)),
    })
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message)
}

/// Reads a whole file of text in UTF-8 or UTF-16, as a [`TextReader`] does.
///
/// # Errors
/// When the file cannot be read, or its text is in neither encoding.
pub fn read_text(path: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    TextReader::new(File::open(path)?).read_to_end(&mut text)?;
    String::from_utf8(text).map_err(|error| {
        let position = error.utf8_error().valid_up_to();
        io::Error::new(
            ErrorKind::InvalidData,
            format!("expected text in UTF-8 or UTF-16, found neither at byte {position}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its bytes one at a time.
    struct Slow<'b>(&'b [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            self.0 = rest;
            buffer[0] = *first;
            Ok(1)
        }
    }

    fn read(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let all = |mut reader: Box<dyn Read + '_>| {
            let mut text = Vec::new();
            reader.read_to_end(&mut text).map(|_| text).map_err(|error| error.to_string())
        };
        let at_once = all(Box::new(TextReader::new(bytes)));
        assert_eq!(all(Box::new(TextReader::new(Slow(bytes)))), at_once, "{bytes:?}");
        at_once
    }

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn every_encoding_gives_the_same_text() {
        let long = "1,2.5\r\n# größer 𝔘\r\n".repeat(600);
        for text in ["", "7", "1 2\n", "ä", "𝔘", &long] {
            let little = utf16(text, u16::to_le_bytes);
            let big = utf16(text, u16::to_be_bytes);
            for bytes in [
                text.as_bytes().to_vec(),
                [b"\xef\xbb\xbf", text.as_bytes()].concat(),
                [b"\xff\xfe", &little[..]].concat(),
                [b"\xfe\xff", &big[..]].concat(),
            ] {
                assert_eq!(read(&bytes), Ok(text.as_bytes().to_vec()), "{text}");
            }
        }
        // Without a mark.
        assert_eq!(read(&utf16("1 2", u16::to_be_bytes)), Ok(b"1 2".to_vec()));
        let mut text = Vec::new();
        TextReader::new(&utf16("1 2", u16::to_le_bytes)[..]).read_to_end(&mut text).expect("text");
        assert_eq!(text, b"1 2");
    }

    #[test]
    fn what_is_no_text_is_passed_on_or_named() {
        for bytes in [&b"\xef\xbb"[..], b"\xe4 = 1", b"\x00", b"\x00\x00\x00"] {
            assert_eq!(read(bytes), Ok(bytes.to_vec()));
        }
        for (bytes, expected) in [
            (&b"\xff\xfe\x00\x00a\x00\x00\x00"[..], "found UTF-32"),
            (b"\xff\xfea\x00b", "an odd number of bytes"),
            (b"\xff\xfe\x00\xd8a\x00", "a lone surrogate"),
            (b"\xfe\xff\xdc\x00", "a lone surrogate"),
            (b"\xfe\xff\xd8\x00", "a lone surrogate"),
        ] {
            let error = read(bytes).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }

    /// A filter answers a line before the next is written.
    #[test]
    fn a_short_line_is_given_at_once() {
        struct Panics<'b>(&'b [u8]);
        impl Read for Panics<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                assert!(!self.0.is_empty(), "asked for what has not been written");
                self.0.read(buffer)
            }
        }
        let mut buffer = [0; 64];
        assert_eq!(TextReader::new(Panics(b"7")).read(&mut buffer).expect("a line"), 1);
        assert_eq!(TextReader::new(Panics(b"\xff\xfe7\x00")).read(&mut buffer).expect("a line"), 1);
    }

    #[test]
    fn files_that_are_no_text_are_named() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("a.toml");
        std::fs::write(&path, b"x = \xe4").expect("written");
        let error = read_text(&path).expect_err("no text").to_string();
        assert_eq!(error, "expected text in UTF-8 or UTF-16, found neither at byte 4");
        std::fs::write(&path, b"\xef\xbb\xbfx = 1").expect("written");
        assert_eq!(read_text(&path).expect("text"), "x = 1");
    }
}
