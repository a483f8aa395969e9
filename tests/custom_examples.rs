//! A generator of examples from a custom problem, law and encoding: the same bytes again and again, files that are read
//! back as they were made, and answers judged by the problem.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::ops::RangeInclusive;
use std::sync::Arc;

use faer::{Mat, MatRef};
use numformer::data::{BatchSource, Dataset, Format, Order, Split, Task, write_examples};
use numformer::encoding::{DecodeError, EncodeError, NumberEncoding, TokenId};
use numformer::metrics::{Norm, Verdict};
use numformer::problems::{Law, Problem, SolveError, require_finite};
use rand::{Rng, RngCore};

/// The rows in the opposite order.
#[derive(Debug)]
struct Flipped;

impl Problem for Flipped {
    fn name(&self) -> &'static str {
        "flipped"
    }
    fn output_shape(&self, input: (usize, usize)) -> Result<(usize, usize), SolveError> {
        Ok(input)
    }
    fn solve_into(&self, input: MatRef<'_, f64>, output: &mut Mat<f64>) -> Result<(), SolveError> {
        require_finite(input)?;
        *output = Mat::from_fn(input.nrows(), input.ncols(), |i, j| input[(input.nrows() - 1 - i, j)]);
        Ok(())
    }
}

/// Matrices of one to three rows of small whole numbers.
#[derive(Debug)]
struct Whole;

const NUMBERS: RangeInclusive<i32> = -9..=9;

impl Law for Whole {
    fn sample_into(&self, rng: &mut dyn RngCore, matrix: &mut Mat<f64>) {
        let rows = rng.random_range(1..=3);
        *matrix = Mat::from_fn(rows, 2, |_, _| f64::from(rng.random_range(NUMBERS)));
    }
    fn max_shape(&self) -> (usize, usize) {
        (3, 2)
    }
    fn bound(&self) -> Option<f64> {
        Some(9.0)
    }
}

/// One symbol a number.
#[derive(Debug)]
struct Symbols(Vec<String>);

impl NumberEncoding for Symbols {
    fn symbols(&self) -> &[String] {
        &self.0
    }
    fn max_word_len(&self) -> usize {
        1
    }
    fn encode(&self, x: f64, word: &mut Vec<TokenId>) -> Result<(), EncodeError> {
        if !x.is_finite() {
            return Err(EncodeError::NotFinite { value: x });
        }
        let index = x.round_ties_even() + 9.0;
        if !(0.0..=18.0).contains(&index) {
            return Err(EncodeError::TooLarge { value: x, largest: 9.0 });
        }
        word.push(TokenId(index as u32));
        Ok(())
    }
    fn decode<'t>(&self, tokens: &'t [TokenId]) -> Result<(f64, &'t [TokenId]), DecodeError> {
        match tokens {
            [TokenId(id @ 0..=18), rest @ ..] => Ok((f64::from(*id) - 9.0, rest)),
            _ => Err(DecodeError::expected("a number", 0, tokens, &self.0)),
        }
    }
}

fn task() -> Arc<Task> {
    let symbols = Arc::new(Symbols(NUMBERS.map(|number| format!("n{number}")).collect()));
    Arc::new(Task::new(Flipped, Whole, symbols.clone(), symbols).unwrap())
}

#[test]
fn files_of_own_examples_are_read_back_as_they_were_made() {
    let task = task();
    let dir = tempfile::tempdir().unwrap();
    for format in Format::ALL {
        let write = || {
            let mut bytes = Vec::new();
            write_examples(&task, 3, Split::Train, 0..100, format, &mut bytes).unwrap();
            bytes
        };
        let path = dir.path().join(format!("examples.{}", format.name()));
        std::fs::write(&path, write()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), write());
        let read = Arc::new(Dataset::read(&path, &task).unwrap()).batches(20, Order::AsRead);
        let made = task.batches(3, Split::Train, 20);
        for index in 0..5 {
            let (read, made) = (read.batch(index).unwrap(), made.batch(index).unwrap());
            assert_eq!((read.src, read.tgt), (made.src, made.tgt));
        }
    }
}

#[test]
fn own_answers_are_judged_by_the_own_problem() {
    let task = task();
    let tokens = |text: &str| task.vocabulary().tokenize(text).unwrap();
    let judge = |answer: &str| {
        let (src, tgt) = ("<s> V2 V2 n1 n2 n3 n-4 <s>", "<s> V2 V2 n3 n-4 n1 n2 <s>");
        task.judge(&tokens(src), &tokens(tgt), &tokens(answer), Norm::L1).unwrap()
    };
    assert_eq!(judge("V2 V2 n3 n-4 n1 n2 <s>"), Verdict::Measured { error: 0.0 });
    assert_eq!(judge("V2 V2 n3 n-4 n1 n3 <s>"), Verdict::Measured { error: 0.1 });
    assert_eq!(judge("V1 V2 n3 n-4 <s>"), Verdict::WrongShape { expected: (2, 2), found: (1, 2) });
    assert_eq!(judge("V2 V2 n3 <s>"), Verdict::Malformed);
    let example = task.example(3, Split::Test, 0).unwrap();
    assert_eq!(
        task.judge(&example.src, &example.tgt, &example.tgt[1..], Norm::Max).unwrap(),
        Verdict::Measured { error: 0.0 }
    );
}
