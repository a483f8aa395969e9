//! The width of the terminal.

use std::env;
use std::io::{self, IsTerminal};

/// Columns of standard output: those of the terminal, otherwise what COLUMNS says, as for the help. None where a line may
/// be as long as it is, so that a pipe gets one line for each thing.
pub(crate) fn width() -> Option<usize> {
    width_of(&io::stdout())
}

/// As [`width`], of standard error.
pub(crate) fn width_of_errors() -> Option<usize> {
    width_of(&io::stderr())
}

fn width_of(stream: &impl IsTerminal) -> Option<usize> {
    let terminal = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    let width = if stream.is_terminal() { terminal() } else { None };
    width.or_else(|| env::var("COLUMNS").ok()?.parse().ok()).filter(|width| *width > 0)
}
