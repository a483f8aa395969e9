//! What must hold for any input. The property tests of this crate and the fuzz targets call these functions.

use std::sync::LazyLock;

use numformer_encoding::{DecodeError, DenseMatrix, EncodeError, MatrixEncoding, Preset, TokenId, Vocabulary};

/// The published encodings, each in the authors' vocabulary for it.
pub(crate) static ENCODINGS: LazyLock<Vec<(Preset, MatrixEncoding)>> = LazyLock::new(|| {
    let bind = |preset: Preset| {
        let number = preset.encoding();
        let vocabulary = Vocabulary::reference(&*number, &*number);
        (preset, MatrixEncoding::new(number, &vocabulary).expect("its own vocabulary"))
    };
    Preset::ALL.into_iter().map(bind).collect()
});

/// Reading is total: it gives a matrix, or an error at the first token that no matrix could have at its place.
pub(crate) fn decode_any(tokens: &[TokenId]) {
    for (_, encoding) in &*ENCODINGS {
        let mut coefficients = vec![f64::NAN];
        match encoding.decode_into(tokens, &mut coefficients) {
            Ok((rows, cols)) => {
                assert!(
                    (1..=encoding.max_dimension()).contains(&rows) && (1..=encoding.max_dimension()).contains(&cols)
                );
                assert_eq!(coefficients.len(), rows * cols);
                assert!(coefficients.iter().all(|x| x.is_finite()));
                write_and_read(encoding, &DenseMatrix { rows, cols, coefficients });
            }
            Err(error) => {
                assert!(coefficients.is_empty());
                let position = error.position();
                let before = encoding.decode(&tokens[..position]);
                match error {
                    DecodeError::Trailing { .. } => assert!(before.is_ok()),
                    DecodeError::TooShort { .. } => assert_eq!(position, tokens.len()),
                    _ => assert!(matches!(before, Err(DecodeError::TooShort { .. })), "{error}: {before:?}"),
                }
            }
        }
    }
}

/// Writing a matrix that was read rounds it. Writing the rounded matrix gives the same tokens again.
fn write_and_read(encoding: &MatrixEncoding, matrix: &DenseMatrix) {
    let DenseMatrix { rows, cols, coefficients } = matrix;
    let mut tokens = Vec::new();
    match encoding.encode(*rows, *cols, coefficients.iter().copied(), &mut tokens) {
        Ok(()) => {
            assert!(tokens.len() <= encoding.max_len(*rows, *cols));
            let rounded = encoding.decode(&tokens).expect("its own tokens");
            let mut again = Vec::new();
            encoding.encode(*rows, *cols, rounded.coefficients, &mut again).expect("numbers that were written");
            assert_eq!(again, tokens);
        }
        // B1999 reads N1000 with the largest exponent, and writes up to N999.
        Err(error) => {
            assert!(matches!(error, EncodeError::Coefficient { value, .. } if value.abs() >= 1e103), "{error}");
            assert!(tokens.is_empty());
        }
    }
}

/// Writing is total, and it rounds as the formatter of the standard library does.
pub(crate) fn encode_any(x: f64) {
    let formatted: f64 = format!("{x:.2e}").parse().expect("a formatted number");
    for (preset, encoding) in &*ENCODINGS {
        let rounded = encoding.number().round(x);
        let largest = if *preset == Preset::Fp15 { 9.99e8 } else { 9.99e102 };
        match rounded {
            Ok(rounded) if *preset == Preset::Fp15 => {
                // Half a unit of the third digit, or half of 10^-9, plus what double precision adds.
                let bound = (0.005 * x.abs()).max(5e-10) * (1.0 + 1e-12);
                assert!((rounded - x).abs() <= bound, "{x:e}: {rounded:e}");
            }
            Ok(rounded) => {
                let expected = if formatted.abs() < 1e-98 { 0.0 } else { formatted };
                assert!((rounded - expected).abs() <= 0.0, "{preset}, {x:e}: {rounded:e}");
            }
            Err(EncodeError::TooLarge { .. }) => assert!(x.is_finite() && x.abs() > largest, "{preset}: {x:e}"),
            Err(EncodeError::NotFinite { .. }) => assert!(!x.is_finite()),
            Err(error) => panic!("{preset}, {x:e}: {error}"),
        }
    }
}

/// Any text is an error or a matrix that can be read back from its own text form. The same holds for tokens.
pub(crate) fn parse_any(text: &str) {
    if let Ok(matrix) = text.parse::<DenseMatrix>() {
        assert!(matrix.rows > 0 && matrix.cols > 0);
        assert_eq!(matrix.coefficients.len(), matrix.rows * matrix.cols);
        let again: DenseMatrix = matrix.to_string().parse().expect("its own text form");
        let bits = |matrix: &DenseMatrix| matrix.coefficients.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!((again.rows, again.cols, bits(&again)), (matrix.rows, matrix.cols, bits(&matrix)));
    }
    for (_, encoding) in &*ENCODINGS {
        if let Ok(tokens) = encoding.vocabulary().tokenize(text) {
            assert_eq!(encoding.vocabulary().tokenize(&encoding.vocabulary().render(&tokens)), Ok(tokens));
        }
    }
}
