//! `numformer completions` and `numformer man`.

use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{Cli, output};

/// Print a shell completion script.
#[derive(Args)]
#[command(after_help = "Examples:
  numformer completions bash > ~/.local/share/bash-completion/completions/numformer
  numformer completions zsh > ~/.zfunc/_numformer
  numformer completions fish > ~/.config/fish/completions/numformer.fish")]
pub(crate) struct Arguments {
    /// Which shell.
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "numformer", &mut script);
    output::write(&String::from_utf8(script).context("the script is text")?)
}

/// Write the manual pages: one for the command, one for each subcommand.
#[derive(Args)]
#[command(after_help = "Example:
  numformer man ~/.local/share/man/man1 && man numformer")]
pub(crate) struct ManArguments {
    /// The directory to write to; it is created if it does not exist.
    dir: PathBuf,
}

pub(crate) fn man(arguments: &ManArguments) -> Result<()> {
    let dir = &arguments.dir;
    let written: io::Result<()> =
        std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Cli::command(), dir));
    written.with_context(|| format!("cannot write to {}", dir.display()))
}
