//! Tasks of several problems and shapes: what is drawn, and how it is batched.

use std::sync::Arc;

use faer::Mat;
use numformer_data::{Batch, BatchSource, Example, Split, Task, TaskBuilder, TaskError, VocabularyKind, prefetch};
use numformer_encoding::{Floating, Positional};
use numformer_metrics::{Norm, Verdict};
use numformer_problems::{Addition, Determinant, Inversion, Law, MatrixExponential, Trace, Transpose, UniformEntries};
use rand::{Rng, RngCore};

fn uniform(rows: usize, cols: usize) -> Box<dyn Law> {
    Box::new(UniformEntries::new(rows, cols, 10.0).expect("valid parameters"))
}

fn p1000() -> TaskBuilder {
    Task::builder(Arc::new(Positional::p1000()), Arc::new(Positional::p1000()))
}

/// Transposition of 2x2 and 3x4 matrices, and addition of pairs of 2x2 matrices, three times as often.
fn mixture() -> TaskBuilder {
    p1000()
        .with_problem(Transpose, 1.0, vec![uniform(2, 2), uniform(3, 4)])
        .with_problem(Addition, 3.0, vec![uniform(2, 4)])
        .with_task_letters()
}

fn examples(task: &Task, count: u64) -> Vec<Example> {
    (0..count).map(|index| task.example(7, Split::Train, index).expect("every matrix has an answer")).collect()
}

#[test]
fn parts_are_drawn_by_weight() {
    let task = mixture().build().expect("a task");
    let shapes = [(0, (2, 2)), (0, (3, 4)), (1, (2, 4))];
    let examples = examples(&task, 8_000);
    let counts = shapes
        .map(|expected| examples.iter().filter(|example| (example.problem, example.input.shape()) == expected).count());
    assert_eq!(counts.iter().sum::<usize>(), 8_000);
    // Binomial counts: 3 standard deviations are at most 3 · sqrt(8,000 · 3/4 · 1/4) = 116.
    for (count, mean) in counts.into_iter().zip([1_000, 1_000, 6_000_usize]) {
        assert!(count.abs_diff(mean) < 116, "{counts:?}");
    }
}

#[test]
fn letters_tell_the_problem_to_model_and_judge() {
    let task = mixture().build().expect("a task");
    for example in examples(&task, 50) {
        let letter = ["T", "A"][example.problem];
        for tokens in [&example.src, &example.tgt] {
            assert!(task.vocabulary().render(tokens).starts_with(&format!("<s> {letter} V")));
        }
        let judge = |hypothesis| task.judge(&example.src, &example.tgt, hypothesis, Norm::L1);
        assert_eq!(judge(&example.tgt[1..]), Ok(Verdict::Measured { error: 0.0 }));
        assert_eq!(judge(&example.tgt[2..]), Ok(Verdict::Malformed));
        let (problem, input) = task.read_src(&example.src).expect("its own tokens");
        assert_eq!(problem.task_letter(), letter);
        assert_eq!((input.rows, input.cols), example.input.shape());
    }
}

#[test]
fn an_unknown_letter_is_an_error() {
    let task = mixture().build().expect("a task");
    let src = task.vocabulary().tokenize("V1 V1 + 1 E0").expect("known symbols");
    assert!(matches!(task.read_src(&src), Err(TaskError::Source(_))));
}

#[test]
fn impossible_mixtures_are_refused() {
    let refused = |builder: TaskBuilder| builder.build().expect_err("impossible");
    assert_eq!(refused(p1000()), TaskError::NoProblem);
    let empty = mixture().with_problem(Trace, 1.0, vec![]);
    assert_eq!(refused(empty), TaskError::NoLaw { problem: "trace" });
    let twice = mixture().with_problem(Transpose, 1.0, vec![uniform(2, 2)]);
    assert_eq!(refused(twice), TaskError::SameLetter { letter: "T", problems: ["transpose"; 2] });
    let heavy = p1000().with_task_letters().with_problem(Transpose, f64::MAX, vec![uniform(2, 2)]);
    let error = refused(heavy.with_problem(Trace, f64::MAX, vec![uniform(2, 2)]));
    assert!(matches!(error, TaskError::Weight { .. }), "{error}");
    let two =
        p1000().with_problem(Transpose, 1.0, vec![uniform(2, 2)]).with_problem(Addition, 1.0, vec![uniform(2, 2)]);
    assert_eq!(refused(two), TaskError::NoTaskLetters { problems: vec!["transpose", "addition"] });
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = refused(p1000().with_problem(Transpose, weight, vec![uniform(2, 2)]));
        assert!(matches!(error, TaskError::Weight { problem: "transpose", .. }), "{error}");
    }
    let error = refused(p1000().with_problem(Addition, 1.0, vec![uniform(2, 3)]));
    assert!(matches!(error, TaskError::Solve { problem: "addition", .. }), "{error}");
    for noise in [-1.0, f64::NAN, f64::INFINITY] {
        let error = refused(p1000().with_problem(Transpose, 1.0, vec![uniform(2, 2)]).with_noise(noise));
        assert!(matches!(error, TaskError::Noise { .. }), "{error}");
    }
}

#[test]
fn noise_is_added_after_the_answer_was_computed() {
    let build =
        |builder: TaskBuilder| builder.with_problem(Transpose, 1.0, vec![uniform(3, 3)]).build().expect("a task");
    let (clean, noisy) = (build(p1000()), build(p1000().with_noise(0.5)));
    let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
    for (clean, noisy) in examples(&clean, 500).into_iter().zip(examples(&noisy, 500)) {
        assert_eq!(noisy.output, clean.output);
        for i in 0..3 {
            for j in 0..3 {
                let noise = noisy.input[(i, j)] - clean.input[(i, j)];
                (sum, squares, count) = (sum + noise, squares + noise * noise, count + 1.0);
            }
        }
    }
    // 4,500 draws: 4 standard errors are 0.030 for the mean and 0.021 for the standard deviation.
    assert!((sum / count).abs() < 0.030, "{}", sum / count);
    assert!(((squares / count).sqrt() - 0.5).abs() < 0.021, "{}", (squares / count).sqrt());
}

#[test]
fn a_compact_vocabulary_holds_what_can_be_written() {
    let sizes = |builder: TaskBuilder| {
        let task = builder.build().expect("a task");
        (task.vocabulary().len(), task.vocabulary().symbols()[..8].join(" "))
    };
    // Two specials, three letters or none, dimensions, signs, digits, and exponents from -17 to 0.
    let transpose = || p1000().with_problem(Transpose, 1.0, vec![uniform(5, 5)]);
    assert_eq!(sizes(transpose()), (2 + 5 + 2 + 1000 + 18, "<s> <pad> V1 V2 V3 V4 V5 +".into()));
    assert_eq!(
        sizes(transpose().with_task_letters()),
        (2 + 1 + 5 + 2 + 1000 + 18, "<s> <pad> T V1 V2 V3 V4 V5".into())
    );
    assert_eq!(sizes(transpose().with_vocabulary(VocabularyKind::Reference)).0, 1328);

    let fp15 = || Task::builder(Arc::new(Floating::fp15()), Arc::new(Floating::fp15()));
    assert_eq!(sizes(fp15().with_problem(Transpose, 1.0, vec![uniform(5, 5)])).0, 16_406);
}

fn mixed_dimensions() -> Arc<Task> {
    let laws = (1..=5).map(|n| uniform(n, n)).collect();
    Arc::new(p1000().with_problem(Transpose, 1.0, laws).build().expect("a task"))
}

fn padding(batches: &[Batch]) -> usize {
    let sequences = batches.iter().flat_map(|batch| [&batch.src, &batch.tgt]);
    sequences.map(|rows| rows.ids.len() - rows.lengths.iter().map(|length| *length as usize).sum::<usize>()).sum()
}

#[test]
fn buckets_hold_the_same_examples_with_less_padding() {
    let task = mixed_dimensions();
    let (window, size) = (16, 32);
    let plain = task.batches(3, Split::Train, size);
    let bucketed = plain.clone().with_buckets(window);
    for start in [0, 5 * u64::from(window)] {
        let of = |source: &dyn BatchSource| -> Vec<Batch> {
            (start..start + u64::from(window)).map(|index| source.batch(index).expect("a batch")).collect()
        };
        let (plain, bucketed) = (of(&plain), of(&bucketed));
        let sorted = |batches: &[Batch]| {
            let rows = |batch: &Batch| (0..size).map(|i| batch.src.row(i).to_vec()).collect::<Vec<_>>();
            let mut rows: Vec<_> = batches.iter().flat_map(rows).collect();
            rows.sort();
            rows
        };
        assert_eq!(sorted(&plain), sorted(&bucketed));
        assert!(10 * padding(&bucketed) < padding(&plain), "{} of {}", padding(&bucketed), padding(&plain));
        let widths: Vec<_> = bucketed.iter().map(|batch| batch.src.width).collect();
        assert!(!widths.is_sorted(), "short batches must not always come first: {widths:?}");
    }
}

#[test]
fn buckets_are_the_same_whatever_the_workers() {
    let source = Arc::new(mixed_dimensions().batches(3, Split::Train, 8).with_buckets(4));
    let direct: Vec<_> = (6..20).map(|index| source.batch(index)).collect();
    for workers in [1, 2, 3] {
        assert_eq!(prefetch(source.clone(), 6, workers).take(14).collect::<Vec<_>>(), direct);
    }
}

#[test]
fn examples_know_the_law_they_were_drawn_from() {
    let laws = || vec![("narrow".to_owned(), uniform(1, 2)), ("wide".to_owned(), uniform(1, 6))];
    let narrow_again = vec![("narrow".to_owned(), uniform(1, 2))];
    let task = p1000().with_named_laws(Transpose, 1.0, laws()).with_named_laws(Addition, 1.0, narrow_again);
    let task = Arc::new(task.with_task_letters().build().expect("a task"));
    assert_eq!(task.laws(), ["narrow", "wide"]);
    let examples = examples(&task, 100);
    for example in &examples {
        assert_eq!(example.law, Some(usize::from(example.input.ncols() == 6)));
    }
    assert!((0..2).all(|law| examples.iter().any(|example| example.law == Some(law))));
    let mut batch = task.batches(7, Split::Train, 64).batch(0).expect("a batch");
    assert!(batch.laws.iter().eq(examples[..64].iter().map(|example| &example.law)));
    batch.truncate(10);
    assert_eq!(batch.laws.len(), 10);

    let nameless = p1000().with_problem(Transpose, 1.0, vec![uniform(1, 2)]).build().expect("a task");
    assert_eq!((nameless.laws(), nameless.example(7, Split::Train, 0).expect("an example").law), (&[][..], None));
}

/// A matrix that is singular in half of all draws.
#[derive(Debug)]
struct OftenSingular;

impl Law for OftenSingular {
    fn sample_into(&self, rng: &mut dyn RngCore, matrix: &mut Mat<f64>) {
        *matrix = Mat::full(1, 1, if rng.random() { 0.0 } else { rng.random_range(1.0..2.0) });
    }

    fn max_shape(&self) -> (usize, usize) {
        (1, 1)
    }

    fn bound(&self) -> Option<f64> {
        Some(2.0)
    }
}

#[test]
fn matrices_without_answers_are_drawn_again_and_counted() {
    let task = p1000().with_problem(Inversion::default(), 1.0, vec![Box::new(OftenSingular)]).build().expect("a task");
    let examples = examples(&task, 2_000);
    assert!(examples.iter().all(|example| example.input[(0, 0)] >= 1.0));
    let rejected: Vec<u32> = examples.iter().map(|example| example.rejected).collect();
    // A geometric count has mean 1 and variance 2: 4 standard errors of 2,000 are 0.13.
    let mean = rejected.iter().sum::<u32>() as f64 / 2_000.0;
    assert!((mean - 1.0).abs() < 0.13, "{mean}");

    let mut batch = Arc::new(task).batches(7, Split::Train, 64).batch(3).expect("a batch");
    assert_eq!(batch.rejected, rejected[192..256]);
    batch.truncate(10);
    assert_eq!((batch.src.len(), batch.tgt.len(), batch.rejected.len()), (10, 10, 10));
}

/// Bounds on answers may be far above the answers, but no symbol of a small answer may be left out.
#[test]
fn both_vocabularies_write_the_same_symbols() {
    let small = || Box::new(UniformEntries::new(2, 2, 1e-9).expect("valid parameters")) as Box<dyn Law>;
    let builders: [fn() -> TaskBuilder; 4] = [
        || p1000().with_problem(MatrixExponential, 1.0, vec![uniform(5, 5)]),
        || p1000().with_problem(Determinant, 1.0, (1..=20).map(|n| uniform(n, n)).collect()),
        || p1000().with_problem(Inversion::default(), 1.0, vec![uniform(3, 3)]).with_noise(0.1),
        || {
            let large = Box::new(UniformEntries::new(2, 4, 1e10).expect("valid parameters"));
            p1000().with_problem(Addition, 1.0, vec![large]).with_task_letters()
        },
    ];
    for (index, builder) in builders.into_iter().enumerate() {
        let builder = || match index {
            3 => builder().with_problem(Transpose, 1.0, vec![small()]),
            _ => builder(),
        };
        let compact = builder().build().expect("a task");
        let reference = builder().with_vocabulary(VocabularyKind::Reference).build().expect("a task");
        for (a, b) in examples(&compact, 200).iter().zip(examples(&reference, 200)) {
            assert_eq!(compact.vocabulary().render(&a.src), reference.vocabulary().render(&b.src));
            assert_eq!(compact.vocabulary().render(&a.tgt), reference.vocabulary().render(&b.tgt));
        }
    }
}
