//! `numformer solve`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use numformer_data::Split;
use numformer_encoding::DenseMatrix;
use numformer_evaluate::Solved;
use numformer_experiment::{Moment, StoredRun};
use numformer_metrics::Verdict;
use numformer_model::Decoding;
use numformer_report::Explanation;
use serde_json::{Value, json};

use crate::decoding::{DecodingArguments, TaskArguments};
use crate::device::DeviceArguments;
use crate::matrix_file::read_matrix;
use crate::output::write;
use crate::passed_over;

/// Ask the model of a run for an answer, and show it beside the exact one.
///
/// Shows the input and the answer as tokens and as matrices, and the relative error; with beam search also the score:
/// the log-probability divided by a power of the length. By default, the model is that of the run's latest
/// checkpoint.
#[derive(Args)]
#[command(after_help = "Examples:
  numformer solve runs/transpose-3x3-seed0 --matrix '3.1 2 1; 1 4 5; -2 0.5 7'
  numformer solve runs/transpose-3x3-seed0 --file matrix.npy
  numformer solve runs/transpose-3x3-seed0 --random --explain answer.html
  numformer solve runs/transpose-3x3-seed0 --random 2 --json
  numformer solve runs/transpose-3x3-seed0 --file matrix.csv --decoding beam --beam-width 5 --all
  numformer solve runs/transpose-3x3-seed0 --random --decoding sample --candidates 8 --constrained --verified")]
pub(crate) struct Arguments {
    /// The directory of the run.
    run: PathBuf,
    /// Which checkpoint: latest, a step, or a metric, such as within_5%, for the best one by that metric.
    #[arg(long, value_name = "WHICH", default_value_t = Moment::Latest)]
    checkpoint: Moment,
    #[command(flatten)]
    input: Input,
    /// Random seed for the --random matrices.
    #[arg(long, default_value_t = 0, conflicts_with_all = ["matrix", "file"])]
    seed: u64,
    /// Write an HTML page on how the model arrived at its answer: which coefficients each of its tokens attended to,
    /// and how probable the tokens were. For a single matrix.
    #[arg(long, value_name = "FILE")]
    explain: Option<PathBuf>,
    /// Show every answer of beam search, best first, or every sample. Only with --matrix or --file.
    #[arg(long, requires = "decoding", conflicts_with_all = ["verified", "random", "explain"])]
    all: bool,
    #[command(flatten)]
    decoding: DecodingArguments,
    #[command(flatten)]
    task: TaskArguments,
    #[command(flatten)]
    device: DeviceArguments,
    /// Print a JSON object for each answer, one per line.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Input {
    /// The matrix: rows separated by `;`, numbers by spaces.
    #[arg(long, value_name = "ROWS", allow_hyphen_values = true)]
    matrix: Option<DenseMatrix>,
    /// A file that holds the matrix: NumPy's .npy, or text with a row on each line, numbers separated by commas
    /// or spaces.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Draw COUNT random matrices (default 1) from the laws that the run is tested on; a file of test examples is not
    /// used.
    #[arg(
        long,
        value_name = "COUNT",
        num_args = 0..=1,
        default_missing_value = "1",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    random: Option<u64>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(
        !arguments.all || arguments.decoding.decoding()? != Some(Decoding::Greedy),
        "--all: expected --decoding beam or sample, found greedy, which gives a single answer"
    );
    let answering = arguments.decoding.answering(&arguments.task)?;
    let run = arguments.device.run(&arguments.run, arguments.checkpoint.clone())?;
    passed_over::warn(&run);
    let run = run.with_answering(answering);
    let solved = match &arguments.input {
        Input { matrix: Some(matrix), .. } => answers(&run, matrix, arguments.all).context("--matrix")?,
        Input { file: Some(path), .. } => {
            let matrix = read_matrix(path)?;
            answers(&run, &matrix, arguments.all).with_context(|| format!("matrix in {}", path.display()))?
        }
        Input { random, .. } => run.solve_random(arguments.seed, Split::Test, random.unwrap_or(1))?,
    };
    if let Some(path) = &arguments.explain {
        let [one] = &solved[..] else { bail!("--explain is for a single matrix, found {}", solved.len()) };
        let html = Explanation::of(&arguments.run, &run, one)?.to_html()?;
        fs::write(path, html).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let texts =
        solved.iter().map(|solved| if arguments.json { object(solved).to_string() } else { solved.to_string() });
    let separator = if arguments.json { "\n" } else { "\n\n" };
    write(&format!("{}\n", texts.collect::<Vec<_>>().join(separator)))
}

/// The answer for a matrix, or all answers that the decoding finds.
fn answers(run: &StoredRun, matrix: &DenseMatrix, all: bool) -> Result<Vec<Solved>> {
    Ok(if all { run.solve_in_every_way(matrix)? } else { vec![run.solve(matrix)?] })
}

fn object(solved: &Solved) -> Value {
    let rows = |matrix: &DenseMatrix| matrix.coefficients.chunks(matrix.cols).map(<[f64]>::to_vec).collect::<Vec<_>>();
    let (error, verdict) = match solved.verdict {
        Verdict::Measured { error } => (error.is_finite().then_some(error), "ok"),
        Verdict::WrongShape { .. } => (None, "wrong-shape"),
        Verdict::Malformed => (None, "malformed"),
    };
    json!({
        "src_tokens": solved.src,
        "answer_tokens": solved.answer,
        "src": rows(&solved.input),
        "exact": rows(&solved.exact),
        "answer": solved.found.as_ref().ok().map(rows),
        "l1": error,
        "verdict": verdict,
        "score": solved.score,
    })
}
