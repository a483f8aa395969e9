//! Tables, on the page and as files.

use std::fmt::Write as _;

use crate::markup::{escape, file_name, percent_encode};

/// A table with a row of headings.
///
/// # Examples
/// ```
/// use numformer_report::{Cell, Table};
///
/// let mut table = Table::new("Accuracy", &["law", "within 5%"]);
/// table.push(vec![Cell::text("uniform, \"wide\""), Cell::number("97.3%", 0.973)]);
/// assert_eq!(table.to_csv(), "law,within 5%\r\n\"uniform, \"\"wide\"\"\",0.973\r\n");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Its caption; part of the name of its file.
    pub caption: String,
    /// The headings.
    pub columns: Vec<String>,
    /// The rows, each with a cell for every heading.
    pub rows: Vec<Vec<Cell>>,
}

/// A cell of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The text on the page.
    pub shown: String,
    /// The text in a file.
    pub stored: String,
    /// Whether it is a number, which is aligned right.
    pub is_number: bool,
}

impl Cell {
    /// A text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { shown: text.clone(), stored: text, is_number: false }
    }

    /// A number: `shown` on the page, and at full precision in a file.
    #[must_use]
    pub fn number(shown: impl Into<String>, value: f64) -> Self {
        Self { shown: shown.into(), stored: value.to_string(), is_number: true }
    }

    /// An empty cell in place of a number.
    #[must_use]
    pub fn none() -> Self {
        Self { shown: "–".to_owned(), stored: String::new(), is_number: true }
    }
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new(caption: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|&name| name.to_owned()).collect();
        Self { caption: caption.into(), columns, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// The table as comma-separated values (RFC 4180), with numbers at full precision.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let field = |text: &str| {
            if text.contains(['"', ',', '\n', '\r']) {
                format!("\"{}\"", text.replace('"', "\"\""))
            } else {
                text.to_owned()
            }
        };
        let line = |fields: &mut dyn Iterator<Item = &str>| fields.map(field).collect::<Vec<_>>().join(",") + "\r\n";
        let mut csv = line(&mut self.columns.iter().map(String::as_str));
        for row in &self.rows {
            csv += &line(&mut row.iter().map(|cell| cell.stored.as_str()));
        }
        csv
    }

    /// The table in a box that scrolls, with a link to its file.
    pub(crate) fn to_html(&self, name: &str) -> String {
        let caption = escape(&self.caption);
        let mut html = format!(
            "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table>\n\
             <caption>{caption}</caption>\n<thead><tr>"
        );
        let is_number = |column: usize| self.rows.iter().any(|row| row.get(column).is_some_and(|cell| cell.is_number));
        let class = |is_number: bool| if is_number { " class=\"number\"" } else { "" };
        let mut push = |text: std::fmt::Arguments<'_>| html.write_fmt(text).expect("strings grow");
        for (column, heading) in self.columns.iter().enumerate() {
            push(format_args!("<th scope=\"col\"{}>{}</th>", class(is_number(column)), escape(heading)));
        }
        push(format_args!("</tr></thead>\n<tbody>\n"));
        for row in &self.rows {
            push(format_args!("<tr>"));
            for cell in row {
                push(format_args!("<td{}>{}</td>", class(cell.is_number), escape(&cell.shown)));
            }
            push(format_args!("</tr>\n"));
        }
        push(format_args!("</tbody></table></div>\n{}", self.download(name)));
        html
    }

    /// A link that saves the table as a file.
    pub(crate) fn download(&self, name: &str) -> String {
        let (file, csv) = (file_name(name), percent_encode(&self.to_csv()));
        let caption = escape(&self.caption);
        format!(
            "<p class=\"download\"><a download=\"{file}.csv\" href=\"data:text/csv;charset=utf-8,{csv}\" \
             aria-label=\"{caption} as CSV\">CSV</a></p>\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new("<Losses>", &["run", "loss"]);
        table.push(vec![Cell::text("a & b"), Cell::number("0.12", 0.123)]);
        table.push(vec![Cell::text("two\nlines"), Cell::none()]);
        table
    }

    #[test]
    fn files_hold_numbers_in_full_and_quote_what_needs_it() {
        assert_eq!(table().to_csv(), "run,loss\r\na & b,0.123\r\n\"two\nlines\",\r\n");
    }

    #[test]
    fn pages_hold_what_is_shown_escaped() {
        let html = table().to_html("my losses");
        for part in [
            "<caption>&lt;Losses&gt;</caption>",
            "<th scope=\"col\">run</th><th scope=\"col\" class=\"number\">loss</th>",
            "<td>a &amp; b</td><td class=\"number\">0.12</td>",
            "download=\"my-losses.csv\" href=\"data:text/csv;charset=utf-8,run%2Closs%0D%0Aa%20%26%20b%2C0.123",
        ] {
            assert!(html.contains(part), "{part} in {html}");
        }
    }
}
