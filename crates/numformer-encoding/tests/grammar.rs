//! The grammar allows exactly what can be read.

use std::sync::{Arc, LazyLock};

use numformer_encoding::{
    Balanced, Floating, GrammarError, Layout, MatrixEncoding, MatrixGrammar, NumberEncoding, Positional, Preset,
    TokenId, Vocabulary,
};
use numformer_testkit::cases;
use proptest::prelude::*;

/// Published encodings and others, in compact vocabularies and in those of the published program, with and without a
/// task letter.
static ENCODINGS: LazyLock<Vec<MatrixEncoding>> = LazyLock::new(|| {
    let positional = |base, precision| Positional::new(base, precision, -3..=4).expect("valid parameters");
    let own: [Arc<dyn NumberEncoding>; 6] = [
        Arc::new(positional(2, 1)),
        Arc::new(positional(7, 5)),
        Arc::new(positional(9000, 15)),
        Arc::new(Balanced::new(1, 0..=0).expect("valid parameters")),
        Arc::new(Floating::new(1, 2, 0).expect("valid parameters")),
        Arc::new(Floating::new(2, 3, 1).expect("valid parameters").with_out_of_range_symbols()),
    ];
    let numbers = Preset::ALL.map(Preset::encoding).into_iter().chain(own);
    let bound = |number: Arc<dyn NumberEncoding>| {
        // Another encoding's symbols stand between those of this one.
        let other = Balanced::b1999();
        let compact = Vocabulary::compact(&other, &*number, 4, &["T", "E"]).expect("distinct symbols");
        let reference = Vocabulary::reference(&other, &*number);
        [compact, reference].into_iter().flat_map(move |vocabulary| {
            let plain = MatrixEncoding::new(Arc::clone(&number), &vocabulary).expect("its symbols");
            [plain.clone(), plain.with_task_letter("E").expect("a symbol")]
        })
    };
    numbers.flat_map(bound).collect()
});

static GRAMMARS: LazyLock<Vec<MatrixGrammar>> =
    LazyLock::new(|| ENCODINGS.iter().map(|encoding| encoding.grammar().expect("all of these have one")).collect());

/// Whether these tokens and the delimiter may be written, one after the other.
fn accepts(grammar: &MatrixGrammar, (rows, cols): (usize, usize), tokens: &[TokenId], room: usize) -> bool {
    let Ok(mut state) = grammar.start(rows, cols, room) else { return false };
    let delimiter = TokenId(0);
    tokens.iter().chain([&delimiter]).all(|&token| {
        let is_allowed = grammar.is_allowed(&state, token);
        grammar.advance(&mut state, token);
        is_allowed
    }) && grammar.allowed(&state).is_empty()
}

/// Writes a matrix. Each of `choices`, a fraction, selects one of the tokens that are allowed.
fn walk(grammar: &MatrixGrammar, (rows, cols): (usize, usize), room: usize, choices: &[f64]) -> Vec<TokenId> {
    let mut state = grammar.start(rows, cols, room).expect("room for the shortest");
    let mut tokens = Vec::new();
    for choice in choices.iter().cycle() {
        let allowed = grammar.allowed(&state);
        let count: usize = allowed.iter().map(ExactSizeIterator::len).sum();
        let chosen = (choice * count as f64) as usize;
        let token = TokenId(allowed.iter().cloned().flatten().nth(chosen).expect("something may always follow"));
        if token == TokenId(0) {
            break;
        }
        tokens.push(token);
        grammar.advance(&mut state, token);
    }
    tokens
}

fn shape_read(encoding: &MatrixEncoding, tokens: &[TokenId]) -> Option<(usize, usize)> {
    encoding.decode(tokens).ok().map(|matrix| (matrix.rows, matrix.cols))
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn what_is_allowed_is_read_and_ends_in_time(
        shape in (1_usize..=4, 1_usize..=4),
        spare in 0_usize..20,
        choices in prop::collection::vec(0.0..1.0, 1..40),
    ) {
        for (encoding, grammar) in ENCODINGS.iter().zip(&*GRAMMARS) {
            let Err(GrammarError::Room { needed, .. }) = grammar.start(shape.0, shape.1, 0) else {
                panic!("there is no room for a matrix");
            };
            let tokens = walk(grammar, shape, needed + spare, &choices);
            prop_assert!(tokens.len() < needed + spare);
            prop_assert_eq!(shape_read(encoding, &tokens), Some(shape), "{}", encoding.vocabulary().render(&tokens));
        }
    }

    /// Checks matrices with some tokens replaced, removed or added, against their own shape or another.
    #[test]
    fn what_is_read_is_allowed_and_nothing_else(
        written in (1_usize..=3, 1_usize..=3),
        expected in (1_usize..=3, 1_usize..=3),
        is_expected in prop::bool::weighted(0.8),
        choices in prop::collection::vec(0.0..1.0, 1..40),
        damage in prop::collection::vec((0_u8..3, 0.0..1.0, 0.0..1.0), 0..3),
    ) {
        for (encoding, grammar) in ENCODINGS.iter().zip(&*GRAMMARS) {
            let mut tokens = walk(grammar, written, 100, &choices);
            for &(kind, place, id) in &damage {
                let place = (place * tokens.len() as f64) as usize;
                let token = TokenId((id * encoding.vocabulary().len() as f64) as u32);
                match kind {
                    0 => tokens[place] = token,
                    1 => tokens.insert(place, token),
                    _ => drop(tokens.remove(place)),
                }
            }
            let expected = if is_expected { written } else { expected };
            let is_read = shape_read(encoding, &tokens) == Some(expected);
            // What fits may be written, however tight the room is.
            for room in [tokens.len() + 1, tokens.len() + 2, 1000] {
                let found = accepts(grammar, expected, &tokens, room);
                prop_assert_eq!(found, is_read, "{}", encoding.vocabulary().render(&tokens));
            }
            prop_assert!(!accepts(grammar, expected, &tokens, tokens.len()));
        }
    }
}

proptest! {
    #![proptest_config(cases(200))]

    /// The same for the lower triangles of symmetric matrices: what may be written can be read, and nothing shorter or
    /// longer.
    #[test]
    fn a_lower_triangle_is_read_where_it_is_allowed(
        n in 1_usize..=4,
        spare in 0_usize..20,
        choices in prop::collection::vec(0.0..1.0, 1..40),
    ) {
        for encoding in &*ENCODINGS {
            let encoding = encoding.clone().with_layout(Layout::LowerTriangle);
            let grammar = encoding.grammar().expect("all of these have one");
            let Err(GrammarError::Room { needed, .. }) = grammar.start(n, n, 0) else {
                panic!("there is no room for a matrix");
            };
            let tokens = walk(&grammar, (n, n), needed + spare, &choices);
            prop_assert_eq!(shape_read(&encoding, &tokens), Some((n, n)));
            let shorter = &tokens[..tokens.len() - 1];
            let is_read = shape_read(&encoding, shorter) == Some((n, n));
            prop_assert_eq!(accepts(&grammar, (n, n), shorter, 1000), is_read);
            prop_assert_eq!(grammar.start(1, 2, 1000), Err(GrammarError::NotSquare { rows: 1, cols: 2 }));
        }
    }
}

/// Tries every token after every beginning of a word.
#[test]
fn each_token_is_allowed_where_it_is_read() {
    let number: Arc<dyn NumberEncoding> = Arc::new(Positional::new(3, 2, -1..=1).expect("valid parameters"));
    let vocabulary = Vocabulary::compact(&*number, &*number, 2, &["T"]).expect("distinct symbols");
    let encoding = MatrixEncoding::new(number, &vocabulary).expect("its symbols");
    let grammar = encoding.grammar().expect("positional encodings have one");
    let [delimiter, two] = ["<s>", "V2"].map(|symbol| vocabulary.id(symbol).expect("a symbol"));
    let mut begun = vec![Vec::new()];
    let mut complete = 0;
    for _ in 0..=5 {
        complete += begun.iter().filter(|tokens| accepts(&grammar, (1, 1), tokens, 100)).count();
        let mut longer: Vec<Vec<TokenId>> = Vec::new();
        for tokens in &begun {
            let mut state = grammar.start(1, 1, 100).expect("room");
            tokens.iter().for_each(|&token| grammar.advance(&mut state, token));
            for token in (0..vocabulary.len() as u32).map(TokenId).filter(|token| *token != delimiter) {
                let tokens = [tokens.as_slice(), &[token]].concat();
                // An error points to the first token that no matrix could have at its place.
                let error = encoding.decode(&tokens).err();
                let is_read = error.is_none_or(|error| error.position() == tokens.len()) && token != two;
                assert_eq!(grammar.is_allowed(&state, token), is_read, "{}", vocabulary.render(&tokens));
                if is_read {
                    longer.push(tokens);
                }
            }
        }
        begun = longer;
    }
    // Two signs, one of three digits, and three exponents. Matrices of more tokens were not counted.
    assert_eq!(complete, 2 * 3 * 3);
}

#[test]
fn without_room_there_is_no_beginning() {
    let p10: Arc<dyn NumberEncoding> = Arc::new(Positional::p10());
    let vocabulary = Vocabulary::compact(&*p10, &*p10, 2, &["T"]).expect("distinct symbols");
    let encoding = MatrixEncoding::new(p10, &vocabulary).expect("its symbols");
    let grammar = encoding.grammar().expect("positional encodings have one");
    let error = grammar.start(2, 1, 8).expect_err("one token short");
    assert_eq!(error.to_string(), "expected room for at least 9 tokens, for a 2x1 matrix and its delimiter, found 8");
    let error = grammar.start(2, 3, 100).expect_err("no token for three columns");
    assert_eq!(error, GrammarError::Shape { max: 2, rows: 2, cols: 3 });
    // There is room for the shortest matrix only: no second digit may be written.
    let mut state = grammar.start(1, 1, 6).expect("room for one digit");
    for symbol in ["V1", "V1", "+", "7"] {
        grammar.advance(&mut state, vocabulary.id(symbol).expect("a symbol"));
    }
    let is_allowed = |symbol| grammar.is_allowed(&state, vocabulary.id(symbol).expect("a symbol"));
    assert!(!is_allowed("7") && is_allowed("E0"));
}
