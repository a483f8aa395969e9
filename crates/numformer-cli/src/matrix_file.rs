//! Matrices in files of other programs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use half::f16;
use numformer_data::read_text;
use numformer_encoding::DenseMatrix;

/// Reads a matrix: NumPy's format if the name ends in `.npy`, text otherwise.
pub(crate) fn read_matrix(path: &Path) -> Result<DenseMatrix> {
    let read = if path.extension().is_some_and(|extension| extension == "npy") { npy(path) } else { text(path) };
    read.with_context(|| format!("cannot read a matrix from {}", path.display()))
}

fn npy(path: &Path) -> Result<DenseMatrix> {
    let bytes = fs::metadata(path)?.len();
    ensure!(bytes < LARGEST, "expected less than {LARGEST} bytes, found {bytes}");
    let file = fs::read(path)?;
    let Header { descr, is_by_columns, shape, data } = Header::read(&file).context("expected NumPy's format")?;
    let [rows, cols] = shape[..] else { bail!("expected a matrix, found an array of shape {shape:?}") };
    let number = NumberType::named(descr).with_context(|| {
        format!("expected real numbers of at most 8 bytes, as from .astype(float), found type {descr}")
    })?;
    let size = number.size;
    // Checks the sizes in the header against the file before allocating anything of that size.
    let expected = rows.checked_mul(cols).and_then(|count| count.checked_mul(size));
    ensure!(
        expected == Some(data.len()),
        "expected {size}-byte numbers for an array of shape {shape:?}, found {} bytes",
        data.len()
    );
    // Checked here, before it makes rows without numbers.
    ensure!(!data.is_empty(), "expected numbers, found none");
    let numbers: Vec<f64> = data.chunks_exact(size).map(|bytes| number.read(bytes)).collect();
    let at = |row: usize, col: usize| if is_by_columns { col * rows + row } else { row * cols + col };
    of_rows((0..rows).map(|row| (0..cols).map(|col| numbers[at(row, col)]).collect()).collect())
}

/// The header of a `.npy` file, and the numbers that follow it.
///
/// # Reference
/// NumPy's `numpy.lib.format`. <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>
struct Header<'f> {
    /// The type of the numbers, as in `'<f8'`.
    descr: &'f str,
    /// Whether the numbers are in Fortran's order, as NumPy writes a transposed matrix.
    is_by_columns: bool,
    shape: Vec<usize>,
    data: &'f [u8],
}

impl<'f> Header<'f> {
    /// Reads `{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }` and what is around it.
    fn read(file: &'f [u8]) -> Option<Self> {
        // The length of the header takes two bytes in version 1 of the format, and four in later versions.
        let rest = file.strip_prefix(b"\x93NUMPY")?;
        let (start, length) = match rest {
            [1, _, a, b, ..] => (4, usize::from(u16::from_le_bytes([*a, *b]))),
            [2 | 3, _, a, b, c, d, ..] => (6, u32::from_le_bytes([*a, *b, *c, *d]) as usize),
            _ => return None,
        };
        let (header, data) = rest.get(start..)?.split_at_checked(length)?;
        let header = std::str::from_utf8(header).ok()?;
        let value = |key| Some(header.split_once(key)?.1.trim_start().strip_prefix(':')?.trim_start());
        // A type of several fields is a list; it is not a type of numbers.
        let descr = value("'descr'")?;
        let descr = descr.split_once(", 'fortran_order'").map_or(descr, |(descr, _)| descr);
        let (inside, _) = value("'shape'")?.strip_prefix('(')?.split_once(')')?;
        let sizes = inside.split(',').map(str::trim).filter(|size| !size.is_empty());
        Some(Self {
            descr,
            is_by_columns: value("'fortran_order'")?.starts_with("True"),
            shape: sizes.map(|size| size.parse().ok()).collect::<Option<_>>()?,
            data,
        })
    }
}

/// How a real number is stored in a file.
#[derive(Clone, Copy)]
struct NumberType {
    is_big_endian: bool,
    kind: Kind,
    /// The number of bytes, at most eight.
    size: usize,
}

#[derive(Clone, Copy)]
enum Kind {
    Float,
    Signed,
    Unsigned,
}

impl NumberType {
    /// Reads a type such as `'>f4'`; `None` if it is not a type of real numbers, or has more than eight bytes.
    fn named(descr: &str) -> Option<Self> {
        let name = descr.strip_prefix('\'')?.strip_suffix('\'')?;
        let (order, name) = name.split_at_checked(1)?;
        let (kind, size) = match name {
            "f2" => (Kind::Float, 2),
            "f4" => (Kind::Float, 4),
            "f8" => (Kind::Float, 8),
            "b1" | "u1" => (Kind::Unsigned, 1),
            "u2" => (Kind::Unsigned, 2),
            "u4" => (Kind::Unsigned, 4),
            "u8" => (Kind::Unsigned, 8),
            "i1" => (Kind::Signed, 1),
            "i2" => (Kind::Signed, 2),
            "i4" => (Kind::Signed, 4),
            "i8" => (Kind::Signed, 8),
            _ => return None,
        };
        // A single byte has no byte order.
        matches!(order, "<" | ">" | "|").then_some(Self { is_big_endian: order == ">", kind, size })
    }

    /// The number that `bytes` stand for; their count must be its size.
    fn read(self, bytes: &[u8]) -> f64 {
        let append = |bits: u64, byte: &u8| bits << 8 | u64::from(*byte);
        let bits = if self.is_big_endian { bytes.iter().fold(0, append) } else { bytes.iter().rev().fold(0, append) };
        match (self.kind, self.size) {
            (Kind::Float, 2) => f16::from_bits(bits as u16).to_f64(),
            (Kind::Float, 4) => f32::from_bits(bits as u32).into(),
            (Kind::Float, _) => f64::from_bits(bits),
            (Kind::Unsigned, _) => bits as f64,
            (Kind::Signed, size) => {
                let unused = 64 - 8 * size;
                ((bits << unused) as i64 >> unused) as f64
            }
        }
    }
}

/// A larger file cannot be a matrix that a model reads.
const LARGEST: u64 = 1 << 20;

fn text(path: &Path) -> Result<DenseMatrix> {
    let text = read_text(path)?;
    let mut rows: Vec<Vec<f64>> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // A line has one kind of separator, so that a missing number or a decimal comma is noticed.
        let fields: Vec<&str> = match [';', ','].into_iter().find(|separator| line.contains(*separator)) {
            Some(separator) => line.strip_suffix(separator).unwrap_or(line).split(separator).map(str::trim).collect(),
            None => line.split_whitespace().collect(),
        };
        let mut row = Vec::new();
        for number in fields {
            match number.parse::<f64>() {
                Ok(number) => row.push(number),
                Err(_) => bail!("line {}: expected a number, found `{number}`", index + 1),
            }
        }
        if let Some(first) = rows.first()
            && first.len() != row.len()
        {
            bail!("line {}: expected {} numbers, as in the first row, found {}", index + 1, first.len(), row.len());
        }
        rows.push(row);
    }
    of_rows(rows)
}

fn of_rows(rows: Vec<Vec<f64>>) -> Result<DenseMatrix> {
    let cols = rows.first().map_or(0, Vec::len);
    ensure!(cols > 0, "expected numbers, found none");
    let coefficients: Vec<f64> = rows.concat();
    if let Some(found) = coefficients.iter().find(|number| !number.is_finite()) {
        bail!("expected finite numbers, found {found}");
    }
    Ok(DenseMatrix { rows: rows.len(), cols, coefficients })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, content: &[u8]) -> Result<DenseMatrix, String> {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join(name);
        fs::write(&path, content).expect("written");
        read_matrix(&path).map_err(|error| format!("{error:#}"))
    }

    /// The format of numpy.lib.format, version 1.0.
    fn npy_file(dtype: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let mut header = format!("{{'descr': '{dtype}', 'fortran_order': {order}, 'shape': {shape}, }}");
        while (10 + header.len() + 1) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        file.extend(data);
        file
    }

    #[test]
    fn text_is_read_with_commas_and_spaces() {
        let expected = DenseMatrix { rows: 2, cols: 2, coefficients: vec![1.5, -2.0, 3e-1, 4.0] };
        for content in ["1.5,-2\n3e-1,4\n", "# a comment\n1.5 -2\n\n 0.3\t4", "1.5; -2\r\n0.3; 4\r\n"] {
            assert_eq!(read("m.csv", content.as_bytes()), Ok(expected.clone()), "{content}");
        }
    }

    #[test]
    fn npy_files_are_read() {
        let doubles: Vec<u8> = [1.5f64, -2.0, 0.25, 4.0, 5.0, 6.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let expected = DenseMatrix { rows: 2, cols: 3, coefficients: vec![1.5, -2.0, 0.25, 4.0, 5.0, 6.0] };
        assert_eq!(read("m.npy", &npy_file("<f8", "False", "(2, 3)", &doubles)), Ok(expected.clone()));
        let columns: Vec<u8> = [1.5f64, 4.0, -2.0, 5.0, 0.25, 6.0].iter().flat_map(|x| x.to_be_bytes()).collect();
        assert_eq!(read("m.npy", &npy_file(">f8", "True", "(2, 3)", &columns)), Ok(expected));
        let integers: Vec<u8> = [7i64, -8].iter().flat_map(|x| x.to_le_bytes()).collect();
        let expected = DenseMatrix { rows: 1, cols: 2, coefficients: vec![7.0, -8.0] };
        assert_eq!(read("m.npy", &npy_file("<i8", "False", "(1, 2)", &integers)), Ok(expected));
    }

    #[test]
    fn npy_files_of_every_real_type_are_read() {
        for (descr, data, expected) in [
            ("<f2", &[0x00, 0xc1][..], -2.5),
            (">f2", &[0xc1, 0x00], -2.5),
            ("<f4", &(-2.5f32).to_le_bytes(), -2.5),
            (">f4", &(-2.5f32).to_be_bytes(), -2.5),
            ("|b1", &[1], 1.0),
            ("|u1", &[200], 200.0),
            ("|i1", &[0xfe], -2.0),
            ("<u2", &60_000u16.to_le_bytes(), 60_000.0),
            (">i2", &(-300i16).to_be_bytes(), -300.0),
            ("<i4", &(-70_000i32).to_le_bytes(), -70_000.0),
            (">u4", &4_000_000_000u32.to_be_bytes(), 4e9),
            (">i8", &(-1i64 << 40).to_be_bytes(), -1_099_511_627_776.0),
            ("<u8", &(1u64 << 63).to_le_bytes(), 9_223_372_036_854_775_808.0),
        ] {
            let expected = DenseMatrix { rows: 1, cols: 1, coefficients: vec![expected] };
            assert_eq!(read("m.npy", &npy_file(descr, "False", "(1, 1)", data)), Ok(expected), "{descr}");
        }
        for descr in ["<c16", "<f16", "|O", "<U3", "|S1", "<M8[ns]", "|V8"] {
            let error = read("m.npy", &npy_file(descr, "False", "(1, 1)", &[0; 8])).expect_err(descr);
            assert!(
                error.ends_with(&format!(
                    "expected real numbers of at most 8 bytes, as from .astype(float), found type '{descr}'"
                )),
                "{error}"
            );
        }
    }

    /// As Windows PowerShell and other programs write it.
    #[test]
    fn text_is_read_whatever_its_encoding() {
        let expected = DenseMatrix { rows: 2, cols: 2, coefficients: vec![1.0, 2.0, 3.0, 4.0] };
        let text = "\u{feff}1,2\r\n3,4\r\n";
        assert_eq!(read("m.csv", text.as_bytes()), Ok(expected.clone()));
        for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            assert_eq!(read("m.csv", &text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>()), Ok(expected.clone()));
        }
        let error = read("m.csv", b"1,2 \xb1 3").expect_err("latin-1");
        assert!(error.ends_with("expected text in UTF-8 or UTF-16, found neither at byte 4"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases: [(&str, Vec<u8>, &str); 15] = [
            ("m.csv", b"1,,2\n3,4".to_vec(), "line 1: expected a number, found ``"),
            ("m.csv", b"1,5 2,5".to_vec(), "line 1: expected a number, found `5 2`"),
            ("m.csv", b"1,5; 2,5".to_vec(), "line 1: expected a number, found `1,5`"),
            ("m.csv", b"1 2\n3 x".to_vec(), "line 2: expected a number, found `x`"),
            ("m.csv", b"1 2\n3".to_vec(), "line 2: expected 2 numbers, as in the first row, found 1"),
            ("m.csv", b"# nothing\n".to_vec(), "expected numbers, found none"),
            ("m.csv", b"1 inf".to_vec(), "expected finite numbers, found inf"),
            ("m.npy", b"no array".to_vec(), "m.npy"),
            ("m.npy", npy_file("<f8", "False", "(2, 2)", &[0; 8]), "m.npy"),
            ("m.npy", npy_file("<f8", "False", "(1, 1)", &[0; 16]), "for an array of shape [1, 1], found 16 bytes"),
            ("m.npy", npy_file("<f8", "False", "(0, 3)", &[]), "expected numbers, found none"),
            ("m.npy", npy_file("<f8", "False", "(99999999999, 0)", &[]), "expected numbers, found none"),
            ("m.npy", npy_file("<f8", "False", "(1,)", &[0; 8]), "found an array of shape [1]"),
            ("m.npy", npy_file("<f8", "False", "(100000000000, 8)", &[0; 8]), "an array of shape [100000000000, 8]"),
            (
                "m.npy",
                npy_file("<f8", "False", "(9999999999999, 9999999999)", &[0; 8]),
                "an array of shape [9999999999999, 99",
            ),
        ];
        for (name, content, expected) in cases {
            let error = read(name, &content).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        let error = format!("{:#}", read_matrix(Path::new("nowhere.npy")).expect_err("no file"));
        assert!(error.contains("nowhere.npy"), "{error}");
    }
}
