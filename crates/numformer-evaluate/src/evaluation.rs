//! Judging a model on a fixed set of examples.

use std::fmt;

use candle_core::Device;
use numformer_data::{BatchSource, Task};
use numformer_distributed::{Communicator, CommunicatorError, Solo};
use numformer_metrics::Metric;
use numformer_model::{Mode, Seq2Seq, TokenRows};

use crate::answers::answering::{Answerer, Answering};
use crate::answers::pairs::{Batch as ScoredBatch, Pair, Scored, finished, score_pairs, tokens_of};
use crate::chunks::{Chunk, Chunks, Origin};
use crate::custom_metric::{Answered, CustomMetrics};
use crate::evaluate_error::EvaluateError;
use crate::evaluation_metrics::{EvaluationMetrics, EvaluationSample};
use crate::figures::Evaluation;
use crate::watch::Watch;

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
    Examination::new(source, count, device).evaluate(model, task)
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
    Examination::new(source, count, device).with_answering(answering).evaluate(model, task)
}

/// The examples that a model is judged on, and how.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use candle_core::Device;
/// use numformer_data::{Split, Task};
/// use numformer_distributed::Solo;
/// use numformer_encoding::Positional;
/// use numformer_evaluate::Examination;
/// use numformer_model::{Cell, Parameters, Recurrent, RecurrentConfig};
/// use numformer_problems::{Transpose, UniformEntries};
///
/// let p1000 = Arc::new(Positional::p1000());
/// let task = Arc::new(Task::new(Transpose, UniformEntries::new(1, 2, 10.0)?, p1000.clone(), p1000)?);
/// let config = RecurrentConfig::new(Cell::Gru, task.vocabulary().len(), 8, 1);
/// let model = Recurrent::new(&config, &Parameters::random(0, &Device::Cpu).frozen())?;
/// let source = task.batches(0, Split::Test, 64);
/// let examination = Examination::new(&source, 100, &Device::Cpu).across(&Solo);
/// assert_eq!(examination.evaluate(&model, &task)?.count, 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Examination<'a> {
    source: &'a dyn BatchSource,
    count: u64,
    device: &'a Device,
    answering: Answering,
    metrics: CustomMetrics,
    ranks: &'a dyn Communicator,
}

impl<'a> Examination<'a> {
    /// The first `count` examples of a source, for a model on `device`. Answers are found by greedy decoding.
    #[must_use]
    pub fn new(source: &'a dyn BatchSource, count: u64, device: &'a Device) -> Self {
        let (answering, metrics) = (Answering::default(), CustomMetrics::default());
        Self { source, count, device, answering, metrics, ranks: &Solo }
    }

    /// Sets how answers are found.
    #[must_use]
    pub fn with_answering(self, answering: Answering) -> Self {
        Self { answering, ..self }
    }

    /// Sets the metrics in addition to the usual ones, each in its state before the first example.
    #[must_use]
    pub fn with_metrics(self, metrics: CustomMetrics) -> Self {
        Self { metrics, ..self }
    }

    /// Divides the examples among ranks, all of which must have the same model and call [`evaluate`](Self::evaluate).
    /// The figures, the same on all ranks, are those of one rank to the last bit.
    #[must_use]
    pub fn across(self, ranks: &'a dyn Communicator) -> Self {
        Self { ranks, ..self }
    }

    /// Judges a model.
    ///
    /// # Errors
    /// When [`evaluate_with`] fails, or another rank does.
    pub fn evaluate(self, model: &(impl Seq2Seq + Sync), task: &Task) -> Result<Evaluation, EvaluateError> {
        self.evaluate_watched(model, task, &mut Watch::unwatched())
    }

    pub(crate) fn evaluate_watched(
        self,
        model: &(impl Seq2Seq + Sync),
        task: &Task,
        watch: &mut Watch<'_>,
    ) -> Result<Evaluation, EvaluateError> {
        let Self { source, count, device, answering, metrics: mut custom, ranks } = self;
        let answerer = Answerer::new(model, task, answering)?;
        let mut metrics = EvaluationMetrics::default();
        let alone = custom.is_empty();
        let judge = |chunk| judge(&answerer, chunk, alone, device);
        let chunks = Chunks { source, count, device, ranks };
        let judged = chunks.judge(watch, judge, |(part, answered): (EvaluationMetrics, Vec<Answered>)| {
            metrics.merge(&part);
            custom.update(&answered);
        });
        let judged = judged.and_then(|()| metrics.value().ok_or(EvaluateError::NothingToEvaluate));
        Ok(Evaluation { custom: custom.figures(), ..finite(judged, model, source, device)? })
    }
}

impl fmt::Debug for Examination<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, answering, metrics, ranks, .. } = self;
        let mut shown = f.debug_struct("Examination");
        shown.field("count", count).field("answering", answering).field("metrics", metrics).field("ranks", ranks);
        shown.finish_non_exhaustive()
    }
}

/// Judges the examples of one chunk. Their answers are also returned if they are needed.
fn judge(
    answerer: &Answerer<'_, impl Seq2Seq + Sync>,
    chunk: Chunk,
    alone: bool,
    device: &Device,
) -> Result<(EvaluationMetrics, Vec<Answered>), EvaluateError> {
    let (pairs, origins): (Vec<_>, Vec<_>) = chunk.examples.into_iter().unzip();
    let task = answerer.task();
    let answer = |ScoredBatch { first, pairs, cross_entropies }: ScoredBatch<'_>| {
        let first_index = chunk.first_index + first as u64;
        let limit = task.max_tgt_len();
        let answers = answerer.answers_to_scored(pairs, cross_entropies, first_index, limit, device)?;
        Ok::<_, EvaluateError>(answers.into_iter().map(Some).collect())
    };
    let scored = score_pairs(answerer.model(), &pairs, device, answer)?;
    let mut metrics = EvaluationMetrics::default();
    for ((pair, origin), scored) in pairs.iter().zip(&origins).zip(&scored) {
        metrics.update(&judged(task, pair, origin, scored)?);
    }
    let answered = pairs.iter().zip(&scored).filter(|_| !alone).map(|(pair, scored)| Answered::new(pair, scored));
    Ok((metrics, answered.collect()))
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
        // Scores that are NaN give no answers. The loss shows whether this is the cause, here or on another rank.
        Err(error @ (EvaluateError::Model(_) | EvaluateError::Ranks(CommunicatorError::OtherRank { .. }))) => {
            let batch = source.batch(0)?;
            let [src, tgt] = [TokenRows::from(&batch.src).padded(device)?, TokenRows::from(&batch.tgt).padded(device)?];
            let loss = f64::from(model.loss(&src, &tgt, Mode::Evaluate)?.to_scalar::<f32>()?);
            Err(if loss.is_finite() { error } else { EvaluateError::NoNumbers { loss } })
        }
        judged => judged,
    }
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
