//! How probable a model finds given answers, and what it answers itself.

use candle_core::Device;
use numformer_encoding::{Vocabulary, VocabularyError};
use numformer_model::{Candidate, Decoding, Model, Seq2Seq, Unconstrained, generate};
use numformer_store::StoredModel;
use serde::Serialize;

use crate::answers::pairs::{Batch, Pair, padded, score_pairs, tokens_of};

/// A model that scores pairs of source and target.
///
/// # Examples
/// ```no_run
/// use numformer_evaluate::Scorer;
/// use numformer_store::StoredModel;
///
/// let scorer = Scorer::new(&StoredModel::load("imported".as_ref())?)?;
/// let pair = scorer.parse("V1 V1 + 314 E-2\tV1 V1 + 314 E-2")?;
/// println!("{:.4}", scorer.score(&[pair])?[0].cross_entropy);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scorer {
    model: Model,
    vocabulary: Vocabulary,
    device: Device,
    decoding: Option<Decoding>,
    max_answer: usize,
}

/// The score of a pair.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoredPair {
    /// Mean cross-entropy over the target's tokens and the closing delimiter, under teacher forcing, in nats.
    pub cross_entropy: f64,
    /// Number of tokens in that mean: those of the target and the closing delimiter.
    pub target_tokens: usize,
    /// Whether the model's own answer is the target; `None` if no answer was requested.
    pub exact: Option<bool>,
    /// The model's own answer, without delimiters; `None` if it was not requested.
    pub generated: Option<String>,
    /// The score of that answer in a beam: the logarithm of its probability, divided by a power of its length; `None`
    /// for other decodings.
    pub generated_score: Option<f64>,
}

impl Scorer {
    /// The default maximum number of tokens of an answer, including delimiters: enough for a 10×10 matrix in P10, the
    /// longest in the paper.
    pub const MAX_ANSWER: usize = 512;

    /// Puts a model on the CPU.
    ///
    /// # Errors
    /// When a weight is missing or has another shape than the configuration says.
    pub fn new(stored: &StoredModel) -> candle_core::Result<Self> {
        Ok(Self::of_model(stored.model(&Device::Cpu)?, &stored.vocabulary, &Device::Cpu))
    }

    /// Uses a model that is on `device`.
    #[must_use]
    pub fn of_model(model: impl Into<Model>, vocabulary: &Vocabulary, device: &Device) -> Self {
        let (vocabulary, device) = (vocabulary.clone(), device.clone());
        Self { model: model.into(), vocabulary, device, decoding: None, max_answer: Self::MAX_ANSWER }
    }

    /// Also asks the model for its own answers, found by `decoding`. If there are several candidates, the first
    /// is the answer.
    #[must_use]
    pub fn with_decoding(mut self, decoding: Decoding) -> Self {
        self.decoding = Some(decoding);
        self
    }

    /// Sets the maximum number of tokens of the model's own answers, including delimiters, instead of
    /// [`Self::MAX_ANSWER`]. If the model has fewer positions, their number is the maximum.
    #[must_use]
    pub fn with_max_answer(mut self, tokens: usize) -> Self {
        self.max_answer = tokens;
        self
    }

    /// Reads a line `source<TAB>target`: symbols separated by spaces, without delimiters.
    ///
    /// # Errors
    /// When the line does not have exactly one tab, a symbol is unknown or is the delimiter or padding, or a sequence
    /// is too long.
    pub fn parse(&self, line: &str) -> Result<Pair, PairError> {
        let tabs = line.matches('\t').count();
        let (1, Some((src, tgt))) = (tabs, line.split_once('\t')) else { return Err(PairError::Tabs { found: tabs }) };
        Ok(Pair { src: self.sequence("source", src)?, tgt: self.sequence("target", tgt)? })
    }

    fn sequence(&self, side: &'static str, text: &str) -> Result<Vec<u32>, PairError> {
        let tokens = self.vocabulary.tokenize(text).map_err(|source| PairError::Symbol { side, source })?;
        let reserved = [self.vocabulary.delimiter(), self.vocabulary.padding()];
        if let Some(position) = tokens.iter().position(|token| reserved.contains(token)) {
            let symbol = self.vocabulary.render(&tokens[position..=position]);
            return Err(PairError::Reserved { side, position, symbol });
        }
        // Both delimiters need a position.
        let limit = self.model.max_positions().map(|limit| limit.saturating_sub(2));
        if let Some(limit) = limit.filter(|limit| tokens.len() > *limit) {
            return Err(PairError::TooLong { side, limit, found: tokens.len() });
        }
        let delimiter = self.model.delimiter_id();
        let inner = tokens.iter().map(|token| token.0);
        Ok([delimiter].into_iter().chain(inner).chain([delimiter]).collect())
    }

    /// Scores pairs, in their order. The figures depend on which pairs are scored together by rounding only:
    /// less than 1e-6 of their size.
    ///
    /// # Errors
    /// When the model fails, or a cross-entropy is not finite.
    pub fn score(&self, pairs: &[Pair]) -> Result<Vec<ScoredPair>, ScoreError> {
        self.score_from(0, pairs)
    }

    /// Like [`score`](Self::score), for a part of a longer list, with `first_index` pairs before it. Samples depend on
    /// the index of a pair, so the division into parts does not matter.
    ///
    /// # Errors
    /// When [`score`](Self::score) fails.
    pub fn score_from(&self, first_index: u64, pairs: &[Pair]) -> Result<Vec<ScoredPair>, ScoreError> {
        let limit = self.model.max_positions().map_or(self.max_answer, |limit| limit.min(self.max_answer));
        let answer = |batch: Batch<'_>| -> Result<Vec<Option<Candidate>>, ScoreError> {
            // This check comes before the search for the model's own answer, because that does not exist either.
            if let Some(place) = batch.cross_entropies.iter().position(|cross_entropy| !cross_entropy.is_finite()) {
                let cross_entropy = batch.cross_entropies[place];
                return Err(ScoreError::NotFinite { pair: batch.first + place, cross_entropy });
            }
            let Some(decoding) = &self.decoding else { return Ok(vec![None; batch.pairs.len()]) };
            let sources = batch.pairs.iter().map(|pair| pair.src.as_slice());
            let src = padded(sources, self.model.padding_id(), &self.device)?;
            let first_index = first_index.wrapping_add(batch.first as u64);
            let found = generate(&self.model, &src, first_index, limit, decoding, &Unconstrained)?;
            Ok(found.into_iter().map(|candidates| candidates.into_iter().next()).collect())
        };
        let scored = score_pairs(&self.model, pairs, &self.device, answer)?;
        let scores = pairs.iter().zip(scored).map(|(pair, scored)| ScoredPair {
            cross_entropy: scored.cross_entropy,
            target_tokens: pair.target_tokens(),
            exact: scored.is_exact(pair),
            generated_score: scored.answer.as_ref().and_then(|answer| answer.score),
            generated: scored.answer.map(|answer| self.vocabulary.render(&tokens_of(&answer.hypothesis.ids))),
        });
        Ok(scores.collect())
    }
}

/// The reason that pairs have no scores.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// The model failed.
    #[error("the model failed")]
    Model(#[from] candle_core::Error),
    /// The model gives no finite probability for a pair.
    #[error("expected a finite cross-entropy, found {cross_entropy}: the model's weights give no probabilities")]
    NotFinite {
        /// The index of the pair in the given list, from 0.
        pair: usize,
        /// What was found.
        cross_entropy: f64,
    },
}

/// The reason that a line is not a pair of source and target. Positions count from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PairError {
    /// Source and target cannot be told apart.
    #[error("expected one tab between source and target, found {found}")]
    Tabs {
        /// Number of tabs.
        found: usize,
    },
    /// A symbol is not in the vocabulary.
    #[error("{side}")]
    Symbol {
        /// `source` or `target`.
        side: &'static str,
        /// Cause.
        source: VocabularyError,
    },
    /// A symbol is reserved.
    #[error("{side}: expected no delimiters and no padding, found `{symbol}` at position {position}")]
    Reserved {
        /// `source` or `target`.
        side: &'static str,
        /// The position of the symbol.
        position: usize,
        /// The symbol.
        symbol: String,
    },
    /// The model does not have enough positions.
    #[error("{side}: expected at most {limit} tokens, found {found}")]
    TooLong {
        /// `source` or `target`.
        side: &'static str,
        /// Maximum number of tokens, without delimiters.
        limit: usize,
        /// Number of tokens.
        found: usize,
    },
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;
    use numformer_encoding::Positional;
    use numformer_model::{Beam, Mode, Padded, Parameters, StackConfig, Transformer, TransformerConfig, beam};

    use super::*;

    fn scorer() -> Scorer {
        scorer_that_ends(0.0)
    }

    /// An untrained model with the reference vocabulary of P10 and 12 positions, which ends its answers sooner the
    /// larger the bias.
    fn scorer_that_ends(delimiter_bias: f32) -> Scorer {
        Scorer::new(&stored(delimiter_bias)).expect("a model")
    }

    fn stored(delimiter_bias: f32) -> StoredModel {
        let p10 = Positional::p10();
        let vocabulary = Vocabulary::reference(&p10, &p10);
        let sizes = StackConfig::new(16, 2, 1);
        let config = TransformerConfig::new(vocabulary.len(), 12, sizes.clone(), sizes);
        let parameters = Parameters::random(1, &Device::Cpu);
        Transformer::init(&config, &parameters).expect("a model");
        let mut stored = StoredModel::new(config, vocabulary, &parameters).expect("f32 on the CPU");
        // Larger weights make a model that is surer of its errors.
        stored.weights.values_mut().flat_map(|(_, values)| values).for_each(|x| *x *= 3.0);
        stored.weights.get_mut("projection.bias").expect("every model has one").1[0] += delimiter_bias;
        stored
    }

    const LINES: [&str; 5] = [
        "V1 V1 + 3 1 4 E-2\tV1 V1 + 3 1 4 E-2",
        "V1\tV1 V2 + 3 1 4 E-2 - 0 E0",
        "V1 V2 - 1 0 0 E5 + 2\tV1",
        "T V1\t",
        "\tT",
    ];

    #[test]
    fn scores_do_not_depend_on_the_batch() {
        let scorer = scorer().with_decoding(Decoding::Greedy);
        let pairs = LINES.map(|line| scorer.parse(line).expect("a pair"));
        let together = scorer.score(&pairs).expect("scores");
        for (pair, together) in pairs.iter().zip(&together) {
            let alone = &scorer.score(std::slice::from_ref(pair)).expect("a score")[0];
            let difference = (alone.cross_entropy - together.cross_entropy).abs();
            assert!(difference < 1e-6 * together.cross_entropy, "{alone:?} {together:?}");
            assert_eq!((&alone.generated, alone.exact), (&together.generated, together.exact));
        }
        assert_eq!(together.iter().map(|score| score.target_tokens).collect::<Vec<_>>(), [8, 11, 2, 1, 2]);
    }

    /// An answer that the model never ends is cut off at the limit, or where the model has no more positions.
    #[test]
    fn answers_are_as_long_as_they_may_be() {
        let scorer = scorer_that_ends(-1e3).with_decoding(Decoding::Greedy);
        let answer = |scorer: &Scorer| {
            let pair = scorer.parse("V1\tV1").expect("a pair");
            let answer = scorer.score(&[pair]).expect("a score")[0].generated.clone();
            answer.expect("asked for").split(' ').map(str::to_owned).collect::<Vec<_>>()
        };
        let longest = answer(&scorer);
        assert_eq!(longest.len(), 12 - 1, "the opening delimiter has a position");
        assert_eq!(answer(&scorer.clone().with_max_answer(7)), longest[..6]);
    }

    #[test]
    fn the_score_is_the_mean_of_what_the_logits_say() {
        let scorer = scorer();
        let pair = scorer.parse(LINES[0]).expect("a pair");
        let score = &scorer.score(std::slice::from_ref(&pair)).expect("a score")[0];
        let tensor = |ids: &[u32]| Padded::full(Tensor::new(ids, &Device::Cpu).unwrap().unsqueeze(0).unwrap());
        let memory = scorer.model.encode(&tensor(&pair.src), Mode::Evaluate).expect("a memory");
        let states = scorer.model.decode(&memory, &tensor(&pair.tgt), None, Mode::Evaluate).expect("states");
        let logits: Vec<Vec<f32>> = scorer.model.logits(&states).unwrap().get(0).unwrap().to_vec2().unwrap();
        let nats = logits.iter().zip(&pair.tgt[1..]).map(|(logits, token)| {
            let total: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
            total.ln() - f64::from(logits[*token as usize])
        });
        let expected = nats.sum::<f64>() / 8.0;
        assert!((score.cross_entropy - expected).abs() < 1e-5, "{score:?} {expected}");
        assert_eq!((score.exact, &score.generated), (None, &None));
    }

    /// The weights are finite, but the results are not.
    #[test]
    fn a_score_that_is_no_number_is_an_error_that_names_the_pair() {
        let mut stored = stored(0.0);
        let x = stored.vocabulary.id("V7").expect("in the vocabulary").0 as usize;
        let (_, embedding) = stored.weights.get_mut("encoder.embedding.tokens.weight").expect("every model has one");
        // The norm of such a vector overflows.
        embedding[16 * x..16 * (x + 1)].fill(f32::MAX);
        let scorer = Scorer::new(&stored).expect("finite weights");
        for scorer in [scorer.clone(), scorer.with_decoding(Decoding::Greedy)] {
            let pairs = ["V1\tV1", "V1 V7\tV1", "V1\tV1"].map(|line| scorer.parse(line).expect("a pair"));
            let error = scorer.score(&pairs).expect_err("no number");
            assert!(
                matches!(error, ScoreError::NotFinite { pair: 1, cross_entropy } if !cross_entropy.is_finite()),
                "{error}"
            );
        }
        stored.weights.get_mut("projection.bias").expect("every model has one").1[3] = f32::NAN;
        let error = Scorer::new(&stored).expect_err("a weight that is no number").to_string();
        assert!(error.contains("tensor `projection.bias`: expected finite numbers"), "{error}");
    }

    #[test]
    fn answers_are_those_of_the_generation_asked_for() {
        let scorer = scorer_that_ends(3.0);
        let pairs = LINES.map(|line| scorer.parse(line).expect("a pair"));
        let generated = |decoding| -> Vec<String> {
            let scores = scorer.clone().with_decoding(decoding).score(&pairs).expect("scores");
            scores.into_iter().map(|score| score.generated.expect("asked for")).collect()
        };
        let search = Beam::new(4);
        let expected = pairs.iter().map(|pair| {
            let src =
                padded([pair.src.as_slice()].into_iter(), scorer.model.padding_id(), &scorer.device).expect("a source");
            let best = beam(&scorer.model, &src, 12, &search).expect("answers").swap_remove(0).swap_remove(0);
            scorer.vocabulary.render(&tokens_of(&best.hypothesis.ids))
        });
        assert_eq!(generated(Decoding::Beam(search)), expected.collect::<Vec<_>>());
        assert_ne!(generated(Decoding::Beam(search)), generated(Decoding::Greedy));
    }

    #[test]
    fn the_own_answer_is_exact_when_it_is_the_target() {
        let answer = |bias: u8, line: &str| {
            let scorer = scorer_that_ends(f32::from(bias)).with_decoding(Decoding::Greedy);
            let pair = scorer.parse(line).ok()?;
            Some(scorer.score(&[pair]).expect("a score").swap_remove(0))
        };
        let finished =
            (1..40).flat_map(|bias| (1..=8).map(move |n| (bias, format!("V{n}")))).find_map(|(bias, src)| {
                let generated = answer(bias, &format!("{src}\tV1"))?.generated?;
                let exact = answer(bias, &format!("{src}\t{generated}"))?.exact?;
                (exact && !generated.is_empty()).then_some((bias, src, generated))
            });
        let (bias, src, generated) = finished.expect("some answer is neither empty nor too long");
        let longer = answer(bias, &format!("{src}\t{generated} V1")).expect("a short pair");
        assert_eq!((longer.exact, longer.generated), (Some(false), Some(generated)));
    }

    #[test]
    fn lines_that_are_no_pairs_say_why() {
        let scorer = scorer();
        let error = |line: &str| {
            let error = scorer.parse(line).expect_err(line);
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("{error}{cause}")
        };
        assert_eq!(error("V1 V1"), "expected one tab between source and target, found 0");
        assert_eq!(error("V1\tV1\tV1"), "expected one tab between source and target, found 2");
        assert_eq!(error("V1\tV1 x"), "target: expected a symbol of the vocabulary at position 1, found `x`");
        assert_eq!(error("x\tV1"), "source: expected a symbol of the vocabulary at position 0, found `x`");
        assert_eq!(error("V1 <s>\tV1"), "source: expected no delimiters and no padding, found `<s>` at position 1");
        assert_eq!(error("V1\t</s>"), "target: expected no delimiters and no padding, found `</s>` at position 0");
        assert!(scorer.parse(&format!("V1\t{}", "V1 ".repeat(10))).is_ok());
        assert_eq!(error(&format!("V1\t{}", "V1 ".repeat(11))), "target: expected at most 10 tokens, found 11");
        assert_eq!(error(&format!("{}\tV1", "V1 ".repeat(11))), "source: expected at most 10 tokens, found 11");
    }
}
