//! One example beside the model's answer, for inspection.

use std::error::Error;
use std::fmt;

use candle_core::Device;
use numformer_data::{BatchSource, Example, Task, TaskError};
use numformer_encoding::{DenseMatrix, TokenId};
use numformer_metrics::{Norm, Verdict};
use numformer_model::{Candidate, Seq2Seq};

use crate::answers::answering::{Answerer, Answering};
use crate::answers::pairs::{finished, tokens_of};
use crate::evaluate_error::EvaluateError;

/// One example beside the model's answer, as tokens and as matrices.
///
/// Matrices are decoded from the tokens, so the input and the exact answer are rounded. `Display` shows everything in a
/// few lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Solved {
    /// The name of the problem.
    pub problem: &'static str,
    /// The input as tokens.
    pub src: String,
    /// The exact answer as tokens.
    pub target: String,
    /// The model's answer as tokens.
    pub answer: String,
    /// The input.
    pub input: DenseMatrix,
    /// The exact answer.
    pub exact: DenseMatrix,
    /// The model's answer, or the reason that its tokens are not a matrix.
    pub found: Result<DenseMatrix, TaskError>,
    /// The error of the answer, relative L1.
    pub verdict: Verdict,
    /// The score of the answer in a beam: the logarithm of its probability, divided by a power of its length. `None`
    /// for other decodings.
    pub score: Option<f64>,
}

/// Solves the examples of one batch of a source by greedy decoding.
///
/// # Errors
/// When the example cannot be made, or the model cannot read it.
pub fn solve(
    model: &impl Seq2Seq,
    task: &Task,
    source: &dyn BatchSource,
    index: u64,
    device: &Device,
) -> Result<Vec<Solved>, EvaluateError> {
    solve_batch(&Answerer::new(model, task, Answering::default())?, task, source, index, device)
}

/// Solves the examples of one batch of a source.
pub fn solve_batch(
    answerer: &Answerer<'_, impl Seq2Seq>,
    task: &Task,
    source: &dyn BatchSource,
    index: u64,
    device: &Device,
) -> Result<Vec<Solved>, EvaluateError> {
    let batch = source.batch(index)?;
    let sources: Vec<&[u32]> = (0..batch.src.len()).map(|row| batch.src.row(row)).collect();
    let first_index = index * source.batch_size() as u64;
    let candidates = answerer.answers(&sources, first_index, task.max_tgt_len(), device)?;
    let solved = candidates.iter().enumerate().map(|(row, candidate)| {
        solved(task, &tokens_of(batch.src.row(row)), &tokens_of(batch.tgt.row(row)), candidate)
    });
    solved.collect()
}

/// Solves one example, which has this index in its sequence.
pub fn solve_example(
    answerer: &Answerer<'_, impl Seq2Seq>,
    task: &Task,
    example: &Example,
    index: u64,
    device: &Device,
) -> Result<Solved, EvaluateError> {
    let (ids, limit) = asked(task, example);
    let candidate = answerer.answers(&[&ids], index, limit, device)?.swap_remove(0);
    solved(task, &example.src, &example.tgt, &candidate)
}

/// All answers that the decoding finds for one example, which has this index in its sequence.
pub fn solve_in_every_way(
    answerer: &Answerer<'_, impl Seq2Seq>,
    task: &Task,
    example: &Example,
    index: u64,
    device: &Device,
) -> Result<Vec<Solved>, EvaluateError> {
    let (ids, limit) = asked(task, example);
    let candidates = answerer.all(&ids, index, limit, device)?;
    candidates.iter().map(|candidate| solved(task, &example.src, &example.tgt, candidate)).collect()
}

/// The source of an example, and the maximum number of tokens of an answer.
fn asked(task: &Task, example: &Example) -> (Vec<u32>, usize) {
    (example.src.iter().map(|token| token.0).collect(), task.max_tgt_len().max(example.tgt.len()))
}

pub(crate) fn solved(
    task: &Task,
    src: &[TokenId],
    tgt: &[TokenId],
    candidate: &Candidate,
) -> Result<Solved, EvaluateError> {
    let Candidate { hypothesis, score } = candidate;
    let answer = tokens_of(&hypothesis.ids);
    let judgement = task.judgement(src, tgt, finished(hypothesis).as_deref())?;
    Ok(Solved {
        problem: judgement.problem,
        src: task.vocabulary().render(&src[1..src.len() - 1]),
        target: task.vocabulary().render(&tgt[1..tgt.len() - 1]),
        answer: task.vocabulary().render(&answer),
        input: task.read_src(src)?.1,
        exact: task.read_tgt(src, tgt)?,
        found: task.read_tgt(src, &answer),
        verdict: judgement.verdict(Norm::L1),
        score: *score,
    })
}

impl fmt::Display for Solved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "source  {}", self.src)?;
        writeln!(f, "answer  {}", self.answer)?;
        if let Some(score) = self.score {
            writeln!(f, "score   {score:.4}")?;
        }
        let found = match &self.found {
            Ok(matrix) => grid(matrix),
            Err(error) => {
                vec![format!("not a matrix: {}", error.source().map_or_else(|| error.to_string(), ToString::to_string))]
            }
        };
        let columns = [("input", grid(&self.input)), ("exact", grid(&self.exact)), ("model", found)];
        let widths = columns.each_ref().map(|(title, lines)| {
            lines.iter().map(String::len).chain([title.len()]).max().expect("the title is there")
        });
        let height = columns.iter().map(|(_, lines)| lines.len()).max().expect("three columns");
        for row in 0..=height {
            let cells = columns.iter().zip(widths).map(|((title, lines), width)| {
                let cell = match row {
                    0 => title,
                    row => lines.get(row - 1).map_or("", String::as_str),
                };
                format!("{cell:<width$}")
            });
            writeln!(f, "  {}", cells.collect::<Vec<_>>().join("   ").trim_end())?;
        }
        match self.verdict {
            Verdict::Measured { error } => write!(f, "relative error {:.2}%", 100.0 * error),
            Verdict::WrongShape { expected, found } => {
                write!(f, "wrong shape: expected {}x{}, found {}x{}", expected.0, expected.1, found.0, found.1)
            }
            Verdict::Malformed => f.write_str("malformed"),
        }
    }
}

/// The rows of a matrix, with aligned columns.
fn grid(matrix: &DenseMatrix) -> Vec<String> {
    let cells: Vec<String> = matrix.coefficients.iter().map(f64::to_string).collect();
    let width = cells.iter().map(String::len).max().unwrap_or(0);
    cells
        .chunks(matrix.cols)
        .map(|row| row.iter().map(|cell| format!("{cell:>width$}")).collect::<Vec<_>>().join(" "))
        .collect()
}
