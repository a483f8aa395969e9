//! `numformer score`: reads pairs of source and target, one a line, and writes how probable a model finds them.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Error, Result};
use candle_core::Device;
use clap::Args;
use numformer_evaluate::{Pair, ScoreError, ScoredPair, Scorer};
use numformer_fused::{Precision, device_model};
use numformer_ops::device::Accelerator;
use numformer_store::StoredModel;

use crate::commands::filter::{is_open, lines_of_input};
use crate::decoding::DecodingArguments;
use crate::device::DeviceArguments;

/// Score answers with a model: mean cross-entropy in nats, one line for each line of standard input.
///
/// A line is `source<TAB>target`: symbols of the model's vocabulary separated by spaces, without delimiters. The mean
/// is over the target's tokens and the closing delimiter, under teacher forcing. A line that cannot be scored is
/// reported on standard error with its line number, and the exit code is then 1; a score that is not finite ends the
/// command with exit code 1. With --decoding, the model's own answer follows after a tab.
#[derive(Args)]
#[command(after_help = "Example:
  $ printf 'V1 V1 + 314 E-2\\tV1 V1 + 314 E-2\\n' | numformer score imported --decoding greedy
  0.002813\tV1 V1 + 314 E-2

With --json, each line is an object:
  cross_entropy    the mean
  target_tokens    number of tokens in the mean: those of the target and the closing delimiter
  exact            whether the model's own answer is the target; null without --decoding
  generated        the model's own answer; null without --decoding
  generated_score  its beam search score: its log-probability divided by a power of its length; null for other
                   decodings")]
pub(crate) struct Arguments {
    /// A directory written by numformer export or import-lawt, or a checkpoint of a run: runs/NAME/checkpoints/step-...
    model: PathBuf,
    #[command(flatten)]
    decoding: DecodingArguments,
    #[command(flatten)]
    device: DeviceArguments,
    /// Maximum length of the model's own answer in tokens, delimiters included; at most the model's number of
    /// positions.
    #[arg(long, value_name = "N", default_value_t = Scorer::MAX_ANSWER as u32, value_parser = max_tokens(), requires = "decoding")]
    max_tokens: u32,
    /// Print a JSON object for each line.
    #[arg(long)]
    json: bool,
}

/// At least two, for the delimiters.
fn max_tokens() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(2..=1_000_000)
}

/// How many lines are read before any is scored.
const BATCH: usize = 64;

/// The pairs that are scored next, and the numbers of their lines.
struct Batch {
    pairs: Vec<Pair>,
    lines: Vec<u64>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let decoding = arguments.decoding.decoding()?;
    let stored = StoredModel::load(&arguments.model)?;
    let device = arguments.device.open()?;
    let scorer = scorer(&stored, &device);
    let scorer = scorer.with_context(|| format!("cannot build the model in {}", arguments.model.display()))?;
    let scorer = match decoding {
        Some(decoding) => scorer.with_decoding(decoding),
        None => scorer,
    };
    let scorer = scorer.with_max_answer(arguments.max_tokens as usize);

    let mut output = BufWriter::new(io::stdout().lock());
    let mut code = ExitCode::SUCCESS;
    let mut batch = Batch { pairs: Vec::with_capacity(BATCH), lines: Vec::with_capacity(BATCH) };
    let mut scored = 0;
    let mut write_scores = |Batch { pairs, lines }: &mut Batch| -> Result<bool> {
        let scores = scorer.score_from(scored, pairs).map_err(|error| match error {
            ScoreError::NotFinite { pair, .. } => Error::from(error).context(format!("line {}", lines[pair])),
            error => error.into(),
        })?;
        scored += pairs.len() as u64;
        for score in scores {
            if !is_open(writeln!(output, "{}", shown(&score, arguments.json)?))? {
                return Ok(false);
            }
        }
        pairs.clear();
        lines.clear();
        is_open(output.flush())
    };
    for (number, line) in (1..).zip(lines_of_input()) {
        let line = line.context("cannot read standard input")?;
        let pair = std::str::from_utf8(&line)
            .map_err(anyhow::Error::from)
            .and_then(|line| Ok(scorer.parse(line.trim_end_matches('\r'))?));
        match pair {
            Ok(pair) => {
                batch.pairs.push(pair);
                batch.lines.push(number);
            }
            Err(error) => {
                report!("line {number}: {}", crate::causes(error.chain()));
                code = ExitCode::FAILURE;
            }
        }
        if batch.pairs.len() == BATCH && !write_scores(&mut batch)? {
            return Ok(code);
        }
    }
    write_scores(&mut batch)?;
    Ok(code)
}

fn scorer(stored: &StoredModel, device: &Device) -> candle_core::Result<Scorer> {
    if device.is_cpu() {
        return Scorer::new(stored);
    }
    let parameters = stored.parameters(device)?;
    let model = device_model(&stored.config, &parameters, Precision::F32, || Accelerator::new(device))?;
    Ok(Scorer::of_model(model, &stored.vocabulary, device))
}

fn shown(score: &ScoredPair, json: bool) -> Result<String> {
    if json {
        return Ok(serde_json::to_string(score)?);
    }
    let cross_entropy = format!("{:.6}", score.cross_entropy);
    Ok(match &score.generated {
        None => cross_entropy,
        Some(answer) => format!("{cross_entropy}\t{answer}"),
    })
}
