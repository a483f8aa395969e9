//! What every encoding promises, checked on all of them.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use numformer_encoding::{DecodeError, EncodeError, NumberEncoding, Positional, Preset, TokenId, encoding_by_name};
use numformer_testkit::cases;
use numformer_testkit::strategies::{finite, log_uniform, near_ties};
use proptest::prelude::*;

/// The published encodings and some with other parameters.
static ENCODINGS: LazyLock<Vec<Arc<dyn NumberEncoding>>> = LazyLock::new(|| {
    let mut encodings = Preset::ALL.map(Preset::encoding).to_vec();
    for (base, precision, exponents) in [(10, 1, -3..=3), (2, 3, -280..=280), (7, 5, -20..=0), (9000, 15, -280..=280)] {
        encodings.push(Arc::new(Positional::new(base, precision, exponents).expect("valid parameters")));
    }
    encodings
});

/// Symbols of the published encodings, and others.
const SYMBOL: &str = r"[+-]|[0-9]{1,3}|N-?[0-9]{1,3}(e[0-9])?|E-?[0-9]|\PC{0,3}";

fn numbers() -> impl Strategy<Value = f64> {
    prop_oneof![finite(), log_uniform(-12..=12), near_ties(3, -12..=6)]
}

fn encode(encoding: &dyn NumberEncoding, x: f64) -> Option<Vec<TokenId>> {
    let mut word = Vec::new();
    encoding.encode(x, &mut word).ok().map(|()| word)
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn decode_inverts_encode(x in numbers(), after in any::<u32>()) {
        for encoding in &*ENCODINGS {
            let Some(mut word) = encode(&**encoding, x) else { continue };
            prop_assert!(word.len() <= encoding.max_word_len());
            word.push(TokenId(after));
            let (y, rest) = encoding.decode(&word).expect("an encoding reads its own words");
            prop_assert_eq!(rest, [TokenId(after)]);
            prop_assert_eq!(Ok(y), encoding.round(x));
        }
    }

    #[test]
    fn parse_inverts_render(x in numbers()) {
        for encoding in &*ENCODINGS {
            match encoding.render(x) {
                Ok(text) => prop_assert_eq!(encoding.parse(&text).ok(), encoding.round(x).ok(), "{}", text),
                Err(error) => prop_assert_eq!(encoding.round(x), Err(error)),
            }
        }
    }

    #[test]
    fn round_is_idempotent_and_odd(x in numbers()) {
        for encoding in &*ENCODINGS {
            let Ok(rounded) = encoding.round(x) else { continue };
            prop_assert_eq!(encoding.round(rounded), Ok(rounded), "{:?}", encoding);
            prop_assert_eq!(encoding.round(-x), Ok(-rounded));
        }
    }

    #[test]
    fn round_is_monotone(x in numbers(), y in numbers()) {
        for encoding in &*ENCODINGS {
            if let (Ok(low), Ok(high)) = (encoding.round(x.min(y)), encoding.round(x.max(y))) {
                prop_assert!(low <= high);
            }
        }
    }

    #[test]
    fn writing_what_was_read_gives_the_same_word_back(x in numbers()) {
        for encoding in &*ENCODINGS {
            let Some(word) = encode(&**encoding, x) else { continue };
            let (y, _) = encoding.decode(&word).expect("an encoding reads its own words");
            prop_assert_eq!(encode(&**encoding, y), Some(word));
        }
    }

    #[test]
    fn refused_numbers_are_those_beyond_the_largest(x in numbers()) {
        for encoding in &*ENCODINGS {
            if let Err(error) = encoding.round(x) {
                let EncodeError::TooLarge { value, largest } = error else { panic!("{x:e} is finite: {error}") };
                prop_assert_eq!(value.to_bits(), x.to_bits());
                prop_assert!(x.abs() > largest);
                prop_assert_eq!(encoding.round(largest), Ok(largest));
            }
        }
    }

    #[test]
    fn restriction_changes_neither_words_nor_values(x in numbers(), down in 0.0..=1.0, up in 1.0..1e3) {
        for encoding in &*ENCODINGS {
            let Some(restricted) = encoding.restricted(x.abs() * down..=x.abs() * up) else { continue };
            prop_assert!(restricted.symbols().len() <= encoding.symbols().len());
            prop_assert_eq!(restricted.render(x).ok(), encoding.render(x).ok());
            prop_assert_eq!(restricted.round(x), encoding.round(x));
        }
    }
}

#[test]
fn restriction_leaves_out_what_is_not_written() {
    for (name, symbols) in [("p10", 2 + 10 + 20), ("p1000", 2 + 1000 + 20), ("b1999", 2001 + 20)] {
        let encoding = encoding_by_name(name).expect("a preset");
        // 1e-18 has the exponent -20, 10 has -1, and zero has 0: 21 exponents in all.
        let restricted = encoding.restricted(1e-18..=10.0).expect("10 is in range");
        assert_eq!(restricted.symbols().len(), symbols + 1, "{name}");
        assert_eq!(restricted.round(1e-19), Ok(0.0));
        assert!(restricted.round(200.0).is_ok() && restricted.round(2000.0).is_err());
    }
}

#[test]
fn what_is_not_one_word_is_not_parsed() {
    for encoding in &*ENCODINGS {
        let word = encoding.render(1.0).expect("1 is in every range");
        let position = word.split(' ').count();
        let first = encoding.symbols()[0].clone();
        let trailing = DecodeError::Trailing { position, found: first.clone() };
        assert_eq!(encoding.parse(&format!("{word} {first}")), Err(trailing), "{encoding:?}");
        let unknown = encoding.parse(&format!("{word} pi")).expect_err("no encoding has this symbol");
        assert_eq!(
            unknown.to_string(),
            format!("expected a symbol of the encoding at position {position}, found `pi`")
        );
        assert!(matches!(encoding.parse(""), Err(DecodeError::TooShort { position: 0, .. })));
    }
}

#[test]
fn symbols_are_distinct_and_contain_no_white_space() {
    for encoding in &*ENCODINGS {
        let distinct: HashSet<_> = encoding.symbols().iter().collect();
        assert_eq!(distinct.len(), encoding.symbols().len(), "{encoding:?}");
        assert!(!encoding.symbols().iter().any(|symbol| symbol.is_empty() || symbol.contains(char::is_whitespace)));
    }
}

#[test]
fn what_is_not_finite_is_refused() {
    for encoding in &*ENCODINGS {
        for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = encoding.round(x).expect_err("no word for it");
            assert!(matches!(error, EncodeError::NotFinite { .. }), "{encoding:?}: {error}");
        }
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn parse_is_total(symbols in proptest::collection::vec(SYMBOL, 0..8)) {
        let text = symbols.join(" ");
        for encoding in &*ENCODINGS {
            let count = text.split_whitespace().count();
            match encoding.parse(&text) {
                Ok(x) => prop_assert!(x.is_finite() && (1..=encoding.max_word_len()).contains(&count), "{}", text),
                Err(error) => prop_assert!(error.position() <= count, "{}", error),
            }
        }
    }

    #[test]
    fn decode_is_total(ids in proptest::collection::vec(prop_oneof![0..300_u32, any::<u32>()], 0..12)) {
        let tokens: Vec<_> = ids.into_iter().map(TokenId).collect();
        for encoding in &*ENCODINGS {
            match encoding.decode(&tokens) {
                Ok((x, rest)) => {
                    prop_assert!(x.is_finite());
                    prop_assert!(tokens.ends_with(rest) && rest.len() < tokens.len());
                }
                Err(error) => prop_assert!(error.position() <= tokens.len(), "{}", error),
            }
        }
    }
}
