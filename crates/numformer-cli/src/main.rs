//! The command `numformer`: parses arguments, calls the libraries, prints.
#![forbid(unsafe_code)]

/// Writes a line to standard error, if there is one. Unlike `eprintln!`, it never panics.
macro_rules! report {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($argument)*);
    }};
}

mod budget;
mod commands;
mod decoding;
mod device;
mod dry_run;
mod hint;
mod launcher;
mod layout;
mod matrix_file;
mod output;
mod partial_file;
mod passed_over;
mod ranks;
mod scaling;
mod signals;
mod verbosity;

use std::any::TypeId;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use crate::commands::{
    bench, completions, evaluate, export, filter, generate, import_lawt, presets, problems, report, reproduce, resume,
    runs, score, solve, train, verify,
};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use numformer_evaluate::text;
use numformer_experiment::ExperimentError;

use crate::ranks::Ranks;
use crate::verbosity::Verbosity;

/// Transformers that learn numerical linear algebra from examples.
///
/// Exit codes: 0 on success, including a run that was interrupted and saved; 1 if something failed, or a line of
/// input could not be processed; 2 for wrong usage; 128 plus the signal number (130 for Ctrl-C) if a signal ended the
/// command at once: a run interrupted a second time before it was saved, or work that can be repeated.
#[derive(Parser)]
#[command(name = "numformer", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    verbosity: Verbosity,
}

#[derive(Subcommand)]
enum Command {
    Train(train::Arguments),
    Resume(resume::Arguments),
    Evaluate(evaluate::Arguments),
    Solve(solve::Arguments),
    Generate(generate::Arguments),
    Verify(verify::Arguments),
    Problems(problems::Arguments),
    Encode(filter::EncodeArguments),
    Decode(filter::DecodeArguments),
    ImportLawt(import_lawt::Arguments),
    Export(export::Arguments),
    Score(score::Arguments),
    Bench(bench::Arguments),
    Presets(presets::Arguments),
    Runs(runs::Arguments),
    Report(report::Arguments),
    Reproduce(reproduce::Arguments),
    Completions(completions::Arguments),
    Man(completions::ManArguments),
}

impl Command {
    /// Checks that a command which several processes cannot share was not started by a launcher. Those that print what
    /// never changes may be.
    fn is_for_several(&self) -> anyhow::Result<()> {
        let name = match self {
            Self::Solve(_) => "solve",
            Self::Verify(_) => "verify",
            Self::ImportLawt(_) => "import-lawt",
            Self::Export(_) => "export",
            Self::Score(_) => "score",
            Self::Report(_) => "report",
            Self::Reproduce(_) => "reproduce",
            _ => return Ok(()),
        };
        Ranks::alone(name).map(drop)
    }
}

/// Passes a negative number to the option that it follows, instead of reading it as another option. The option then
/// refuses it and says why.
fn taking_negative_numbers(command: clap::Command) -> clap::Command {
    let numbers =
        [TypeId::of::<u16>(), TypeId::of::<u32>(), TypeId::of::<u64>(), TypeId::of::<usize>(), TypeId::of::<f64>()];
    command
        .mut_args(|argument| {
            let of_values = argument.get_value_parser().type_id();
            let is_number = numbers.iter().any(|number| of_values == *number);
            if is_number { argument.allow_negative_numbers(true) } else { argument }
        })
        .mut_subcommands(taking_negative_numbers)
}

/// The number of columns if no terminal gives one.
const USUAL_WIDTH: usize = 100;

/// How long a process that a launcher started waits before it reports an error that the first of them may have, too.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long one waits that was told of the error of another, which reports it meanwhile.
const PATIENCE_WITH_OTHERS: Duration = Duration::from_secs(10);

/// Reports wrong usage: where several processes have the same, the first does.
fn exit(usage: &clap::Error) -> ! {
    if usage.use_stderr() && launcher::is_not_first() {
        thread::sleep(PATIENCE);
    }
    usage.exit()
}

fn main() -> ExitCode {
    let matches = taking_negative_numbers(Cli::command()).try_get_matches().unwrap_or_else(|usage| exit(&usage));
    let Cli { command, verbosity } = Cli::from_arg_matches(&matches).unwrap_or_else(|usage| exit(&usage));
    if let Err(error) = command.is_for_several() {
        return failed(&error);
    }
    let outcome = match command {
        Command::Train(arguments) => train::run(arguments, verbosity).map(|()| ExitCode::SUCCESS),
        Command::Resume(arguments) => resume::run(arguments, verbosity).map(|()| ExitCode::SUCCESS),
        Command::Evaluate(arguments) => evaluate::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Solve(arguments) => solve::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Generate(arguments) => generate::run(&arguments, verbosity).map(|()| ExitCode::SUCCESS),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Problems(arguments) => problems::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Encode(arguments) => filter::encode(&arguments),
        Command::Decode(arguments) => filter::decode(&arguments),
        Command::ImportLawt(arguments) => import_lawt::run(&arguments),
        Command::Export(arguments) => export::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Score(arguments) => score::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Presets(arguments) => presets::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Runs(arguments) => runs::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Report(arguments) => report::run(&arguments, verbosity).map(|()| ExitCode::SUCCESS),
        Command::Reproduce(arguments) => reproduce::run(&arguments, verbosity).map(|()| ExitCode::SUCCESS),
        Command::Completions(arguments) => completions::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Man(arguments) => completions::man(&arguments).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| match error.downcast::<clap::Error>() {
        // Wrong usage that only shows when options are checked together.
        Ok(usage) => exit(&usage),
        Err(error) => failed(&error),
    })
}

/// Reports an error, once where several processes have it.
fn failed(error: &anyhow::Error) -> ExitCode {
    if ranks::is_of_another_rank(error) {
        thread::sleep(PATIENCE_WITH_OTHERS);
        return ExitCode::FAILURE;
    }
    if launcher::is_not_first() {
        thread::sleep(PATIENCE);
    }
    report!("error: {}", causes(error.chain()));
    let unknown = error.chain().find_map(|cause| cause.downcast_ref());
    if let Some(ExperimentError::UnknownPreset { known, .. }) = unknown {
        let width = layout::width_of_errors().unwrap_or(USUAL_WIDTH);
        report!("The presets are:\n{}", text::names(known, width).trim_end());
    }
    ExitCode::FAILURE
}

/// An error and its causes in one line, without the backtraces that RUST_BACKTRACE adds to some errors: users have no
/// use for them.
fn causes(chain: anyhow::Chain<'_>) -> String {
    chain.map(cause).collect::<Vec<_>>().join(": ")
}

fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    match error.downcast_ref() {
        // candle's errors have their backtrace in the text.
        Some(candle_core::Error::WithBacktrace { inner, .. }) => cause(&**inner),
        _ => error.to_string(),
    }
}
