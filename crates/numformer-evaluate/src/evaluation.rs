//! Judging a model on a fixed set of examples.

use std::collections::VecDeque;
use std::fmt;
use std::ops::ControlFlow;

use candle_core::Device;
use numformer_data::{Batch, BatchSource, Task};
use numformer_metrics::Metric;
use numformer_model::{Mode, Seq2Seq, TokenRows};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::answers::answering::{Answerer, Answering};
use crate::answers::pairs::{Batch as ScoredBatch, Pair, Scored, finished, score_pairs, tokens_of};
use crate::custom_metric::{Answered, CustomMetrics};
use crate::evaluate_error::EvaluateError;
use crate::evaluation_metrics::{EvaluationMetrics, EvaluationSample};
use crate::figures::Evaluation;

/// Number of examples judged together, on one rayon thread. A chunk takes examples from as many batches as needed, and
/// the figures of chunks are merged in order. So not even the rounding of the cross-entropy depends on the size of a
/// source's batches or the number of threads.
const TOGETHER: usize = 256;

/// Judges `model` by greedy decoding on the first `count` examples of a source. The figures are a function of the model
/// and the examples: they depend neither on how the source cuts them into batches nor on the number of threads.
///
/// If the model finds the target more probable than all other answers together, greedy decoding would write the target,
/// so it is skipped.
///
/// Build `model` on [`Parameters::frozen`](numformer_model::Parameters::frozen).
///
/// # Errors
/// When `count` is zero, examples cannot be made, or the model cannot read them or gives numbers that are not finite.
pub fn evaluate(
    model: &(impl Seq2Seq + Sync),
    task: &Task,
    source: &dyn BatchSource,
    count: u64,
    device: &Device,
) -> Result<Evaluation, EvaluateError> {
    evaluate_with(model, task, source, count, Answering::default(), device)
}

/// Like [`evaluate`], but finds answers as `answering` says.
///
/// # Errors
/// When [`evaluate`] fails; when the decoding is impossible; for constrained answers, when their encoding has no
/// grammar.
pub fn evaluate_with(
    model: &(impl Seq2Seq + Sync),
    task: &Task,
    source: &dyn BatchSource,
    count: u64,
    answering: Answering,
    device: &Device,
) -> Result<Evaluation, EvaluateError> {
    evaluate_measured(model, task, source, count, answering, CustomMetrics::default(), device)
}

/// Like [`evaluate_with`], with custom metrics in addition to the usual ones.
///
/// # Errors
/// When [`evaluate_with`] fails.
pub fn evaluate_measured(
    model: &(impl Seq2Seq + Sync),
    task: &Task,
    source: &dyn BatchSource,
    count: u64,
    answering: Answering,
    mut metrics: CustomMetrics,
    device: &Device,
) -> Result<Evaluation, EvaluateError> {
    let answerer = Answerer::new(model, task, answering)?;
    let examination = Examination { answerer: &answerer, source, count, device };
    examination.run(&mut metrics, &mut Watch::unwatched())
}

/// A check, during an evaluation, whether it should continue.
pub struct Watch<'a>(Option<&'a mut dyn FnMut() -> ControlFlow<()>>);

impl<'a> Watch<'a> {
    /// A watch that calls `ask`. A break ends the evaluation.
    pub fn new(ask: &'a mut dyn FnMut() -> ControlFlow<()>) -> Self {
        Self(Some(ask))
    }

    /// A watch for an evaluation that is never interrupted.
    #[must_use]
    pub fn unwatched() -> Self {
        Self(None)
    }

    /// Asks whether to continue. Call this about once a second.
    ///
    /// # Errors
    /// When the evaluation should end: [`EvaluateError::Interrupted`].
    pub fn check(&mut self) -> Result<(), EvaluateError> {
        match self.0.as_mut().map(|ask| ask()) {
            Some(ControlFlow::Break(())) => Err(EvaluateError::Interrupted),
            Some(ControlFlow::Continue(())) | None => Ok(()),
        }
    }
}

impl fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.0.is_some()).finish()
    }
}

/// A model, how it answers, and the examples that it is judged on.
pub(crate) struct Examination<'a, M> {
    pub(crate) answerer: &'a Answerer<'a, M>,
    pub(crate) source: &'a dyn BatchSource,
    pub(crate) count: u64,
    pub(crate) device: &'a Device,
}

impl<M: Seq2Seq + Sync> Examination<'_, M> {
    /// Judges the model. `custom` holds the metrics in addition to the usual ones.
    pub(crate) fn run(&self, custom: &mut CustomMetrics, watch: &mut Watch<'_>) -> Result<Evaluation, EvaluateError> {
        let mut metrics = EvaluationMetrics::default();
        let alone = custom.is_empty();
        let judge = |chunk| self.judge(chunk, alone);
        let judged = judge_chunks(self.source, self.count, self.device, watch, judge, |(part, answered)| {
            metrics.merge(&part);
            custom.update(&answered);
        });
        let judged = judged.and_then(|()| metrics.value().ok_or(EvaluateError::NothingToEvaluate));
        Ok(Evaluation { custom: custom.figures(), ..finite(judged, self.answerer.model(), self.source, self.device)? })
    }

    /// Judges the examples of one chunk. Their answers are also returned if they are needed.
    fn judge(&self, chunk: Chunk, alone: bool) -> Result<(EvaluationMetrics, Vec<Answered>), EvaluateError> {
        let (pairs, origins): (Vec<_>, Vec<_>) = chunk.examples.into_iter().unzip();
        let task = self.answerer.task();
        let answer = |ScoredBatch { first, pairs, cross_entropies }: ScoredBatch<'_>| {
            let first_index = chunk.first_index + first as u64;
            let limit = task.max_tgt_len();
            let answers = self.answerer.answers_to_scored(pairs, cross_entropies, first_index, limit, self.device)?;
            Ok::<_, EvaluateError>(answers.into_iter().map(Some).collect())
        };
        let scored = score_pairs(self.answerer.model(), &pairs, self.device, answer)?;
        let mut metrics = EvaluationMetrics::default();
        for ((pair, origin), scored) in pairs.iter().zip(&origins).zip(&scored) {
            metrics.update(&judged(task, pair, origin, scored)?);
        }
        let answered = pairs.iter().zip(&scored).filter(|_| !alone).map(|(pair, scored)| Answered::new(pair, scored));
        Ok((metrics, answered.collect()))
    }
}

/// Judges the first examples of a source, one chunk per thread; on a device one after another, as it does its work in the
/// order of a single thread. Results are processed in the order of the examples.
pub(crate) fn judge_chunks<J: Send>(
    source: &dyn BatchSource,
    count: u64,
    device: &Device,
    watch: &mut Watch<'_>,
    judge: impl Fn(Chunk) -> Result<J, EvaluateError> + Sync,
    mut take: impl FnMut(J),
) -> Result<(), EvaluateError> {
    if source.batch_size() == 0 {
        return Err(EvaluateError::NothingToEvaluate);
    }
    let at_once = if device.is_cpu() { rayon::current_num_threads() } else { 1 };
    let mut chunks = Chunks::of(source, count);
    loop {
        watch.check()?;
        let chunks: Vec<_> = chunks.by_ref().take(at_once).collect::<Result<_, _>>()?;
        if chunks.is_empty() {
            return Ok(());
        }
        let judged = if device.is_cpu() {
            chunks.into_par_iter().map(&judge).collect::<Vec<_>>()
        } else {
            chunks.into_iter().map(&judge).collect()
        };
        // Failures are also in order: the first one is reported.
        for part in judged {
            take(part?);
        }
    }
}

/// Returns the evaluation if the model gave finite numbers.
pub(crate) fn finite(
    judged: Result<Evaluation, EvaluateError>,
    model: &impl Seq2Seq,
    source: &dyn BatchSource,
    device: &Device,
) -> Result<Evaluation, EvaluateError> {
    match judged {
        Ok(Evaluation { cross_entropy: loss, .. }) if !loss.is_finite() => Err(EvaluateError::NoNumbers { loss }),
        // Scores that are NaN give no answers. The loss shows whether this is the cause.
        Err(EvaluateError::Model(error)) => {
            let batch = source.batch(0)?;
            let [src, tgt] = [TokenRows::from(&batch.src).padded(device)?, TokenRows::from(&batch.tgt).padded(device)?];
            let loss = f64::from(model.loss(&src, &tgt, Mode::Evaluate)?.to_scalar::<f32>()?);
            Err(if loss.is_finite() { EvaluateError::Model(error) } else { EvaluateError::NoNumbers { loss } })
        }
        judged => judged,
    }
}

/// Examples that are judged together.
pub(crate) struct Chunk {
    /// The index of the first example among all.
    pub(crate) first_index: u64,
    pub(crate) examples: Vec<(Pair, Origin)>,
}

/// The first examples of a source, in chunks of [`TOGETHER`].
struct Chunks<'s> {
    source: &'s dyn BatchSource,
    count: u64,
    /// The index of the first example of the next chunk.
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
    type Item = Result<Chunk, EvaluateError>;

    fn next(&mut self) -> Option<Self::Item> {
        let first_index = self.first_index;
        let size = (self.count - first_index).min(TOGETHER as u64);
        if size == 0 {
            return None;
        }
        while (self.waiting.len() as u64) < size {
            match self.source.batch(self.next_batch) {
                // A custom source may end.
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

/// The properties of an example apart from its tokens.
pub(crate) struct Origin {
    law: Option<usize>,
    rejected: u32,
}

fn example(batch: &Batch, row: usize) -> (Pair, Origin) {
    let pair = Pair { src: batch.src.row(row).to_vec(), tgt: batch.tgt.row(row).to_vec() };
    // A custom source may leave these lists empty.
    let law = batch.laws.get(row).copied().flatten();
    (pair, Origin { law, rejected: batch.rejected.get(row).copied().unwrap_or(0) })
}

fn judged(task: &Task, pair: &Pair, origin: &Origin, scored: &Scored) -> Result<EvaluationSample, EvaluateError> {
    let answer = scored.answer.as_ref().and_then(|answer| finished(&answer.hypothesis));
    Ok(EvaluationSample {
        judgement: task.judgement(&tokens_of(&pair.src), &tokens_of(&pair.tgt), answer.as_deref())?,
        law: origin.law.and_then(|law| task.laws().get(law).cloned()),
        is_exact: scored.is_exact(pair) == Some(true),
        cross_entropy: scored.cross_entropy,
        target_tokens: pair.target_tokens() as u64,
        rejected: origin.rejected,
    })
}
