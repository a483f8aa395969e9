//! Text in columns, within the width of a page or terminal.

/// The minimum number of columns for text.
const LEAST: usize = 24;

/// The number of columns by which text below its head is indented.
const INDENT: usize = 4;

/// Wraps words into lines of at most `width` characters. A longer word gets its own line.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    // A no-break space does not separate words.
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

/// Formats a head, such as a padded name, with its description beside it, or below it if there is too little room.
///
/// ```
/// use numformer_evaluate::text::entry;
///
/// assert_eq!(entry("rank  ", "that of a matrix as an integer", None), "rank  that of a matrix as an integer\n");
/// assert_eq!(entry("rank  ", "that of a matrix as an integer", Some(30)), "rank  that of a matrix as an\n      integer\n");
/// assert_eq!(entry("rank  ", "that of a matrix as an integer", Some(28)), "rank\n    that of a matrix as an\n    integer\n");
/// ```
#[must_use]
pub fn entry(head: &str, text: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return format!("{head}{text}\n") };
    let beside = head.chars().count();
    if beside + LEAST <= width || beside + text.chars().count() <= width {
        let lines = wrapped(text, width - beside);
        return format!("{head}{}\n", lines.join(&format!("\n{:beside$}", "")));
    }
    entry_below(head, text, width)
}

/// Formats a head with its description below it.
fn entry_below(head: &str, text: &str, width: usize) -> String {
    let mut lines = vec![head.trim_end().to_owned()];
    let below = wrapped(text, width.saturating_sub(INDENT).max(LEAST));
    lines.extend(below.iter().map(|line| format!("{:INDENT$}{line}", "")));
    lines.join("\n") + "\n"
}

/// The alignment of a table's cells. The first column is always aligned to the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// To the left: for text.
    Left,
    /// To the right: for numbers.
    Right,
}

/// Formats a table with titles. If the table is too wide, it becomes a list below the first title: for each row, the
/// first cell, and below it the other non-empty cells with their titles.
///
/// # Panics
/// When there is no title, or a row is empty.
///
/// ```
/// use numformer_evaluate::text::{Align, table};
///
/// let rows = [vec!["first".to_owned(), "1500".to_owned(), "0.5".to_owned()]];
/// let titles = ["run", "steps", "loss"];
/// assert_eq!(table(&titles, &rows, Align::Right, None), "run    steps  loss\nfirst   1500   0.5\n");
/// assert_eq!(table(&titles, &rows, Align::Right, Some(17)), "run\nfirst\n    steps 1500, loss 0.5\n");
/// ```
#[must_use]
pub fn table(titles: &[impl AsRef<str>], rows: &[Vec<String>], align: Align, width: Option<usize>) -> String {
    let titles: Vec<&str> = titles.iter().map(AsRef::as_ref).collect();
    let widths: Vec<usize> = (0..titles.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(String::as_str);
            cells.chain([titles[column]]).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let total = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
    if let Some(most) = width.filter(|most| total > *most) {
        // A title and a short cell stay together: they are one word until the lines are made.
        let pair = |(title, cell): (&&str, &String)| {
            let pair = format!("{title} {cell}");
            if pair.chars().count() + INDENT < most { pair.replace(' ', "\u{a0}") } else { pair }
        };
        let pairs = |row: &[String]| {
            let cells = titles.iter().zip(row).skip(1).filter(|(_, cell)| !cell.is_empty());
            cells.map(pair).collect::<Vec<_>>().join(", ")
        };
        let entries = rows.iter().map(|row| entry_below(&row[0], &pairs(row), most).replace('\u{a0}', " "));
        return format!("{}\n{}", titles[0].trim_end(), entries.collect::<String>());
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(&widths).enumerate().map(|(column, (cell, &width))| match (column, align) {
            (0, _) | (_, Align::Left) => format!("{cell:width$}"),
            (_, Align::Right) => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut titles.iter().copied());
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

/// Wraps names into lines, separated by commas, below their heading.
///
/// ```
/// assert_eq!(numformer_evaluate::text::names(&["one", "two", "three"], 12), "  one, two,\n  three\n");
/// ```
#[must_use]
pub fn names(names: &[impl AsRef<str>], width: usize) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    let lines = wrapped(&names.join(", "), width.saturating_sub(2));
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

/// Wraps each line that is too long. Continuation lines are indented by two columns.
///
/// ```
/// let text = "parameters:\n  without gradient  48, to which softmax is blind\n";
/// let folded = "parameters:\n  without gradient  48, to\n    which softmax is blind\n";
/// assert_eq!(numformer_evaluate::text::folded(text, Some(26)), folded);
/// assert_eq!(numformer_evaluate::text::folded(text, None), text);
/// ```
#[must_use]
pub fn folded(text: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return text.to_owned() };
    let fold = |line: &str| {
        let words = line.trim_start();
        let indent = line.chars().count() - words.chars().count();
        if line.chars().count() <= width {
            return line.to_owned();
        }
        // Lines that are not wrapped keep their spacing.
        let (mut lines, mut rest, mut indent) = (Vec::new(), words, indent);
        while indent + rest.chars().count() > width {
            let within = rest.char_indices().nth(width.saturating_sub(indent) + 1).map_or(rest.len(), |(at, _)| at);
            let end = rest[..within].rfind(' ').filter(|at| *at > 0).or_else(|| rest.find(' '));
            let Some(end) = end else { break };
            lines.push(format!("{:indent$}{}", "", rest[..end].trim_end()));
            rest = rest[end..].trim_start();
            if lines.len() == 1 {
                indent += 2;
            }
        }
        lines.push(format!("{:indent$}{rest}", ""));
        lines.join("\n")
    };
    let lines: Vec<String> = text.split('\n').map(fold).collect();
    lines.join("\n")
}

/// `; did you mean `y`?` for the known name nearest to `name`, or an empty string if none is near.
#[must_use]
pub fn did_you_mean<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    // Similarity runs from 0 to 1; below 0.7 suggestions stop making sense to a reader.
    const NEAR: f64 = 0.7;
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity > NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(String::new(), |(_, nearest)| format!("; did you mean `{nearest}`?"))
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
        // Short text needs no more room than it takes.
        assert_eq!(entry("a-long-name  ", "one two", Some(20)), "a-long-name  one two\n");
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
        assert_eq!(table(&titles, &rows, Align::Right, None), wide);
        assert_eq!(table(&titles, &rows, Align::Right, Some(18)), wide);
        assert_eq!(table(&titles, &rows, Align::Right, Some(17)), "run\nfirst\n    steps 4/4, loss 0.5\n");
        assert_eq!(table(&titles, &rows, Align::Left, None), "run    steps  loss\nfirst  4/4    0.5\n");
        let rows = [vec!["first".to_owned(), "1500/1500".to_owned(), "0.12345678".to_owned()]];
        assert_eq!(
            table(&titles, &rows, Align::Right, Some(24)),
            "run\nfirst\n    steps 1500/1500,\n    loss 0.12345678\n"
        );
        let rows = [vec!["first".to_owned(), String::new(), "0.5 (0.1 to 0.9)".to_owned()]];
        assert_eq!(table(&titles, &rows, Align::Left, Some(20)), "run\nfirst\n    loss 0.5 (0.1 to 0.9)\n");
    }

    #[test]
    fn names_are_cut_between_them() {
        assert_eq!(names(&["one", "two", "three"], 12), "  one, two,\n  three\n");
        assert_eq!(names(&["a-very-long-name"], 5), "  a-very-long-name\n");
    }

    #[test]
    fn lines_are_folded_between_words() {
        assert_eq!(folded("  one  two three", Some(10)), "  one  two\n    three");
        assert_eq!(folded("one two", Some(7)), "one two");
        assert_eq!(folded("größe zwei", Some(6)), "größe\n  zwei");
        assert_eq!(
            folded("a-very-long-word and more\n\nshort\n", Some(6)),
            "a-very-long-word\n  and\n  more\n\nshort\n"
        );
        assert_eq!(folded("", Some(0)), "");
        assert_eq!(folded("a b", Some(0)), "a\n  b");
    }
}
