//! Judging a model on a fixed set of examples.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::ControlFlow;

use candle_core::Device;
use numformer_data::{Batch, BatchSource, Sequences, Task};
use numformer_encoding::TokenId;
use numformer_metrics::Metric;
use numformer_model::{End, Hypothesis, Mode, Seq2Seq, TokenRows};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::answering::{Answerer, Answering};
use crate::evaluation_metrics::{EvaluationMetrics, Judged};
use crate::figures::Evaluation;
use crate::score::{Batch as ScoredBatch, Pair, Scored, score_pairs};
use crate::trainer::TrainError;

/// Examples judged together, on one thread of rayon. They are gathered from as many batches as it takes, and the figures of
/// chunks are merged in their order, so that not even the rounding of the cross-entropy depends on the size of a source's
/// batches or the number of threads.
const TOGETHER: usize = 256;

/// Judges `model` by greedy decoding on the first `count` examples of a source. The figures are a function of the model
/// and the examples: how the source cuts them into batches does not matter, nor on how many threads of rayon they are
/// judged.
///
/// Where the model finds the target more probable than all else together, greedy decoding would write it, and is spared.
///
/// Build `model` on [`Parameters::frozen`](numformer_model::Parameters::frozen).
///
/// # Errors
/// When `count` is zero, examples cannot be made, the model cannot read them, or gives no finite numbers.
pub fn evaluate(
    model: &(impl Seq2Seq + Sync),
    task: &Task,
    source: &dyn BatchSource,
    count: u64,
    device: &Device,
) -> Result<Evaluation, TrainError> {
    evaluate_with(model, task, source, count, Answering::default(), device)
}

/// As [`evaluate`], by answers that are found in another way.
///
/// # Errors
/// As [`evaluate`]; when the decoding is impossible; and for constrained answers when their encoding has no grammar.
pub fn evaluate_with(
    model: &(impl Seq2Seq + Sync),
    task: &Task,
    source: &dyn BatchSource,
    count: u64,
    answering: Answering,
    device: &Device,
) -> Result<Evaluation, TrainError> {
    let mut unwatched = || ControlFlow::<Infallible>::Continue(());
    match evaluate_watched(model, task, source, count, answering, device, &mut unwatched)? {
        ControlFlow::Continue(evaluation) => Ok(evaluation),
        ControlFlow::Break(never) => match never {},
    }
}

/// As [`evaluate_with`], unless `watch` breaks it off: it is asked before every few chunks.
pub(crate) fn evaluate_watched<B>(
    model: &(impl Seq2Seq + Sync),
    task: &Task,
    source: &dyn BatchSource,
    count: u64,
    answering: Answering,
    device: &Device,
    watch: &mut dyn FnMut() -> ControlFlow<B>,
) -> Result<ControlFlow<B, Evaluation>, TrainError> {
    match judge_chunks(model, task, source, count, answering, device, watch) {
        Ok(ControlFlow::Continue(Evaluation { cross_entropy: loss, .. })) if !loss.is_finite() => {
            Err(TrainError::NoNumbers { loss })
        }
        // Scores that are no numbers have no answers: the loss tells whether that is it.
        Err(TrainError::Model(error)) => {
            let batch = source.batch(0)?;
            let [src, tgt] = [token_rows(&batch.src).padded(device)?, token_rows(&batch.tgt).padded(device)?];
            let loss = f64::from(model.loss(&src, &tgt, Mode::Evaluate)?.to_scalar::<f32>()?);
            Err(if loss.is_finite() { TrainError::Model(error) } else { TrainError::NoNumbers { loss } })
        }
        judged => judged,
    }
}

fn judge_chunks<B>(
    model: &(impl Seq2Seq + Sync),
    task: &Task,
    source: &dyn BatchSource,
    count: u64,
    answering: Answering,
    device: &Device,
    watch: &mut dyn FnMut() -> ControlFlow<B>,
) -> Result<ControlFlow<B, Evaluation>, TrainError> {
    if source.batch_size() == 0 {
        return Err(TrainError::NothingToEvaluate);
    }
    let answerer = Answerer::new(model, task, answering)?;
    let mut chunks = Chunks::of(source, count);
    let mut metrics = EvaluationMetrics::default();
    loop {
        if let ControlFlow::Break(why) = watch() {
            return Ok(ControlFlow::Break(why));
        }
        let chunks: Vec<_> = chunks.by_ref().take(rayon::current_num_threads()).collect::<Result<_, _>>()?;
        if chunks.is_empty() {
            return metrics.value().map(ControlFlow::Continue).ok_or(TrainError::NothingToEvaluate);
        }
        let judged = chunks.into_par_iter().map(|chunk| judge(&answerer, chunk, device)).collect::<Vec<_>>();
        // In their order, of failures too: the first is told.
        for part in judged {
            metrics.merge(&part?);
        }
    }
}

/// Judges the examples of one chunk.
fn judge<M: Seq2Seq>(
    answerer: &Answerer<'_, M>,
    chunk: Chunk,
    device: &Device,
) -> Result<EvaluationMetrics, TrainError> {
    let (pairs, origins): (Vec<_>, Vec<_>) = chunk.examples.into_iter().unzip();
    let task = answerer.task();
    let answer = |ScoredBatch { first, pairs, cross_entropies }: ScoredBatch<'_>| {
        let first_index = chunk.first_index + first as u64;
        let answers = answerer.answers_to_scored(pairs, cross_entropies, first_index, task.max_tgt_len(), device)?;
        Ok::<_, TrainError>(answers.into_iter().map(Some).collect())
    };
    let scored = score_pairs(answerer.model(), &pairs, device, answer)?;
    let mut metrics = EvaluationMetrics::default();
    for ((pair, origin), scored) in pairs.iter().zip(&origins).zip(&scored) {
        metrics.update(&judged(task, pair, origin, scored)?);
    }
    Ok(metrics)
}

/// Examples that are judged together.
struct Chunk {
    /// The number of the first among all.
    first_index: u64,
    examples: Vec<(Pair, Origin)>,
}

/// The first examples of a source, in chunks of [`TOGETHER`].
struct Chunks<'s> {
    source: &'s dyn BatchSource,
    count: u64,
    /// The number of the first of the next chunk.
    first_index: u64,
    next_batch: u64,
    waiting: VecDeque<(Pair, Origin)>,
}

impl<'s> Chunks<'s> {
    fn of(source: &'s dyn BatchSource, count: u64) -> Self {
        Self { source, count, first_index: 0, next_batch: 0, waiting: VecDeque::new() }
    }
}

impl Iterator for Chunks<'_> {
    type Item = Result<Chunk, TrainError>;

    fn next(&mut self) -> Option<Self::Item> {
        let first_index = self.first_index;
        let size = (self.count - first_index).min(TOGETHER as u64);
        if size == 0 {
            return None;
        }
        while (self.waiting.len() as u64) < size {
            match self.source.batch(self.next_batch) {
                // A source of one's own may end.
                Ok(batch) if batch.src.is_empty() => {
                    self.count = first_index + self.waiting.len() as u64;
                    return self.next();
                }
                Ok(batch) => self.waiting.extend((0..batch.src.len()).map(|row| example(&batch, row))),
                Err(error) => return Some(Err(error.into())),
            }
            self.next_batch += 1;
        }
        self.first_index += size;
        Some(Ok(Chunk { first_index, examples: self.waiting.drain(..size as usize).collect() }))
    }
}

/// What is known of an example beside its tokens.
struct Origin {
    law: Option<usize>,
    rejected: u32,
}

fn example(batch: &Batch, row: usize) -> (Pair, Origin) {
    let pair = Pair { src: batch.src.row(row).to_vec(), tgt: batch.tgt.row(row).to_vec() };
    // A source of one's own may leave these lists empty.
    let law = batch.laws.get(row).copied().flatten();
    (pair, Origin { law, rejected: batch.rejected.get(row).copied().unwrap_or(0) })
}

fn judged(task: &Task, pair: &Pair, origin: &Origin, scored: &Scored) -> Result<Judged, TrainError> {
    let answer = scored.answer.as_ref().and_then(|answer| finished(&answer.hypothesis));
    Ok(Judged {
        judgement: task.judgement(&tokens_of(&pair.src), &tokens_of(&pair.tgt), answer.as_deref())?,
        law: origin.law.and_then(|law| task.laws().get(law).cloned()),
        is_exact: scored.is_exact(pair) == Some(true),
        cross_entropy: scored.cross_entropy,
        target_tokens: pair.target_tokens() as u64,
        rejected: origin.rejected,
    })
}

/// The tokens of an answer; none if the model did not end it.
pub(crate) fn finished(answer: &Hypothesis) -> Option<Vec<TokenId>> {
    (answer.end == End::Delimiter).then(|| tokens_of(&answer.ids))
}

/// A batch of token ids, to train on.
pub(crate) fn token_rows(sequences: &Sequences) -> TokenRows<'_> {
    let Sequences { ids, lengths, width } = sequences;
    TokenRows { ids, lengths, width: *width }
}

pub(crate) fn tokens_of(ids: &[u32]) -> Vec<TokenId> {
    ids.iter().copied().map(TokenId).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use numformer_data::{Split, TaskError};
    use numformer_model::{Decoding, Padded, Sampling};

    use super::*;
    use crate::{Catalogue, Experiment, Trainer};

    /// Two problems on two laws each, one of them in two dimensions, and a model that has barely begun to learn them.
    const TOML: &str = r#"
        name = "mixed"
        problem = [{ name = "transpose" }, { name = "trace", matrices = { law = ["uniform", "wigner"], rows = 1 } }]
        matrices = { law = ["uniform", "gaussian"], rows = [1, 2] }
        encoding = { input = "p10", output = "p10" }
        model.encoder = { d_model = 16, n_heads = 2, n_layers = 1 }
        model.decoder = { d_model = 16, n_heads = 2, n_layers = 1 }
        train = { batch_size = 16, steps = 60, lr = 3e-3, warmup_steps = 20 }
        evaluate.every = 1000
    "#;

    fn trainer() -> Trainer {
        let experiment = Experiment::from_toml(TOML, "mixed.toml", &Catalogue::standard()).expect("an experiment");
        let mut trainer = Trainer::new(experiment).expect("a trainer");
        trainer.run().expect("a run");
        trainer
    }

    /// The first so many batches of a source, and no more.
    struct Ending<S>(S, u64);

    impl<S: BatchSource> BatchSource for Ending<S> {
        fn batch(&self, index: u64) -> Result<Batch, TaskError> {
            if index < self.1 { self.0.batch(index) } else { Ok(Batch::default()) }
        }
        fn batch_size(&self) -> usize {
            self.0.batch_size()
        }
    }

    #[test]
    fn a_source_that_ends_is_judged_as_far_as_it_goes() {
        let trainer = trainer();
        let task = trainer.experiment().task(&Catalogue::standard()).map(Arc::new).expect("a task");
        let of = |batches, count| {
            let source = Ending(task.batches(0, Split::Test, 32), batches);
            evaluate(trainer.model(), &task, &source, count, &Device::Cpu)
        };
        assert_eq!(of(10, 1000).expect("an evaluation"), of(20, 320).expect("an evaluation"));
        assert!(matches!(of(0, 1000), Err(TrainError::NothingToEvaluate)));
    }

    /// The examples of another source, without what need not be known.
    struct Bare<S>(S);

    impl<S: BatchSource> BatchSource for Bare<S> {
        fn batch(&self, index: u64) -> Result<Batch, TaskError> {
            self.0.batch(index).map(|Batch { src, tgt, .. }| Batch { src, tgt, ..Batch::default() })
        }
        fn batch_size(&self) -> usize {
            self.0.batch_size()
        }
    }

    #[test]
    fn figures_do_not_depend_on_the_batches() {
        let trainer = trainer();
        let task = trainer.experiment().task(&Catalogue::standard()).map(Arc::new).expect("a task");
        let count = 3 * TOGETHER as u64 + 44;
        let of = |size| {
            let source = task.batches(0, Split::Test, size);
            evaluate(trainer.model(), &task, &source, count, &Device::Cpu)
        };
        let whole = of(TOGETHER).expect("an evaluation");
        assert_eq!(whole.count, count);
        assert!(whole.decodable > 0.0 && whole.cross_entropy > 0.1, "{whole:#}");
        for size in [1, 7, 100, 1000] {
            assert_eq!(of(size).expect("an evaluation"), whole, "batches of {size}");
        }
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            // The trainer itself is not for several threads; its model is.
            let model = trainer.model();
            let source = task.batches(0, Split::Test, 100);
            let found = pool.install(|| evaluate(model, &task, &source, count, &Device::Cpu));
            assert_eq!(found.expect("an evaluation"), whole, "{threads} threads");
        }
        assert!(matches!(of(0), Err(TrainError::NothingToEvaluate)));

        let answering = Answering { decoding: Decoding::Sample(Sampling::new(2)), constrained: true, verified: true };
        let sampled = |size| {
            let source = task.batches(0, Split::Test, size);
            evaluate_with(trainer.model(), &task, &source, count, answering, &Device::Cpu).expect("an evaluation")
        };
        assert_eq!(sampled(TOGETHER), sampled(31));
        assert_ne!(sampled(31).by_problem, whole.by_problem);

        let bare = Bare(task.batches(0, Split::Test, 64));
        let bare = evaluate(trainer.model(), &task, &bare, count, &Device::Cpu).expect("an evaluation");
        assert_eq!(bare, Evaluation { by_law: bare.by_law.clone(), ..whole });
        assert!(bare.by_law.is_empty());
    }

    #[test]
    fn groups_are_of_what_was_drawn() {
        let trainer = trainer();
        let evaluation = trainer.evaluate(Split::Test, 90).expect("an evaluation");
        let task = trainer.task();
        let mut expected = BTreeMap::<_, u64>::new();
        for index in 0..90 {
            let example = task.example(0, Split::Test, index).expect("an example");
            let problem = task.problems().nth(example.problem).expect("of the task").name();
            let law = &task.laws()[example.law.expect("laws of experiments have names")];
            let (rows, cols) = example.input.shape();
            for key in [problem.to_owned(), law.clone(), format!("{rows}x{cols}")] {
                *expected.entry(key).or_default() += 1;
            }
        }
        let by_dimension = evaluation.by_dimension.iter().map(|(shape, group)| (shape.to_string(), group.count));
        let others = evaluation.by_problem.iter().chain(&evaluation.by_law);
        let found = others.map(|(key, group)| (key.clone(), group.count)).chain(by_dimension);
        assert_eq!(found.collect::<BTreeMap<_, _>>(), expected);
        assert_eq!(expected.len(), 2 + 3 + 2, "{expected:?}");
    }

    /// The mean over tokens is that which training minimises.
    #[test]
    fn the_cross_entropy_is_the_loss_of_the_whole() {
        let trainer = trainer();
        let evaluation = trainer.evaluate(Split::Test, 50).expect("an evaluation");
        let task = trainer.experiment().task(&Catalogue::standard()).map(Arc::new).expect("a task");
        let batch = task.batches(0, Split::Test, 50).batch(0).expect("a batch");
        let padded = |Sequences { ids, lengths, width }: &Sequences| {
            Padded::new(ids, lengths, *width, &Device::Cpu).expect("ids")
        };
        let [src, tgt] = [&batch.src, &batch.tgt].map(padded);
        let loss =
            trainer.model().loss(&src, &tgt, Mode::Evaluate).expect("a loss").to_scalar::<f32>().expect("a scalar");
        let difference = (evaluation.cross_entropy - f64::from(loss)).abs();
        assert!(difference < 1e-5 * f64::from(loss), "{} {loss}", evaluation.cross_entropy);
    }
}
