//! Matrices in files of other programs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Tensor};
use numformer_encoding::DenseMatrix;

/// Reads a matrix: NumPy's format if the name ends in `.npy`, text otherwise.
pub(crate) fn read_matrix(path: &Path) -> Result<DenseMatrix> {
    let read = if path.extension().is_some_and(|extension| extension == "npy") { npy(path) } else { text(path) };
    read.with_context(|| format!("cannot read a matrix from {}", path.display()))
}

fn npy(path: &Path) -> Result<DenseMatrix> {
    let bytes = fs::metadata(path)?.len();
    ensure!(bytes < LARGEST, "expected less than {LARGEST} bytes, found {bytes}");
    // The reader below trusts what the header says of sizes: first it is held against the file.
    let file = fs::read(path)?;
    let shape = npy_shape(&file).context("expected NumPy's format")?;
    ensure!(shape.len() == 2, "expected a matrix, found an array of shape {shape:?}");
    let count = shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size));
    ensure!(
        count.is_some_and(|count| count <= file.len() as u64),
        "expected as many numbers as a shape of {shape:?} says, found {} bytes",
        file.len()
    );
    let tensor = Tensor::read_npy(path)?;
    let rows = tensor.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    of_rows(rows)
}

/// The shape that the header of a `.npy` file gives, as in `'shape': (2, 3), `.
fn npy_shape(file: &[u8]) -> Option<Vec<u64>> {
    // The header's length stands in two bytes in version 1 of the format, in four later.
    let rest = file.strip_prefix(b"\x93NUMPY")?;
    let (start, length) = match rest {
        [1, _, a, b, ..] => (4, usize::from(u16::from_le_bytes([*a, *b]))),
        [2 | 3, _, a, b, c, d, ..] => (6, u32::from_le_bytes([*a, *b, *c, *d]) as usize),
        _ => return None,
    };
    let header = std::str::from_utf8(rest.get(start..)?.get(..length)?).ok()?;
    let (_, after) = header.split_once("'shape':")?;
    let (inside, _) = after.trim_start().strip_prefix('(')?.split_once(')')?;
    inside.split(',').map(str::trim).filter(|size| !size.is_empty()).map(|size| size.parse().ok()).collect()
}

/// A file beyond this is no matrix that a model reads.
const LARGEST: u64 = 1 << 20;

fn text(path: &Path) -> Result<DenseMatrix> {
    let text = fs::read_to_string(path)?;
    let mut rows: Vec<Vec<f64>> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let is_separator = |c: char| c == ',' || c == ';' || c.is_whitespace();
        let mut row = Vec::new();
        for number in line.split(is_separator).filter(|number| !number.is_empty()) {
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
        assert_eq!(read("m.npy", &npy_file("<f8", "False", "(2, 3)", &doubles)), Ok(expected));
        let integers: Vec<u8> = [7i64, -8].iter().flat_map(|x| x.to_le_bytes()).collect();
        let expected = DenseMatrix { rows: 1, cols: 2, coefficients: vec![7.0, -8.0] };
        assert_eq!(read("m.npy", &npy_file("<i8", "False", "(1, 2)", &integers)), Ok(expected));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases: [(&str, Vec<u8>, &str); 10] = [
            ("m.csv", b"1 2\n3 x".to_vec(), "line 2: expected a number, found `x`"),
            ("m.csv", b"1 2\n3".to_vec(), "line 2: expected 2 numbers, as in the first row, found 1"),
            ("m.csv", b"# nothing\n".to_vec(), "expected numbers, found none"),
            ("m.csv", b"1 inf".to_vec(), "expected finite numbers, found inf"),
            ("m.npy", b"no array".to_vec(), "m.npy"),
            ("m.npy", npy_file("<f8", "False", "(2, 2)", &[0; 8]), "m.npy"),
            ("m.npy", npy_file("<f8", "True", "(1, 1)", &[0; 8]), "m.npy"),
            ("m.npy", npy_file("<f8", "False", "(1,)", &[0; 8]), "found an array of shape [1]"),
            ("m.npy", npy_file("<f8", "False", "(100000000000, 8)", &[0; 8]), "a shape of [100000000000, 8]"),
            (
                "m.npy",
                npy_file("<f8", "False", "(9999999999999, 9999999999)", &[0; 8]),
                "a shape of [9999999999999, 99",
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
