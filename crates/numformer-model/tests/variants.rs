//! Every architecture: gradients, padding, caches, dropout, overfitting, generation.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use candle_core::{Device, Result, Tensor};
use numformer_model::{
    Batched, Beam, Cell, FlatLayout, LayerWeights, Mode, Model, ModelConfig, OutputProjection, Padded, Parameters,
    RecurrentConfig, Seq2Seq, StackConfig, Transformer, TransformerConfig, beam, greedy,
};

const PADDING: u32 = 1;
const CPU: &Device = &Device::Cpu;
const EVALUATE: Mode = Mode::Evaluate;
const TRAIN: Mode = Mode::Train { seed: 3, step: 5 };

/// Every architecture, each with dropout.
fn variants() -> Vec<ModelConfig> {
    let stack = |d_model, n_heads| StackConfig { d_ff: Some(20), ..StackConfig::new(d_model, n_heads, 3) };
    let transformer = TransformerConfig { dropout: 0.2, ..TransformerConfig::new(13, 10, stack(12, 3), stack(8, 2)) };
    let universal = TransformerConfig { layer_weights: LayerWeights::Shared, ..transformer.clone() };
    let gated = TransformerConfig { copy_gate: true, ..universal.clone() };
    let recurrent = |cell| RecurrentConfig { dropout: 0.2, ..RecurrentConfig::new(cell, 13, 8, 2) };
    let separate = RecurrentConfig { output_projection: OutputProjection::Separate, ..recurrent(Cell::Gru) };
    vec![
        transformer.into(),
        universal.into(),
        gated.into(),
        recurrent(Cell::Lstm).into(),
        recurrent(Cell::Gru).into(),
        separate.into(),
    ]
}

fn without_dropout(mut config: ModelConfig) -> ModelConfig {
    match &mut config {
        ModelConfig::Transformer(config) => config.dropout = 0.0,
        ModelConfig::Recurrent(config) => config.dropout = 0.0,
        ModelConfig::Custom(_) => {}
    }
    config
}

/// Three sequences of different lengths with delimiters at both ends, and each row alone.
fn batch() -> (Padded, [Padded; 3]) {
    let rows: [&[u32]; 3] = [&[0, 5, 6, 7, 0], &[0, 8, 0], &[0, 9, 12, 0]];
    let lengths = rows.map(|row| row.len() as u32);
    let filled = rows.map(|row| [row, &vec![PADDING; 5 - row.len()]].concat()).concat();
    let alone = rows.map(|row| Padded::new(row, &[row.len() as u32], row.len(), CPU).unwrap());
    (Padded::new(&filled, &lengths, 5, CPU).unwrap(), alone)
}

fn targets() -> Padded {
    Padded::new(&[0, 7, 6, 0, 0, 5, 5, 0, 0, 0, 1, 1], &[4, 4, 2], 4, CPU).unwrap()
}

/// A model with its weights as a flat vector.
struct Trained {
    model: Model,
    parameters: Parameters,
    layout: FlatLayout,
    weights: Vec<f32>,
}

impl Trained {
    fn new(config: &ModelConfig, seed: u64) -> Self {
        let parameters = Parameters::random(seed, CPU);
        let model = Model::init(config, &parameters).unwrap();
        let layout = FlatLayout::new(&parameters).expect("a model");
        let mut weights = vec![0.0; layout.len()];
        layout.read(&parameters, &mut weights).unwrap();
        Self { model, parameters, layout, weights }
    }

    fn loss(&self, mode: Mode) -> Tensor {
        self.model.loss(&batch().0, &targets(), mode).unwrap()
    }

    fn gradients(&self, mode: Mode) -> Vec<f32> {
        let mut gradients = vec![0.0; self.layout.len()];
        self.layout.read_gradients(&self.parameters, &self.loss(mode).backward().unwrap(), &mut gradients).unwrap();
        gradients
    }
}

fn scalar(tensor: &Tensor) -> f32 {
    tensor.to_scalar().unwrap()
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    scalar(&(a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap())
}

#[test]
fn every_parameter_receives_a_gradient() {
    for config in variants() {
        let trained = Trained::new(&config, 1);
        for mode in [EVALUATE, TRAIN] {
            let gradients = trained.gradients(mode);
            for slot in trained.layout.slots() {
                // The softmax does not change when all keys move by the same vector, so the key bias has no effect.
                if !slot.name().ends_with("key.bias") {
                    let some = gradients[slot.range()].iter().any(|g| *g != 0.0);
                    assert!(some, "{} in {config:?}", slot.name());
                }
            }
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    for config in variants() {
        let trained = Trained::new(&config, 2);
        // Dropout masks are functions of seed and step, so the training loss has a slope, too.
        for (mode, part) in ["copy_gate", "gates", "candidate", "layers.", "embedding", ""]
            .into_iter()
            .flat_map(|part| [(EVALUATE, part), (TRAIN, part)])
        {
            let mut direction = trained.gradients(mode);
            for slot in trained.layout.slots() {
                if !slot.name().contains(part) {
                    direction[slot.range()].fill(0.0);
                }
            }
            // Along the gradient itself the slope is its squared norm. In f32, about three digits of the difference are
            // exact.
            let norm = direction.iter().map(|g| g * g).sum::<f32>().sqrt();
            if norm <= 0.0 {
                assert!(!trained.layout.slots().iter().any(|slot| slot.name().contains(part)));
                continue;
            }
            let step = 1e-2 / norm.max(0.1);
            let at = |sign: f32| {
                let moved = trained.weights.iter().zip(&direction).map(|(w, g)| w + sign * step * g / norm);
                trained.layout.write(&trained.parameters, &moved.collect::<Vec<_>>()).unwrap();
                f64::from(scalar(&trained.loss(mode)))
            };
            let slope = (at(1.0) - at(-1.0)) / f64::from(2.0 * step);
            trained.layout.write(&trained.parameters, &trained.weights).unwrap();
            let expected = f64::from(norm);
            assert!((slope - expected).abs() < 2e-2 * expected, "{slope} {expected} for `{part}` of {config:?}");
        }
    }
}

#[test]
fn cached_decoding_equals_decoding_at_once() -> Result<()> {
    for config in variants() {
        let model = Trained::new(&config, 3).model;
        let memory = model.encode(&batch().0, EVALUATE)?;
        let tgt = Tensor::new(&[[0u32, 5, 6, 7, 8], [0, 9, 9, 2, 3], [0, 4, 12, 11, 2]], CPU)?;
        let at_once = model.decode(&memory, &Padded::full(tgt.clone()), None, EVALUATE)?;
        let mut cache = Default::default();
        for (begin, count) in [(0, 1), (1, 1), (2, 3)] {
            let part = Padded::full(tgt.narrow(1, begin, count)?);
            let continued = model.decode(&memory, &part, Some(&mut cache), EVALUATE)?;
            let error = difference(&continued, &at_once.narrow(1, begin, count)?);
            assert!(error < 1e-5, "tokens {begin}..{}: {error} in {config:?}", begin + count);
        }
    }
    Ok(())
}

#[test]
fn padding_changes_nothing() -> Result<()> {
    for config in variants() {
        let model = Trained::new(&config, 4).model;
        let (together, alone) = batch();
        let memory = model.encode(&together, EVALUATE)?;
        let states = model.decode(&memory, &together, None, EVALUATE)?;
        for (row, alone) in alone.iter().enumerate() {
            let expected = model.decode(&model.encode(alone, EVALUATE)?, alone, None, EVALUATE)?.squeeze(0)?;
            let length = expected.dim(0)?;
            let found = states.get(row)?;
            assert!(difference(&found.narrow(0, 0, length)?, &expected) < 1e-5, "row {row} of {config:?}");
            if length < 5 {
                let beyond = scalar(&found.narrow(0, length, 5 - length)?.abs()?.sum_all()?);
                assert_eq!(beyond.to_bits(), 0f32.to_bits(), "states at padding are zero");
            }
        }
        // The rows in another order, with one of them twice.
        let rows = [2, 0, 2, 1];
        let ids = together.ids().select(&rows)?;
        let found = model.decode(&memory.select(&rows)?, &Padded::full(ids.clone()), None, EVALUATE)?;
        let expected = model.decode(&memory, &Padded::full(together.ids().clone()), None, EVALUATE)?.select(&rows)?;
        assert!(difference(&found, &expected) < 1e-5, "{config:?}");
    }
    Ok(())
}

#[test]
fn one_batch_is_learned_by_heart() -> Result<()> {
    for config in variants().into_iter().map(without_dropout) {
        let mut trained = Trained::new(&config, 5);
        for _ in 0..600 {
            let gradients = trained.gradients(EVALUATE);
            trained.weights.iter_mut().zip(&gradients).for_each(|(w, g)| *w -= 0.2 * g);
            trained.layout.write(&trained.parameters, &trained.weights)?;
        }
        let loss = scalar(&trained.loss(EVALUATE));
        assert!(loss < 0.05, "{loss} in {config:?}");

        let frozen = Model::new(&config, &trained.parameters.frozen())?;
        let (src, _) = batch();
        let expected = [vec![7, 6], vec![5, 5], vec![]];
        let answers: Vec<Vec<u32>> = greedy(&frozen, &src, 8)?.into_iter().map(|hypothesis| hypothesis.ids).collect();
        assert_eq!(answers, expected);
        let answers = beam(&frozen, &src, 8, &Beam::new(3))?.into_iter().map(|mut best| best.swap_remove(0));
        assert_eq!(answers.map(|best| best.hypothesis.ids).collect::<Vec<_>>(), expected);
    }
    Ok(())
}

#[test]
fn answers_do_not_depend_on_the_batch() -> Result<()> {
    for config in variants() {
        for seed in 0..4 {
            let parameters = Parameters::random(seed, CPU);
            Model::init(&config, &parameters)?;
            for (name, var) in parameters.to_vec() {
                if !name.contains("norm") {
                    var.set(&(var.as_detached_tensor() * 3.0)?)?;
                }
            }
            let model = Model::new(&config, &parameters.frozen())?;
            let (together, alone) = batch();
            let (found, best) = (greedy(&model, &together, 9)?, beam(&model, &together, 9, &Beam::new(3))?);
            for (row, alone) in alone.iter().enumerate() {
                assert_eq!(found[row], greedy(&model, alone, 9)?[0], "{config:?}");
                let best_alone = &beam(&model, alone, 9, &Beam::new(3))?[0];
                assert_eq!(best[row][0].hypothesis, best_alone[0].hypothesis, "{config:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn dropout_is_a_function_of_seed_and_step_and_off_in_use() {
    for config in variants() {
        let with = Trained::new(&config, 6);
        let without = Trained::new(&without_dropout(config.clone()), 6);
        let loss = |trained: &Trained, mode| scalar(&trained.loss(mode));
        let expected = loss(&without, EVALUATE).to_bits();
        assert_eq!(loss(&with, EVALUATE).to_bits(), expected);
        assert_eq!(loss(&without, TRAIN).to_bits(), expected);
        let dropped = loss(&with, TRAIN).to_bits();
        assert_eq!(loss(&with, TRAIN).to_bits(), dropped, "{config:?}");
        for other in [EVALUATE, Mode::Train { seed: 4, step: 5 }, Mode::Train { seed: 3, step: 6 }] {
            assert_ne!(loss(&with, other).to_bits(), dropped, "{other:?} {config:?}");
        }
    }
}

#[test]
fn dropout_stands_after_embeddings_and_sub_layers() {
    // When nearly everything is dropped, no gradient reaches the parameters before the dropout.
    const ALL: f64 = 1.0 - 1e-9;
    for config in variants() {
        let config: ModelConfig = match config {
            ModelConfig::Transformer(config) => {
                let output_projection = OutputProjection::Separate;
                TransformerConfig { dropout: ALL, output_projection, copy_gate: false, ..config }.into()
            }
            ModelConfig::Recurrent(config) => {
                RecurrentConfig { dropout: ALL, output_projection: OutputProjection::Separate, ..config }.into()
            }
            custom @ ModelConfig::Custom(_) => custom,
        };
        let mut trained = Trained::new(&config, 6);
        // The norm of a vector of equal coefficients has almost no slope.
        for slot in trained.layout.slots() {
            if slot.name().ends_with("norm.bias") {
                trained.weights[slot.range()].iter_mut().zip(1u8..).for_each(|(b, i)| *b = f32::from(i).sin());
            }
        }
        trained.layout.write(&trained.parameters, &trained.weights).unwrap();
        let gradients = trained.gradients(TRAIN);
        let before_dropout = ["attention.", "feed_forward.", "embedding.", "gates.", "candidate."];
        for slot in trained.layout.slots() {
            let is_heard = gradients[slot.range()].iter().any(|g| *g != 0.0);
            if before_dropout.iter().any(|part| slot.name().contains(part)) {
                assert!(!is_heard, "{} in {config:?}", slot.name());
            }
            if slot.name() == "projection.bias" || slot.name() == "decoder.layers.2.feed_forward_norm.bias" {
                assert!(is_heard, "{} in {config:?}", slot.name());
            }
        }
        // No gradient reaches the encoder through the decoder, so the encoder is tested by itself.
        let Model::Transformer(model) = &trained.model else { continue };
        let memory = model.encode(&batch().0, TRAIN).unwrap();
        let store = memory.states().sqr().unwrap().sum_all().unwrap().backward().unwrap();
        for slot in trained.layout.slots().iter().filter(|slot| slot.name().starts_with("encoder.")) {
            let gradient = store.get(trained.parameters.get(slot.name()).unwrap().as_tensor()).unwrap();
            let is_heard = scalar(&gradient.abs().unwrap().sum_all().unwrap()) != 0.0;
            if before_dropout.iter().any(|part| slot.name().contains(part)) {
                assert!(!is_heard, "{} in {config:?}", slot.name());
            }
            if slot.name().ends_with("feed_forward_norm.bias") {
                assert!(is_heard || !slot.name().contains(".2."), "{} in {config:?}", slot.name());
            }
        }
    }
}

#[test]
fn shared_layers_are_one_layer_applied_again() -> Result<()> {
    let ModelConfig::Transformer(shared) = without_dropout(variants().swap_remove(1)) else {
        panic!("the second variant is a universal transformer")
    };
    let parameters = Parameters::random(7, CPU);
    let model = Transformer::init(&shared, &parameters)?;
    assert!(parameters.names().iter().all(|name| !name.contains("layers.1")));

    // Copies of the same weights in every layer differ from the shared layer only in the step embeddings.
    let copies = parameters.to_vec().into_iter().flat_map(|(name, var)| {
        let copies = if name.contains("layers.0") { 3 } else { 1 };
        (0..copies).map(move |i| (name.replace("layers.0", &format!("layers.{i}")), var.as_detached_tensor()))
    });
    let separate = TransformerConfig { layer_weights: LayerWeights::Separate, ..shared };
    let copies = Parameters::from_tensors(copies, CPU)?;
    let without_steps = Transformer::new(&separate, &copies.frozen())?;
    let (src, _) = batch();
    let [found, unaware] = [&model, &without_steps].map(|model| model.encode(&src, EVALUATE).unwrap().states().clone());
    assert!(difference(&found, &unaware) > 1e-2, "steps are distinguished");
    Ok(())
}

#[test]
fn gates_start_nearly_closed() {
    let trained = Trained::new(&variants()[2], 8);
    for half in ["encoder", "decoder"] {
        let bias = trained.parameters.get(&format!("{half}.layers.0.copy_gate.down.bias")).unwrap();
        assert!(bias.to_vec1::<f32>().unwrap().iter().all(|b| (b + 3.0).abs() < 1e-6));
    }
}

#[test]
fn empty_sources_of_recurrent_models_are_errors() {
    let model = Trained::new(&variants()[3], 9).model;
    let message = |src: &Padded| model.encode(src, EVALUATE).expect_err("nothing to read").to_string();
    let some = Padded::new(&[0, 5, 1, 1], &[2, 0], 2, CPU).unwrap();
    assert!(message(&some).contains("expected sequences of at least one token"));
    let none = Padded::new(&[], &[0, 0], 0, CPU).unwrap();
    assert!(message(&none).contains("expected at least one token"));
    let outside = Padded::new(&[0, 13], &[2], 2, CPU).unwrap();
    assert!(message(&outside).contains("13"), "{}", message(&outside));
    let padded = Padded::new(&[0, 5, 0, 1], &[2, 1], 2, CPU).unwrap();
    let memory = model.encode(&padded, EVALUATE).unwrap();
    let error = model.decode(&memory, &padded, Some(&mut Default::default()), EVALUATE).expect_err("padding");
    assert!(error.to_string().contains("expected unpadded targets"), "{error}");
    let three = model.decode(&memory, &batch().0, None, EVALUATE).expect_err("two sources, three targets");
    assert!(three.to_string().contains("expected 2 targets"), "{three}");
}
