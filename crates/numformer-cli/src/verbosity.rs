//! How much is said on standard error.

use clap::Args;

/// How much is said on standard error, beside errors. Standard output is the same.
#[derive(Args, Clone, Copy)]
pub(crate) struct Verbosity {
    /// Print only warnings and errors to standard error.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print more: for a run, each checkpoint written and the number of threads.
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}
