//! Judging a model during training.

use std::fmt;
use std::sync::Arc;

use numformer_data::{BatchSource, Task};
use numformer_distributed::{Communicator, Solo};
use numformer_metrics::{Accuracy, Metric, WeightedMean};
use numformer_model::{Decoding, FlatLayout, Parameters, Seq2Seq, Unconstrained, Weights, generate};

use crate::answers::answering::Answering;
use crate::answers::pairs::{Batch as ScoredBatch, padded, score_pairs};
use crate::chunks::{Chunk, Chunks};
use crate::custom_metric::{Answered, CustomMetrics};
use crate::evaluate_error::EvaluateError;
use crate::evaluation::{Examination, finite};
use crate::evaluation_metrics::interval;
use crate::figures::Evaluation;
use crate::figures::figure::Better;
use crate::watch::Watch;

/// An evaluation of a model by its weights.
///
/// # Examples
/// A custom evaluation with a single figure:
/// ```
/// use numformer_evaluate::{Evaluate, EvaluateError, Evaluation, Figure, Watch};
/// use numformer_model::{FlatLayout, HostWeights, Weights};
///
/// struct LargestWeight;
///
/// impl Evaluate for LargestWeight {
///     fn evaluate(&mut self, weights: &mut dyn Weights, _watch: &mut Watch<'_>) -> Result<Evaluation, EvaluateError> {
///         let largest = weights.on_host()?.iter().fold(0f32, |largest, weight| largest.max(weight.abs()));
///         let figure = Figure::less_is_better(largest.into());
///         Ok(Evaluation { custom: [("largest weight".to_owned(), figure)].into(), ..Evaluation::default() })
///     }
/// }
///
/// let layout = FlatLayout::of_shapes([("bias".to_owned(), 2.into())]);
/// let mut weights = HostWeights::new(&layout, &[0.5, -2.0]);
/// let evaluation = LargestWeight.evaluate(&mut weights, &mut Watch::unwatched())?;
/// assert_eq!(evaluation.custom["largest weight"].value, 2.0);
/// # Ok::<(), EvaluateError>(())
/// ```
pub trait Evaluate: Send {
    /// Judges the model with these weights, on the host or on a device. A long evaluation should ask `watch` from time to
    /// time.
    ///
    /// # Errors
    /// When the model cannot be judged. [`EvaluateError::NoNumbers`] says that training diverged.
    fn evaluate(&mut self, weights: &mut dyn Weights, watch: &mut Watch<'_>) -> Result<Evaluation, EvaluateError>;
}

impl<E: Evaluate + ?Sized> Evaluate for Box<E> {
    fn evaluate(&mut self, weights: &mut dyn Weights, watch: &mut Watch<'_>) -> Result<Evaluation, EvaluateError> {
        (**self).evaluate(weights, watch)
    }
}

/// An evaluation of a model on the first examples of a source, of matrices or of any other sequences.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use candle_core::Device;
/// use numformer_data::{Split, Task};
/// use numformer_encoding::Positional;
/// use numformer_model::{Cell, FlatLayout, HostWeights, Parameters, Recurrent, RecurrentConfig};
/// use numformer_problems::{Transpose, UniformEntries};
/// use numformer_evaluate::{Evaluate, Evaluator, Watch};
///
/// let p1000 = Arc::new(Positional::p1000());
/// let task = Arc::new(Task::new(Transpose, UniformEntries::new(1, 2, 10.0)?, p1000.clone(), p1000)?);
/// let config = RecurrentConfig::new(Cell::Gru, task.vocabulary().len(), 8, 1);
/// let parameters = Parameters::random(0, &Device::Cpu);
/// let model = Recurrent::new(&config, &parameters.frozen())?;
/// let mut evaluator = Evaluator::new(model, &parameters, &task, task.batches(0, Split::Validation, 20), 20)?;
/// let (layout, weights) = (FlatLayout::new(&parameters)?, vec![0.01; parameters.element_count()]);
/// println!("{}", evaluator.evaluate(&mut HostWeights::new(&layout, &weights), &mut Watch::unwatched())?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Evaluator<M> {
    model: M,
    parameters: Parameters,
    judge: Judge,
    source: Arc<dyn BatchSource>,
    count: u64,
    custom: CustomMetrics,
    ranks: Arc<dyn Communicator>,
}

/// How answers are judged.
enum Judge {
    /// Answers are read as matrices.
    Task(Arc<Task>, Answering),
    /// Answers are compared token by token. They have at most this many tokens, including delimiters.
    Tokens { max_len: usize },
}

impl<M: Seq2Seq + Send + Sync> Evaluator<M> {
    /// Judges `model`, built on [`Parameters::frozen`] of `parameters`, on the first `count` examples of a task, as
    /// [`evaluate`](crate::evaluate) does. Each evaluation writes the weights that it is given into `parameters`, which
    /// may be those of the learner, too.
    ///
    /// # Errors
    /// When the model has no parameters.
    pub fn new(
        model: M,
        parameters: &Parameters,
        task: &Arc<Task>,
        source: impl BatchSource + 'static,
        count: u64,
    ) -> candle_core::Result<Self> {
        let judge = Judge::Task(Arc::clone(task), Answering::default());
        Self::by(judge, model, parameters, Arc::new(source), count)
    }

    /// Judges `model` on sequences that need not be matrices, by whether its answers, of at most `max_len` tokens with
    /// both delimiters, are exact.
    ///
    /// # Errors
    /// When the model has no parameters.
    pub fn of_tokens(
        model: M,
        parameters: &Parameters,
        source: impl BatchSource + 'static,
        count: u64,
        max_len: usize,
    ) -> candle_core::Result<Self> {
        Self::by(Judge::Tokens { max_len }, model, parameters, Arc::new(source), count)
    }

    fn by(
        judge: Judge,
        model: M,
        parameters: &Parameters,
        source: Arc<dyn BatchSource>,
        count: u64,
    ) -> candle_core::Result<Self> {
        // A model without parameters is a mistake that is best found here.
        FlatLayout::new(parameters)?;
        let (parameters, custom) = (parameters.clone(), CustomMetrics::default());
        Ok(Self { model, parameters, judge, source, count, custom, ranks: Arc::new(Solo) })
    }

    /// Sets how answers to a task are found, instead of by greedy decoding.
    #[must_use]
    pub fn with_answering(mut self, answering: Answering) -> Self {
        if let Judge::Task(_, own) = &mut self.judge {
            *own = answering;
        }
        self
    }

    /// Adds a custom metric, which starts as a copy of `metric` at each evaluation. It sees the examples in order.
    #[must_use]
    pub fn with_metric<S>(mut self, name: &str, better: Better, metric: S) -> Self
    where
        S: Metric<Sample = Answered, Value = f64> + Clone + Send + Sync + 'static,
    {
        self.custom.push(name, better, metric);
        self
    }

    /// Sets all custom metrics.
    #[must_use]
    pub fn with_metrics(self, metrics: CustomMetrics) -> Self {
        Self { custom: metrics, ..self }
    }

    /// Divides the work among ranks: see [`Examination::across`].
    #[must_use]
    pub fn across(self, ranks: Arc<dyn Communicator>) -> Self {
        Self { ranks, ..self }
    }

    fn evaluate_tokens(&self, max_len: usize, watch: &mut Watch<'_>) -> Result<Evaluation, EvaluateError> {
        let device = self.parameters.device();
        let judge = |Chunk { examples, .. }: Chunk| {
            let pairs: Vec<_> = examples.into_iter().map(|(pair, _)| pair).collect();
            let answer = |batch: ScoredBatch<'_>| {
                let sources = batch.pairs.iter().map(|pair| pair.src.as_slice());
                let src = padded(sources, self.model.padding_id(), device)?;
                let found = generate(&self.model, &src, 0, max_len, &Decoding::Greedy, &Unconstrained)?;
                Ok::<_, EvaluateError>(found.into_iter().map(|answers| answers.into_iter().next()).collect())
            };
            let scored = score_pairs(&self.model, &pairs, device, answer)?;
            let answered = pairs.iter().zip(&scored).map(|(pair, scored)| {
                (Answered::new(pair, scored), scored.is_exact(pair) == Some(true), pair.target_tokens() as u64)
            });
            Ok(answered.collect::<Vec<_>>())
        };
        let mut custom = self.custom.clone();
        let (mut exact, mut decodable) = (Accuracy::default(), Accuracy::default());
        let mut cross_entropy = WeightedMean::default();
        let chunks = Chunks { source: &*self.source, count: self.count, device, ranks: &*self.ranks };
        let judged = chunks.judge(watch, judge, |answers: Vec<(Answered, bool, u64)>| {
            for (answered, is_exact, tokens) in answers {
                exact.update(&is_exact);
                decodable.update(&answered.answer.is_some());
                cross_entropy.update(&(answered.cross_entropy, tokens));
                custom.update(std::slice::from_ref(&answered));
            }
        });
        let evaluation = judged.and_then(|()| {
            let figures = || {
                Some(Evaluation {
                    count: exact.total,
                    exact: exact.value()?,
                    exact_interval: interval(&exact)?,
                    decodable: decodable.value()?,
                    decodable_interval: interval(&decodable)?,
                    cross_entropy: cross_entropy.value()?,
                    custom: custom.figures(),
                    ..Evaluation::default()
                })
            };
            figures().ok_or(EvaluateError::NothingToEvaluate)
        });
        finite(evaluation, &self.model, &*self.source, device)
    }
}

impl<M: Seq2Seq + Send + Sync> Evaluate for Evaluator<M> {
    fn evaluate(&mut self, weights: &mut dyn Weights, watch: &mut Watch<'_>) -> Result<Evaluation, EvaluateError> {
        weights.show(&self.parameters)?;
        match &self.judge {
            Judge::Task(task, answering) => {
                let examination = Examination::new(&*self.source, self.count, self.parameters.device())
                    .with_answering(*answering)
                    .with_metrics(self.custom.clone())
                    .across(&*self.ranks);
                examination.evaluate_watched(&self.model, task, watch)
            }
            Judge::Tokens { max_len } => self.evaluate_tokens(*max_len, watch),
        }
    }
}

impl<M> fmt::Debug for Evaluator<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evaluator").field("count", &self.count).field("custom", &self.custom).finish_non_exhaustive()
    }
}
