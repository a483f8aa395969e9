//! Text within the width of the terminal.

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

/// Words in lines of at most `width` characters; a longer word has a line of its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    // A no-break space is none between words.
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A head, such as a padded name, and what is said of it beside it; below it, where that leaves too little room.
pub(crate) fn entry(head: &str, text: &str, width: Option<usize>) -> String {
    const LEAST: usize = 24;
    const INDENT: usize = 4;
    let Some(width) = width else { return format!("{head}{text}\n") };
    let beside = head.chars().count();
    if beside + LEAST <= width {
        let lines = wrapped(text, width - beside);
        return format!("{head}{}\n", lines.join(&format!("\n{:beside$}", "")));
    }
    let mut lines = vec![head.trim_end().to_owned()];
    let below = wrapped(text, width.saturating_sub(INDENT).max(LEAST));
    lines.extend(below.iter().map(|line| format!("{:INDENT$}{line}", "")));
    lines.join("\n") + "\n"
}

/// A table with titles, the first column to the left, the others to the right. Where that is too wide, each row is an
/// [`entry`] of its own: its first cell, and the others with their titles.
pub(crate) fn table(titles: &[&str], rows: &[Vec<String>], width: Option<usize>) -> String {
    let widths: Vec<usize> = (0..titles.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(String::as_str);
            cells.chain([titles[column]]).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let total = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
    if width.is_some_and(|width| total > width) {
        let pairs = |row: &[String]| {
            let cells = titles.iter().zip(row).skip(1).map(|(title, cell)| format!("{title}\u{a0}{cell}"));
            cells.collect::<Vec<_>>().join(", ")
        };
        // A title and its cell stay together: they are one word until the lines are made.
        return rows.iter().map(|row| entry(&row[0], &pairs(row), width).replace('\u{a0}', " ")).collect();
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ") + "\n"
    };
    let mut text = line(&mut titles.iter().copied());
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

/// Names in lines, with commas, below what they belong to.
pub(crate) fn names(names: &[impl AsRef<str>], width: usize) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    let lines = wrapped(&names.join(", "), width.saturating_sub(2));
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stands_beside_its_head_or_below_it() {
        let text = "Eigenvalues of symmetric matrices";
        assert_eq!(entry("a  ", text, None), "a  Eigenvalues of symmetric matrices\n");
        assert_eq!(entry("a  ", text, Some(36)), "a  Eigenvalues of symmetric matrices\n");
        assert_eq!(entry("a  ", text, Some(35)), "a  Eigenvalues of symmetric\n   matrices\n");
        let below = "a-long-name\n    Eigenvalues of symmetric\n    matrices\n";
        assert_eq!(entry("a-long-name  ", text, Some(30)), below);
        assert_eq!(
            entry("größe", "eins zwei drei vier fünf sechs", Some(29)),
            "größeeins zwei drei vier fünf\n     sechs\n"
        );
    }

    #[test]
    fn tables_that_are_too_wide_become_lists() {
        let rows = [vec!["first".to_owned(), "4/4".to_owned(), "0.5".to_owned()]];
        let titles = ["run", "steps", "loss"];
        let wide = "run    steps  loss\nfirst    4/4   0.5\n";
        assert_eq!(table(&titles, &rows, None), wide);
        assert_eq!(table(&titles, &rows, Some(18)), wide);
        assert_eq!(table(&titles, &rows, Some(17)), "first\n    steps 4/4, loss 0.5\n");
        let rows = [vec!["first".to_owned(), "1500/1500".to_owned(), "0.12345678".to_owned()]];
        assert_eq!(table(&titles, &rows, Some(24)), "first\n    steps 1500/1500,\n    loss 0.12345678\n");
    }

    #[test]
    fn names_are_cut_between_them() {
        assert_eq!(names(&["one", "two", "three"], 12), "  one, two,\n  three\n");
        assert_eq!(names(&["a-very-long-name"], 5), "  a-very-long-name\n");
    }
}
