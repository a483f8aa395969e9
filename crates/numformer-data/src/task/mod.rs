//! A task: from problems to examples in tokens, and back.

pub(crate) mod answer_analysis;
pub(crate) mod answer_grammar;
pub(crate) mod builder;
pub(crate) mod error;
pub(crate) mod example;
pub(crate) mod judgement;
pub(crate) mod repeated;
pub(crate) mod split;

use faer::{Mat, MatRef};
use numformer_encoding::{DenseMatrix, EncodeError, Layout, MatrixEncoding, TokenId, Vocabulary};
use numformer_metrics::Norm;
use numformer_problems::{Law, Problem, SolveError};
use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::task::error::{no_answer, unwritable, unwritable_solution};
use crate::{Example, Repeated, Split, TaskError};

/// The number of matrices drawn for one example before giving up. It is far beyond what any of the problems needs:
/// fewer than one in 1,000 uniform 5×5 matrices is too badly conditioned to be inverted.
const MAX_DRAWS: u32 = 1_000;

/// Problems on random matrices, with the encodings of inputs and answers.
///
/// Most tasks have one problem, made by [`Task::new`]. With several problems ([`Task::builder`]), one model learns them
/// all, and each sequence begins with the letter of its problem. All problems are written with one vocabulary. A
/// sequence is a matrix between two delimiters, such as `<s> V1 V1 + 150 E-2 <s>`.
///
/// A law draws the whole input. For a problem with two operands, such as `Addition`, these are the matrices `[A | B]`.
/// Unless the [builder](crate::TaskBuilder::with_vocabulary) chooses another vocabulary, it holds only the symbols of numbers
/// and dimensions that the task can write.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use numformer_data::{Split, Task};
/// use numformer_encoding::Positional;
/// use numformer_metrics::{Norm, Verdict};
/// use numformer_problems::{Transpose, UniformEntries};
///
/// let law = UniformEntries::new(2, 3, 10.0)?;
/// let task = Task::new(Transpose, law, Arc::new(Positional::p10()), Arc::new(Positional::p1000()))?;
/// assert_eq!((task.max_src_len(), task.max_tgt_len()), (2 + 2 + 6 * 5, 2 + 2 + 6 * 3));
///
/// let example = task.example(7, Split::Test, 0)?;
/// let perfect = &example.tgt[1..];
/// let judge = |hypothesis| task.judge(&example.src, &example.tgt, hypothesis, Norm::L1);
/// assert_eq!(judge(perfect)?, Verdict::Measured { error: 0.0 });
/// assert_eq!(judge(&perfect[1..])?, Verdict::Malformed);
///
/// // Any other answer, as tokens.
/// let mut zeros = Vec::new();
/// task.output_encoding().encode(3, 2, [0.0; 6], &mut zeros)?;
/// assert_eq!(judge(&zeros)?, Verdict::Measured { error: 1.0 });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Task {
    /// The problems.
    pub(crate) posed: Vec<Posed>,
    /// What examples are drawn from.
    pub(crate) parts: Vec<Part>,
    /// The names of their laws, each once.
    pub(crate) laws: Vec<String>,
    /// Standard deviation of the noise on inputs.
    pub(crate) noise: f64,
    /// Training examples that come again.
    pub(crate) repeated: Option<Repeated>,
    /// Encodings of input and answer, without task letters.
    pub(crate) encodings: [MatrixEncoding; 2],
    pub(crate) vocabulary: Vocabulary,
}

/// A problem with its encodings, which hold its letter.
#[derive(Debug)]
pub(crate) struct Posed {
    pub(crate) problem: Box<dyn Problem>,
    pub(crate) src: MatrixEncoding,
    pub(crate) tgt: MatrixEncoding,
}

/// One problem on one law of random matrices.
#[derive(Debug)]
pub(crate) struct Part {
    /// Index of the problem.
    pub(crate) problem: usize,
    pub(crate) law: Box<dyn Law>,
    /// Index of the law's name, if it has one.
    pub(crate) name: Option<usize>,
    /// The sum of the weights up to and including this part's.
    pub(crate) until: f64,
    /// The shape of the largest answer.
    pub(crate) output_shape: (usize, usize),
}

impl Task {
    /// The problems, in the order in which they were added.
    pub fn problems(&self) -> impl Iterator<Item = &dyn Problem> {
        self.posed.iter().map(|posed| &*posed.problem)
    }

    /// The names of the laws of random matrices that have one, in the order in which they were added, each once.
    #[must_use]
    pub fn laws(&self) -> &[String] {
        &self.laws
    }

    /// How answers are written, without delimiters and task letter.
    #[must_use]
    pub fn output_encoding(&self) -> &MatrixEncoding {
        &self.encodings[1]
    }

    /// The vocabulary of source and target.
    #[must_use]
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The number of tokens in the longest source sequence, including both delimiters.
    #[must_use]
    pub fn max_src_len(&self) -> usize {
        self.parts.iter().map(|part| self.src_len(part)).max().expect("a task has a part")
    }

    /// The number of tokens in the longest target sequence, including both delimiters.
    #[must_use]
    pub fn max_tgt_len(&self) -> usize {
        self.parts.iter().map(|part| self.tgt_len(part)).max().expect("a task has a part")
    }

    /// The number of tokens in the longest sequence, source or target, including both delimiters.
    #[must_use]
    pub fn max_len(&self) -> usize {
        self.max_src_len().max(self.max_tgt_len())
    }

    fn src_len(&self, part: &Part) -> usize {
        let (rows, columns) = part.law.max_shape();
        self.posed[part.problem].src.max_len(rows, columns) + 2
    }

    fn tgt_len(&self, part: &Part) -> usize {
        let (rows, columns) = part.output_shape;
        self.posed[part.problem].tgt.max_len(rows, columns) + 2
    }

    /// Example `index` of a split.
    ///
    /// It is a function of the task, the seed, the split and the index, and of nothing else. A matrix whose answer
    /// cannot be trusted or written, such as the inverse of a singular one, is drawn again.
    ///
    /// # Errors
    /// When no matrix drawn has an answer that can be written.
    pub fn example(&self, seed: u64, split: Split, index: u64) -> Result<Example, TaskError> {
        let mut example = Example::default();
        self.example_into(seed, split, index, &mut example)?;
        Ok(example)
    }

    /// Makes an example as [`example`](Self::example) does, in place. The old contents of `example` are lost, and its
    /// memory is reused.
    ///
    /// A loop that keeps `example` does not allocate once `example` has held the longest example, if the problem and
    /// the law do not allocate.
    ///
    /// # Errors
    /// When [`example`](Self::example) fails. The contents of `example` are unspecified then.
    pub fn example_into(&self, seed: u64, split: Split, index: u64, example: &mut Example) -> Result<(), TaskError> {
        let mut rng = self.generator(seed, split, index);
        let part = self.draw_part(&mut rng);
        self.make(part, &mut rng, example)
    }

    /// The generator that makes example `index` of a split, which may be that of an earlier training example.
    fn generator(&self, seed: u64, split: Split, index: u64) -> ChaCha8Rng {
        match self.repeated {
            Some(repeated) if split == Split::Train => split.generator(seed, repeated.example(seed, index)),
            _ => split.generator(seed, index),
        }
    }

    /// The example of a given input: its answer, and both as tokens. `problem` is the index of a problem of the task,
    /// from 0.
    ///
    /// # Errors
    /// When the input has no answer, or one of the two cannot be written.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use numformer_data::Task;
    /// use numformer_encoding::Positional;
    /// use numformer_problems::{Transpose, UniformEntries};
    ///
    /// let p1000 = Arc::new(Positional::p1000());
    /// let task = Task::new(Transpose, UniformEntries::new(1, 2, 10.0)?, p1000.clone(), p1000)?;
    /// let example = task.example_of(0, &"3 4".parse()?)?;
    /// assert_eq!(task.vocabulary().render(&example.tgt), "<s> V2 V1 + 300 E-2 + 400 E-2 <s>");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// If there is no such problem.
    pub fn example_of(&self, problem: usize, input: &DenseMatrix) -> Result<Example, TaskError> {
        let input = Mat::from_fn(input.rows, input.cols, |i, j| input.coefficients[i * input.cols + j]);
        let Posed { problem: posed, src, tgt } = &self.posed[problem];
        let output = posed.solve(input.as_ref()).map_err(|source| no_answer(posed, source))?;
        let mut example = Example { input, output, problem, ..Example::default() };
        self.write(src, &example.input, &mut example.src).map_err(|source| unwritable(posed, "input", source))?;
        self.write(tgt, &example.output, &mut example.tgt).map_err(|source| unwritable_solution(posed, source))?;
        Ok(example)
    }

    /// Makes an example of every problem on every law, to check that this is possible. Then draws more matrices, to
    /// check that the law suits the problem.
    ///
    /// # Errors
    /// When an example cannot be made ([`example`](Self::example) would give the same error). Also when less than a
    /// quarter of the matrices have an answer, or a matrix is not symmetric but must be, for the problem
    /// ([`TaskError::UnsuitableLaw`]) or for the layout ([`TaskError::Encode`]).
    pub fn try_every_law(&self, seed: u64) -> Result<(), TaskError> {
        let mut example = Example::default();
        let mut rng = Split::Train.generator(seed, 0);
        self.parts.iter().try_for_each(|part| {
            self.make(part, &mut rng, &mut example)?;
            self.require_suitable_law(part, &mut rng, &mut example)
        })
    }

    fn require_suitable_law(
        &self,
        part: &Part,
        rng: &mut impl RngCore,
        Example { input, output, src, .. }: &mut Example,
    ) -> Result<(), TaskError> {
        const DRAWN: u32 = 100;
        const ENOUGH: u32 = DRAWN / 4;
        let posed = &self.posed[part.problem];
        let problem = &posed.problem;
        let (mut drawn, mut solved, mut unsolved) = (0, 0, None);
        for _ in 0..DRAWN {
            part.law.sample_into(rng, input);
            drawn += 1;
            if let Some(source) = self.write(&posed.src, input, src).err().filter(is_of_layout) {
                return Err(unwritable(problem, "input", source));
            }
            match problem.solve_into(input.as_ref(), output) {
                Ok(()) => solved += 1,
                // Matrices that are symmetric by chance have few nonzero entries, if any. Nobody wants a law of such
                // matrices.
                Err(error @ SolveError::NotSymmetric { .. }) => {
                    unsolved = Some(error);
                    break;
                }
                // This is the fault of the machine and not of the law.
                Err(source @ SolveError::Processor { .. }) => return Err(no_answer(problem, source)),
                Err(error) => unsolved = Some(error),
            }
            if solved == ENOUGH {
                return Ok(());
            }
        }
        let Some(source) = unsolved else { return Ok(()) };
        let law = part.name.map_or_else(|| format!("{:?}", part.law), |name| format!("`{}`", self.laws[name]));
        Err(TaskError::UnsuitableLaw { law, problem: problem.name(), solved, drawn, source })
    }

    fn make(&self, part: &Part, mut rng: &mut impl RngCore, example: &mut Example) -> Result<(), TaskError> {
        let Posed { problem, src, tgt } = &self.posed[part.problem];
        example.problem = part.problem;
        example.law = part.name;
        example.rejected = 0;
        loop {
            part.law.sample_into(&mut rng, &mut example.input);
            let drawn = problem
                .solve_into(example.input.as_ref(), &mut example.output)
                .and_then(|()| problem.output_shape(example.input.shape()))
                .map_err(|source| no_answer(problem, source))
                .and_then(|expected| {
                    let found = example.output.shape();
                    if found != expected {
                        return Err(TaskError::AnswerShape { problem: problem.name(), expected, found });
                    }
                    self.add_noise(&mut rng, &mut example.input);
                    self.write(src, &example.input, &mut example.src)
                        .map_err(|source| unwritable(problem, "input", source))?;
                    self.write(tgt, &example.output, &mut example.tgt)
                        .map_err(|source| unwritable_solution(problem, source))
                });
            match drawn {
                // The law must be the same on every processor, so a matrix that this processor cannot solve is not
                // drawn again.
                Err(
                    TaskError::Solve { source: SolveError::Shape { .. } | SolveError::Processor { .. }, .. }
                    | TaskError::AnswerShape { .. },
                ) => return drawn,
                // The matrices that the layout has would be of another law.
                Err(TaskError::Encode { ref source, .. }) if is_of_layout(source) => return drawn,
                // Other matrices would not help, since the law is not at fault.
                Err(TaskError::AnswerNotFinite { .. }) if example.rejected + 1 == MAX_DRAWS => return drawn,
                Err(error) if example.rejected + 1 == MAX_DRAWS => {
                    return Err(TaskError::NoExample { draws: MAX_DRAWS, source: Box::new(error) });
                }
                Err(_) => example.rejected += 1,
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Draws a problem and a law of random matrices. For an example, they are drawn first.
    fn draw_part(&self, rng: &mut impl Rng) -> &Part {
        let [.., last] = &self.parts[..] else { unreachable!("a task has a part") };
        if self.parts.len() == 1 {
            return last;
        }
        let drawn = rng.random::<f64>() * last.until;
        let index = self.parts.partition_point(|part| part.until <= drawn);
        self.parts.get(index).unwrap_or(last)
    }

    fn add_noise(&self, rng: &mut impl Rng, matrix: &mut Mat<f64>) {
        if self.noise > 0.0 {
            for (i, j) in entries(matrix.shape()) {
                matrix[(i, j)] += self.noise * rng.sample::<f64, _>(StandardNormal);
            }
            let (rows, columns) = matrix.shape();
            let layout = self.encodings[0].layout();
            // A matrix that does not suit the layout is refused when it is written.
            if layout == Layout::LowerTriangle && layout.fits(rows, columns) {
                layout.entries(rows, columns).for_each(|(i, j)| matrix[(j, i)] = matrix[(i, j)]);
            }
        }
    }

    /// The greatest lengths of source and target of examples like this one, including delimiters. This is cheaper than
    /// making the example.
    pub(crate) fn lengths(&self, seed: u64, split: Split, index: u64) -> (usize, usize) {
        let part = self.draw_part(&mut self.generator(seed, split, index));
        (self.src_len(part), self.tgt_len(part))
    }

    /// Reads a source sequence, with or without delimiters: which problem it poses, and on which matrix.
    ///
    /// # Errors
    /// When it is not a matrix, or does not begin with the letter of a problem.
    pub fn read_src(&self, src: &[TokenId]) -> Result<(&dyn Problem, DenseMatrix), TaskError> {
        let (posed, input) = self.read_posed(src)?;
        Ok((&*posed.problem, input))
    }

    pub(crate) fn read_posed(&self, src: &[TokenId]) -> Result<(&Posed, DenseMatrix), TaskError> {
        let src = self.between_delimiters(src);
        let posed = self.posed_by(src);
        Ok((posed, posed.src.decode(src).map_err(TaskError::Source)?))
    }

    /// The problem whose letter begins a source that has no delimiters. If there is none, this is the first problem,
    /// whose encoding then says what is wrong.
    pub(crate) fn posed_by(&self, src: &[TokenId]) -> &Posed {
        &self.posed[self.problem_of(src)]
    }

    /// The index of that problem.
    pub(crate) fn problem_of(&self, src: &[TokenId]) -> usize {
        let letter = |posed: &Posed| posed.src.task_letter().is_some_and(|letter| src.first() == Some(&letter));
        self.posed.iter().position(letter).unwrap_or(0)
    }

    /// Reads a target sequence or a prediction, with or without delimiters, as an answer to a source.
    ///
    /// # Errors
    /// When either is not a matrix. The shape of the answer is not checked.
    pub fn read_tgt(&self, src: &[TokenId], tgt: &[TokenId]) -> Result<DenseMatrix, TaskError> {
        let (posed, _) = self.read_posed(src)?;
        posed.tgt.decode(self.between_delimiters(tgt)).map_err(TaskError::Target)
    }

    /// How far predicted tokens are from an answer to a source: 0 for an exact answer. The measure is the
    /// [residual](Problem::residual) of the problem, which needs no target. `None` if the problem has no residual, or
    /// the tokens are not a matrix of an answer's shape. Delimiters are optional.
    ///
    /// # Errors
    /// When `src` is not a matrix that its problem is posed on.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use numformer_data::Task;
    /// use numformer_encoding::Positional;
    /// use numformer_metrics::Norm;
    /// use numformer_problems::{Inversion, UniformEntries};
    ///
    /// let p10 = Arc::new(Positional::p10());
    /// let task = Task::new(Inversion::default(), UniformEntries::new(1, 1, 10.0)?, p10.clone(), p10)?;
    /// let tokens = |text| task.vocabulary().tokenize(text);
    /// let (four, quarter, third) = (tokens("V1 V1 + 4 E0")?, tokens("V1 V1 + 2 5 0 E-3")?, tokens("V1 V1 + 3 E-1")?);
    /// assert_eq!(task.residual(&four, &quarter, Norm::L1)?, Some(0.0));
    /// assert!(task.residual(&four, &third, Norm::L1)?.is_some_and(|residual| (residual - 0.2).abs() < 1e-12));
    /// assert_eq!(task.residual(&four, &third[1..], Norm::L1)?, None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn residual(&self, src: &[TokenId], hypothesis: &[TokenId], norm: Norm) -> Result<Option<f64>, TaskError> {
        let (Posed { problem, tgt, .. }, input) = self.read_posed(src)?;
        let expected = problem.output_shape((input.rows, input.cols)).map_err(|source| no_answer(problem, source))?;
        match tgt.decode(self.between_delimiters(hypothesis)) {
            Ok(candidate) if (candidate.rows, candidate.cols) == expected => {
                let residual = problem.residual(view(&input), view(&candidate), norm);
                residual.map_err(|source| no_answer(problem, source))
            }
            _ => Ok(None),
        }
    }

    /// Replaces `tokens` by those of a matrix, between delimiters.
    pub(crate) fn write(
        &self,
        encoding: &MatrixEncoding,
        matrix: &Mat<f64>,
        tokens: &mut Vec<TokenId>,
    ) -> Result<(), EncodeError> {
        let (rows, columns) = matrix.shape();
        let coefficients = entries((rows, columns)).map(|(i, j)| matrix[(i, j)]);
        tokens.clear();
        tokens.push(self.vocabulary.delimiter());
        encoding.encode(rows, columns, coefficients, tokens)?;
        tokens.push(self.vocabulary.delimiter());
        Ok(())
    }

    pub(crate) fn between_delimiters<'t>(&self, tokens: &'t [TokenId]) -> &'t [TokenId] {
        self.up_to_delimiter(tokens.strip_prefix(&[self.vocabulary.delimiter()]).unwrap_or(tokens))
    }

    pub(crate) fn up_to_delimiter<'t>(&self, tokens: &'t [TokenId]) -> &'t [TokenId] {
        let delimiter = self.vocabulary.delimiter();
        let end = tokens.iter().position(|token| *token == delimiter).unwrap_or(tokens.len());
        &tokens[..end]
    }
}

/// The indices of a matrix of this shape, in row-major order.
fn entries((rows, columns): (usize, usize)) -> impl Iterator<Item = (usize, usize)> {
    Layout::RowMajor.entries(rows, columns)
}

/// Whether a matrix cannot be written because it does not suit the layout.
fn is_of_layout(error: &EncodeError) -> bool {
    matches!(error, EncodeError::NotSymmetric { .. } | EncodeError::NotSquare { .. })
}

pub(crate) fn view(matrix: &DenseMatrix) -> MatRef<'_, f64> {
    MatRef::from_row_major_slice(&matrix.coefficients, matrix.rows, matrix.cols)
}

#[cfg(test)]
mod tests;
