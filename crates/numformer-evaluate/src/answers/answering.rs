//! How a model's answers to a task are found.

use std::f64::consts::LN_2;
use std::fmt;
use std::ops::Range;

use candle_core::Device;
use numformer_data::{AnswerGrammar, AnswerState, Task, TaskError};
use numformer_encoding::TokenId;
use numformer_metrics::Norm;
use numformer_model::{Candidate, Constraint, Decoding, End, Hypothesis, Padded, Seq2Seq, Unconstrained, generate};

use crate::answers::pairs::{Pair, finished, padded, tokens_of};
use crate::evaluate_error::EvaluateError;

/// How a model's answers to a task are found.
///
/// # Examples
/// The best of eight samples, each of them a matrix of the right shape:
/// ```
/// use numformer_model::{Decoding, Sampling};
/// use numformer_evaluate::Answering;
///
/// let answering = Answering { decoding: Decoding::Sample(Sampling::new(8)), constrained: true, verified: true };
/// assert_ne!(answering, Answering::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Answering {
    /// How candidates are found.
    pub decoding: Decoding,
    /// Whether answers are constrained to matrices of the right shape, as defined by the [`AnswerGrammar`].
    pub constrained: bool,
    /// Whether the candidate with the smallest [residual](Task::residual), relative L1, is the answer. If not, or if
    /// the problem has no residual, the first candidate is the answer.
    pub verified: bool,
}

/// A model that answers the sources of a task.
pub struct Answerer<'a, M> {
    model: &'a M,
    task: &'a Task,
    /// Set if answers are constrained.
    grammar: Option<AnswerGrammar<'a>>,
    answering: Answering,
}

impl<M> fmt::Debug for Answerer<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answerer").field("answering", &self.answering).finish_non_exhaustive()
    }
}

impl<'a, M: Seq2Seq> Answerer<'a, M> {
    /// A model that answers as `answering` says.
    ///
    /// # Errors
    /// When answers should be constrained but their encoding has no grammar.
    pub fn new(model: &'a M, task: &'a Task, answering: Answering) -> Result<Self, TaskError> {
        let grammar = answering.constrained.then(|| task.answer_grammar()).transpose()?;
        Ok(Self { model, task, grammar, answering })
    }

    pub(crate) fn model(&self) -> &'a M {
        self.model
    }

    pub(crate) fn task(&self) -> &'a Task {
        self.task
    }

    /// All candidates for one source, in the order in which they were found. Candidates of a beam are sorted best
    /// first.
    pub(crate) fn all(
        &self,
        src: &[u32],
        index: u64,
        limit: usize,
        device: &Device,
    ) -> Result<Vec<Candidate>, EvaluateError> {
        let candidates = self.candidates_for(&[src], index, limit, device)?;
        Ok(candidates.into_iter().flatten().collect())
    }

    /// An answer to each source. Answers have at most `limit` tokens; sources and answers include the delimiters.
    /// Samples depend on the indices of the sources, which count from `first_index`.
    ///
    /// # Errors
    /// When the model cannot read a source, its scores are not finite, or no answer fits into `limit` tokens.
    pub fn answers(
        &self,
        sources: &[&[u32]],
        first_index: u64,
        limit: usize,
        device: &Device,
    ) -> Result<Vec<Candidate>, EvaluateError> {
        let candidates = self.candidates_for(sources, first_index, limit, device)?;
        sources.iter().zip(candidates).map(|(src, candidates)| Ok(self.choose(&tokens_of(src), candidates)?)).collect()
    }

    fn candidates_for(
        &self,
        sources: &[&[u32]],
        first_index: u64,
        limit: usize,
        device: &Device,
    ) -> Result<Vec<Vec<Candidate>>, EvaluateError> {
        let src = padded(sources.iter().copied(), self.model.padding_id(), device)?;
        match &self.grammar {
            None => Ok(self.candidates(&src, first_index, limit, &Unconstrained)?),
            Some(grammar) => {
                let starts = sources.iter().map(|src| grammar.start(&tokens_of(src), limit));
                let starts = starts.collect::<Result<_, TaskError>>()?;
                Ok(self.candidates(&src, first_index, limit, &WellFormed { grammar, starts })?)
            }
        }
    }

    fn candidates(
        &self,
        src: &Padded,
        first_index: u64,
        limit: usize,
        constraint: &impl Constraint,
    ) -> candle_core::Result<Vec<Vec<Candidate>>> {
        generate(self.model, src, first_index, limit, &self.answering.decoding, constraint)
    }

    /// The candidate with the smallest residual, if this is requested and residuals are known; otherwise the first.
    fn choose(&self, src: &[TokenId], mut candidates: Vec<Candidate>) -> Result<Candidate, TaskError> {
        let mut best = (0, f64::INFINITY);
        if self.answering.verified && candidates.len() > 1 {
            for (index, answer) in candidates.iter().enumerate() {
                let residual = match finished(&answer.hypothesis) {
                    Some(tokens) => self.task.residual(src, &tokens, Norm::L1)?,
                    None => None,
                };
                if let Some(residual) = residual.filter(|residual| *residual < best.1) {
                    best = (index, residual);
                }
            }
        }
        Ok(candidates.swap_remove(best.0))
    }

    /// Like [`answers`](Self::answers), for the sources of pairs whose targets have these cross-entropies. Greedy
    /// decoding is skipped where it would write the target.
    pub(crate) fn answers_to_scored(
        &self,
        pairs: &[Pair],
        cross_entropies: &[f64],
        first_index: u64,
        limit: usize,
        device: &Device,
    ) -> Result<Vec<Candidate>, EvaluateError> {
        let is_spared = |(pair, cross_entropy): (&Pair, &f64)| {
            self.answering.decoding == Decoding::Greedy && is_greedy_answer(pair, *cross_entropy, limit)
        };
        let spared: Vec<bool> = pairs.iter().zip(cross_entropies).map(is_spared).collect();
        let asked = pairs.iter().zip(&spared).filter(|(_, spared)| !**spared);
        let sources: Vec<&[u32]> = asked.map(|(pair, _)| pair.src.as_slice()).collect();
        // If some are skipped, decoding is greedy, and indices do not matter.
        let written = if sources.is_empty() { Vec::new() } else { self.answers(&sources, first_index, limit, device)? };
        let mut written = written.into_iter();
        let answer = |(pair, spared): (&Pair, &bool)| {
            let target = || Hypothesis { ids: pair.inner().to_vec(), end: End::Delimiter }.into();
            if *spared { Some(target()) } else { written.next() }
        };
        Ok(pairs.iter().zip(&spared).filter_map(answer).collect())
    }
}

/// Whether greedy decoding is bound to write the target.
///
/// If all of its tokens together are more probable than 1/2 under teacher forcing, then so is each of them after those
/// before it: no other token is as probable. What greedy decoding reads is then what teacher forcing reads, token by
/// token. A constraint changes nothing, as the target is well-formed. The bound is a little below ln 2, so that the
/// winner is ahead by more than the rounding in which the two ways of computing differ.
fn is_greedy_answer(pair: &Pair, cross_entropy: f64, limit: usize) -> bool {
    const ROUNDING: f64 = 1e-2;
    let is_certain = cross_entropy * (pair.target_tokens() as f64) < LN_2 - ROUNDING;
    // A delimiter within would end the answer.
    is_certain && pair.tgt.len() <= limit && !pair.inner().contains(&pair.tgt[0])
}

/// Matrices of the shape of an answer to each source.
struct WellFormed<'g> {
    grammar: &'g AnswerGrammar<'g>,
    starts: Vec<AnswerState>,
}

impl Constraint for WellFormed<'_> {
    type State = AnswerState;

    fn start(&self, row: usize, _max_len: usize) -> candle_core::Result<AnswerState> {
        Ok(self.starts[row].clone())
    }

    fn allowed<'a>(&'a self, state: &'a AnswerState) -> &'a [Range<u32>] {
        self.grammar.allowed(state)
    }

    fn advance(&self, state: &mut AnswerState, token: u32) {
        self.grammar.advance(state, TokenId(token));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use numformer_data::Split;
    use numformer_encoding::Positional;
    use numformer_model::{Parameters, StackConfig, Transformer, TransformerConfig};
    use numformer_problems::{Addition, Inversion, Problem, UniformEntries};

    use super::*;

    /// An untrained model that is sure of what it says, and a task to which it gives answers of many lengths.
    fn opinionated(task: &Task, seed: u64) -> Transformer {
        let sizes = StackConfig::new(12, 3, 1);
        let config = TransformerConfig::new(task.vocabulary().len(), 40, sizes.clone(), sizes);
        let parameters = Parameters::random(seed, &Device::Cpu);
        Transformer::init(&config, &parameters).expect("a model");
        for (name, var) in parameters.to_vec() {
            if !name.contains("norm") {
                var.set(&(var.as_detached_tensor() * 12.0).expect("a tensor")).expect("the same shape");
            }
            if name == "projection.bias" {
                let mut bias = var.to_vec1::<f32>().expect("a vector");
                bias[0] += 30.0;
                var.set(&candle_core::Tensor::new(bias, &Device::Cpu).expect("a tensor")).expect("the same shape");
            }
        }
        Transformer::new(&config, &parameters.frozen()).expect("a model")
    }

    fn task_of(problem: impl Problem + 'static) -> Task {
        let p10 = Arc::new(Positional::p10());
        Task::new(problem, UniformEntries::new(1, 1, 10.0).expect("a law"), p10.clone(), p10).expect("a task")
    }

    #[test]
    fn answers_that_are_spared_are_those_of_full_decoding() {
        const LIMIT: usize = 12;
        let task = task_of(Inversion::default());
        let (mut spared, mut unspared) = (0, 0);
        for seed in 0..20 {
            let model = opinionated(&task, seed);
            let answerer = Answerer::new(&model, &task, Answering::default()).expect("no constraint");
            let sources: Vec<Vec<u32>> = (0..20)
                .map(|index| task.example(seed, Split::Test, index).expect("an example"))
                .map(|example| example.src.iter().map(|token| token.0).collect())
                .collect();
            let views: Vec<&[u32]> = sources.iter().map(Vec::as_slice).collect();
            let expected = answerer.answers(&views, 0, LIMIT, &Device::Cpu).expect("answers");
            // Targets are what the model writes, every fourth but for its last token.
            let target = |(index, answer): (usize, &Candidate)| {
                let mut ids = answer.hypothesis.ids.clone();
                if index % 4 == 0
                    && let Some(last) = ids.last_mut()
                {
                    *last = 2 + (*last + 1) % 10;
                }
                [&[0], ids.as_slice(), &[0]].concat()
            };
            let targets = expected.iter().enumerate().map(target);
            let pairs: Vec<Pair> = sources.iter().cloned().zip(targets).map(|(src, tgt)| Pair { src, tgt }).collect();
            let padded = |rows: Vec<&[u32]>| padded(rows.into_iter(), 1, &Device::Cpu).expect("rows");
            let src = padded(pairs.iter().map(|pair| pair.src.as_slice()).collect());
            let tgt = padded(pairs.iter().map(|pair| pair.tgt.as_slice()).collect());
            let losses: Vec<f64> = model.losses(&src, &tgt).expect("losses").into_iter().map(f64::from).collect();
            let certain =
                pairs.iter().zip(&losses).filter(|(pair, loss)| is_greedy_answer(pair, **loss, LIMIT)).count();
            spared += certain;
            unspared += pairs.len() - certain;
            let found = answerer.answers_to_scored(&pairs, &losses, 0, LIMIT, &Device::Cpu).expect("answers");
            assert_eq!(found, expected, "seed {seed}");
        }
        assert!(spared > 20 && unspared > 20, "{spared} {unspared}");
    }

    #[test]
    fn decoding_is_spared_when_the_whole_target_is_more_probable_than_not() {
        let pair = |tgt: &[u32]| Pair { src: vec![0, 0], tgt: tgt.to_vec() };
        // Three tokens are predicted.
        let target = pair(&[0, 5, 6, 0]);
        let mean = |probability: f64| -probability.ln() / 3.0;
        assert!(is_greedy_answer(&target, mean(0.51), 4));
        assert!(!is_greedy_answer(&target, mean(0.5), 4) && !is_greedy_answer(&target, f64::NAN, 4));
        assert!(!is_greedy_answer(&target, mean(0.9), 3), "it would not end in time");
        assert!(!is_greedy_answer(&pair(&[0, 0, 6, 0]), mean(0.9), 4), "it would end sooner");
    }

    #[test]
    fn of_candidates_the_one_with_the_smallest_residual_is_chosen() {
        let finished = |task: &Task, text: &str| {
            let ids = task.vocabulary().tokenize(text).expect("symbols").iter().map(|token| token.0).collect();
            Candidate::from(Hypothesis { ids, end: End::Delimiter })
        };
        let chosen = |task: &Task, src: &str, candidates: &[Candidate], verified| {
            let model = opinionated(task, 0);
            let answering = Answering { verified, ..Answering::default() };
            let answerer = Answerer::new(&model, task, answering).expect("no constraint");
            let answer = answerer.choose(&task.vocabulary().tokenize(src).expect("symbols"), candidates.to_vec());
            let answer = answer.expect("a source");
            candidates.iter().position(|candidate| *candidate == answer)
        };
        let inversion = task_of(Inversion::default());
        let candidate = |text| finished(&inversion, text);
        let best = candidate("V1 V1 + 2 5 E-2");
        let unfinished = Candidate::from(Hypothesis { end: End::Limit, ..best.hypothesis.clone() });
        let candidates =
            [candidate("V1 V1 +"), unfinished, candidate("V1 V1 + 3 E-1"), best, candidate("V1 V1 + 2 E-1")];
        assert_eq!(chosen(&inversion, "V1 V1 + 4 E0", &candidates, true), Some(3));
        assert_eq!(chosen(&inversion, "V1 V1 + 4 E0", &candidates, false), Some(0));
        assert_eq!(chosen(&inversion, "V1 V1 + 4 E0", &candidates[..2], true), Some(0));
        // The model can determine a sum only by computing it.
        let p10 = Arc::new(Positional::p10());
        let law = UniformEntries::new(1, 2, 10.0).expect("a law");
        let addition = Task::new(Addition, law, p10.clone(), p10).expect("a task");
        let candidates = ["V1 V1 + 3 E0", "V1 V1 + 5 E0"].map(|text| finished(&addition, text));
        assert_eq!(chosen(&addition, "V1 V2 + 4 E0 + 1 E0", &candidates, true), Some(0));
    }
}
