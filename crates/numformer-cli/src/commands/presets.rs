//! `numformer presets`: the experiments that come with the program.

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use numformer_evaluate::text;
use numformer_experiment::presets::{self, PRESETS};
use numformer_experiment::{Experiment, ExperimentError};

use crate::{layout, output};

/// List the experiments that come with the program, or show one.
#[derive(Args)]
#[command(after_help = "Examples:
  numformer presets list
  numformer presets show transpose-3x3 > my.toml   # a file to start from")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the presets, each with its suite and a summary.
    List,
    /// Print a preset, with its comments.
    Show {
        /// Name of the preset.
        name: String,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.action {
        Action::List => {
            let width = PRESETS.iter().map(|preset| preset.name.len()).max().unwrap_or(0);
            let lines = PRESETS.iter().map(|preset| {
                let head = format!("{:<5}  {:width$}  ", preset.suite, preset.name);
                text::entry(&head, about(preset.toml), layout::width())
            });
            output::write(&lines.collect::<String>())
        }
        Action::Show { name } => {
            ensure!(!name.ends_with(".toml"), "`{name}` is a file: expected the name of a preset");
            // Called for its error, which names the nearest preset.
            Experiment::preset(name).map(drop).or_else(|error| match error {
                ExperimentError::UnknownPreset { .. } => Err(error),
                _ => Ok(()),
            })?;
            let preset = presets::find(name);
            output::write(preset.map_or("", |preset| preset.toml))
        }
    }
}

/// The first sentence of the comment at the top.
fn about(toml: &str) -> &str {
    let line = toml.lines().next().unwrap_or("").trim_start_matches("# ");
    line.split_once(". ").map_or(line, |(first, _)| first).trim_end_matches([',', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It says so in a complete sentence, which fits on a line of a hundred columns.
    #[test]
    fn every_preset_says_what_it_is_about() {
        let width = PRESETS.iter().map(|preset| preset.name.len()).max().unwrap_or(0);
        for preset in PRESETS {
            let about = about(preset.toml);
            let line = preset.toml.lines().next().unwrap_or("");
            let is_whole = line == format!("# {about}.") || line.starts_with(&format!("# {about}. "));
            assert!(is_whole && about.len() > 20, "{}: {about}", preset.name);
            assert!(5 + 2 + width + 2 + about.len() <= 100, "{}: {about}", preset.name);
        }
    }
}
