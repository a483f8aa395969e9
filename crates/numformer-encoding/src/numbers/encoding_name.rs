//! Encodings by name, as used in configuration files and on the command line.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::{Balanced, EncodingError, Floating, NumberEncoding, Positional, Preset, UnknownEncoding};

/// The exponents of the published encodings.
const EXPONENTS: RangeInclusive<i32> = -100..=100;

/// The encoding of that name: a [`Preset`], or a general encoding with its parameters.
///
/// - `positional(base = 100, precision = 2)`: [`Positional::new`], exponents from -100 to 100;
/// - `balanced(precision = 2)`: [`Balanced::new`], the same exponents;
/// - `floating(precision = 2, exponents = 16, decimals = 7)`: [`Floating::new`].
///
/// # Errors
/// When no encoding has this name, or none has these parameters.
///
/// # Examples
/// ```
/// use numformer_encoding::{EncodingNameError, encoding_by_name};
///
/// let two_digits = encoding_by_name("positional(base = 100, precision = 2)")?;
/// assert_eq!(two_digits.round(3.14159).unwrap(), 3.1);
/// let error = encoding_by_name("positional(base = 100)").err().unwrap();
/// assert_eq!(error.to_string(), "expected `base` and `precision` for a positional encoding, found `base`");
/// # Ok::<(), EncodingNameError>(())
/// ```
pub fn encoding_by_name(name: &str) -> Result<Arc<dyn NumberEncoding>, EncodingNameError> {
    let Some((kind, parameters)) = name.trim().strip_suffix(')').and_then(|call| call.split_once('(')) else {
        return Ok(name.parse::<Preset>()?.encoding());
    };
    let kind = kind.trim();
    let encoding: Arc<dyn NumberEncoding> = match kind {
        "positional" => {
            let [base, precision] = numbers(kind, parameters, ["base", "precision"])?;
            Arc::new(Positional::new(base, precision, EXPONENTS)?)
        }
        "balanced" => {
            let [precision] = numbers(kind, parameters, ["precision"])?;
            Arc::new(Balanced::new(precision, EXPONENTS)?)
        }
        "floating" => {
            let [precision, exponents, decimals] = numbers(kind, parameters, ["precision", "exponents", "decimals"])?;
            Arc::new(Floating::new(precision, exponents, decimals)?)
        }
        _ => return Err(UnknownEncoding { found: name.to_owned() }.into()),
    };
    Ok(encoding)
}

/// The values of these parameters, each of which must be given exactly once.
fn numbers<const N: usize>(
    kind: &str,
    parameters: &str,
    names: [&'static str; N],
) -> Result<[u32; N], EncodingNameError> {
    let parts = parameters.split(',').map(str::trim).filter(|part| !part.is_empty());
    let mut found: Vec<(&str, &str)> =
        parts.map(|part| part.split_once('=').map_or((part, ""), |(key, value)| (key.trim(), value.trim()))).collect();
    found.sort_by_key(|(key, _)| names.iter().position(|name| name == key));
    if !found.iter().map(|(key, _)| key).eq(&names) {
        return Err(EncodingNameError::Parameters {
            kind: kind.to_owned(),
            expected: names.to_vec(),
            found: found.into_iter().map(|(key, _)| key.to_owned()).collect(),
        });
    }
    let mut values = [0; N];
    for (value, (key, text)) in values.iter_mut().zip(found) {
        *value = text.parse().map_err(|_| EncodingNameError::Number { key: key.to_owned(), found: text.to_owned() })?;
    }
    Ok(values)
}

/// Why a name stands for no encoding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodingNameError {
    /// No encoding has this name.
    #[error(transparent)]
    Unknown(#[from] UnknownEncoding),
    /// The kind of encoding takes other parameters.
    #[error("expected {} for a {kind} encoding, found {}", list(expected), list(found))]
    Parameters {
        /// The kind.
        kind: String,
        /// Its parameters.
        expected: Vec<&'static str>,
        /// What was given.
        found: Vec<String>,
    },
    /// A parameter is not a whole number.
    #[error("expected a whole number for `{key}`, found `{found}`")]
    Number {
        /// The parameter.
        key: String,
        /// What was given.
        found: String,
    },
    /// No encoding has such parameters.
    #[error(transparent)]
    Encoding(#[from] EncodingError),
}

/// Joins names for use in a sentence.
fn list(names: &[impl AsRef<str>]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    match &quoted[..] {
        [] => "none".to_owned(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(name: &str) -> String {
        encoding_by_name(name).expect_err(name).to_string()
    }

    #[test]
    fn general_encodings_are_those_of_their_constructors() {
        let symbols = |name: &str| encoding_by_name(name).expect(name).symbols().to_vec();
        assert_eq!(symbols("p1000"), symbols(" positional( precision=3 , base=1000 )"));
        assert_eq!(symbols("b1999"), symbols("balanced(precision = 3)"));
        let floating = Floating::new(2, 4, 1).expect("in range");
        assert_eq!(symbols("floating(precision = 2, exponents = 4, decimals = 1)"), floating.symbols());
    }

    #[test]
    fn what_is_wrong_with_a_name_is_said() {
        assert!(error("p100").contains("`p100`") && error("wavelet(base = 2)").contains("`wavelet(base = 2)`"));
        let twice = error("balanced(precision = 2, precision = 3)");
        assert_eq!(twice, "expected `precision` for a balanced encoding, found `precision` and `precision`");
        assert_eq!(
            error("floating()"),
            "expected `precision`, `exponents` and `decimals` for a floating encoding, found none"
        );
        assert_eq!(error("balanced(precision = two)"), "expected a whole number for `precision`, found `two`");
        assert_eq!(error("balanced(precision)"), "expected a whole number for `precision`, found ``");
        assert_eq!(error("balanced(precision = 9)"), "expected a precision from 1 to 5 significant digits, found 9");
    }
}
