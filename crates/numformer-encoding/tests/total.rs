//! Reading and writing are total: no input makes them panic or break a promise.

mod bodies;

use bodies::ENCODINGS;
use numformer_encoding::TokenId;
use numformer_testkit::cases;
use numformer_testkit::strategies::{finite, log_uniform, near_ties};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// One change that damages a list of tokens: a token is removed, inserted, or replaced by any id or by another token of
/// the list, or the list is cut short.
#[derive(Clone, Debug)]
enum Damage {
    Remove(Index),
    Insert(Index, u32),
    Replace(Index, u32),
    Copy(Index, Index),
    Truncate(Index),
}

impl Damage {
    fn apply(&self, tokens: &mut Vec<TokenId>) {
        let length = tokens.len();
        if length == 0 {
            return;
        }
        match self {
            Self::Remove(at) => drop(tokens.remove(at.index(length))),
            Self::Insert(at, id) => tokens.insert(at.index(length), TokenId(*id)),
            Self::Replace(at, id) => tokens[at.index(length)] = TokenId(*id),
            Self::Copy(from, to) => tokens[to.index(length)] = tokens[from.index(length)],
            Self::Truncate(at) => tokens.truncate(at.index(length)),
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let (at, to, id) = (any::<Index>, any::<Index>, || prop_oneof![0..30_000_u32, any::<u32>()]);
    prop_oneof![
        at().prop_map(Damage::Remove),
        (at(), id()).prop_map(|(at, id)| Damage::Insert(at, id)),
        (at(), id()).prop_map(|(at, id)| Damage::Replace(at, id)),
        (at(), to()).prop_map(|(from, to)| Damage::Copy(from, to)),
        at().prop_map(Damage::Truncate),
    ]
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn any_tokens_are_a_matrix_or_an_error(ids in vec(prop_oneof![0..1_500_u32, 0..30_000_u32, any::<u32>()], 0..20)) {
        bodies::decode_any(&ids.into_iter().map(TokenId).collect::<Vec<_>>());
    }

    #[test]
    fn damaged_matrices_are_matrices_or_errors(
        (rows, cols) in (1..6_usize, 1..6_usize),
        pool in vec(log_uniform(-9..=7), 25),
        damages in vec(damage(), 0..4),
    ) {
        for (_, encoding) in &*ENCODINGS {
            let mut tokens = Vec::new();
            encoding.encode(rows, cols, pool[..rows * cols].iter().copied(), &mut tokens).expect("numbers in range");
            for damage in &damages {
                damage.apply(&mut tokens);
            }
            bodies::decode_any(&tokens);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in prop_oneof![".{0,40}", "[-+0-9eE.,;V \t]{0,40}", "([-+VE]?[0-9]{1,3} ){0,12}"]) {
        bodies::parse_any(&text);
    }
}

proptest! {
    #![proptest_config(cases(50_000))]

    #[test]
    fn any_number_is_written_or_refused(x in prop_oneof![any::<f64>(), finite(), log_uniform(-12..=12), near_ties(3, -12..=6)]) {
        bodies::encode_any(x);
    }
}
