//! Agreement with the authors' program on damaged token lists, except where the two differ for a reason named here.

use std::collections::BTreeMap;

use numformer_encoding::{DecodeError, MatrixEncoding, Vocabulary, encoding_by_name};
use numformer_testkit::{assert_close, golden};
use serde::Deserialize;

#[derive(Deserialize)]
struct Malformed {
    #[serde(rename = "about")]
    _about: String,
    #[serde(flatten)]
    cases: BTreeMap<String, Vec<Case>>,
}

/// How the list was damaged, its symbols, and the answer.
#[derive(Deserialize)]
struct Case(String, String, Answer);

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Nothing,
    Matrix(Vec<Vec<f64>>),
    #[expect(dead_code, reason = "which exception it was does not matter")]
    Exception(String),
}

/// Why the answer of this crate differs from the reference's.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// The reference ignores what follows the matrix; this crate refuses it.
    TrailingTokens,
    /// The reference reads the token for numbers out of range as ±10^9; here it has no value.
    OutOfRange,
    /// The reference takes a missing exponent for 0.
    MissingExponent,
    /// The reference reads any number of digits, even digits of another base; this crate reads only as many as are ever
    /// written.
    ForeignDigits,
    /// The reference raises an exception for large powers of ten; this crate reads them.
    LargePower,
}

fn difference(name: &str, text: &str, error: Option<&DecodeError>) -> Difference {
    let is_digits = |found: &str| found.parse::<u32>().is_ok();
    match error {
        None => {
            let power = |symbol: &str| symbol.strip_prefix('E').and_then(|e| e.parse::<i32>().ok());
            assert!(text.split(' ').filter_map(power).any(|e| e >= 17), "{name}: {text}");
            Difference::LargePower
        }
        Some(DecodeError::Trailing { .. }) => Difference::TrailingTokens,
        Some(DecodeError::NoValue { found, .. }) if found.ends_with("NaN") => Difference::OutOfRange,
        Some(DecodeError::Unexpected { found, .. }) if is_digits(found) => Difference::ForeignDigits,
        Some(DecodeError::Unexpected { expected, .. } | DecodeError::TooShort { expected, .. })
            if expected.ends_with("an exponent") =>
        {
            Difference::MissingExponent
        }
        Some(error) => panic!("{name}: {text}: the reference reads it, we do not: {error}"),
    }
}

/// The encoding of that name in a vocabulary with all symbols of all encodings, since some lists were written in
/// another encoding.
fn bind(name: &str) -> MatrixEncoding {
    let encoding = |name: &str| encoding_by_name(name).expect("a published encoding");
    let mut symbols = Vocabulary::reference(&*encoding("p10"), &*encoding("p1000")).symbols().to_vec();
    let others = Vocabulary::reference(&*encoding("b1999"), &*encoding("fp15"));
    let added = others.symbols().iter().filter(|symbol| !symbols.contains(symbol)).cloned().collect::<Vec<_>>();
    symbols.extend(added);
    let vocabulary = Vocabulary::from_symbols(symbols).expect("without duplicates");
    MatrixEncoding::new(encoding(&name.to_lowercase()), &vocabulary).expect("all symbols are there")
}

#[test]
fn damaged_lists_are_refused_alike() {
    let data: Malformed = golden("malformed.json");
    let mut differences = BTreeMap::new();
    for (name, cases) in &data.cases {
        assert_eq!(cases.len(), 150);
        let encoding = bind(name);
        for Case(damage, text, answer) in cases {
            let tokens = encoding.vocabulary().tokenize(text).expect("symbols of some encoding");
            let ours = encoding.decode(&tokens);
            match (&ours, answer) {
                (Err(_), Answer::Nothing | Answer::Exception(_)) => {}
                (Ok(matrix), Answer::Matrix(rows)) => {
                    assert_eq!((matrix.rows, matrix.cols), (rows.len(), rows[0].len()));
                    for (x, y) in matrix.coefficients.iter().zip(rows.iter().flatten()) {
                        assert_close!(*x, *y, f64::EPSILON, "{name}: {text}");
                    }
                }
                (Ok(_), Answer::Nothing) => panic!("{name}, {damage}: {text}: we read it, the reference does not"),
                (Ok(_), Answer::Exception(_)) | (Err(_), Answer::Matrix(_)) => {
                    *differences.entry(difference(name, text, ours.as_ref().err())).or_insert(0) += 1;
                }
            }
        }
    }
    // How often each occurs in these 600 lists.
    let expected = [
        (Difference::TrailingTokens, 71),
        (Difference::OutOfRange, 6),
        (Difference::MissingExponent, 9),
        (Difference::ForeignDigits, 15),
        (Difference::LargePower, 23),
    ];
    assert_eq!(differences, BTreeMap::from(expected));
}
