//! The width of the terminal.

use std::env;
use std::io::{self, IsTerminal};

/// Columns of standard output: those of the terminal, otherwise what COLUMNS says, as for the help. None where a line may
/// be as long as it is, so that a pipe gets one line for each thing.
pub(crate) fn width() -> Option<usize> {
    width_of(&io::stdout())
}

/// As [`width`], where standard output is a terminal: for what others are to have in another form.
pub(crate) fn width_of_terminal() -> Option<usize> {
    if io::stdout().is_terminal() { width() } else { None }
}

/// Columns as a formatter takes them, in which 0 is no limit.
pub(crate) fn columns() -> usize {
    width().unwrap_or(0)
}

/// As [`width`], of standard error.
pub(crate) fn width_of_errors() -> Option<usize> {
    width_of(&io::stderr())
}

fn width_of(stream: &impl IsTerminal) -> Option<usize> {
    let terminal = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    let width = if stream.is_terminal() { terminal() } else { None };
    let width = width.or_else(|| env::var("COLUMNS").ok()?.parse().ok());
    // As much as a formatter can be told.
    width.filter(|width| *width > 0).map(|width| width.min(usize::from(u16::MAX)))
}
