//! `numformer generate`.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use numformer_data::{DatasetError, Format, Split, write_examples_across};
use numformer_experiment::{Catalogue, Experiment};
use rayon::ThreadPoolBuilder;

use crate::device::DeviceName;
use crate::launcher;
use crate::partial_file::PartialFile;
use crate::ranks::{Ranks, RanksArguments};
use crate::verbosity::Verbosity;

/// Write examples of an experiment to a file or to standard output.
///
/// Example i depends only on the experiment, the split, the seed and i: the bytes do not depend on the number of
/// threads, and with --start a file continues where another ended. Examples of different splits never share random
/// numbers. To use a file, name it in an experiment, as data.train, data.validation or data.test.
#[derive(Args)]
#[command(after_help = "Formats:
  tsv      source, a tab and target, as symbols separated by spaces, one example per line
  jsonl    index, problem, src, tgt (matrices before encoding), src_tokens, tgt_tokens, one object per line
  parquet  the columns index, problem, src_tokens, tgt_tokens

Examples:
  numformer generate transpose-3x3 --count 3
  numformer generate my.toml --split test --count 10000 --seed 1 --output test.parquet")]
pub(crate) struct Arguments {
    /// Name of a preset, or path of a file that ends in .toml.
    experiment: String,
    /// Which split of the examples.
    #[arg(long, value_enum, default_value_t = SplitName::Test)]
    split: SplitName,
    /// Number of examples.
    #[arg(long)]
    count: u64,
    /// Seed of the examples [default: the experiment's, so that they are those it trains on or is judged on].
    #[arg(long)]
    seed: Option<u64>,
    /// Index of the first example.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Format of the file [default: by the extension of the output file, or tsv].
    #[arg(long, value_enum)]
    format: Option<FormatName>,
    /// Where to write [default: standard output].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Number of threads, up to 1024 [default: one per core].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    #[command(flatten)]
    ranks: RanksArguments,
}

#[derive(Clone, Copy, ValueEnum)]
enum SplitName {
    Train,
    Validation,
    Test,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatName {
    Tsv,
    Jsonl,
    Parquet,
}

pub(crate) fn run(arguments: &Arguments, verbosity: Verbosity) -> Result<()> {
    let ranks = arguments.ranks.join(DeviceName::Cpu)?;
    let verbosity = ranks.verbosity(verbosity);
    ranks.run(|| generate(arguments, verbosity, &ranks))
}

fn generate(arguments: &Arguments, verbosity: Verbosity, ranks: &Ranks) -> Result<()> {
    let experiment = Experiment::load(&arguments.experiment)?;
    let task = experiment.task(&Catalogue::standard())?;
    let (split, own_seed) = match arguments.split {
        SplitName::Train => (Split::Train, experiment.seed),
        SplitName::Validation => (Split::Validation, experiment.evaluate.seed),
        SplitName::Test => (Split::Test, experiment.evaluate.seed),
    };
    let format = match (arguments.format, &arguments.output) {
        (Some(FormatName::Tsv), _) | (None, None) => Format::Tsv,
        (Some(FormatName::Jsonl), _) => Format::Jsonl,
        (Some(FormatName::Parquet), _) => Format::Parquet,
        (None, Some(path)) => Format::of(path)?,
    };
    if let Some(named) = arguments.output.as_ref().and_then(|path| Format::of(path).ok()) {
        ensure!(named == format, "--output: expected a name that ends in .{format}, as --format says, found .{named}");
    }
    let end = arguments.start.checked_add(arguments.count);
    ensure!(end.is_some(), "--start and --count: expected a sum below 2^64");
    let range = arguments.start..end.expect("checked above");
    // 0 stands for one thread for each core.
    let threads = arguments.threads.map(usize::from).or_else(launcher::threads).unwrap_or(0);
    let pool = ThreadPoolBuilder::new().num_threads(threads).build()?;
    let seed = arguments.seed.unwrap_or(own_seed);
    let write = |out: &mut (dyn Write + Send)| -> Result<u64, DatasetError> {
        pool.install(|| write_examples_across(&task, seed, split, range, format, out, &ranks.communicator()))
    };
    if !ranks.is_first() {
        write(&mut io::sink())?;
        return Ok(());
    }
    let rejected = match &arguments.output {
        Some(path) => to_file(path, write)?,
        None => match write(&mut io::stdout()) {
            // A reader that has left, such as `head`, is not an error.
            Err(DatasetError::Write(error)) if error.kind() == ErrorKind::BrokenPipe && ranks.are_one() => {
                return Ok(());
            }
            written => written?,
        },
    };
    if rejected > 0 && !verbosity.quiet {
        report!("{rejected} matrices had no answer that could be computed reliably and encoded, and were drawn again");
    }
    Ok(())
}

/// Writes to a file beside `path` and renames it at the end, so a file at `path` is always complete. If `path` exists but
/// is not a regular file, for example a device, writes to it directly.
fn to_file(path: &Path, write: impl FnOnce(&mut (dyn Write + Send)) -> Result<u64, DatasetError>) -> Result<u64> {
    let context = || format!("cannot write {}", path.display());
    if path.exists() && !path.is_file() {
        let mut out = File::options().write(true).open(path).with_context(context)?;
        return Ok(write(&mut out)?);
    }
    let mut partial = PartialFile::create(path).context("--output")?;
    let mut out = io::BufWriter::new(partial.file());
    let rejected = write(&mut out).with_context(context)?;
    out.flush().with_context(context)?;
    drop(out);
    partial.finish()?;
    Ok(rejected)
}
