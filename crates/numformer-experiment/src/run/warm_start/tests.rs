//! What a run takes over from another, and what it refuses.

use std::sync::Arc;

use numformer_encoding::{DecodeError, EncodeError, NumberEncoding, Positional, TokenId};

use crate::{Experiment, Run};

use super::*;

fn small() -> Experiment {
    let mut experiment = Experiment::preset("transpose-3x3").expect("embedded");
    experiment.train.steps = 2;
    let settings = ["matrices.rows=2", "matrices.cols=2", "model.encoder.d_model=16", "model.decoder.d_model=16"];
    experiment.with_settings(&settings).expect("settings")
}

fn with(settings: &[&str]) -> Experiment {
    small().with_settings(settings).expect("settings")
}

/// The untrained model of an experiment.
fn model(experiment: &Experiment, catalogue: &Catalogue) -> StoredModel {
    let run = Run::with_catalogue(experiment.clone(), catalogue).expect("a run");
    StoredModel {
        config: experiment.model_config(run.task(), &Catalogue::standard()).expect("possible"),
        vocabulary: run.task().vocabulary().clone(),
        weights: run.named_weights(),
        encodings: Some(experiment.encoding.names()),
    }
}

/// What a new model has after it began with the weights of another.
struct Begun {
    old: StoredModel,
    random: StoredModel,
    new: StoredModel,
    taken_over: TakenOver,
}

impl Begun {
    fn new(old: StoredModel, random: StoredModel, catalogue: &Catalogue) -> Result<Self, StartError> {
        let layout = FlatLayout::of(&random.config).expect("possible");
        let mut weights = numformer_store::flat(&layout, "", &random.weights).expect("its own");
        let encodings = random.encodings.as_ref().expect("an experiment knows");
        let beginner = Beginner { config: &random.config, layout: &layout, vocabulary: &random.vocabulary, encodings };
        let taken_over = beginner.take(&old, catalogue, &mut weights)?;
        let new = StoredModel { weights: numformer_store::named(&layout, "", &weights), ..random.clone() };
        Ok(Self { old, random, new, taken_over })
    }

    fn of(old: &Experiment, new: &Experiment) -> Result<Self, StartError> {
        let catalogue = Catalogue::standard();
        let new = Experiment { seed: old.seed + 1, ..new.clone() };
        Self::new(model(old, &catalogue), model(&new, &catalogue), &catalogue)
    }

    /// Whether all weights of a symbol in one half equal those of another symbol in the old model. If not, they are as
    /// initialized.
    fn took(&self, half: &str, symbol: &str, old_symbol: &str) -> bool {
        let rows = |stored: &StoredModel, symbol: &str| -> Vec<f32> {
            let id = stored.vocabulary.id(symbol).expect(symbol).0 as usize;
            let of_half = |name: &str| match owner(name) {
                Owner::Symbols => name.starts_with("encoder.") == (half == "encoder"),
                Owner::Positions | Owner::Layers => false,
            };
            let tensors = stored.weights.iter().filter(|(name, _)| of_half(name));
            let row = |(shape, values): &(Vec<usize>, Vec<f32>)| {
                let len: usize = shape[1..].iter().product();
                values[id * len..(id + 1) * len].to_vec()
            };
            tensors.flat_map(|(_, tensor)| row(tensor)).collect()
        };
        let new = rows(&self.new, symbol);
        let took = self.old.vocabulary.id(old_symbol).is_some() && new == rows(&self.old, old_symbol);
        assert!(took || new == rows(&self.random, symbol), "{half}: {symbol}");
        took
    }
}

#[test]
fn symbols_and_positions_keep_what_was_learned() {
    let dir = tempfile::tempdir().expect("dir");
    let mut run = Run::new(small()).and_then(|run| run.in_dir(dir.path().join("small"))).expect("a run");
    run.run().expect("all steps");
    let (before, _) = load(&dir.path().join("small")).expect("a run");
    assert_eq!(before.weights, run.named_weights());

    // Larger matrices: more positions, and another symbol in the middle of the vocabulary.
    let mut larger = with(&["matrices.rows=[2,3]", "matrices.cols=[2,3]", "seed=9"]);
    let random = model(&larger, &Catalogue::standard());
    larger.start_from = Some(dir.path().join("small"));
    let begun = Run::new(larger.clone()).expect("a run");
    let taken_over = *begun.taken_over().expect("it began with other weights");
    let expected = Begun::new(before.clone(), random, &Catalogue::standard()).expect("they fit");
    assert_eq!(begun.named_weights(), expected.new.weights);

    for (name, (_, old)) in &before.weights {
        let (_, new) = &expected.new.weights[name];
        match owner(name) {
            Owner::Layers => assert_eq!(new, old, "{name}"),
            Owner::Positions => assert_eq!(&new[..old.len()], old, "{name}"),
            Owner::Symbols => {}
        }
    }
    for half in ["encoder", "decoder"] {
        for symbol in begun.task().vocabulary().symbols() {
            assert_eq!(expected.took(half, symbol, symbol), before.vocabulary.id(symbol).is_some(), "{symbol}");
        }
    }
    let known = before.vocabulary.len();
    let symbols = Rows { taken: known, new: begun.task().vocabulary().len() - known };
    assert!(symbols.new > 0);
    let positions = [&before, &expected.new].map(|model| model.config.max_positions().expect("a transformer"));
    let positions = Rows { taken: positions[0], new: positions[1] - positions[0] };
    assert_eq!(taken_over, TakenOver { encoder: symbols, decoder: symbols, positions: Some(positions) });
    let Rows { taken, new } = symbols;
    let line = format!("symbols of the encoder: {taken} rows taken over, {new} new; of the decoder: {taken} rows");
    assert!(taken_over.to_string().starts_with(&line), "{taken_over}");

    larger.model.encoder.d_model = 32;
    let start = |experiment| Run::new(experiment).and_then(|mut run| run.check_start());
    let error = start(larger).expect_err("another width");
    assert!(error.to_string().contains("start_from") && error.to_string().contains("do not fit"), "{error}");
    let source = std::error::Error::source(&error).expect("why").to_string();
    assert!(source.starts_with("model.encoder.d_model is 16 there and 32 here"), "{source}");
}

#[test]
fn smaller_models_take_the_part_that_they_have() {
    let begun = Begun::of(&with(&["matrices.rows=3", "matrices.cols=3"]), &small()).expect("they fit");
    assert_eq!(begun.taken_over.encoder.new, 0);
    assert_eq!(begun.taken_over.positions.expect("learned").new, 0);
}

/// Every option that gives the same weights another function, or other weights, is named.
#[test]
fn other_models_are_refused_field_by_field() {
    let difference = |old: &[&str], new: &[&str]| match Begun::of(&with(old), &with(new)) {
        Ok(begun) => panic!("{}", begun.taken_over),
        Err(error) => error.to_string(),
    };
    for (setting, default) in [
        ("model.encoder.d_model=32", "16"),
        ("model.encoder.n_heads=2", "4"),
        ("model.encoder.n_layers=2", "1"),
        ("model.encoder.d_ff=32", "64"),
        ("model.decoder.d_model=32", "16"),
        ("model.decoder.n_heads=2", "4"),
        ("model.decoder.n_layers=2", "1"),
        ("model.decoder.d_ff=32", "64"),
        ("model.positions=\"sinusoidal\"", "\"learned\""),
        ("model.cross_attention_query=\"layer_input\"", "\"self_attended\""),
        ("model.output_projection=\"separate\"", "\"shared\""),
        ("model.architecture=\"universal\"", "\"transformer\""),
        ("model.copy_gate=true", "false"),
    ] {
        let (key, value) = setting.split_once('=').expect("a setting");
        let here = difference(&[], &[setting]);
        assert!(here.contains(&format!("{key} is {default} there and {value} here")), "{here}");
        let there = difference(&[setting], &[]);
        assert!(there.contains(&format!("{key} is {value} there and {default} here")), "{there}");
        assert!(there.ends_with("; only vocabulary, positions and dropout may differ"), "{there}");
    }
    let two = difference(&[], &["model.copy_gate=true", "model.encoder.n_heads=2"]);
    assert!(two.contains("n_heads is 4 there and 2 here, model.copy_gate is false there and true here"), "{two}");
}

#[test]
fn other_architectures_are_named_alone() {
    let [lstm, gru] = ["lstm", "gru"].map(|name| {
        let mut experiment = small();
        let half = crate::SizesConfig { n_heads: None, ..experiment.model.encoder.clone() };
        experiment.model.encoder = half.clone();
        experiment.model.decoder = half;
        experiment.with_settings(&[format!("model.architecture={name}")]).expect("settings")
    });
    for (old, new) in [(&lstm, &gru), (&small(), &gru), (&lstm, &small())] {
        let error = Begun::of(old, new).err().expect("another architecture").to_string();
        let count = error.matches(" there and ").count();
        assert!(error.starts_with("model.architecture is ") && count == 1, "{error}");
    }
    assert!(Begun::of(&gru, &gru).is_ok_and(|begun| begun.taken_over.positions.is_none()));
}

#[test]
fn what_changes_no_weight_may_differ() {
    // If the width of the network is not given, it is four times the width of the model.
    let begun = Begun::of(&with(&["model.dropout=0.1"]), &with(&["model.encoder.d_ff=64"])).expect("the same weights");
    assert_eq!(begun.new.weights, begun.old.weights);
    assert_eq!((begun.taken_over.encoder.new, begun.taken_over.decoder.new), (0, 0));
}

#[test]
fn symbols_of_another_encoding_are_matched_by_what_they_stand_for() {
    let encodings =
        |input: &str, output: &str| with(&[&format!("encoding.input={input}"), &format!("encoding.output={output}")]);
    let begun = Begun::of(&encodings("p1000", "p1000"), &encodings("p10", "p10")).expect("they fit");
    for half in ["encoder", "decoder"] {
        for same in ["<s>", "<pad>", "V1", "V2", "+", "-", "E0", "E-2"] {
            assert!(begun.took(half, same, same), "{half}: {same}");
        }
        // The digit 5 is not the number 5 of base 1000.
        assert!((0..10).all(|digit| !begun.took(half, &digit.to_string(), &digit.to_string())), "{half}");
    }
    let expected = Rows { taken: begun.new.vocabulary.len() - 10, new: 10 };
    assert_eq!((begun.taken_over.encoder, begun.taken_over.decoder), (expected, expected));

    // A vocabulary of two encodings: each half knows its own.
    let begun = Begun::of(&encodings("p1000", "p10"), &encodings("p10", "p10")).expect("they fit");
    assert!(!begun.took("encoder", "5", "5") && begun.took("decoder", "5", "5"));
    assert_eq!((begun.taken_over.encoder.new, begun.taken_over.decoder.new), (10, 0));
    let begun = Begun::of(&encodings("p10", "p1000"), &encodings("p10", "p10")).expect("they fit");
    assert!(begun.took("encoder", "5", "5") && !begun.took("decoder", "5", "5"));

    // The same spelling in another unit.
    let floating = |decimals: u32| format!("'floating(precision = 1, exponents = 9, decimals = {decimals})'");
    let begun =
        Begun::of(&encodings(&floating(2), &floating(2)), &encodings(&floating(3), &floating(3))).expect("they fit");
    assert!(begun.took("encoder", "N7e3", "N7e2") && begun.took("decoder", "N-4e1", "N-4e0"));
    // The encodings have no number symbols in common.
    let begun = Begun::of(&encodings("p10", "p10"), &encodings("fp15", "fp15")).expect("they fit");
    assert_eq!(begun.taken_over.encoder.taken, ["<s>", "<pad>", "V1", "V2"].len());
}

#[test]
fn padding_is_padding_however_it_is_spelled() {
    let reference = with(&["encoding.vocabulary=reference"]);
    let begun = Begun::of(&reference, &small()).expect("they fit");
    assert!(begun.took("decoder", "<pad>", "</s>"));
    let begun = Begun::of(&small(), &reference).expect("they fit");
    assert!(begun.took("decoder", "</s>", "<pad>") && !begun.took("decoder", "<pad>", "<pad>"));
}

/// An encoding that does not say what its symbols stand for.
#[derive(Debug)]
struct Opaque(Positional);

impl NumberEncoding for Opaque {
    fn symbols(&self) -> &[String] {
        self.0.symbols()
    }
    fn max_word_len(&self) -> usize {
        self.0.max_word_len()
    }
    fn encode(&self, x: f64, word: &mut Vec<TokenId>) -> Result<(), EncodeError> {
        self.0.encode(x, word)
    }
    fn decode<'t>(&self, tokens: &'t [TokenId]) -> Result<(f64, &'t [TokenId]), DecodeError> {
        self.0.decode(tokens)
    }
}

#[test]
fn encodings_that_do_not_explain_themselves_are_known_by_their_names() {
    let opaque = || Arc::new(Opaque(Positional::p10()));
    let catalogue = Catalogue::standard().with_encoding("mine", opaque()).with_encoding("yours", opaque());
    let begun = |old: &str, new: &str| {
        let [old, new] = [old, new].map(|name| {
            let mut experiment = small();
            experiment.encoding.input = name.to_owned();
            experiment.encoding.output = name.to_owned();
            model(&experiment, &catalogue)
        });
        Begun::new(old, new, &catalogue).expect("they fit").taken_over.encoder
    };
    let symbols = model(&with(&["encoding.input=p10"]), &catalogue).vocabulary.len();
    assert!(symbols > 0);
    assert_eq!(begun("mine", "mine").new, 0);
    for (old, new) in [("mine", "yours"), ("p10", "mine"), ("mine", "p10")] {
        assert_eq!(begun(old, new).taken, ["<s>", "<pad>", "V1", "V2"].len(), "{old} {new}");
    }
    let mut experiment = with(&["model.number_vectors=values"]);
    experiment.encoding.input = "mine".to_owned();
    let error =
        Run::with_catalogue(experiment, &catalogue).expect_err("it does not say what its symbols are").to_string();
    assert!(error.contains("the encoding `mine`") && error.contains("NumberEncoding::meaning"), "{error}");
}

#[test]
fn new_numbers_begin_with_vectors_of_their_values_and_others_with_those_of_the_old_model() {
    let old = with(&["encoding.input=p10", "encoding.output=p10"]);
    let new = with(&["encoding.input=p1000", "encoding.output=p10", "model.number_vectors=values"]);
    let begun = Begun::of(&old, &new).expect("they fit");
    assert!(begun.took("encoder", "E-2", "E-2") && begun.took("decoder", "5", "5"));
    assert!(!begun.took("encoder", "314", "5"));
    let digits: Vec<f64> = (0..1000).map(f64::from).collect();
    let id = begun.new.vocabulary.id("314").expect("a digit").0 as usize;
    let (_, table) = &begun.new.weights["encoder.embedding.tokens.weight"];
    assert_eq!(table[id * 16..][..16], numformer_model::value_vectors(&digits, 16)[314 * 16..][..16]);
}

#[test]
fn weights_that_are_not_those_of_their_own_model_are_refused() {
    let error = |change: &dyn Fn(&mut StoredModel)| {
        let catalogue = Catalogue::standard();
        let mut old = model(&small(), &catalogue);
        change(&mut old);
        Begun::new(old, model(&small(), &catalogue), &catalogue).err().expect("refused").to_string()
    };
    let extra = error(&|old| drop(old.weights.insert("encoder.layers.7.gate".to_owned(), (vec![1], vec![0.0]))));
    assert!(extra.ends_with("found unknown tensor `encoder.layers.7.gate`"), "{extra}");
    let missing = error(&|old| drop(old.weights.remove("projection.bias")));
    assert!(missing.ends_with("found no tensor `projection.bias`"), "{missing}");
    let not_finite = error(&|old| old.weights.get_mut("projection.bias").expect("there").1[0] = f32::INFINITY);
    assert!(not_finite.contains("tensor `projection.bias`: expected finite numbers"), "{not_finite}");
    let unknown = error(&|old| old.encodings = None);
    assert!(unknown.contains("which encodings") && unknown.contains("write encodings.json"), "{unknown}");
    let other = error(&|old| old.encodings.as_mut().expect("known").input = "p11".to_owned());
    assert_eq!(other, "cannot read the encoding of its symbols");
}

#[test]
fn what_is_not_there_is_named() {
    let mut experiment = small();
    experiment.start_from = Some("nowhere/at/all".into());
    let mut run = Run::new(experiment).expect("a run");
    let error = run.run().expect_err("no model").to_string();
    assert!(error.contains("nowhere/at/all"), "{error}");
}
