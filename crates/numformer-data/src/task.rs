//! A task: from a problem to examples in tokens, and from predicted tokens to a verdict.

use std::sync::Arc;

use faer::{Mat, MatRef};
use numformer_encoding::{EncodeError, MatrixEncoding, NumberEncoding, TokenId, Vocabulary};
use numformer_metrics::{Norm, Verdict};
use numformer_problems::{Ensemble, Problem, SolveError};

use crate::{Example, Split, TaskBatches, TaskError};

/// A problem on random matrices, with the encodings of inputs and answers.
///
/// Inputs and answers are written with one vocabulary, that of the reference program
/// ([`Vocabulary::reference`]). A sequence is a matrix between two delimiters, `<s> V1 V1 + 150 E-2 <s>`.
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
/// assert_eq!(task.judge(&example.src, perfect, Norm::L1)?, Verdict::Measured { error: 0.0 });
/// assert_eq!(task.judge(&example.src, &perfect[1..], Norm::L1)?, Verdict::Malformed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Task {
    problem: Box<dyn Problem>,
    ensemble: Box<dyn Ensemble>,
    vocabulary: Vocabulary,
    src_encoding: MatrixEncoding,
    tgt_encoding: MatrixEncoding,
    max_output_shape: (usize, usize),
}

impl Task {
    /// The task of writing, with the encoding `output`, the answers of `problem` for matrices of `ensemble` written
    /// with the encoding `input`.
    ///
    /// Problem and ensemble may be boxed trait objects.
    ///
    /// # Errors
    /// If the symbols of the encodings do not make a vocabulary; if the problem is not posed on the largest matrices of
    /// the ensemble; if there are no tokens for their shape, for that of their answers or for their largest entry.
    pub fn new(
        problem: impl Problem + 'static,
        ensemble: impl Ensemble + 'static,
        input: Arc<dyn NumberEncoding>,
        output: Arc<dyn NumberEncoding>,
    ) -> Result<Self, TaskError> {
        let max_input_shape = ensemble.max_shape();
        let max_output_shape = problem.output_shape(max_input_shape).map_err(|source| no_answer(&problem, source))?;
        let vocabulary = Vocabulary::reference(&*input, &*output);
        let src_encoding = MatrixEncoding::new(input, &vocabulary)?;
        let tgt_encoding = MatrixEncoding::new(output, &vocabulary)?;
        for (matrix, encoding, shape) in
            [("input", &src_encoding, max_input_shape), ("answer", &tgt_encoding, max_output_shape)]
        {
            require_shape(encoding, shape).map_err(|source| unwritable(&problem, matrix, source))?;
        }
        if let Some(bound) = ensemble.bound() {
            src_encoding.number().round(bound).map_err(|source| unwritable(&problem, "input", source))?;
        }
        Ok(Self {
            problem: Box::new(problem),
            ensemble: Box::new(ensemble),
            vocabulary,
            src_encoding,
            tgt_encoding,
            max_output_shape,
        })
    }

    /// The problem.
    #[must_use]
    pub fn problem(&self) -> &dyn Problem {
        &*self.problem
    }

    /// The law of the inputs.
    #[must_use]
    pub fn ensemble(&self) -> &dyn Ensemble {
        &*self.ensemble
    }

    /// The vocabulary of source and target.
    #[must_use]
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The encoding of inputs.
    #[must_use]
    pub fn src_encoding(&self) -> &MatrixEncoding {
        &self.src_encoding
    }

    /// The encoding of answers.
    #[must_use]
    pub fn tgt_encoding(&self) -> &MatrixEncoding {
        &self.tgt_encoding
    }

    /// The tokens of the longest source sequence, both delimiters included.
    #[must_use]
    pub fn max_src_len(&self) -> usize {
        let (rows, columns) = self.ensemble.max_shape();
        self.src_encoding.max_len(rows, columns) + 2
    }

    /// The tokens of the longest target sequence, both delimiters included.
    #[must_use]
    pub fn max_tgt_len(&self) -> usize {
        let (rows, columns) = self.max_output_shape;
        self.tgt_encoding.max_len(rows, columns) + 2
    }

    /// Example `index` of a split.
    ///
    /// It is a function of the task, the seed, the split and the index, and of nothing else.
    ///
    /// # Errors
    /// If the problem has no answer for the input drawn, or input or answer cannot be written.
    pub fn example(&self, seed: u64, split: Split, index: u64) -> Result<Example, TaskError> {
        let mut example = Example::default();
        self.example_into(seed, split, index, &mut example)?;
        Ok(example)
    }

    /// As [`example`](Self::example), in place: what `example` held is lost, its memory is used again.
    ///
    /// A loop that keeps `example` does not allocate once it has held the longest example, if problem and ensemble do
    /// not.
    ///
    /// # Errors
    /// As [`example`](Self::example). What `example` holds is then unspecified.
    pub fn example_into(&self, seed: u64, split: Split, index: u64, example: &mut Example) -> Result<(), TaskError> {
        let Example { input, output, src, tgt } = example;
        self.ensemble.sample_into(&mut split.generator(seed, index), input);
        self.problem.solve_into(input.as_ref(), output).map_err(|source| no_answer(&self.problem, source))?;
        self.write(&self.src_encoding, input, src).map_err(|source| unwritable(&self.problem, "input", source))?;
        self.write(&self.tgt_encoding, output, tgt).map_err(|source| unwritable(&self.problem, "answer", source))
    }

    /// Judges predicted tokens.
    ///
    /// `src` and `tgt` are the sequences of an example, delimiters included. `hypothesis` is what a model wrote after the
    /// leading delimiter: it is read up to the first delimiter, or to the end if there is none. It is judged by what the
    /// tokens say, which the model saw, not by the matrices before rounding.
    ///
    /// A prediction that cannot be read is not an error but a verdict; [`tgt_encoding`](Self::tgt_encoding) says why it
    /// cannot.
    ///
    /// # Errors
    /// If `src` or `tgt` is not a matrix, or the problem is not posed on such an input.
    pub fn judge(
        &self,
        src: &[TokenId],
        tgt: &[TokenId],
        hypothesis: &[TokenId],
        norm: Norm,
    ) -> Result<Verdict, TaskError> {
        let expected =
            self.problem.output_shape((input.rows, input.cols)).map_err(|source| no_answer(&self.problem, source))?;
        let Ok(candidate) = self.tgt_encoding.decode(self.up_to_delimiter(hypothesis)) else {
            return Ok(Verdict::Malformed);
        };
        let found = (candidate.rows, candidate.cols);
        if found != expected {
            return Ok(Verdict::WrongShape { expected, found });
        }
        let input = MatRef::from_row_major_slice(&input.coefficients, input.rows, input.cols);
        let candidate = MatRef::from_row_major_slice(&candidate.coefficients, candidate.rows, candidate.cols);
        let error = self.problem.error(input, candidate, norm).map_err(|source| no_answer(&self.problem, source))?;
        Ok(Verdict::Measured { error })
    }

    /// The batches of a split, `batch_size` examples each; none if that is 0.
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
        let coefficients = (0..rows).flat_map(|i| (0..columns).map(move |j| matrix[(i, j)]));
        tokens.clear();
        tokens.push(self.vocabulary.delimiter());
        encoding.encode(rows, columns, coefficients, tokens)?;
        tokens.push(self.vocabulary.delimiter());
        Ok(())
    }

    fn up_to_delimiter<'t>(&self, tokens: &'t [TokenId]) -> &'t [TokenId] {
        let delimiter = self.vocabulary.delimiter();
        let end = tokens.iter().position(|token| *token == delimiter).unwrap_or(tokens.len());
        &tokens[..end]
    }
}

/// Checks that there are dimension tokens for matrices of this shape.
fn require_shape(encoding: &MatrixEncoding, (rows, cols): (usize, usize)) -> Result<(), EncodeError> {
    let max = encoding.max_dimension();
    let range = 1..=max;
    if range.contains(&rows) && range.contains(&cols) { Ok(()) } else { Err(EncodeError::Shape { max, rows, cols }) }
}

fn no_answer(problem: &impl Problem, source: SolveError) -> TaskError {
    TaskError::Solve { problem: problem.name(), source }
}

fn unwritable(problem: &impl Problem, matrix: &'static str, source: EncodeError) -> TaskError {
    TaskError::Encode { matrix, problem: problem.name(), source }
}

#[cfg(test)]
mod tests {
    use faer::mat;
    use numformer_encoding::Positional;
    use numformer_problems::{Transpose, UniformEntries};
    use rand::RngCore;

    use super::*;

    /// Always this matrix.
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
        assert_eq!(boxed.problem().name(), "transpose");
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
        assert_eq!(error.to_string(), "the input of the problem `transpose` cannot be written");
        let TaskError::Encode { source: EncodeError::Coefficient { row, column, .. }, .. } = error else {
            panic!("{error:?}");
        };
        assert_eq!((row, column), (1, 2));
    }

    #[test]
    fn predictions_are_judged() {
        let task = transpose_2x3();
        let tokens = |text: &str| task.vocabulary().tokenize(text).unwrap();
        let src = tokens("<s> V2 V1 + 300 E-2 - 100 E-2 <s>");
        let verdict = |hypothesis: &str| task.judge(&src, &tokens(hypothesis), Norm::L1).unwrap();

        let exact = Verdict::Measured { error: 0.0 };
        assert_eq!(verdict("V1 V2 + 3 0 0 E-2 - 1 0 0 E-2 <s>"), exact);
        // As at the limit of length, or cut by the caller.
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
        assert_eq!(task.judge(&src, &[TokenId(u32::MAX)], Norm::L1), Ok(Verdict::Malformed));
    }

    #[test]
    fn predictions_are_measured_in_the_norm_asked_for() {
        let task = transpose_2x3();
        let tokens = |text: &str| task.vocabulary().tokenize(text).unwrap();
        let (src, hypothesis) = (tokens("<s> V1 V2 + 3 E0 + 4 E0 <s>"), tokens("V2 V1 + 3 E0 + 3 E0 <s>"));
        for (norm, error) in [(Norm::L1, 1.0 / 7.0), (Norm::Frobenius, 0.2), (Norm::Max, 0.25)] {
            assert_eq!(task.judge(&src, &hypothesis, norm), Ok(Verdict::Measured { error }));
        }
    }

    /// The model never saw what rounding took away.
    #[test]
    fn the_answer_is_that_to_the_rounded_input() {
        let task = task(Stack, Always(mat![[3.146]], None)).unwrap();
        let src = task.example(0, Split::Test, 0).unwrap().src;
        let judge = |text| task.judge(&src, &task.vocabulary().tokenize(text).unwrap(), Norm::L1);
        assert_eq!(judge("V2 V1 + 3 1 5 E-2 + 6 3 0 E-2 <s>"), Ok(Verdict::Measured { error: 0.0 }));
        assert_ne!(judge("V2 V1 + 3 1 5 E-2 + 6 2 9 E-2 <s>"), Ok(Verdict::Measured { error: 0.0 }));
    }

    #[test]
    fn sources_that_cannot_be_judged_are_errors() {
        let task = task(Stack, UniformEntries::new(2, 2, 10.0).unwrap()).unwrap();
        let tokens = |text: &str| task.vocabulary().tokenize(text).unwrap();
        let judge = |src: &str| task.judge(&tokens(src), &tokens("V1 V1 + 1 E0 <s>"), Norm::L1);
        assert!(matches!(judge("<s> V1 V1 + <s>"), Err(TaskError::Decode(_))));
        let source = SolveError::Shape { expected: "a square matrix", found: (1, 2) };
        assert_eq!(judge("<s> V1 V2 + 1 E0 + 1 E0 <s>"), Err(TaskError::Solve { problem: "stack", source }));
    }
}
