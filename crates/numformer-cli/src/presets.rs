//! `numformer presets`: the experiments that come with the program.

use anyhow::Result;
use clap::{Args, Subcommand};
use numformer_train::presets::{self, PRESETS, Preset};
use numformer_train::{Experiment, ExperimentError};

use crate::output;

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
    /// List their names, each with its suite and what it is about.
    List,
    /// Print one, with its comments.
    Show {
        /// Its name.
        name: String,
    },
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.action {
        Action::List => {
            let width = PRESETS.iter().map(|preset| preset.name.len()).max().unwrap_or(0);
            let line =
                |preset: &Preset| format!("{:<5}  {:width$}  {}\n", preset.suite, preset.name, about(preset.toml));
            output::write(&PRESETS.iter().map(line).collect::<String>())
        }
        Action::Show { name } => {
            // For its error, which names the nearest preset.
            Experiment::preset(name).map(drop).or_else(|error| match error {
                ExperimentError::UnknownPreset { .. } => Err(error),
                _ => Ok(()),
            })?;
            let preset = presets::find(name);
            output::write(preset.map_or("", |preset| preset.toml))
        }
    }
}

/// The first sentence of the comment on top.
fn about(toml: &str) -> &str {
    let line = toml.lines().next().unwrap_or("").trim_start_matches("# ");
    line.split_once(". ").map_or(line, |(first, _)| first).trim_end_matches([',', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_says_what_it_is_about() {
        for preset in PRESETS {
            assert!(about(preset.toml).len() > 20, "{}", preset.name);
        }
    }
}
