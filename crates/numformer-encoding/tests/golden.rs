//! Agreement with the authors' program on recorded numbers, matrices and vocabularies.

use std::collections::BTreeMap;

use numformer_encoding::{EncodeError, MatrixEncoding, Vocabulary, encoding_by_name};
use numformer_testkit::{assert_close, golden};
use serde::Deserialize;

#[derive(Deserialize)]
struct Encodings {
    numbers: Vec<Number>,
    matrices: Vec<Matrix>,
    vocabulary_sizes: BTreeMap<String, usize>,
    first_symbols: BTreeMap<String, Vec<String>>,
}

/// The value; its words in P10, P1000, B1999 and FP15; the number read back from the first three, and from FP15.
#[derive(Deserialize)]
struct Number(f64, [String; 4], Option<f64>, f64);

#[derive(Deserialize)]
struct Matrix {
    rows: Vec<Vec<f64>>,
    #[serde(flatten)]
    tokens: BTreeMap<String, String>,
}

const NAMES: [&str; 4] = ["P10", "P1000", "B1999", "FP15"];

/// The encoding of that name, bound to the reference's vocabulary for it.
fn bind(name: &str) -> MatrixEncoding {
    let number = encoding_by_name(&name.to_lowercase()).expect("a published encoding");
    let vocabulary = Vocabulary::reference(&*number, &*number);
    MatrixEncoding::new(number, &vocabulary).expect("the vocabulary has the symbols of its encodings")
}

/// The tokens of a 1×1 matrix after its shape.
fn word(encoding: &MatrixEncoding, x: f64) -> Result<String, EncodeError> {
    let mut word = Vec::new();
    encoding.encode(1, 1, [x], &mut word)?;
    Ok(encoding.vocabulary().render(&word[2..]))
}

/// The reference multiplies by a rounded power of ten, whereas this crate takes the nearest number. They may differ by
/// one unit in the last place.
const READING_TOLERANCE: f64 = f64::EPSILON;

#[test]
fn numbers_are_written_and_read_alike() {
    let data: Encodings = golden("encodings.json");
    assert_eq!(data.numbers.len(), 1088);
    for (column, name) in NAMES.into_iter().enumerate() {
        let encoding = bind(name);
        for Number(x, words, positional, floating) in &data.numbers {
            let (recorded, read) = match name {
                "FP15" => (&words[column], Some(*floating)),
                _ => (&words[column], *positional),
            };
            // For numbers that this crate refuses, the reference writes exponents that its own vocabulary lacks or, in
            // FP15, one token for all such numbers.
            let refused = if name == "FP15" { recorded.ends_with("NaN") } else { *x >= 1e103 };
            match word(&encoding, *x) {
                Ok(word) => assert_eq!(word, *recorded, "{name}: {x:e}"),
                Err(error) => assert!(refused, "{name}: {x:e}: {error}"),
            }
            if let Some(read) = read.filter(|_| !refused) {
                let rounded = encoding.number().round(*x).expect("it was written");
                assert_close!(rounded, read, READING_TOLERANCE, "{name}: {x:e}");
            }
        }
    }
}

#[test]
fn matrices_are_written_and_read_alike() {
    let data: Encodings = golden("encodings.json");
    assert_eq!(data.matrices.len(), 33);
    for name in NAMES {
        let encoding = bind(name);
        for Matrix { rows, tokens: recorded } in &data.matrices {
            let mut tokens = Vec::new();
            let coefficients = rows.iter().flatten().copied();
            encoding.encode(rows.len(), rows[0].len(), coefficients.clone(), &mut tokens).expect("numbers in range");
            assert_eq!(encoding.vocabulary().render(&tokens), recorded[name]);

            let matrix = encoding.decode(&tokens).expect("its own tokens");
            assert_eq!((matrix.rows, matrix.cols), (rows.len(), rows[0].len()));
            let rounded: Vec<_> = coefficients.map(|x| encoding.number().round(x).expect("in range")).collect();
            assert_eq!(matrix.coefficients, rounded);
        }
    }
}

#[test]
fn vocabularies_have_the_same_sizes_and_order() {
    let data: Encodings = golden("encodings.json");
    for input in NAMES {
        let input_encoding = bind(input);
        assert_eq!(input_encoding.vocabulary().symbols()[..60], data.first_symbols[input], "{input}");
        for output in NAMES {
            let vocabulary = Vocabulary::reference(input_encoding.number(), bind(output).number());
            assert_eq!(vocabulary.len(), data.vocabulary_sizes[&format!("{input}>{output}")], "{input}>{output}");
        }
    }
}
