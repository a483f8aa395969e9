//! `numformer evaluate`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use numformer_data::Split;
use numformer_train::{Catalogue, Moment, StoredRun};

use crate::decoding::{DecodingArguments, TaskArguments};
use crate::output::write;

/// Judge the model of a run on unseen matrices, also on others than it was trained on.
///
/// With --set, the matrices are those of the changed experiment, written with the tokens that the model knows; a matrix that
/// they cannot write is drawn again, and counted as rejected. The model is that of the run's latest checkpoint.
#[derive(Args)]
#[command(after_help = "Examples:
  numformer evaluate runs/transpose-3x3-seed0
  numformer evaluate runs/transpose-3x3-seed0 --set matrices.law=gaussian --examples 10000 --json
  numformer evaluate runs/transpose-3x3-seed0 --decoding beam --beam-width 5 --constrained")]
pub(crate) struct Arguments {
    /// The directory of the run.
    run: PathBuf,
    /// Which of its checkpoints: latest, a step, or the figure by which it was the best, as in within_5%.
    #[arg(long, value_name = "WHICH", default_value_t = Moment::Latest)]
    checkpoint: Moment,
    /// How many matrices.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    examples: u64,
    /// Which of the streams of unseen matrices.
    #[arg(long, value_enum, default_value_t = Stream::Test)]
    split: Stream,
    /// Another value for a key of the experiment, as in matrices.law=laplace; may be given again and again.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    #[command(flatten)]
    decoding: DecodingArguments,
    #[command(flatten)]
    task: TaskArguments,
    /// The figures as one object of JSON, as in metrics.jsonl.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Stream {
    Validation,
    Test,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut run = StoredRun::load_at(&arguments.run, arguments.checkpoint, &Catalogue::standard())?;
    if !arguments.settings.is_empty() {
        run = run.with_settings(&arguments.settings)?;
    }
    let run = run.with_answering(arguments.decoding.answering(&arguments.task));
    let split = match arguments.split {
        Stream::Validation => Split::Validation,
        Stream::Test => Split::Test,
    };
    let evaluation = run.evaluate(split, arguments.examples)?;
    if arguments.json {
        return write(&format!("{}\n", serde_json::to_string(&evaluation)?));
    }
    write(&format!("After {} steps, on {} unseen matrices:\n{evaluation:#}\n", run.step(), evaluation.count))
}
