//! The command `numformer`: parses arguments, calls the libraries, prints.
#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "printing is what a command is for")]

mod filter;
mod import_lawt;
mod score;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Transformers that learn numerical linear algebra from examples.
///
/// Exit codes: 0 when all went well, 1 when something could not be done, 2 for wrong usage.
#[derive(Parser)]
#[command(name = "numformer", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(train::Arguments),
    Encode(filter::EncodeArguments),
    Decode(filter::DecodeArguments),
    ImportLawt(import_lawt::Arguments),
    Score(score::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Train(arguments) => train::run(arguments).map(|()| ExitCode::SUCCESS),
        Command::Encode(arguments) => filter::encode(&arguments),
        Command::Decode(arguments) => filter::decode(&arguments),
        Command::ImportLawt(arguments) => import_lawt::run(&arguments),
        Command::Score(arguments) => score::run(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
