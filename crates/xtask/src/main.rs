//! Automation of this repository, as `cargo xtask`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command prints")]

mod bench_compare;
mod browser_test;
mod cuda;
mod gpu_day;
mod lazy_libraries;
mod search;

use std::path::Path;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Automation of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    BenchCompare(bench_compare::Arguments),
    BrowserTest(browser_test::Arguments),
    CudaToolkit(cuda::ToolkitArguments),
    CudaBuild(cuda::BuildArguments),
    GpuDay(gpu_day::Arguments),
    Search(search::Arguments),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::BenchCompare(arguments) => bench_compare::run(&arguments),
        Command::BrowserTest(arguments) => browser_test::run(&arguments),
        Command::CudaToolkit(arguments) => cuda::toolkit(&arguments),
        Command::CudaBuild(arguments) => cuda::build(&arguments),
        Command::GpuDay(arguments) => gpu_day::run(&arguments),
        Command::Search(arguments) => search::run(&arguments),
    }
}

/// The root of the workspace.
fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("the workspace has a root")
}
