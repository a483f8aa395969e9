//! How much is said on standard error.

use clap::Args;

/// How much is said on standard error, beside errors. Standard output is the same.
#[derive(Args, Clone, Copy)]
pub(crate) struct Verbosity {
    /// Say nothing on standard error but what is wrong.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more: of a run, every checkpoint that is written, and by how many threads it is computed.
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}
