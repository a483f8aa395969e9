//! `numformer import-lawt`.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use numformer_lawt::import_lawt;
use numformer_model::StackConfig;

use crate::commands::filter::is_open;

/// Convert a checkpoint of the program published with the paper, LAWT, into a model of this one.
///
/// Reads checkpoint.pth, as written by torch.save, without executing any code in it, and writes config.json,
/// vocabulary.json, encodings.json and model.safetensors to a new directory, for numformer score and train
/// --start-from. What training needs beyond the weights, such as the optimizer's state, is not imported. A file whose
/// tensors do not match the model that it describes is rejected; the error names them.
#[derive(Args)]
#[command(after_help = "Example:
  numformer import-lawt checkpoint.pth --out imported")]
pub(crate) struct Arguments {
    /// The checkpoint.
    checkpoint: PathBuf,
    /// The directory to write; it must not exist yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let Arguments { checkpoint, out } = arguments;
    let model = import_lawt(checkpoint).with_context(|| format!("cannot import {}", checkpoint.display()))?;
    model.save(out)?;

    let mut report = String::new();
    let halves =
        model.config.as_transformer().map(|config| [("encoder", &config.encoder), ("decoder", &config.decoder)]);
    for (half, StackConfig { d_model, n_heads, n_layers, .. }) in halves.into_iter().flatten() {
        writeln!(report, "{half}: {n_layers} layers, {d_model} dimensions, {n_heads} heads")?;
    }
    writeln!(report, "vocabulary: {} symbols", model.vocabulary.len())?;
    writeln!(report, "parameters:\n{}", model.config.parameter_counts())?;
    writeln!(report, "written to {}", out.display())?;
    is_open(io::stdout().write_all(report.as_bytes()))?;
    Ok(ExitCode::SUCCESS)
}
