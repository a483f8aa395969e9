//! `cargo xtask gpu-day`: all that a machine with a GPU needs to test, measure and train, as one folder; and what came
//! back, as a page.

mod figures;
mod pack;
mod page;
mod results;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::{cuda, root};

/// Make a folder that tests, measures and trains on a machine with a GPU, or turn what came back into a page.
///
/// The folder holds the command and its tests, built for GPUs, and a script. The machine needs Linux, a driver for CUDA
/// 13, cuBLAS and cuRAND, but neither Rust nor a network; with Python and PyTorch there, PyTorch is measured beside. There,
/// `run.sh SECONDS RESULTS` does as much as fits into that time, and leaves a few files in RESULTS. With --read, they
/// become docs/results/NAME.
#[derive(Args)]
#[command(after_help = "Example:
  $ cargo xtask gpu-day
  $ target/gpu-day/run.sh 600 results    # on the machine with the GPU
  $ cargo xtask gpu-day --read results")]
pub(crate) struct Arguments {
    /// Name of the preset to train in the time that is left after tests and timings.
    #[arg(long, value_name = "NAME", default_value = "desk-eigenvalues-5x5", value_parser = name)]
    train: String,
    /// Where the folder is made [default: target/gpu-day].
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// The compute capability of the GPU, without the point: 90 for H100 and H200.
    #[arg(long, default_value = "90", value_parser = cuda::capability)]
    capability: String,
    /// A folder of results to turn into a page, instead.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["train", "output", "capability"])]
    read: Option<PathBuf>,
    /// Name of the page's folder in docs/results [default: from the GPU and the date].
    #[arg(long, requires = "read", value_parser = name)]
    name: Option<String>,
}

/// A name that neither a path nor a shell takes apart.
fn name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
    if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("expected a name of letters, digits, '-', '_' and '.'".to_owned())
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let root = root()?;
    match &arguments.read {
        Some(folder) => {
            let page = results::publish(folder, &root.join("docs/results"), arguments.name.as_deref())?;
            println!("{}", page.display());
        }
        None => {
            let output = arguments.output.clone().unwrap_or_else(|| root.join("target/gpu-day"));
            let size = pack::assemble(root, &arguments.capability, &arguments.train, &output)?;
            println!("{}: {:.1} MiB; run.sh in it says how to use it", output.display(), pack::mebibytes(size));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_neither_paths_nor_code() {
        assert!(name("paper-eigenvalues-5x5").is_ok());
        for wrong in ["", ".", "..", "-x", "a/b", "a b", "$(x)"] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
    }
}
