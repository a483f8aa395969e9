//! Generation: answers follow the model's scores, for any batch, cache and width.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]
#![expect(clippy::single_range_in_vec_init, reason = "sets of ids are lists of ranges")]

use candle_core::{DType, Device, Result, Tensor};
use std::ops::Range;

use numformer_model::{
    Batched, Beam, Cache, Candidate, Constraint, Decoding, End, Hypothesis, Mode, Padded, Parameters, Ranked, Sampling,
    Seq2Seq, StackConfig, Stopping, Transformer, TransformerConfig, Unconstrained, beam, generate, greedy,
};

const CPU: &Device = &Device::Cpu;
const DELIMITER: u32 = 0;
const MAX_LEN: usize = 50;

/// An untrained model of `vocab_size` tokens with strong preferences. It ends the sooner, the larger `eagerness` is.
fn opinionated(vocab_size: usize, eagerness: f64, seed: u64) -> Transformer {
    let config = TransformerConfig::new(vocab_size, MAX_LEN, StackConfig::new(12, 3, 2), StackConfig::new(8, 2, 2));
    let parameters = Parameters::random(seed, CPU);
    Transformer::init(&config, &parameters).unwrap();
    for (name, var) in parameters.to_vec() {
        if !name.contains("norm") {
            var.set(&(var.as_detached_tensor() * 2.5).unwrap()).unwrap();
        }
        if name == "projection.bias" {
            let mut bias = var.to_vec1::<f32>().unwrap();
            bias[DELIMITER as usize] += eagerness as f32;
            var.set(&Tensor::new(bias, CPU).unwrap()).unwrap();
        }
    }
    Transformer::new(&config, &parameters.frozen()).unwrap()
}

/// A batch of sources of many lengths, and each of its rows alone.
fn sources() -> (Padded, Vec<Padded>) {
    let rows: Vec<Vec<u32>> =
        (0..9).map(|i| [vec![0], (0..i).map(|j| 2 + (i * 7 + j * 3) % 9).collect(), vec![0]].concat()).collect();
    let width = 10;
    let padded = |row: &Vec<u32>| [row.clone(), vec![1; width - row.len()]].concat();
    let lengths: Vec<u32> = rows.iter().map(|row| row.len() as u32).collect();
    let together = Padded::new(&rows.iter().flat_map(padded).collect::<Vec<_>>(), &lengths, width, CPU).unwrap();
    let alone = rows.iter().map(|row| Padded::new(row, &[row.len() as u32], row.len(), CPU).unwrap()).collect();
    (together, alone)
}

/// The answers without their scores.
fn hypotheses<M: Seq2Seq, C: Constraint>(
    model: &M,
    src: &Padded,
    first_index: u64,
    max_len: usize,
    decoding: &Decoding,
    constraint: &C,
) -> Result<Vec<Vec<Hypothesis>>> {
    let found = generate(model, src, first_index, max_len, decoding, constraint)?;
    let of_row = |row: Vec<Candidate>| row.into_iter().map(|candidate| candidate.hypothesis).collect();
    Ok(found.into_iter().map(of_row).collect())
}

#[test]
fn greedy_answers_do_not_depend_on_the_batch() -> Result<()> {
    let (together, alone) = sources();
    let mut lengths = Vec::new();
    for seed in 0..5 {
        let model = opinionated(11, 1.0, seed);
        let answers = greedy(&model, &together, MAX_LEN)?;
        for (row, (answer, alone)) in answers.iter().zip(&alone).enumerate() {
            assert_eq!(*answer, greedy(&model, alone, MAX_LEN)?[0], "seed {seed}, row {row}");
            lengths.push(answer.ids.len());
        }
    }
    // Some rows end early, some late and some never, so that the batch shrinks again and again.
    lengths.sort_unstable();
    lengths.dedup();
    assert!(lengths.len() > 5 && lengths.last() == Some(&(MAX_LEN - 1)), "{lengths:?}");
    Ok(())
}

#[test]
fn greedy_answers_are_the_most_probable_tokens_without_a_cache() -> Result<()> {
    let model = opinionated(11, 1.0, 1);
    let (together, alone) = sources();
    for (answer, src) in greedy(&model, &together, MAX_LEN)?.iter().zip(&alone) {
        let memory = model.encode(src, Mode::Evaluate)?;
        let written = [&[DELIMITER], answer.ids.as_slice()].concat();
        let tgt =
            Padded::full(Tensor::new(written, CPU)?.unsqueeze(0)?.narrow(1, 0, (answer.ids.len() + 1).min(49))?);
        let states = model.decode(&memory, &tgt, None, Mode::Evaluate)?;
        let tokens: Vec<u32> = model.logits(&states)?.argmax(2)?.flatten_all()?.to_vec1()?;
        let expected = match answer.end {
            End::Delimiter => [answer.ids.as_slice(), &[DELIMITER]].concat(),
            End::Limit => answer.ids.clone(),
        };
        assert_eq!(tokens, expected);
    }
    Ok(())
}

#[test]
fn selected_rows_of_a_cache_go_their_own_ways() -> Result<()> {
    let model = opinionated(11, 0.0, 3);
    let (together, _) = sources();
    let memory = model.encode(&together, Mode::Evaluate)?;
    let column = |token: u32, rows: usize| Padded::full(Tensor::full(token, (rows, 1), CPU).unwrap());
    let mut cache = Cache::default();
    for token in [0, 5, 3] {
        model.decode(&memory, &column(token, 9), Some(&mut cache), Mode::Evaluate)?;
    }
    let rows = [7, 2, 2];
    let (few, mut one, mut other) = (memory.select(&rows)?, cache.select(&rows)?, cache.select(&rows)?);
    let states = |last: u32, cache: &mut Cache| -> Result<Vec<f32>> {
        model.decode(&few, &column(last, 3), Some(&mut *cache), Mode::Evaluate)?;
        model.decode(&few, &column(4, 3), Some(cache), Mode::Evaluate)?.flatten_all()?.to_vec1()
    };
    let found = [states(6, &mut one)?, states(8, &mut other)?];
    assert_eq!((one.len_tokens(), cache.len_tokens()), (5, 3));
    for (last, found) in [6, 8].into_iter().zip(found) {
        let tgt = Tensor::new(&[0u32, 5, 3, last, 4], CPU)?.unsqueeze(0)?.repeat((3, 1))?;
        let at_once = model.decode(&few, &Padded::full(tgt), None, Mode::Evaluate)?;
        let expected: Vec<f32> = at_once.narrow(1, 4, 1)?.flatten_all()?.to_vec1()?;
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?} {expected:?}");
    }
    Ok(())
}

/// The logarithm of the probability of `tokens` after the opening delimiter.
fn log_probability(model: &Transformer, src: &Padded, tokens: &[u32]) -> f64 {
    let memory = model.encode(src, Mode::Evaluate).unwrap();
    let read = [&[DELIMITER], &tokens[..tokens.len() - 1]].concat();
    let tgt = Padded::full(Tensor::new(read, CPU).unwrap().unsqueeze(0).unwrap());
    let states = model.decode(&memory, &tgt, None, Mode::Evaluate).unwrap();
    let logits: Vec<Vec<f64>> =
        model.logits(&states).unwrap().squeeze(0).unwrap().to_dtype(DType::F64).unwrap().to_vec2().unwrap();
    let of = |logits: &Vec<f64>, token: u32| logits[token as usize] - logits.iter().map(|x| x.exp()).sum::<f64>().ln();
    logits.iter().zip(tokens).map(|(logits, token)| of(logits, *token)).sum()
}

/// All possible answers of at most `max_len` tokens, both delimiters included, with their scores.
fn all_answers(model: &Transformer, src: &Padded, max_len: usize, penalty: f64) -> Vec<Ranked> {
    let config = model.config();
    let inner: Vec<u32> = (0..config.vocab_size as u32).filter(|token| *token != DELIMITER).collect();
    let mut unfinished: Vec<Vec<u32>> = vec![Vec::new()];
    let mut answers = Vec::new();
    for len in 1..max_len {
        for ids in &unfinished {
            let score = log_probability(model, src, &[ids.as_slice(), &[DELIMITER]].concat());
            let hypothesis = Hypothesis { ids: ids.clone(), end: End::Delimiter };
            answers.push(Ranked { hypothesis, score: score / (len as f64).powf(penalty) });
        }
        let longer = |ids: &Vec<u32>| inner.iter().map(|token| [ids, &[*token][..]].concat()).collect::<Vec<_>>();
        unfinished = unfinished.iter().flat_map(longer).collect();
    }
    for ids in unfinished {
        let score = log_probability(model, src, &ids) / ((max_len - 1) as f64).powf(penalty);
        answers.push(Ranked { hypothesis: Hypothesis { ids, end: End::Limit }, score });
    }
    answers.sort_by(|a, b| b.score.total_cmp(&a.score));
    answers
}

#[test]
fn a_wide_beam_finds_the_best_answers_of_all() -> Result<()> {
    // 1 + 3 + 9 + 27 + 81 answers.
    let (vocab_size, max_len) = (4, 5);
    for (seed, penalty) in [(0, 0.0), (1, 1.0), (2, 0.6), (3, -0.5), (4, 2.0)] {
        let model = opinionated(vocab_size, 0.5, seed);
        let src = Padded::new(&[0, 2, 3, 3, 0], &[5], 5, CPU)?;
        let expected = all_answers(&model, &src, max_len, penalty);
        let search = Beam { width: 81, length_penalty: penalty, stopping: Stopping::Exhausted };
        let found = beam(&model, &src, max_len, &search)?.swap_remove(0);
        assert_eq!(found.len(), 81);
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.hypothesis, expected.hypothesis, "seed {seed}");
            assert!((found.score - expected.score).abs() < 1e-5, "seed {seed}: {found:?} {expected:?}");
        }
        let certain: f64 = all_answers(&model, &src, max_len, 0.0).iter().map(|answer| answer.score.exp()).sum();
        assert!((certain - 1.0).abs() < 1e-5, "the answers are all there are: {certain}");
    }
    Ok(())
}

/// A second, plain implementation of beam search: one source, no cache, and every continuation considered.
fn plain_beam(model: &Transformer, src: &Padded, max_len: usize, search: &Beam) -> Vec<(Vec<u32>, f64)> {
    let score = |ids: &[u32], log_probability: f64| log_probability / (ids.len() as f64).powf(search.length_penalty);
    let vocabulary = 0..model.config().vocab_size as u32;
    let (mut running, mut finished) = (vec![(Vec::new(), 0.0)], Vec::new());
    for len in 1..max_len {
        let continued = |(ids, _): &(Vec<u32>, f64)| {
            let longer = vocabulary.clone().map(|token| [ids.as_slice(), &[token]].concat());
            longer.map(|ids| (ids.clone(), log_probability(model, src, &ids))).collect::<Vec<_>>()
        };
        let mut candidates: Vec<(Vec<u32>, f64)> = running.iter().flat_map(continued).collect();
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1));
        candidates.truncate(2 * search.width);
        running.clear();
        for (ids, log_probability) in candidates {
            if running.len() == search.width {
                break;
            }
            if ids.ends_with(&[DELIMITER]) || len == max_len - 1 {
                finished.push((ids.clone(), score(&ids, log_probability)));
            } else {
                running.push((ids, log_probability));
            }
        }
        finished.sort_by(|a: &(Vec<u32>, f64), b| b.1.total_cmp(&a.1));
        finished.truncate(search.width);
        if running.is_empty() || (search.stopping == Stopping::Early && finished.len() == search.width) {
            break;
        }
    }
    finished
}

#[test]
fn beams_are_those_of_the_plain_search() -> Result<()> {
    let (together, alone) = sources();
    for (seed, width, length_penalty) in [(0, 2, 1.0), (1, 3, 0.0), (2, 3, 1.0), (3, 4, -1.0), (4, 5, 2.0)] {
        let model = opinionated(11, 1.0, seed);
        for stopping in [Stopping::Exhausted, Stopping::Early] {
            let search = Beam { width, length_penalty, stopping };
            for (row, (found, src)) in beam(&model, &together, 9, &search)?.into_iter().zip(&alone).enumerate() {
                let expected = plain_beam(&model, src, 9, &search);
                assert_eq!(found.len(), expected.len(), "seed {seed}, row {row}, {search:?}");
                for (Ranked { hypothesis, score }, (mut ids, expected)) in found.into_iter().zip(expected) {
                    assert!((score - expected).abs() < 1e-4, "seed {seed}, row {row}, {search:?}: {score} {expected}");
                    let ended = ids.pop_if(|last| *last == DELIMITER).is_some();
                    assert_eq!((hypothesis.ids, hypothesis.end == End::Delimiter), (ids, ended));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn candidates_of_a_beam_have_its_scores() -> Result<()> {
    let (together, _) = sources();
    let model = opinionated(11, 1.0, 2);
    for decoding in DECODINGS {
        let found = generate(&model, &together, 0, 12, &decoding, &Unconstrained)?;
        let scores: Vec<Option<f64>> = found.iter().flatten().map(|candidate| candidate.score).collect();
        match decoding {
            Decoding::Beam(search) => {
                let expected = beam(&model, &together, 12, &search)?.concat();
                assert_eq!(scores, expected.iter().map(|ranked| Some(ranked.score)).collect::<Vec<_>>());
            }
            _ => assert!(scores.iter().all(Option::is_none)),
        }
    }
    Ok(())
}

#[test]
fn a_beam_of_width_one_that_stops_early_is_greedy() -> Result<()> {
    let (together, _) = sources();
    let search = Beam { stopping: Stopping::Early, ..Beam::new(1) };
    for seed in 0..3 {
        let model = opinionated(11, 1.0, seed);
        for length_penalty in [0.0, 1.0] {
            let found = beam(&model, &together, MAX_LEN, &Beam { length_penalty, ..search })?;
            let found: Vec<Hypothesis> = found.into_iter().map(|mut ranked| ranked.swap_remove(0).hypothesis).collect();
            assert_eq!(found, greedy(&model, &together, MAX_LEN)?, "seed {seed}");
        }
    }
    Ok(())
}

#[test]
fn beams_do_not_depend_on_the_batch() -> Result<()> {
    let (together, alone) = sources();
    for stopping in [Stopping::Exhausted, Stopping::Early] {
        let model = opinionated(11, 1.0, 2);
        let search = Beam { stopping, ..Beam::new(3) };
        for (row, (found, alone)) in beam(&model, &together, 20, &search)?.iter().zip(&alone).enumerate() {
            let alone = &beam(&model, alone, 20, &search)?[0];
            let ids = |ranked: &[Ranked]| ranked.iter().map(|r| r.hypothesis.clone()).collect::<Vec<_>>();
            assert_eq!(ids(found), ids(alone), "row {row}");
            assert!(found.iter().zip(alone).all(|(a, b)| (a.score - b.score).abs() < 1e-5));
            assert_eq!(found.len(), 3);
            assert!(found.is_sorted_by(|a, b| a.score >= b.score));
        }
    }
    Ok(())
}

#[test]
fn without_room_there_is_one_empty_answer() -> Result<()> {
    let model = opinionated(4, 0.0, 0);
    let src = Padded::new(&[0, 0], &[2], 2, CPU)?;
    for max_len in [0, 1] {
        let found = beam(&model, &src, max_len, &Beam::new(2))?.swap_remove(0);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].hypothesis, greedy(&model, &src, max_len)?[0]);
    }
    Ok(())
}

#[test]
fn impossible_beams_are_errors() {
    let model = opinionated(4, 0.0, 0);
    let src = Padded::new(&[0, 0], &[2], 2, CPU).unwrap();
    let message = |search: Beam| beam(&model, &src, 5, &search).expect_err("impossible").to_string();
    assert_eq!(message(Beam::new(0)), "expected a beam width of at least 1, found 0");
    let unbounded = Beam { length_penalty: f64::INFINITY, ..Beam::new(1) };
    assert_eq!(message(unbounded), "expected a finite length penalty, found inf");
}

/// Answers whose tokens never decrease, and which end with token 9.
struct Ascending {
    /// The tokens that may follow each token: itself and larger ones.
    after: Vec<Vec<Range<u32>>>,
}

impl Ascending {
    fn new() -> Self {
        Self { after: (0..11).map(|token: u32| if token == 9 { vec![0..1] } else { vec![token.max(2)..10] }).collect() }
    }
}

impl Constraint for Ascending {
    /// The last token, and how many tokens may still follow.
    type State = (u32, usize);

    fn start(&self, _row: usize, max_len: usize) -> Result<(u32, usize)> {
        Ok((0, max_len - 1))
    }

    fn allowed<'a>(&'a self, (last, room): &'a (u32, usize)) -> &'a [Range<u32>] {
        if *room == 2 && *last != 9 { &[9..10] } else { &self.after[*last as usize] }
    }

    fn advance(&self, (last, room): &mut (u32, usize), token: u32) {
        (*last, *room) = (token, *room - 1);
    }
}

const DECODINGS: [Decoding; 3] = [
    Decoding::Greedy,
    Decoding::Beam(Beam { width: 3, length_penalty: 1.0, stopping: Stopping::Exhausted }),
    Decoding::Sample(Sampling { count: 3, temperature: 1.5, seed: 7 }),
];

#[test]
fn answers_say_what_the_constraint_allows_and_end_in_time() -> Result<()> {
    let (together, _) = sources();
    let mut lengths = Vec::new();
    for decoding in DECODINGS {
        for (seed, max_len) in (0..4).flat_map(|seed| [3, 4, 12].map(|max_len| (seed, max_len))) {
            let model = opinionated(11, 0.0, seed);
            let answers = hypotheses(&model, &together, 0, max_len, &decoding, &Ascending::new())?;
            assert_eq!(answers.len(), 9);
            for Hypothesis { ids, end } in answers.iter().flatten() {
                assert!(ids.is_sorted() && ids[0] >= 2 && ids.iter().position(|id| *id == 9) == Some(ids.len() - 1));
                assert!(*end == End::Delimiter && ids.len() + 2 <= max_len, "{decoding:?} {ids:?}");
                lengths.push(ids.len());
            }
        }
    }
    lengths.sort_unstable();
    lengths.dedup();
    assert!(lengths.len() > 4, "{lengths:?}");
    Ok(())
}

#[test]
fn constrained_greedy_answers_are_the_most_probable_tokens_that_are_allowed() -> Result<()> {
    let model = opinionated(11, 0.0, 2);
    let (together, alone) = sources();
    let constraint = Ascending::new();
    for (answer, src) in
        hypotheses(&model, &together, 0, 12, &Decoding::Greedy, &constraint)?.into_iter().flatten().zip(&alone)
    {
        let memory = model.encode(src, Mode::Evaluate)?;
        let mut state = constraint.start(0, 12)?;
        let mut written = vec![DELIMITER];
        for token in answer.ids.into_iter().chain([DELIMITER]) {
            let tgt = Padded::full(Tensor::new(written.as_slice(), CPU)?.unsqueeze(0)?);
            let states = model.decode(&memory, &tgt, None, Mode::Evaluate)?;
            let logits: Vec<f32> = model.logits(&states)?.get(0)?.get(written.len() - 1)?.to_vec1()?;
            let allowed = constraint.allowed(&state).iter().cloned().flatten();
            let best = allowed.max_by(|a, b| logits[*a as usize].total_cmp(&logits[*b as usize]));
            assert_eq!(best, Some(token));
            constraint.advance(&mut state, token);
            written.push(token);
        }
    }
    Ok(())
}

#[test]
fn a_wide_beam_finds_the_most_probable_answer_that_is_allowed() -> Result<()> {
    /// Allows neither 2 after 2 nor 3 after 3.
    struct Alternating;

    impl Constraint for Alternating {
        type State = u32;
        fn start(&self, _row: usize, _max_len: usize) -> Result<u32> {
            Ok(0)
        }
        fn allowed<'a>(&'a self, last: &'a u32) -> &'a [Range<u32>] {
            match last {
                2 => &[0..1, 3..4],
                3 => &[0..1, 2..3],
                _ => &[2..4],
            }
        }
        fn advance(&self, last: &mut u32, token: u32) {
            *last = token;
        }
    }
    for seed in 0..4 {
        let model = opinionated(4, 0.5, seed);
        let src = Padded::new(&[0, 2, 3, 3, 0], &[5], 5, CPU)?;
        let is_allowed = |ids: &[u32]| {
            !ids.is_empty() && ids.iter().all(|id| [2, 3].contains(id)) && ids.windows(2).all(|pair| pair[0] != pair[1])
        };
        let all = all_answers(&model, &src, 5, 1.0).into_iter().map(|ranked| ranked.hypothesis);
        let expected: Vec<Hypothesis> = all.filter(|answer| is_allowed(&answer.ids)).collect();
        let found = hypotheses(&model, &src, 0, 5, &Decoding::Beam(Beam::new(20)), &Alternating)?.swap_remove(0);
        assert_eq!(found, expected, "seed {seed}");
        assert_eq!(found.len(), 8);
    }
    Ok(())
}

#[test]
fn samples_are_a_function_of_seed_and_index() -> Result<()> {
    let (together, alone) = sources();
    let model = opinionated(11, 1.0, 2);
    let sampling = Sampling { count: 2, temperature: 2.0, seed: 3 };
    let of =
        |src: &Padded, first, sampling| hypotheses(&model, src, first, 12, &Decoding::Sample(sampling), &Unconstrained);
    let samples = of(&together, 100, sampling)?;
    for (row, src) in alone.iter().enumerate() {
        assert_eq!(of(src, 100 + row as u64, sampling)?[0], samples[row], "row {row}");
        // A larger number of samples begins with the same samples.
        assert_eq!(of(src, 100 + row as u64, Sampling { count: 5, ..sampling })?[0][..2], samples[row]);
    }
    assert!(samples.iter().filter(|samples| samples[0] == samples[1]).count() < 4);
    assert_ne!(of(&together, 101, sampling)?, samples);
    assert_ne!(of(&together, 100, Sampling { seed: 4, ..sampling })?, samples);
    // A very low temperature gives the most probable answer.
    let cold: Vec<_> = of(&together, 0, Sampling { temperature: 1e-9, count: 1, seed: 0 })?.concat();
    assert_eq!(cold, greedy(&model, &together, 12)?);
    Ok(())
}

#[test]
fn samples_are_as_probable_as_the_model_says() -> Result<()> {
    let model = opinionated(4, 0.5, 1);
    let src = Padded::new(&[0, 2, 3, 0], &[4], 4, CPU)?;
    let count = 4000;
    let samples =
        hypotheses(&model, &src, 0, 4, &Decoding::Sample(Sampling::new(count)), &Unconstrained)?.swap_remove(0);
    for Ranked { hypothesis, score } in all_answers(&model, &src, 4, 0.0) {
        let found = samples.iter().filter(|sample| **sample == hypothesis).count() as f64 / count as f64;
        let expected = score.exp();
        let deviation = (expected * (1.0 - expected) / count as f64).sqrt();
        assert!((found - expected).abs() < 4.5 * deviation + 1e-4, "{hypothesis:?}: {found} {expected}");
    }
    Ok(())
}

#[test]
fn a_model_that_is_no_number_is_an_error_that_says_where() -> Result<()> {
    let (together, _) = sources();
    let config = TransformerConfig::new(11, MAX_LEN, StackConfig::new(12, 3, 2), StackConfig::new(8, 2, 2));
    let parameters = Parameters::random(0, CPU);
    Transformer::init(&config, &parameters)?;
    for (name, var) in parameters.to_vec() {
        if name == "projection.bias" {
            var.set(&Tensor::new(&[0f32, 0., 0., 0., 0., 0., 0., f32::NAN, 0., 0., 0.], CPU)?)?;
        }
    }
    let model = Transformer::new(&config, &parameters.frozen())?;
    for decoding in DECODINGS {
        let error = hypotheses(&model, &together, 0, 12, &decoding, &Unconstrained).expect_err("no number").to_string();
        let expected = "expected finite scores of tokens in row 0, position 0, found NaN for token 7";
        assert!(error.contains(expected), "{error}");
    }
    Ok(())
}

#[test]
fn impossible_generations_are_errors() {
    struct Nothing;

    impl Constraint for Nothing {
        type State = ();
        fn start(&self, _row: usize, _max_len: usize) -> Result<()> {
            Ok(())
        }
        fn allowed<'a>(&'a self, (): &'a ()) -> &'a [Range<u32>] {
            &[]
        }
        fn advance(&self, (): &mut (), _token: u32) {}
    }
    let (together, _) = sources();
    let model = opinionated(11, 0.0, 0);
    for decoding in DECODINGS {
        let error = hypotheses(&model, &together, 0, 12, &decoding, &Nothing).expect_err("impossible").to_string();
        assert!(error.contains("expected a token that may follow in row 0, position 0, found none"), "{error}");
    }
    let message = |sampling| {
        let error = hypotheses(&model, &together, 0, 12, &Decoding::Sample(sampling), &Unconstrained);
        error.expect_err("impossible").to_string()
    };
    assert!(message(Sampling::new(0)).contains("expected at least one sample of each answer, found 0"));
    for temperature in [0.0, -1.0, f64::INFINITY, f64::NAN] {
        let message = message(Sampling { temperature, ..Sampling::new(1) });
        assert!(message.contains("expected a positive, finite temperature, found"), "{message}");
    }
}

#[test]
fn an_answer_that_is_too_long_is_refused_before_anything_is_computed() -> Result<()> {
    let model = opinionated(11, 0.0, 2);
    let (together, _) = sources();
    for decoding in DECODINGS {
        let error = hypotheses(&model, &together, 0, MAX_LEN + 2, &decoding, &Unconstrained).expect_err("too long");
        assert_eq!(error.to_string().lines().next(), Some("expected answers of at most 51 tokens, found 52"));
        // No sources have no answers.
        let none = Padded::new(&[], &[], 0, CPU)?;
        assert_eq!(hypotheses(&model, &none, 0, 12, &decoding, &Unconstrained)?, Vec::<Vec<Hypothesis>>::new());
    }
    Ok(())
}
