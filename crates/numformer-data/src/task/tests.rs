//! The examples and the verdicts of tasks.

use std::sync::Arc;

use faer::mat;
use numformer_encoding::{NumberEncoding, Positional, TokenId};
use numformer_metrics::Verdict;
use numformer_problems::{Eigenvalues, Inversion, LawError, LowRank, Mixture, Rank, Transpose, UniformEntries, Wigner};
use rand::RngCore;

use super::*;
use crate::{Batch, BatchSource, Repeated, TaskBuilder, VocabularyKind};

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
    let law = || vec![Box::new(UniformEntries::new(2, 2, 10.0).unwrap()) as Box<dyn Law>];
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
        assert!(matches!(*source, LawError::Bound { .. }), "{source}");
    }
}

#[test]
fn a_law_that_does_not_suit_a_problem_is_refused() {
    let task = |problem: Box<dyn Problem>, law: Box<dyn Law>| {
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
        assert!(error.to_string().starts_with("the law `a law` does not suit the problem `eigenvalues`: "));
    }
    let error = task(Box::<Inversion>::default(), low_rank()).try_every_law(0).unwrap_err();
    assert!(matches!(error, TaskError::UnsuitableLaw { source: SolveError::Singular { .. }, .. }), "{error}");

    assert_eq!(task(Box::new(Rank), low_rank()).try_every_law(0), Ok(()));
    assert_eq!(task(Box::<Inversion>::default(), uniform()).try_every_law(0), Ok(()));
}

#[test]
fn figures_need_problems_of_different_names() {
    let p1000 = Arc::new(Positional::p1000());
    let law = || vec![Box::new(UniformEntries::new(2, 2, 10.0).unwrap()) as Box<dyn Law>];
    let builder = Task::builder(p1000.clone(), p1000).with_task_letters();
    let two = builder.with_problem(Transpose, 1.0, law()).with_problem(Contradictory, 1.0, law());
    assert_eq!(two.build().unwrap_err(), TaskError::SameName { problem: "transpose" });
}

/// A law that always draws this matrix.
#[derive(Debug)]
struct Always(Mat<f64>, Option<f64>);

impl Law for Always {
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

fn task(problem: impl Problem + 'static, law: impl Law + 'static) -> Result<Task, TaskError> {
    Task::new(problem, law, Arc::new(Positional::p1000()), Arc::new(Positional::p10()))
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
fn problems_and_laws_may_be_chosen_at_run_time() {
    let problem: Box<dyn Problem> = Box::new(Transpose);
    let law: Box<dyn Law> = Box::new(UniformEntries::new(2, 3, 10.0).unwrap());
    let boxed = task(problem, law).unwrap();
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
    let error = task(Transpose, Always(mat![[1.0, f64::NAN]], None)).unwrap().example(0, Split::Train, 0).unwrap_err();
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
    assert_eq!(verdict("V2 V1 + 3 0 0 E-2 - 1 0 0 E-2 <s>"), Verdict::WrongShape { expected: (1, 2), found: (2, 1) });
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

#[test]
fn training_examples_are_repeated_and_others_are_not() {
    let task = |repeated: Option<Repeated>| {
        let p1000 = Arc::new(Positional::p1000());
        let laws: Vec<Box<dyn Law>> =
            (1..4).map(|n| Box::new(UniformEntries::new(1, n, 10.0).unwrap()) as Box<dyn Law>).collect();
        let builder = Task::builder(p1000.clone(), p1000).with_problem(Transpose, 1.0, laws);
        let builder = repeated.into_iter().fold(builder, TaskBuilder::with_repeated);
        Arc::new(builder.build().unwrap())
    };
    let repeated = Repeated { examples: 5, probability: 0.5 };
    let (plain, repeating) = (task(None), task(Some(repeated)));
    for index in 0..64 {
        let expected = plain.example(7, Split::Train, repeated.example(7, index)).unwrap();
        assert_eq!(repeating.example(7, Split::Train, index).unwrap(), expected);
        for split in [Split::Validation, Split::Test] {
            assert_eq!(repeating.example(7, split, index).unwrap(), plain.example(7, split, index).unwrap());
        }
    }
    // Buckets sort by the lengths of the examples that come.
    let mut expected: Vec<Vec<TokenId>> =
        (32..64).map(|index| repeating.example(7, Split::Train, index).unwrap().src).collect();
    let batches = repeating.batches(7, Split::Train, 8).with_buckets(4);
    let batches: Vec<Batch> = (4..8).map(|index| batches.batch(index).unwrap()).collect();
    let rows =
        batches.iter().flat_map(|batch| (0..8).map(|row| batch.src.row(row).iter().copied().map(TokenId).collect()));
    let mut found: Vec<Vec<TokenId>> = rows.collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    let spread = |batch: &Batch| batch.src.lengths.iter().max().unwrap() - batch.src.lengths.iter().min().unwrap();
    // Three lengths, three tokens from one to the next.
    assert!(batches.iter().map(spread).sum::<u32>() <= 2 * 3);
}

#[test]
fn symmetric_inputs_may_be_written_as_their_lower_triangle() {
    let p1000 = || Arc::new(Positional::p1000());
    let task = |law: Wigner, layout| {
        let builder = Task::builder(p1000(), p1000()).with_problem(Eigenvalues, 1.0, vec![Box::new(law)]);
        builder.with_input_layout(layout).with_noise(0.1).build().unwrap()
    };
    let [whole, packed] = [Layout::RowMajor, Layout::LowerTriangle].map(|layout| task(wigner(4), layout));
    assert_eq!((whole.max_src_len(), packed.max_src_len()), (2 + 2 + 16 * 3, 2 + 2 + 10 * 3));
    assert_eq!(whole.max_tgt_len(), packed.max_tgt_len());
    for index in 0..20 {
        // The same matrix with the same answer; noise is of both triangles, or of the lower one alone.
        let [whole, example] = [&whole, &packed].map(|task| task.example(7, Split::Test, index).unwrap());
        assert_eq!(whole.output, example.output);
        for (i, j) in entries((4, 4)) {
            assert_eq!(example.input[(i, j)].to_bits(), whole.input[(i.max(j), i.min(j))].to_bits());
        }
        let (_, read) = packed.read_src(&example.src).unwrap();
        assert_eq!((read.rows, read.cols), (4, 4));
        let rounded = p1000().round(example.input[(1, 3)]).unwrap();
        assert_eq!([7, 13].map(|place| read.coefficients[place].to_bits()), [rounded.to_bits(); 2]);
    }
    // Another task in the same writing has the same layout.
    let smaller = Task::builder(p1000(), p1000()).with_problem(Eigenvalues, 1.0, vec![Box::new(wigner(3))]);
    let smaller = smaller.written_as(&packed).build().unwrap();
    assert_eq!(smaller.max_src_len(), 2 + 2 + 6 * 3);
}

fn wigner(dimension: usize) -> Wigner {
    Wigner::new(dimension, 10.0).unwrap()
}

#[test]
fn only_symmetric_inputs_have_a_lower_triangle() {
    let p1000 = || Arc::new(Positional::p1000());
    let build = |cols| {
        let law = Box::new(UniformEntries::new(2, cols, 10.0).unwrap());
        let builder = Task::builder(p1000(), p1000()).with_problem(Transpose, 1.0, vec![law]);
        builder.with_input_layout(Layout::LowerTriangle).build()
    };
    let refusal = |error: TaskError| match error {
        TaskError::Encode { matrix: "input", source, .. } => source,
        other => panic!("{other}"),
    };
    let is_asymmetry = |error: &EncodeError| matches!(error, EncodeError::NotSymmetric { row: 2, column: 1, .. });
    assert_eq!(refusal(build(3).unwrap_err()), EncodeError::NotSquare { rows: 2, cols: 3 });
    assert!(is_asymmetry(&refusal(build(2).unwrap().try_every_law(0).unwrap_err())));

    // A law whose matrices are symmetric now and then is not reduced to these: it is refused.
    let law = Box::new(LowRank::new(2, 2, 10.0).unwrap());
    let builder = Task::builder(p1000(), p1000()).with_problem(Rank, 1.0, vec![law]);
    let rank = builder.with_input_layout(Layout::LowerTriangle).build().unwrap();
    assert!(is_asymmetry(&refusal(rank.try_every_law(0).unwrap_err())));
    let examples = (0..20).map(|index| rank.example(0, Split::Train, index));
    let (made, refused): (Vec<_>, Vec<_>) = examples.partition(Result::is_ok);
    assert!(!made.is_empty() && made.into_iter().all(|example| example.unwrap().rejected == 0));
    assert!(!refused.is_empty() && refused.into_iter().all(|error| is_asymmetry(&refusal(error.unwrap_err()))));

    // So is one with matrices that are not square, although the largest rows and columns are as many.
    let oblong = |rows, cols| Box::new(UniformEntries::new(rows, cols, 10.0).unwrap()) as Box<dyn Law>;
    for noise in [0.0, 0.1] {
        let law = Mixture::uniform(vec![oblong(2, 3), oblong(3, 2)]).unwrap();
        let builder = Task::builder(p1000(), p1000()).with_problem(Transpose, 1.0, vec![Box::new(law)]);
        let task = builder.with_input_layout(Layout::LowerTriangle).with_noise(noise).build().unwrap();
        let error = refusal(task.example(0, Split::Train, 0).unwrap_err());
        assert!(matches!(error, EncodeError::NotSquare { .. }), "{error}");
    }
}
