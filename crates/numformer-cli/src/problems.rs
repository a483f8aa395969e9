//! `numformer problems`.

use std::io::{self, ErrorKind, Write};

use anyhow::{Context, Result};
use clap::Args;
use numformer_train::{Catalogue, ProblemConfig};
use serde_json::json;

/// List the problems there are: names, task letters, shapes and conventions.
///
/// A problem with two operands reads them side by side, [A | B]. The task letter begins the sequences of a problem where
/// one model learns several.
#[derive(Args)]
pub(crate) struct Arguments {
    /// One object of JSON for each problem.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let catalogue = Catalogue::standard();
    let mut text = String::new();
    for (name, about) in catalogue.problems() {
        let letter = catalogue.problem(&ProblemConfig::new(name))?.task_letter();
        text += &if arguments.json {
            format!("{}\n", json!({ "name": name, "task_letter": letter, "about": about }))
        } else if letter == name {
            format!("{name:<20}   {about}\n")
        } else {
            format!("{name:<20} {letter} {about}\n")
        };
    }
    match io::stdout().write_all(text.as_bytes()) {
        // A reader that left, such as `head`, is no failure.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write standard output"),
    }
}
