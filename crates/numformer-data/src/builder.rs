//! Putting a task together.

use std::sync::Arc;

use numformer_encoding::{EncodeError, MatrixEncoding, NumberEncoding, Vocabulary};
use numformer_problems::{Ensemble, Problem};
use serde::{Deserialize, Serialize};

use crate::TaskError;
use crate::task::{Part, Posed, Task, no_answer, unwritable};

/// Magnitudes below this share of the largest are not given symbols in a compact vocabulary, and are written as zero.
/// A coefficient of a random matrix is smaller about once in 10¹⁸ draws.
const NEGLIGIBLE: f64 = 1e-18;

/// Noise beyond so many standard deviations is redrawn: a normal variable is beyond them once in 10¹⁵ draws.
const NOISE_REACH: f64 = 8.0;

/// Which symbols a task's vocabulary holds.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VocabularyKind {
    /// Only what the task can write, as [`Vocabulary::compact`] orders it. Magnitudes below 10⁻¹⁸ of the largest are
    /// written as zero where that saves symbols.
    #[default]
    Compact,
    /// All that the reference program holds, id for id, as its checkpoints need it: [`Vocabulary::reference`].
    Reference,
}

/// Puts a [`Task`] together: one problem or several, on random matrices of one shape or several.
///
/// # Examples
/// One model learns two problems, each on matrices of mixed dimensions, from noisy inputs:
/// ```
/// use std::sync::Arc;
/// use numformer_data::{Split, Task};
/// use numformer_encoding::Positional;
/// use numformer_problems::{Addition, Ensemble, Transpose, UniformEntries};
///
/// let square = |n| Ok::<_, numformer_problems::EnsembleError>(Box::new(UniformEntries::new(n, n, 10.0)?) as _);
/// let pairs = |n| Ok::<_, numformer_problems::EnsembleError>(Box::new(UniformEntries::new(n, 2 * n, 10.0)?) as _);
/// let p1000 = Arc::new(Positional::p1000());
/// let task = Task::builder(p1000.clone(), p1000)
///     .with_problem(Transpose, 1.0, vec![square(2)?, square(3)?])
///     .with_problem(Addition, 3.0, vec![pairs(2)?])
///     .with_task_letters()
///     .with_noise(0.01)
///     .build()?;
/// let source = task.vocabulary().render(&task.example(7, Split::Train, 0)?.src);
/// assert_eq!(source, "<s> A V2 V4 - 668 E-3 - 988 E-2 - 397 E-2 - 228 E-2 - 327 E-2 - 289 E-2 - 612 E-2 + 208 E-2 <s>");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TaskBuilder {
    input: Arc<dyn NumberEncoding>,
    output: Arc<dyn NumberEncoding>,
    problems: Vec<(Box<dyn Problem>, f64, Vec<Box<dyn Ensemble>>)>,
    task_letters: bool,
    noise: f64,
    vocabulary: VocabularyKind,
}

impl TaskBuilder {
    pub(crate) fn new(input: Arc<dyn NumberEncoding>, output: Arc<dyn NumberEncoding>) -> Self {
        let vocabulary = VocabularyKind::default();
        Self { input, output, problems: Vec::new(), task_letters: false, noise: 0.0, vocabulary }
    }

    /// Adds a problem. An example is of this problem with a probability proportional to `weight`, and then on a matrix
    /// of one of the ensembles, each as likely as the others.
    ///
    /// Both may be boxed trait objects.
    #[must_use]
    pub fn with_problem(
        mut self,
        problem: impl Problem + 'static,
        weight: f64,
        ensembles: Vec<Box<dyn Ensemble>>,
    ) -> Self {
        self.problems.push((Box::new(problem), weight, ensembles));
        self
    }

    /// Begins every matrix with the letter of its problem ([`Problem::task_letter`]). Needed as soon as there are two
    /// problems, for the model to tell them apart.
    #[must_use]
    pub fn with_task_letters(mut self) -> Self {
        self.task_letters = true;
        self
    }

    /// Adds independent normal noise of this standard deviation to every entry of the input, after the answer was
    /// computed.
    #[must_use]
    pub fn with_noise(mut self, standard_deviation: f64) -> Self {
        self.noise = standard_deviation;
        self
    }

    /// Chooses the symbols of the vocabulary.
    #[must_use]
    pub fn with_vocabulary(mut self, kind: VocabularyKind) -> Self {
        self.vocabulary = kind;
        self
    }

    /// The task.
    ///
    /// # Errors
    /// If there is no problem, or there are two and no task letters; if a weight or the noise is not a number that can
    /// be used; if a problem is not posed on the largest matrices of its ensembles; if there are no tokens for their
    /// shape, for that of their answers or for their largest entry.
    pub fn build(self) -> Result<Task, TaskError> {
        let largest = self.survey()?;
        let (input, output) = match self.vocabulary {
            VocabularyKind::Reference => (self.input, self.output),
            VocabularyKind::Compact => {
                (restricted(&self.input, largest.input_entry), restricted(&self.output, largest.output_entry))
            }
        };
        let letters: Vec<&str> = self.problems.iter().map(|(problem, ..)| problem.task_letter()).collect();
        let letters = if self.task_letters { letters } else { Vec::new() };
        let vocabulary = match self.vocabulary {
            VocabularyKind::Reference => Vocabulary::reference(&*input, &*output),
            VocabularyKind::Compact => Vocabulary::compact(&*input, &*output, largest.dimension, &letters)?,
        };
        let (src, tgt) = (MatrixEncoding::new(input, &vocabulary)?, MatrixEncoding::new(output, &vocabulary)?);

        let (mut posed, mut parts, mut total) = (Vec::new(), Vec::new(), 0.0);
        for (index, (problem, weight, ensembles)) in self.problems.into_iter().enumerate() {
            let (mut src, mut tgt) = (src.clone(), tgt.clone());
            if let Some(letter) = letters.get(index) {
                src = src.with_task_letter(letter)?;
                tgt = tgt.with_task_letter(letter)?;
            }
            let share = weight / ensembles.len() as f64;
            for ensemble in ensembles {
                let shape = ensemble.max_shape();
                let output_shape = problem.output_shape(shape).map_err(|source| no_answer(&problem, source))?;
                for (matrix, encoding, shape) in [("input", &src, shape), ("answer", &tgt, output_shape)] {
                    require_shape(encoding, shape).map_err(|source| unwritable(&problem, matrix, source))?;
                }
                if let Some(bound) = ensemble.bound() {
                    src.number().round(bound).map_err(|source| unwritable(&problem, "input", source))?;
                }
                total += share;
                parts.push(Part { problem: index, ensemble, until: total, output_shape });
            }
            posed.push(Posed { problem, src, tgt });
        }
        Ok(Task { posed, parts, noise: self.noise, vocabulary })
    }

    /// Checks problems, weights and noise, and finds the largest of what is to be written.
    fn survey(&self) -> Result<Largest, TaskError> {
        if !(self.noise.is_finite() && self.noise >= 0.0) {
            return Err(TaskError::Noise { found: self.noise });
        }
        if self.problems.len() > 1 && !self.task_letters {
            let names = self.problems.iter().map(|(problem, ..)| problem.name()).collect();
            return Err(TaskError::NoTaskLetters { problems: names });
        }
        let mut largest = Largest { dimension: 0, input_entry: Some(0.0), output_entry: Some(0.0) };
        for (problem, weight, ensembles) in &self.problems {
            if !(weight.is_finite() && *weight > 0.0) {
                return Err(TaskError::Weight { problem: problem.name(), found: *weight });
            }
            for ensemble in ensembles {
                let shape = ensemble.max_shape();
                let output_shape = problem.output_shape(shape).map_err(|source| no_answer(problem, source))?;
                for dimension in [shape.0, shape.1, output_shape.0, output_shape.1] {
                    largest.dimension = largest.dimension.max(dimension);
                }
                let entry = ensemble.bound();
                let answer = entry.and_then(|entry| problem.output_bound(shape, entry));
                let noisy = entry.map(|entry| entry + NOISE_REACH * self.noise);
                largest.input_entry = largest.input_entry.zip(noisy).map(|(a, b)| a.max(b));
                largest.output_entry = largest.output_entry.zip(answer).map(|(a, b)| a.max(b));
            }
        }
        if largest.dimension == 0 {
            return Err(TaskError::NoProblem);
        }
        // Beyond that there are no tokens in either vocabulary; the shape at fault is named later.
        largest.dimension = largest.dimension.min(Vocabulary::MAX_DIMENSION);
        Ok(largest)
    }
}

/// The largest of what a task writes; entries are `None` without a bound.
struct Largest {
    dimension: usize,
    input_entry: Option<f64>,
    output_entry: Option<f64>,
}

/// The encoding without the symbols that are not needed for entries up to `largest`.
fn restricted(encoding: &Arc<dyn NumberEncoding>, largest: Option<f64>) -> Arc<dyn NumberEncoding> {
    let restricted = largest.and_then(|largest| encoding.restricted(NEGLIGIBLE * largest..=largest));
    restricted.unwrap_or_else(|| Arc::clone(encoding))
}

/// Checks that there are dimension tokens for matrices of this shape.
fn require_shape(encoding: &MatrixEncoding, (rows, cols): (usize, usize)) -> Result<(), EncodeError> {
    let max = encoding.max_dimension();
    let range = 1..=max;
    if range.contains(&rows) && range.contains(&cols) { Ok(()) } else { Err(EncodeError::Shape { max, rows, cols }) }
}
