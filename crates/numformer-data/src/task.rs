//! A task: from problems to examples in tokens, and from predicted tokens to a verdict.

use std::sync::Arc;

use faer::{Mat, MatRef};
use numformer_encoding::{DenseMatrix, EncodeError, MatrixEncoding, NumberEncoding, TokenId, Vocabulary};
use numformer_metrics::{Norm, Verdict};
use numformer_problems::{Ensemble, Problem, SolveError};
use rand::{Rng, RngCore};
use rand_distr::StandardNormal;

use crate::{Example, RecordError, Split, TaskBatches, TaskBuilder, TaskError};

/// The number of matrices drawn for one example before giving up. It is far beyond what any of the problems needs:
/// fewer than one in 1,000 uniform 5×5 matrices is too badly conditioned to be inverted.
const MAX_DRAWS: u32 = 1_000;

/// Problems on random matrices, with the encodings of inputs and answers.
///
/// Most tasks have one problem, made by [`Task::new`]. With several problems ([`Task::builder`]), one model learns them
/// all, and each sequence begins with the letter of its problem. All problems are written with one vocabulary. A
/// sequence is a matrix between two delimiters, such as `<s> V1 V1 + 150 E-2 <s>`.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use numformer_data::{Split, Task};
/// use numformer_encoding::Positional;
/// use numformer_metrics::{Norm, Verdict};
/// use numformer_problems::{Transpose, UniformEntries};
///
/// let ensemble = UniformEntries::new(2, 3, 10.0)?;
/// let task = Task::new(Transpose, ensemble, Arc::new(Positional::p10()), Arc::new(Positional::p1000()))?;
/// assert_eq!((task.max_src_len(), task.max_tgt_len()), (2 + 2 + 6 * 5, 2 + 2 + 6 * 3));
///
/// let example = task.example(7, Split::Test, 0)?;
/// let perfect = &example.tgt[1..];
/// let judge = |hypothesis| task.judge(&example.src, &example.tgt, hypothesis, Norm::L1);
/// assert_eq!(judge(perfect)?, Verdict::Measured { error: 0.0 });
/// assert_eq!(judge(&perfect[1..])?, Verdict::Malformed);
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
    pub(crate) ensemble: Box<dyn Ensemble>,
    /// Index of the law's name, if it has one.
    pub(crate) law: Option<usize>,
    /// The sum of the weights up to and including this part's.
    pub(crate) until: f64,
    /// The shape of the largest answer.
    pub(crate) output_shape: (usize, usize),
}

impl Task {
    /// A task with one problem and one ensemble. Its inputs are matrices of `ensemble`, written with the encoding
    /// `input`. Its answers are those of `problem`, written with the encoding `output`.
    ///
    /// The problem and the ensemble may be boxed trait objects.
    ///
    /// # Errors
    /// When [`TaskBuilder::build`] fails.
    pub fn new(
        problem: impl Problem + 'static,
        ensemble: impl Ensemble + 'static,
        input: Arc<dyn NumberEncoding>,
        output: Arc<dyn NumberEncoding>,
    ) -> Result<Self, TaskError> {
        Self::builder(input, output).with_problem(problem, 1.0, vec![Box::new(ensemble)]).build()
    }

    /// A builder of a task with several problems or ensembles, or with options, that is written with these encodings.
    #[must_use]
    pub fn builder(input: Arc<dyn NumberEncoding>, output: Arc<dyn NumberEncoding>) -> TaskBuilder {
        TaskBuilder::new(input, output)
    }

    /// The problems, in the order in which they were added.
    pub fn problems(&self) -> impl Iterator<Item = &dyn Problem> {
        self.posed.iter().map(|posed| &*posed.problem)
    }

    /// The names of the laws of random matrices that have one, in the order in which they were added, each once.
    #[must_use]
    pub fn laws(&self) -> &[String] {
        &self.laws
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

    fn src_len(&self, part: &Part) -> usize {
        let (rows, columns) = part.ensemble.max_shape();
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
    /// the ensemble do not allocate.
    ///
    /// # Errors
    /// When [`example`](Self::example) fails. The contents of `example` are unspecified then.
    pub fn example_into(&self, seed: u64, split: Split, index: u64, example: &mut Example) -> Result<(), TaskError> {
        let mut rng = split.generator(seed, index);
        let part = self.draw_part(&mut rng);
        self.make(part, &mut rng, example)
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
    /// quarter of the matrices have an answer, or a matrix is not symmetric but must be ([`TaskError::UnsuitableLaw`]).
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
        Example { input, output, .. }: &mut Example,
    ) -> Result<(), TaskError> {
        const DRAWN: u32 = 100;
        const ENOUGH: u32 = DRAWN / 4;
        let problem = &self.posed[part.problem].problem;
        let (mut drawn, mut solved, mut unsolved) = (0, 0, None);
        for _ in 0..DRAWN {
            part.ensemble.sample_into(rng, input);
            drawn += 1;
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
        let law = part.law.map_or_else(|| format!("{:?}", part.ensemble), |law| format!("`{}`", self.laws[law]));
        Err(TaskError::UnsuitableLaw { law, problem: problem.name(), solved, drawn, source })
    }

    fn make(&self, part: &Part, mut rng: &mut impl RngCore, example: &mut Example) -> Result<(), TaskError> {
        let Posed { problem, src, tgt } = &self.posed[part.problem];
        example.problem = part.problem;
        example.law = part.law;
        example.rejected = 0;
        loop {
            part.ensemble.sample_into(&mut rng, &mut example.input);
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
        }
    }

    /// The greatest lengths of source and target of examples like this one, including delimiters. This is cheaper than
    /// making the example.
    pub(crate) fn lengths(&self, seed: u64, split: Split, index: u64) -> (usize, usize) {
        let part = self.draw_part(&mut split.generator(seed, index));
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
    fn posed_by(&self, src: &[TokenId]) -> &Posed {
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

    /// Judges predicted tokens in one norm, which is a part of the [`judgement`](Self::judgement).
    ///
    /// # Errors
    /// When [`judgement`](Self::judgement) fails.
    pub fn judge(
        &self,
        src: &[TokenId],
        tgt: &[TokenId],
        hypothesis: &[TokenId],
        norm: Norm,
    ) -> Result<Verdict, TaskError> {
        Ok(self.judgement(src, tgt, Some(hypothesis))?.verdict(norm))
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

    /// Checks that two sequences, delimiters included, are an input and a matrix of the shape of its answer, and that
    /// neither is longer than those the task makes.
    pub(crate) fn check_pair(&self, src: &[TokenId], tgt: &[TokenId]) -> Result<(), RecordError> {
        // A delimiter inside a sequence would end it for any reader.
        let [inner_src, inner_tgt] = [src, tgt].map(|sequence| &sequence[1..sequence.len() - 1]);
        // If a sequence cannot be read, its symbols say more than its length, since it may be longer in another
        // encoding.
        let within = |which, sequence: &[TokenId], limit| match sequence.len() {
            found if found > limit => Err(RecordError::TooLong { which, limit, found }),
            _ => Ok(()),
        };
        let posed = self.posed_by(inner_src);
        let input = posed.src.decode(inner_src).map_err(TaskError::Source)?;
        within("source", src, self.max_src_len())?;
        let target = posed.tgt.decode(inner_tgt).map_err(TaskError::Target)?;
        within("target", tgt, self.max_tgt_len())?;
        let expected = posed.problem.output_shape((input.rows, input.cols));
        let expected = expected.map_err(|source| no_answer(&posed.problem, source))?;
        let found = (target.rows, target.cols);
        if found == expected { Ok(()) } else { Err(TaskError::TargetShape { expected, found }.into()) }
    }

    /// The sequences of an input and an answer that are given as lists of rows. The problem may be left out if there is
    /// only one.
    pub(crate) fn write_pair(
        &self,
        problem: Option<&str>,
        src: &[Vec<f64>],
        tgt: &[Vec<f64>],
    ) -> Result<(Vec<TokenId>, Vec<TokenId>), RecordError> {
        let posed = match (problem, &self.posed[..]) {
            (None, [only]) => Some(only),
            (name, posed) => posed.iter().find(|posed| Some(posed.problem.name()) == name),
        };
        let Some(Posed { problem, src: src_encoding, tgt: tgt_encoding }) = posed else {
            let known = self.problems().map(Problem::name).collect();
            return Err(RecordError::Problem { known, found: problem.map(str::to_owned) });
        };
        let write = |which, matrix, encoding, rows: &[Vec<f64>]| {
            let columns = rows.first().map_or(0, Vec::len);
            if let Some(row) = rows.iter().find(|row| row.len() != columns) {
                return Err(RecordError::Ragged { which, first: columns, found: row.len() });
            }
            let mut tokens = Vec::new();
            let dense = Mat::from_fn(rows.len(), columns, |i, j| rows[i][j]);
            self.write(encoding, &dense, &mut tokens).map_err(|source| unwritable(problem, matrix, source))?;
            Ok(tokens)
        };
        Ok((write("source", "input", src_encoding, src)?, write("target", "answer", tgt_encoding, tgt)?))
    }

    /// The batches of a split, with `batch_size` examples each. The batches are empty if that is 0.
    #[must_use]
    pub fn batches(self: &Arc<Self>, seed: u64, split: Split, batch_size: usize) -> TaskBatches {
        TaskBatches::new(Arc::clone(self), seed, split, batch_size)
    }

    /// Replaces `tokens` by those of a matrix, between delimiters.
    fn write(
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
    (0..rows).flat_map(move |i| (0..columns).map(move |j| (i, j)))
}

pub(crate) fn view(matrix: &DenseMatrix) -> MatRef<'_, f64> {
    MatRef::from_row_major_slice(&matrix.coefficients, matrix.rows, matrix.cols)
}

pub(crate) fn no_answer(problem: &impl Problem, source: SolveError) -> TaskError {
    TaskError::Solve { problem: problem.name(), source }
}

pub(crate) fn unwritable(problem: &impl Problem, matrix: &'static str, source: EncodeError) -> TaskError {
    TaskError::Encode { matrix, problem: problem.name(), source }
}

/// Why a solver's answer cannot be written.
fn unwritable_solution(problem: &impl Problem, source: EncodeError) -> TaskError {
    match source {
        EncodeError::Coefficient { row, column, value, .. } if !value.is_finite() => {
            TaskError::AnswerNotFinite { problem: problem.name(), row, column, value }
        }
        source => unwritable(problem, "answer", source),
    }
}

#[cfg(test)]
mod tests {
    use faer::mat;
    use numformer_encoding::Positional;
    use numformer_problems::{Eigenvalues, EnsembleError, Inversion, LowRank, Rank, Transpose, UniformEntries};
    use rand::RngCore;

    use super::*;
    use crate::VocabularyKind;

    /// States one shape and answers in another.
    #[derive(Debug)]
    struct Contradictory;

    impl Problem for Contradictory {
        fn name(&self) -> &'static str {
            "transpose"
        }
        fn task_letter(&self) -> &'static str {
            "X"
        }
        fn output_shape(&self, _: (usize, usize)) -> Result<(usize, usize), SolveError> {
            Ok((1, 1))
        }
        fn solve_into(&self, _: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
            *output = Mat::zeros(1, 2);
            Ok(())
        }
    }

    #[test]
    fn an_answer_of_another_shape_is_told_at_once() {
        let p1000 = Arc::new(Positional::p1000());
        let task = Task::new(Contradictory, UniformEntries::new(2, 2, 10.0).unwrap(), p1000.clone(), p1000).unwrap();
        let error = task.try_every_law(0).unwrap_err();
        let expected = "the solver of the problem `transpose` must give 1x1 answers, as output_shape says, found 1x2";
        assert_eq!(error.to_string(), expected);
    }

    /// Divides by zero and answers with the result.
    #[derive(Debug)]
    struct Reciprocal;

    impl Problem for Reciprocal {
        fn name(&self) -> &'static str {
            "reciprocal of each entry"
        }
        fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
            Ok(input)
        }
        fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
            *output = Mat::from_fn(input.nrows(), input.ncols(), |i, j| 1.0 / input[(i, j)]);
            Ok(())
        }
    }

    #[test]
    fn a_solver_that_gives_what_is_not_finite_is_blamed() {
        let task = task(Reciprocal, Always(mat![[2.0, 0.0]], Some(2.0))).unwrap();
        let expected = "the solver of the problem `reciprocal of each entry` must give finite answers or an error, \
                        found inf in row 1, column 2";
        assert_eq!(task.example(0, Split::Train, 0).unwrap_err().to_string(), expected);
        assert_eq!(task.example_of(0, &"2 0".parse().unwrap()).unwrap_err().to_string(), expected);
    }

    #[test]
    fn the_letter_that_does_not_suit_a_vocabulary_is_named() {
        let p1000 = Arc::new(Positional::p1000());
        let law = || vec![Box::new(UniformEntries::new(2, 2, 10.0).unwrap()) as Box<dyn Ensemble>];
        let builder = || Task::builder(p1000.clone(), p1000.clone()).with_task_letters();
        let reciprocal = || builder().with_problem(Reciprocal, 1.0, law());
        let room = builder().with_problem(Transpose, 1.0, law()).with_room_for(&reciprocal()).unwrap();
        for builder in [reciprocal(), room, reciprocal().with_vocabulary(VocabularyKind::Reference)] {
            let error = builder.build().unwrap_err();
            let expected = "expected a task letter that the vocabulary can hold, found `reciprocal of each entry` for \
                            the problem `reciprocal of each entry`";
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn a_law_of_magnitudes_that_cannot_be_is_refused() {
        for bound in [f64::NAN, -1.0, f64::INFINITY] {
            let error = task(Transpose, Always(mat![[2.0]], Some(bound))).unwrap_err();
            assert!(error.to_string().starts_with("the law Always("), "{error}");
            let TaskError::Law { source, .. } = error else { panic!("{error}") };
            assert!(matches!(*source, EnsembleError::Bound { .. }), "{source}");
        }
    }

    #[test]
    fn a_law_that_does_not_suit_a_problem_is_refused() {
        let task = |problem: Box<dyn Problem>, law: Box<dyn Ensemble>| {
            let p1000 = Arc::new(Positional::p1000());
            let builder = Task::builder(p1000.clone(), p1000);
            builder.with_named_laws(problem, 1.0, vec![("a law".to_owned(), law)]).build().unwrap()
        };
        let low_rank = || Box::new(LowRank::new(5, 5, 10.0).unwrap());
        let uniform = || Box::new(UniformEntries::new(5, 5, 10.0).unwrap());
        // Almost all symmetric matrices of this law are zero.
        for n in 2..=5 {
            let law = Box::new(LowRank::new(n, n, 10.0).unwrap());
            let error = task(Box::new(Eigenvalues), law).try_every_law(0).unwrap_err();
            let is_expected = matches!(error, TaskError::UnsuitableLaw { source: SolveError::NotSymmetric { .. }, .. });
            assert!(is_expected, "{error}");
            assert!(error.to_string().starts_with("the law `a law` does not suit the problem `eigenvalues`: of "));
        }
        let error = task(Box::<Inversion>::default(), low_rank()).try_every_law(0).unwrap_err();
        assert!(matches!(error, TaskError::UnsuitableLaw { source: SolveError::Singular { .. }, .. }), "{error}");

        assert_eq!(task(Box::new(Rank), low_rank()).try_every_law(0), Ok(()));
        assert_eq!(task(Box::<Inversion>::default(), uniform()).try_every_law(0), Ok(()));
    }

    #[test]
    fn figures_need_problems_of_different_names() {
        let p1000 = Arc::new(Positional::p1000());
        let law = || vec![Box::new(UniformEntries::new(2, 2, 10.0).unwrap()) as Box<dyn Ensemble>];
        let builder = Task::builder(p1000.clone(), p1000).with_task_letters();
        let two = builder.with_problem(Transpose, 1.0, law()).with_problem(Contradictory, 1.0, law());
        assert_eq!(two.build().unwrap_err(), TaskError::SameName { problem: "transpose" });
    }

    /// A law that always draws this matrix.
    #[derive(Debug)]
    struct Always(Mat<f64>, Option<f64>);

    impl Ensemble for Always {
        fn sample_into(&self, _: &mut dyn RngCore, matrix: &mut Mat<f64>) {
            matrix.clone_from(&self.0);
        }

        fn max_shape(&self) -> (usize, usize) {
            self.0.shape()
        }

        fn bound(&self) -> Option<f64> {
            self.1
        }
    }

    /// Stacks a square matrix on top of its double.
    #[derive(Debug)]
    struct Stack;

    impl Problem for Stack {
        fn name(&self) -> &'static str {
            "stack"
        }

        fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
            let (rows, columns) = input;
            if rows != columns {
                return Err(SolveError::Shape { expected: "a square matrix", found: input });
            }
            Ok((2 * rows, columns))
        }

        fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
            let (rows, columns) = self.output_shape(input.shape())?;
            *output = Mat::from_fn(rows, columns, |i, j| match i.checked_sub(input.nrows()) {
                None => input[(i, j)],
                Some(i) => 2.0 * input[(i, j)],
            });
            Ok(())
        }
    }

    fn task(problem: impl Problem + 'static, ensemble: impl Ensemble + 'static) -> Result<Task, TaskError> {
        Task::new(problem, ensemble, Arc::new(Positional::p1000()), Arc::new(Positional::p10()))
    }

    fn transpose_2x3() -> Task {
        task(Transpose, UniformEntries::new(2, 3, 10.0).unwrap()).unwrap()
    }

    #[test]
    fn values_are_stable() {
        let task = transpose_2x3();
        let rendered = [0, 1].map(|index| {
            let example = task.example(7, Split::Train, index).unwrap();
            [&example.src, &example.tgt].map(|tokens| task.vocabulary().render(tokens))
        });
        assert_eq!(
            rendered,
            [
                [
                    "<s> V2 V3 + 528 E-2 - 681 E-3 - 989 E-2 - 397 E-2 - 228 E-2 - 327 E-2 <s>",
                    "<s> V3 V2 + 5 2 8 E-2 - 3 9 7 E-2 - 6 8 1 E-3 - 2 2 8 E-2 - 9 8 9 E-2 - 3 2 7 E-2 <s>",
                ],
                [
                    "<s> V2 V3 + 869 E-2 - 437 E-2 + 926 E-2 + 592 E-2 + 609 E-2 + 896 E-3 <s>",
                    "<s> V3 V2 + 8 6 9 E-2 + 5 9 2 E-2 - 4 3 7 E-2 + 6 0 9 E-2 + 9 2 6 E-2 + 8 9 6 E-3 <s>",
                ],
            ]
        );
    }

    #[test]
    fn tokens_are_those_of_input_and_answer_between_delimiters() {
        let task = task(Stack, Always(mat![[1.0, -2.5], [0.0, 3.146]], None)).unwrap();
        let example = task.example(0, Split::Train, 0).unwrap();
        assert_eq!(example.output, mat![[1.0, -2.5], [0.0, 3.146], [2.0, -5.0], [0.0, 6.292]]);
        let render = |tokens| task.vocabulary().render(tokens);
        assert_eq!(render(&example.src), "<s> V2 V2 + 100 E-2 - 250 E-2 + 0 E0 + 315 E-2 <s>");
        assert_eq!(
            render(&example.tgt),
            "<s> V4 V2 + 1 0 0 E-2 - 2 5 0 E-2 + 0 E0 + 3 1 5 E-2 + 2 0 0 E-2 - 5 0 0 E-2 + 0 E0 + 6 2 9 E-2 <s>"
        );
        assert_eq!((task.max_src_len(), task.max_tgt_len()), (2 + 2 + 4 * 3, 2 + 2 + 8 * 5));
    }

    #[test]
    fn an_example_depends_on_seed_split_and_index_alone() {
        let (task, again) = (transpose_2x3(), transpose_2x3());
        let mut seen: Vec<Example> = Vec::new();
        for seed in [0, 1] {
            for split in [Split::Train, Split::Validation, Split::Test] {
                for index in [0, 1, u64::MAX] {
                    let example = task.example(seed, split, index).unwrap();
                    assert_eq!(again.example(seed, split, index).unwrap(), example);
                    assert!(seen.iter().all(|other| other.src != example.src), "{seed} {split} {index}");
                    seen.push(example);
                }
            }
        }
    }

    #[test]
    fn a_used_buffer_gives_the_same_example() {
        let small = transpose_2x3();
        let large = task(Transpose, UniformEntries::new(5, 4, 1.0).unwrap()).unwrap();
        let mut buffer = large.example(1, Split::Test, 9).unwrap();
        small.example_into(7, Split::Train, 4, &mut buffer).unwrap();
        assert_eq!(buffer, small.example(7, Split::Train, 4).unwrap());
    }

    #[test]
    fn problems_and_ensembles_may_be_chosen_at_run_time() {
        let problem: Box<dyn Problem> = Box::new(Transpose);
        let ensemble: Box<dyn Ensemble> = Box::new(UniformEntries::new(2, 3, 10.0).unwrap());
        let boxed = task(problem, ensemble).unwrap();
        assert_eq!(boxed.problems().map(Problem::name).collect::<Vec<_>>(), ["transpose"]);
        assert_eq!(boxed.example(7, Split::Train, 0), transpose_2x3().example(7, Split::Train, 0));
    }

    #[test]
    fn a_task_without_tokens_or_answers_is_refused() {
        let error = task(Stack, UniformEntries::new(2, 3, 10.0).unwrap()).unwrap_err();
        let source = SolveError::Shape { expected: "a square matrix", found: (2, 3) };
        assert_eq!(error, TaskError::Solve { problem: "stack", source });

        let error = task(Stack, UniformEntries::new(51, 51, 10.0).unwrap()).unwrap_err();
        let source = EncodeError::Shape { max: 100, rows: 102, cols: 51 };
        assert_eq!(error, TaskError::Encode { matrix: "answer", problem: "stack", source });

        let error = task(Transpose, Always(Mat::zeros(101, 1), None)).unwrap_err();
        let source = EncodeError::Shape { max: 100, rows: 101, cols: 1 };
        assert_eq!(error, TaskError::Encode { matrix: "input", problem: "transpose", source });

        let error = task(Transpose, UniformEntries::new(2, 3, 1e200).unwrap()).unwrap_err();
        assert!(matches!(error, TaskError::Encode { matrix: "input", source: EncodeError::TooLarge { .. }, .. }));
    }

    #[test]
    fn an_example_that_cannot_be_written_names_the_coefficient() {
        let error =
            task(Transpose, Always(mat![[1.0, f64::NAN]], None)).unwrap().example(0, Split::Train, 0).unwrap_err();
        let TaskError::NoExample { draws: 1_000, source } = error else { panic!("{error:?}") };
        assert_eq!(source.to_string(), "the input of the problem `transpose` cannot be written");
        let TaskError::Encode { source: EncodeError::Coefficient { row, column, .. }, .. } = *source else {
            panic!("{source:?}");
        };
        assert_eq!((row, column), (1, 2));
    }

    #[test]
    fn predictions_are_judged() {
        let task = transpose_2x3();
        let tokens = |text: &str| task.vocabulary().tokenize(text).unwrap();
        let src = tokens("<s> V2 V1 + 300 E-2 - 100 E-2 <s>");
        let tgt = tokens("<s> V1 V2 + 3 0 0 E-2 - 1 0 0 E-2 <s>");
        let verdict = |hypothesis: &str| task.judge(&src, &tgt, &tokens(hypothesis), Norm::L1).unwrap();

        let exact = Verdict::Measured { error: 0.0 };
        assert_eq!(verdict("V1 V2 + 3 0 0 E-2 - 1 0 0 E-2 <s>"), exact);
        // This happens at the limit of length, or if the caller cuts the answer.
        assert_eq!(verdict("V1 V2 + 3 0 0 E-2 - 1 0 0 E-2"), exact);
        // The same numbers in other words.
        assert_eq!(verdict("V1 V2 + 3 E0 - 0 1 E0 <s>"), exact);
        // What follows the delimiter does not matter.
        assert_eq!(verdict("V1 V2 + 3 0 0 E-2 - 1 0 0 E-2 <s> <pad> + <s>"), exact);
        assert_eq!(verdict("V1 V2 + 3 0 0 E-2 - 2 0 0 E-2 <s>"), Verdict::Measured { error: 0.25 });
        assert_eq!(
            verdict("V2 V1 + 3 0 0 E-2 - 1 0 0 E-2 <s>"),
            Verdict::WrongShape { expected: (1, 2), found: (2, 1) }
        );
        for malformed in [
            "",
            "<s>",
            "<s> V1 V2 + 3 0 0 E-2 - 1 0 0 E-2 <s>",
            "V1 V2 + 3 0 0 E-2 <s>",
            "V1 V2 + 3 0 0 E-2 - 1 0 0 E-2 + <s>",
            "V1 V2 + 3 0 0 E-2 - 1 0 0 E-2 <pad>",
            "V1 V2 + 300 E-2 - 100 E-2 <s>",
        ] {
            assert_eq!(verdict(malformed), Verdict::Malformed, "{malformed}");
        }
        assert_eq!(task.judge(&src, &tgt, &[TokenId(u32::MAX)], Norm::L1), Ok(Verdict::Malformed));
    }

    #[test]
    fn predictions_are_measured_in_the_norm_asked_for() {
        let task = transpose_2x3();
        let tokens = |text: &str| task.vocabulary().tokenize(text).unwrap();
        let (src, hypothesis) = (tokens("<s> V1 V2 + 3 E0 + 4 E0 <s>"), tokens("V2 V1 + 3 E0 + 3 E0 <s>"));
        let tgt = tokens("V2 V1 + 3 E0 + 4 E0");
        for (norm, error) in [(Norm::L1, 1.0 / 7.0), (Norm::Frobenius, 0.2), (Norm::Max, 0.25)] {
            assert_eq!(task.judge(&src, &tgt, &hypothesis, norm), Ok(Verdict::Measured { error }));
        }
    }

    /// The model never saw what rounding took away.
    #[test]
    fn predictions_are_compared_with_the_rounded_answer() {
        let task = task(Stack, Always(mat![[3.146]], None)).unwrap();
        let Example { src, tgt, .. } = task.example(0, Split::Test, 0).unwrap();
        let judge = |text| task.judge(&src, &tgt, &task.vocabulary().tokenize(text).unwrap(), Norm::L1);
        assert_eq!(judge("V2 V1 + 3 1 5 E-2 + 6 2 9 E-2 <s>"), Ok(Verdict::Measured { error: 0.0 }));
        assert_ne!(judge("V2 V1 + 3 1 5 E-2 + 6 3 0 E-2 <s>"), Ok(Verdict::Measured { error: 0.0 }));
    }

    #[test]
    fn what_cannot_be_judged_is_an_error() {
        let task = task(Stack, UniformEntries::new(2, 2, 10.0).unwrap()).unwrap();
        let tokens = |text: &str| task.vocabulary().tokenize(text).unwrap();
        let judge = |src: &str, tgt: &str| task.judge(&tokens(src), &tokens(tgt), &tokens("V1 V1 + 1 E0"), Norm::L1);
        let answer = "V2 V1 + 1 E0 + 2 E0";
        assert!(matches!(judge("<s> V1 V1 + <s>", answer), Err(TaskError::Source(_))));
        assert!(matches!(judge("V1 V1 + 1 E0", "V2 V1 + 1 E0"), Err(TaskError::Target(_))));
        let shapes = TaskError::TargetShape { expected: (2, 1), found: (1, 1) };
        assert_eq!(judge("V1 V1 + 1 E0", "V1 V1 + 1 E0"), Err(shapes));
        let source = SolveError::Shape { expected: "a square matrix", found: (1, 2) };
        assert_eq!(judge("<s> V1 V2 + 1 E0 + 1 E0 <s>", answer), Err(TaskError::Solve { problem: "stack", source }));
    }
}
