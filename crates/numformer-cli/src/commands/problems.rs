//! `numformer problems`.

use anyhow::Result;
use clap::Args;
use numformer_evaluate::text;
use numformer_experiment::{Catalogue, ProblemConfig};
use serde_json::json;

use crate::{layout, output};

/// List the available problems: names, task letters, shapes and conventions.
///
/// A problem with two operands reads them side by side, [A | B]. If one model learns several problems, each sequence
/// begins with the task letter of its problem.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Print a JSON object for each problem.
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
            text::entry(&format!("{name:<20}   "), about, layout::width())
        } else {
            text::entry(&format!("{name:<20} {letter} "), about, layout::width())
        };
    }
    output::write(&text)
}
