//! Putting a task together.

use std::sync::Arc;

use numformer_encoding::{Layout, MatrixEncoding, NumberEncoding, Vocabulary, VocabularyError};
use numformer_problems::{Law, Magnitudes, Problem};
use serde::{Deserialize, Serialize};

use crate::task::error::{no_answer, unwritable};
use crate::task::{Part, Posed};
use crate::{Repeated, Task, TaskError};

/// The vocabulary has room for noise of this many standard deviations, which a normal variable exceeds once in 10¹⁵
/// draws. A matrix that cannot be written is drawn again.
const NOISE_REACH: f64 = 8.0;

/// Which symbols a task's vocabulary holds.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VocabularyKind {
    /// Only the symbols that the task can write, in the order of [`Vocabulary::compact`]. Examples have the same
    /// symbols with both kinds of vocabulary.
    #[default]
    Compact,
    /// All symbols of the reference program, id for id, as its checkpoints need them: [`Vocabulary::reference`].
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
/// use numformer_problems::{Addition, Law, Transpose, UniformEntries};
///
/// let square = |n| Ok::<_, numformer_problems::LawError>(Box::new(UniformEntries::new(n, n, 10.0)?) as _);
/// let pairs = |n| Ok::<_, numformer_problems::LawError>(Box::new(UniformEntries::new(n, 2 * n, 10.0)?) as _);
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
    problems: Vec<Choice>,
    task_letters: bool,
    layout: Layout,
    noise: f64,
    repeated: Option<Repeated>,
    /// The encodings and the vocabulary of another task.
    written_as: Option<([MatrixEncoding; 2], Vocabulary)>,
    vocabulary: VocabularyKind,
    /// What the vocabulary must hold beyond the task's own needs.
    room: Option<Extent>,
    room_letters: Vec<Letter>,
}

/// A problem, how often it is posed, and on what.
#[derive(Debug)]
struct Choice {
    problem: Box<dyn Problem>,
    weight: f64,
    laws: Vec<(Option<String>, Box<dyn Law>)>,
}

impl Choice {
    fn letter(&self) -> Letter {
        Letter { letter: self.problem.task_letter(), problem: self.problem.name() }
    }
}

/// The letter of a problem.
#[derive(Copy, Clone, Debug)]
struct Letter {
    letter: &'static str,
    problem: &'static str,
}

impl Letter {
    /// The error of a vocabulary that cannot have this letter, or does not have it.
    fn unfit(self, source: VocabularyError) -> TaskError {
        TaskError::TaskLetter { letter: self.letter, problem: self.problem, source }
    }
}

impl Task {
    /// A task with one problem and one law. Its inputs are matrices of `law`, written with the encoding
    /// `input`. Its answers are those of `problem`, written with the encoding `output`.
    ///
    /// The problem and the law may be boxed trait objects.
    ///
    /// # Errors
    /// When [`TaskBuilder::build`] fails.
    pub fn new(
        problem: impl Problem + 'static,
        law: impl Law + 'static,
        input: Arc<dyn NumberEncoding>,
        output: Arc<dyn NumberEncoding>,
    ) -> Result<Self, TaskError> {
        Self::builder(input, output).with_problem(problem, 1.0, vec![Box::new(law)]).build()
    }

    /// A builder of a task with several problems or laws, or with options, that is written with these encodings.
    #[must_use]
    pub fn builder(input: Arc<dyn NumberEncoding>, output: Arc<dyn NumberEncoding>) -> TaskBuilder {
        TaskBuilder::new(input, output)
    }
}

impl TaskBuilder {
    fn new(input: Arc<dyn NumberEncoding>, output: Arc<dyn NumberEncoding>) -> Self {
        let vocabulary = VocabularyKind::default();
        Self {
            input,
            output,
            problems: Vec::new(),
            task_letters: false,
            layout: Layout::default(),
            noise: 0.0,
            repeated: None,
            written_as: None,
            vocabulary,
            room: None,
            room_letters: Vec::new(),
        }
    }

    /// Adds a problem. An example has this problem with a probability proportional to `weight`. Its matrix then comes
    /// from one of the laws, which are all equally likely.
    ///
    /// The problem and the laws may be boxed trait objects.
    #[must_use]
    pub fn with_problem(self, problem: impl Problem + 'static, weight: f64, laws: Vec<Box<dyn Law>>) -> Self {
        let laws = laws.into_iter().map(|law| (None, law)).collect();
        self.with_choice(Choice { problem: Box::new(problem), weight, laws })
    }

    /// Adds a problem as [`with_problem`](Self::with_problem) does, but with named laws of random matrices. Each
    /// example knows its law, so that results can be reported law by law. Laws with the same name, such as one law in
    /// several dimensions, are reported together.
    #[must_use]
    pub fn with_named_laws(
        self,
        problem: impl Problem + 'static,
        weight: f64,
        laws: Vec<(String, Box<dyn Law>)>,
    ) -> Self {
        let laws = laws.into_iter().map(|(name, law)| (Some(name), law)).collect();
        self.with_choice(Choice { problem: Box::new(problem), weight, laws })
    }

    fn with_choice(mut self, choice: Choice) -> Self {
        self.problems.push(choice);
        self
    }

    /// Begins every matrix with the letter of its problem ([`Problem::task_letter`]). This is required if there are
    /// several problems, so that the model can tell them apart.
    #[must_use]
    pub fn with_task_letters(mut self) -> Self {
        self.task_letters = true;
        self
    }

    /// Adds independent normal noise of this standard deviation to every entry of the input, after the answer has been
    /// computed; to every entry of the lower triangle if [that](Self::with_input_layout) is written.
    #[must_use]
    pub fn with_noise(mut self, standard_deviation: f64) -> Self {
        self.noise = standard_deviation;
        self
    }

    /// Repeats some training examples, as `repeated` says. Those of other splits all come once.
    #[must_use]
    pub fn with_repeated(mut self, repeated: Repeated) -> Self {
        self.repeated = Some(repeated);
        self
    }

    /// Writes examples as another task does, with its encodings, its vocabulary and, if it has them, its task letters.
    /// This is for a model that has learned that task and is to be judged on other matrices. Matrices that the
    /// vocabulary has no tokens for are drawn again and counted as rejected.
    #[must_use]
    pub fn written_as(mut self, other: &Task) -> Self {
        self.task_letters = other.posed[0].src.task_letter().is_some();
        self.written_as = Some((other.encodings.clone(), other.vocabulary.clone()));
        self
    }

    /// Makes the vocabulary large enough for what `other` writes, too. This is for a model that learns this task and
    /// then the other one, which is [written as](Self::written_as) this one.
    ///
    /// # Errors
    /// When [`build`](Self::build) fails for `other`.
    pub fn with_room_for(mut self, other: &Self) -> Result<Self, TaskError> {
        let needed = other.survey()?;
        self.room = Some(self.room.map_or(needed, |room| room.join(needed)));
        self.room_letters.extend(other.problems.iter().map(Choice::letter));
        Ok(self)
    }

    /// Writes inputs in this layout. In that of a lower triangle, inputs must be symmetric, and their noise is, too. A
    /// task that is [written as](Self::written_as) another has the layout of that one.
    #[must_use]
    pub fn with_input_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Chooses the symbols of the vocabulary.
    #[must_use]
    pub fn with_vocabulary(mut self, kind: VocabularyKind) -> Self {
        self.vocabulary = kind;
        self
    }

    /// Builds the task.
    ///
    /// # Errors
    /// When one of the following is true:
    /// - There is no problem, or there are several problems that do not each have their own name and letter.
    /// - A problem has no law.
    /// - A weight or the noise is not a usable number.
    /// - A problem is not posed on the largest matrices of its laws.
    /// - The layout is that of a lower triangle, and a law has matrices that are not square.
    /// - There are no tokens for the shape of these matrices, for the shape of their answers or for their largest
    ///   entry.
    pub fn build(self) -> Result<Task, TaskError> {
        let is_fixed = self.written_as.is_some();
        let lettered = if self.task_letters { &self.problems[..] } else { &[] };
        let letters: Vec<Letter> = lettered.iter().map(Choice::letter).collect();
        let own = self.survey()?;
        let largest = self.room.map_or(own, |room| room.join(own));
        let (encodings, vocabulary) = match self.written_as {
            Some(written_as) => written_as,
            None => {
                let (input, output) = match self.vocabulary {
                    VocabularyKind::Reference => (self.input, self.output),
                    VocabularyKind::Compact => {
                        (restricted(&self.input, largest.inputs), restricted(&self.output, largest.outputs))
                    }
                };
                let vocabulary = match self.vocabulary {
                    VocabularyKind::Reference => Vocabulary::reference(&*input, &*output),
                    VocabularyKind::Compact => {
                        let mut all = letters.clone();
                        for letter in self.room_letters.into_iter().filter(|_| self.task_letters) {
                            if !all.iter().any(|known| known.letter == letter.letter) {
                                all.push(letter);
                            }
                        }
                        compact(&*input, &*output, largest.dimension, &all)?
                    }
                };
                let bind = |number| MatrixEncoding::new(number, &vocabulary).map_err(TaskError::Vocabulary);
                ([bind(input)?.with_layout(self.layout), bind(output)?], vocabulary)
            }
        };
        let [src, tgt] = &encodings;

        let (mut posed, mut parts, mut names, mut total) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
        for (index, Choice { problem, weight, laws }) in self.problems.into_iter().enumerate() {
            let (mut src, mut tgt) = (src.clone(), tgt.clone());
            if let Some(letter) = letters.get(index) {
                let begin = |encoding: MatrixEncoding| {
                    encoding.with_task_letter(letter.letter).map_err(|source| letter.unfit(source))
                };
                (src, tgt) = (begin(src)?, begin(tgt)?);
            }
            let share = weight / laws.len() as f64;
            for (name, law) in laws {
                let shape = law.max_shape();
                let output_shape = problem.output_shape(shape).map_err(|source| no_answer(&problem, source))?;
                for (matrix, encoding, shape) in [("input", &src, shape), ("answer", &tgt, output_shape)] {
                    encoding.require_shape(shape.0, shape.1).map_err(|source| unwritable(&problem, matrix, source))?;
                }
                if let Some(bound) = law.bound().filter(|_| !is_fixed) {
                    src.number().round(bound).map_err(|source| unwritable(&problem, "input", source))?;
                }
                total += share;
                let name = name.map(|name| index_of(name, &mut names));
                parts.push(Part { problem: index, law, name, until: total, output_shape });
            }
            posed.push(Posed { problem, src, tgt });
        }
        Ok(Task { posed, parts, laws: names, noise: self.noise, repeated: self.repeated, encodings, vocabulary })
    }

    /// Checks that letters tell the problems apart.
    fn check_letters(&self) -> Result<(), TaskError> {
        let named: Vec<_> =
            self.problems.iter().map(|Choice { problem, .. }| (problem.name(), problem.task_letter())).collect();
        if named.len() > 1 && !self.task_letters {
            return Err(TaskError::NoTaskLetters { problems: named.into_iter().map(|(name, _)| name).collect() });
        }
        for (index, &(second, letter)) in named.iter().enumerate() {
            if named[..index].iter().any(|(first, earlier)| *first == second && *earlier != letter) {
                return Err(TaskError::SameName { problem: second });
            }
            if let Some(&(first, _)) = named[..index].iter().find(|(_, earlier)| *earlier == letter) {
                return Err(TaskError::SameLetter { letter, problems: [first, second] });
            }
        }
        Ok(())
    }

    /// Checks problems, weights and noise, and finds the largest of what is to be written.
    fn survey(&self) -> Result<Extent, TaskError> {
        if !(self.noise.is_finite() && self.noise >= 0.0) {
            return Err(TaskError::Noise { found: self.noise });
        }
        self.check_letters()?;
        // No entries at all.
        let none = Magnitudes { smallest: f64::INFINITY, largest: Some(0.0) };
        let mut largest = Extent { dimension: 0, inputs: none, outputs: none };
        if self.problems.is_empty() {
            return Err(TaskError::NoProblem);
        }
        let mut total = 0.0;
        for Choice { problem, weight, laws } in &self.problems {
            if !(weight.is_finite() && *weight > 0.0) {
                return Err(TaskError::Weight { problem: problem.name(), found: *weight });
            }
            total += weight;
            if laws.is_empty() {
                return Err(TaskError::NoLaw { problem: problem.name() });
            }
            for (name, law) in laws {
                let shape = law.max_shape();
                let output_shape = problem.output_shape(shape).map_err(|source| no_answer(problem, source))?;
                for dimension in [shape.0, shape.1, output_shape.0, output_shape.1] {
                    largest.dimension = largest.dimension.max(dimension);
                }
                let entries = Magnitudes::of(law).map_err(|source| {
                    let law = name.as_ref().map_or_else(|| format!("{law:?}"), |name| format!("`{name}`"));
                    TaskError::Law { law, problem: problem.name(), source: Box::new(source) }
                })?;
                largest.outputs = largest.outputs.join(problem.output_magnitudes(shape, entries));
                largest.inputs = largest.inputs.join(noisy(entries, self.noise));
            }
        }
        if !total.is_finite() {
            return Err(TaskError::Weight { problem: "all together", found: total });
        }
        // Beyond that, neither vocabulary has tokens. The shape at fault is reported later.
        largest.dimension = largest.dimension.min(Vocabulary::MAX_DIMENSION);
        Ok(largest)
    }
}

/// The index of a name in a list of distinct names. A new name is added.
fn index_of(name: String, names: &mut Vec<String>) -> usize {
    names.iter().position(|known| *known == name).unwrap_or_else(|| {
        names.push(name);
        names.len() - 1
    })
}

/// What a task writes: the largest dimension, and the magnitudes of entries.
#[derive(Clone, Copy, Debug)]
struct Extent {
    dimension: usize,
    inputs: Magnitudes,
    outputs: Magnitudes,
}

impl Extent {
    fn join(mut self, other: Self) -> Self {
        self.dimension = self.dimension.max(other.dimension);
        self.inputs = self.inputs.join(other.inputs);
        self.outputs = self.outputs.join(other.outputs);
        self
    }
}

/// The magnitudes of entries with noise of this standard deviation.
fn noisy(entries: Magnitudes, noise: f64) -> Magnitudes {
    let smallest = if noise > 0.0 { 0.0 } else { entries.smallest };
    Magnitudes { smallest, largest: entries.largest.map(|bound| bound + NOISE_REACH * noise) }
}

/// The smallest vocabulary with these letters. The error names the letter that cannot be a symbol of it.
fn compact(
    input: &dyn NumberEncoding,
    output: &dyn NumberEncoding,
    max_dimension: usize,
    letters: &[Letter],
) -> Result<Vocabulary, TaskError> {
    let symbols: Vec<&str> = letters.iter().map(|letter| letter.letter).collect();
    Vocabulary::compact(input, output, max_dimension, &symbols).map_err(|source| {
        let (VocabularyError::InvalidSymbol { symbol, .. } | VocabularyError::Duplicate { symbol, .. }) = &source
        else {
            return TaskError::Vocabulary(source);
        };
        match letters.iter().find(|letter| letter.letter == symbol) {
            Some(letter) => letter.unfit(source),
            None => TaskError::Vocabulary(source),
        }
    })
}

/// The encoding without the symbols that such entries do not need.
fn restricted(encoding: &Arc<dyn NumberEncoding>, entries: Magnitudes) -> Arc<dyn NumberEncoding> {
    let restricted = entries.largest.and_then(|largest| encoding.restricted(entries.smallest..=largest));
    restricted.unwrap_or_else(|| Arc::clone(encoding))
}
