//! The width of the terminal.

use std::env;
use std::io::{self, IsTerminal};

/// The columns of standard output: those of the terminal, or else the value of COLUMNS, as for the help. `None` if lines
/// may have any length, so that a pipe gets one line for each item.
pub(crate) fn width() -> Option<usize> {
    width_of(&io::stdout())
}

/// As [`width`], but `None` unless standard output is a terminal: for output that has another form elsewhere.
pub(crate) fn width_of_terminal() -> Option<usize> {
    if io::stdout().is_terminal() { width() } else { None }
}

/// The columns as a formatter takes them: 0 means no limit.
pub(crate) fn columns() -> usize {
    width().unwrap_or(0)
}

/// As [`width`], for standard error.
pub(crate) fn width_of_errors() -> Option<usize> {
    width_of(&io::stderr())
}

fn width_of(stream: &impl IsTerminal) -> Option<usize> {
    let terminal = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    let width = if stream.is_terminal() { terminal() } else { None };
    let width = width.or_else(|| env::var("COLUMNS").ok()?.parse().ok());
    // A formatter accepts no larger width.
    width.filter(|width| *width > 0).map(|width| width.min(usize::from(u16::MAX)))
}
