//! The transformer as a whole: gradients, overfitting, cached and padded decoding.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use candle_core::{D, Device, Result, Tensor};
use numformer_model::{
    Cache, CrossAttentionQuery, Embedding, End, FeedForward, FlatLayout, LayerNorm, LayerWeights, Mode,
    MultiHeadAttention, OutputProjection, Padded, Parameters, Positions, Seq2Seq, StackConfig, Transformer,
    TransformerConfig, greedy, sinusoidal_positions,
};
use numformer_ops::Causality;

const DELIMITER: u32 = 0;
const PADDING: u32 = 1;
const CPU: &Device = &Device::Cpu;
const EVALUATE: Mode = Mode::Evaluate;

/// Different widths, depths and heads in the two halves, so that no size can be confused with another.
fn asymmetric() -> TransformerConfig {
    TransformerConfig::new(13, 10, StackConfig::new(12, 3, 2), StackConfig::new(8, 2, 1))
}

/// Every combination of the options of one layer, and every way to repeat the layer.
fn all_options() -> impl Iterator<Item = TransformerConfig> {
    let positions = [Positions::Learned, Positions::Sinusoidal];
    let queries = [CrossAttentionQuery::SelfAttended, CrossAttentionQuery::LayerInput];
    let projections = [OutputProjection::Shared, OutputProjection::Separate];
    let of_layers = positions.into_iter().flat_map(move |positions| {
        queries.into_iter().flat_map(move |cross_attention_query| {
            projections.into_iter().map(move |output_projection| TransformerConfig {
                positions,
                cross_attention_query,
                output_projection,
                ..asymmetric()
            })
        })
    });
    let repeated = [(LayerWeights::Shared, false), (LayerWeights::Shared, true), (LayerWeights::Separate, true)];
    let repeated = repeated.into_iter().map(|(layer_weights, copy_gate)| {
        let mut config = TransformerConfig { layer_weights, copy_gate, ..asymmetric() };
        config.decoder.n_layers = 3;
        config
    });
    of_layers.chain(repeated)
}

/// Three sequences of different lengths, with delimiters at both ends.
fn padded_batch() -> Padded {
    let rows = [[0, 5, 6, 7, 0], [0, 8, 0, PADDING, PADDING], [0, 9, 12, 0, PADDING]];
    Padded::new(&rows.concat(), &[5, 3, 4], 5, CPU).unwrap()
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

#[test]
fn every_parameter_receives_a_gradient() {
    for config in all_options() {
        let parameters = Parameters::random(1, CPU);
        let model = Transformer::init(&config, &parameters).unwrap();
        let store = model.loss(&padded_batch(), &padded_batch(), EVALUATE).unwrap().backward().unwrap();
        let layout = FlatLayout::new(&parameters).expect("a model");
        let mut gradients = vec![0.0; layout.len()];
        layout.read_gradients(&parameters, &store, &mut gradients).unwrap();
        for slot in layout.slots() {
            // The softmax does not change when all keys move by the same vector, so the key bias has no effect.
            if !slot.name().ends_with("key.bias") {
                assert!(gradients[slot.range()].iter().any(|g| *g != 0.0), "{} in {config:?}", slot.name());
            }
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    for config in all_options() {
        let parameters = Parameters::random(2, CPU);
        let model = Transformer::init(&config, &parameters).unwrap();
        let layout = FlatLayout::new(&parameters).expect("a model");
        let (mut weights, mut gradients) = (vec![0.0; layout.len()], vec![0.0; layout.len()]);
        layout.read(&parameters, &mut weights).unwrap();
        let loss = || model.loss(&padded_batch(), &padded_batch(), EVALUATE).unwrap();
        layout.read_gradients(&parameters, &loss().backward().unwrap(), &mut gradients).unwrap();
        // Along the gradient itself the slope is its squared norm. In f32, about three digits of the difference are
        // exact.
        let norm = gradients.iter().map(|g| g * g).sum::<f32>().sqrt();
        let step = 2e-3 / norm;
        let at = |sign: f32| {
            let moved: Vec<f32> = weights.iter().zip(&gradients).map(|(w, g)| w + sign * step * g).collect();
            layout.write(&parameters, &moved).unwrap();
            f64::from(loss().to_scalar::<f32>().unwrap())
        };
        let slope = (at(1.0) - at(-1.0)) / f64::from(2.0 * step);
        let expected = f64::from(norm * norm);
        assert!((slope - expected).abs() < 1e-2 * expected, "{slope} {expected} in {config:?}");
    }
}

#[test]
fn cached_decoding_equals_decoding_at_once() -> Result<()> {
    for config in all_options() {
        let model = Transformer::init(&config, &Parameters::random(3, CPU))?;
        let memory = model.encode(&padded_batch(), EVALUATE)?;
        let tgt = Tensor::new(&[[0u32, 5, 6, 7, 8], [0, 9, 9, 2, 3], [0, 4, 12, 11, 2]], CPU)?;
        let at_once = model.logits(&model.decode(&memory, &Padded::full(tgt.clone()), None, EVALUATE)?)?;
        let mut cache = Cache::default();
        // Steps of one and of several tokens.
        for (begin, count) in [(0, 1), (1, 1), (2, 3)] {
            let part = Padded::full(tgt.narrow(1, begin, count)?);
            let continued = model.logits(&model.decode(&memory, &part, Some(&mut cache), EVALUATE)?)?;
            let error = difference(&continued, &at_once.narrow(1, begin, count)?);
            assert!(error < 1e-5, "tokens {begin}..{}: {error} in {config:?}", begin + count);
        }
        assert_eq!(cache.len_tokens(), 5);
    }
    Ok(())
}

#[test]
fn padding_changes_nothing() -> Result<()> {
    let model = Transformer::init(&asymmetric(), &Parameters::random(4, CPU))?;
    let batch = padded_batch();
    let states = model.encode(&batch, EVALUATE)?.states().clone();
    let alone = Padded::new(&[0, 8, 0], &[3], 3, CPU)?;
    let expected = model.encode(&alone, EVALUATE)?.states().clone();
    assert!(difference(&states.narrow(0, 1, 1)?.narrow(1, 0, 3)?, &expected) < 1e-6);
    let beyond = states.narrow(0, 1, 1)?.narrow(1, 3, 2)?.abs()?.sum_all()?.to_scalar::<f32>()?;
    assert_eq!(beyond.to_bits(), 0f32.to_bits(), "states at padding are zero");

    // The mean over a batch equals the mean over the tokens of its rows, each computed alone.
    let rows: [&[u32]; 3] = [&[0, 5, 6, 7, 0], &[0, 8, 0], &[0, 9, 12, 0]];
    let (mut sum, mut tokens) = (0.0, 0.0);
    for row in rows {
        let row_alone = Padded::new(row, &[row.len() as u32], row.len(), CPU)?;
        let predicted = (row.len() - 1) as f32;
        sum += model.loss(&row_alone, &row_alone, EVALUATE)?.to_scalar::<f32>()? * predicted;
        tokens += predicted;
    }
    let together = model.loss(&batch, &batch, EVALUATE)?.to_scalar::<f32>()?;
    assert!((together - sum / tokens).abs() < 1e-5, "{together} {}", sum / tokens);
    Ok(())
}

#[test]
fn one_batch_is_learned_by_heart() -> Result<()> {
    let config = TransformerConfig::new(13, 10, StackConfig::new(16, 2, 1), StackConfig::new(16, 2, 1));
    let parameters = Parameters::random(5, CPU);
    let model = Transformer::init(&config, &parameters)?;
    let (src, tgt) = (padded_batch(), Padded::new(&[0, 7, 6, 0, 0, 5, 5, 0, 0, 0, 1, 1], &[4, 4, 2], 4, CPU)?);
    let layout = FlatLayout::new(&parameters).expect("a model");
    let (mut weights, mut gradients) = (vec![0.0; layout.len()], vec![0.0; layout.len()]);
    layout.read(&parameters, &mut weights)?;
    for _ in 0..300 {
        layout.read_gradients(&parameters, &model.loss(&src, &tgt, EVALUATE)?.backward()?, &mut gradients)?;
        weights.iter_mut().zip(&gradients).for_each(|(w, g)| *w -= 0.1 * g);
        layout.write(&parameters, &weights)?;
    }
    let loss = model.loss(&src, &tgt, EVALUATE)?.to_scalar::<f32>()?;
    assert!(loss < 0.02, "{loss}");

    let frozen = Transformer::new(&config, &parameters.frozen())?;
    let answers: Vec<Vec<u32>> = greedy(&frozen, &src, 8)?.into_iter().map(|hypothesis| hypothesis.ids).collect();
    assert_eq!(answers, [vec![7, 6], vec![5, 5], vec![]]);
    Ok(())
}

#[test]
fn greedy_decoding_takes_the_most_probable_token_each_time() -> Result<()> {
    let model = Transformer::init(&asymmetric(), &Parameters::random(6, CPU))?;
    let src = padded_batch();
    let memory = model.encode(&src, EVALUATE)?;
    for (row, hypothesis) in greedy(&model, &src, 9)?.into_iter().enumerate() {
        let mut expected = vec![DELIMITER];
        let end = loop {
            if expected.len() == 9 {
                break End::Limit;
            }
            let tgt = Tensor::new(expected.as_slice(), CPU)?.unsqueeze(0)?.repeat((3, 1))?;
            let logits = model.logits(&model.decode(&memory, &Padded::full(tgt), None, EVALUATE)?)?;
            let last = logits.get(row)?.get(expected.len() - 1)?.argmax(D::Minus1)?.to_scalar::<u32>()?;
            if last == DELIMITER {
                break End::Delimiter;
            }
            expected.push(last);
        };
        assert_eq!((hypothesis.ids.as_slice(), hypothesis.end), (&expected[1..], end));
    }
    Ok(())
}

#[test]
fn bad_input_is_an_error_that_says_what_was_found() -> Result<()> {
    let model = Transformer::init(&asymmetric(), &Parameters::random(7, CPU))?;
    let message = |src: &[u32]| {
        let src = Padded::new(src, &[src.len() as u32], src.len(), CPU).unwrap();
        model.encode(&src, EVALUATE).expect_err("bad input").to_string()
    };
    let outside = message(&[0, 13, 0]);
    assert!(outside.contains("13"), "{outside}");
    let long = message(&[0; 11]);
    assert!(long.contains("11") || long.contains("10"), "{long}");
    assert!(Padded::new(&[0, 1, 2], &[2], 2, CPU).is_err());
    assert!(Padded::new(&[0, 1], &[3], 2, CPU).is_err());
    let memory = model.encode(&padded_batch(), EVALUATE)?;
    let two = Padded::new(&[0, 0], &[1, 1], 1, CPU)?;
    let error = model.decode(&memory, &two, None, EVALUATE).expect_err("three sources, two targets").to_string();
    assert!(error.contains("expected 3 targets"), "{error}");
    Ok(())
}

#[test]
fn init_zeroes_the_vectors_of_padding_and_no_others() {
    let config = asymmetric();
    let parameters = Parameters::random(8, CPU);
    Transformer::init(&config, &parameters).unwrap();
    for half in ["encoder", "decoder"] {
        let table = parameters.get(&format!("{half}.embedding.tokens.weight")).unwrap();
        for (row, vector) in table.to_vec2::<f32>().unwrap().into_iter().enumerate() {
            assert_eq!(vector.iter().all(|x| *x == 0.0), row == config.padding_id as usize, "{half}, row {row}");
        }
    }
}

/// An untrained model and its parameters.
fn built(config: &TransformerConfig, seed: u64) -> (Transformer, Parameters) {
    let parameters = Parameters::random(seed, CPU);
    (Transformer::init(config, &parameters).unwrap(), parameters)
}

fn tensor(parameters: &Parameters, name: &str) -> Tensor {
    parameters.get(name).unwrap().as_detached_tensor()
}

#[test]
fn positions_are_learned_or_sinusoidal_as_named() -> Result<()> {
    for positions in [Positions::Learned, Positions::Sinusoidal] {
        let config = TransformerConfig { positions, ..asymmetric() };
        let (_, parameters) = built(&config, 9);
        for (half, sizes) in [("encoder", &config.encoder), ("decoder", &config.decoder)] {
            let d = sizes.d_model;
            let vb = parameters.frozen().pp(half).pp("embedding");
            let embedding = Embedding::new(config.vocab_size, config.max_positions, d, positions, &vb)?;
            let found = embedding.forward(&Tensor::new(&[[5u32, 7, 5]], CPU)?, 2)?;

            let learned = format!("{half}.embedding.positions.weight");
            assert_eq!(parameters.get(&learned).is_some(), positions == Positions::Learned);
            let table = match positions {
                Positions::Learned => tensor(&parameters, &learned),
                Positions::Sinusoidal => {
                    Tensor::from_vec(sinusoidal_positions(config.max_positions, d), (config.max_positions, d), CPU)?
                }
            };
            let tokens = tensor(&parameters, &format!("{half}.embedding.tokens.weight"));
            let tokens = tokens.index_select(&Tensor::new(&[5u32, 7, 5], CPU)?, 0)?;
            let norm = LayerNorm::new(d, &vb.pp("norm"))?;
            let expected = norm.forward(&(tokens + table.narrow(0, 2, 3)?)?)?;
            assert!(difference(&found.get(0)?, &expected) < 1e-6, "{half} {positions:?}");
        }
    }
    Ok(())
}

#[test]
fn the_projection_is_shared_or_separate_as_named() -> Result<()> {
    for output_projection in [OutputProjection::Shared, OutputProjection::Separate] {
        let config = TransformerConfig { output_projection, ..asymmetric() };
        let (model, parameters) = built(&config, 10);
        let own = parameters.get("projection.weight").is_some();
        assert_eq!(own, output_projection == OutputProjection::Separate);
        let weight = match output_projection {
            OutputProjection::Shared => tensor(&parameters, "decoder.embedding.tokens.weight"),
            OutputProjection::Separate => tensor(&parameters, "projection.weight"),
        };
        let states = Tensor::new(&[[1f32, -2.0, 3.0, 0.5, -0.5, 0.25, 4.0, -1.0]], CPU)?;
        let expected = states.matmul(&weight.t()?)?.broadcast_add(&tensor(&parameters, "projection.bias"))?;
        assert!(difference(&model.logits(&states)?, &expected) < 1e-5, "{output_projection:?}");
    }
    Ok(())
}

#[test]
fn the_query_of_the_cross_attention_is_the_one_named() -> Result<()> {
    // The decoder's only layer, written out.
    for cross_attention_query in [CrossAttentionQuery::SelfAttended, CrossAttentionQuery::LayerInput] {
        let config = TransformerConfig { cross_attention_query, ..asymmetric() };
        let (model, parameters) = built(&config, 11);
        let memory = model.encode(&padded_batch(), EVALUATE)?;
        let tgt = Tensor::new(&[[0u32, 5, 6], [0, 9, 9], [0, 4, 12]], CPU)?;
        let found = model.decode(&memory, &Padded::full(tgt.clone()), None, EVALUATE)?;

        let (d, n_heads) = (config.decoder.d_model, config.decoder.n_heads);
        let decoder = parameters.frozen().pp("decoder");
        let layer = decoder.pp("layers.0");
        let norm = |name: &str| LayerNorm::new(d, &layer.pp(name));
        let embedding =
            Embedding::new(config.vocab_size, config.max_positions, d, config.positions, &decoder.pp("embedding"))?;
        let x = embedding.forward(&tgt, 0)?;
        let own = MultiHeadAttention::new(d, d, n_heads, &layer.pp("self_attention"))?;
        let read = own.forward(&x, &own.keys_values(&x)?, Causality::Causal, None)?;
        let attended = norm("self_attention_norm")?.add_forward(&read, &x)?;
        let cross = MultiHeadAttention::new(d, config.encoder.d_model, n_heads, &layer.pp("cross_attention"))?;
        let query = match cross_attention_query {
            CrossAttentionQuery::SelfAttended => &attended,
            CrossAttentionQuery::LayerInput => &x,
        };
        let keys_values = cross.keys_values(memory.states())?;
        let read = cross.forward(query, &keys_values, Causality::Full, memory.lengths())?;
        let y = norm("cross_attention_norm")?.add_forward(&read, &attended)?;
        let feed_forward = FeedForward::new(d, config.decoder.d_ff(), &layer.pp("feed_forward"))?;
        let expected = norm("feed_forward_norm")?.add_forward(&feed_forward.forward(&y)?, &y)?;
        assert!(difference(&found, &expected) < 1e-5, "{cross_attention_query:?}");
    }
    Ok(())
}

#[test]
fn losses_by_row_are_those_of_the_rows_alone() -> Result<()> {
    let (model, _) = built(&asymmetric(), 12);
    let batch = padded_batch();
    let found = model.losses(&batch, &batch)?;
    let rows: [&[u32]; 3] = [&[0, 5, 6, 7, 0], &[0, 8, 0], &[0, 9, 12, 0]];
    for (row, found) in rows.into_iter().zip(found) {
        let alone = Padded::new(row, &[row.len() as u32], row.len(), CPU)?;
        let expected = model.loss(&alone, &alone, EVALUATE)?.to_scalar::<f32>()?;
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
    let empty = Padded::new(&[0, 5, 0, 1], &[2, 1], 2, CPU)?;
    let error = model.losses(&empty, &empty).expect_err("nothing to predict").to_string();
    assert!(error.contains("expected a token to predict in target 1"), "{error}");
    Ok(())
}

#[test]
fn a_padding_token_within_a_sequence_is_a_target_like_others() -> Result<()> {
    let (model, _) = built(&asymmetric(), 12);
    let ids = [0, 5, PADDING, 7, 0, 0, 8, 0, PADDING, PADDING];
    let batch = Padded::new(&ids, &[5, 3], 5, CPU)?;
    let rows = model.losses(&batch, &batch)?;
    let expected = (4.0 * rows[0] + 2.0 * rows[1]) / 6.0;
    let found = model.loss(&batch, &batch, EVALUATE)?.to_scalar::<f32>()?;
    assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    Ok(())
}

#[test]
fn smoothed_targets_are_a_mixture_with_the_uniform_law() -> Result<()> {
    const SMOOTHING: f64 = 0.3;
    for output_projection in [OutputProjection::Shared, OutputProjection::Separate] {
        let config = TransformerConfig { output_projection, ..asymmetric() };
        let (model, parameters) = built(&config, 12);
        let batch = padded_batch();
        let found = model.smoothed_loss(&batch, &batch, EVALUATE, SMOOTHING)?;

        // By the definition: -Σ q log p for each token, where q is the mixture.
        let memory = model.encode(&batch, EVALUATE)?;
        let log_p =
            candle_nn::ops::log_softmax(&model.logits(&model.decode(&memory, &batch, None, EVALUATE)?)?, D::Minus1)?;
        let targets: [&[u32]; 3] = [&[5, 6, 7, 0], &[8, 0], &[9, 12, 0]];
        let (mut expected, mut count) = (Tensor::zeros((), candle_core::DType::F32, CPU)?, 0);
        for (row, targets) in targets.into_iter().enumerate() {
            for (at, target) in targets.iter().enumerate() {
                let log_p = log_p.get(row)?.get(at)?;
                let of_target = log_p.get(*target as usize)?;
                let mixed = ((of_target * (1.0 - SMOOTHING))? + (log_p.mean(0)? * SMOOTHING)?)?;
                expected = (expected - mixed)?;
                count += 1;
            }
        }
        let expected = (expected / f64::from(count))?;
        assert!(difference(&found, &expected) < 1e-5, "{found} {expected}");
        let layout = FlatLayout::new(&parameters).expect("a model");
        let gradients = |loss: &Tensor| {
            let mut gradients = vec![0.0; layout.len()];
            layout.read_gradients(&parameters, &loss.backward()?, &mut gradients)?;
            Tensor::from_vec(gradients, layout.len(), CPU)
        };
        assert!(difference(&gradients(&found)?, &gradients(&expected)?) < 1e-5, "{output_projection:?}");
    }
    Ok(())
}
