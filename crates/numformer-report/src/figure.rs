//! One figure: a drawing, a description in words, and its numbers.

use crate::Table;
use crate::chart::WIDTH;
use crate::markup::escape;
use crate::theme::follow_page;

/// One figure: a drawing, a description in words, and its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Its name within the report: lowercase letters, digits and `-`.
    pub name: String,
    /// Its title.
    pub title: String,
    /// A description of what it shows, for readers who cannot see it.
    pub description: String,
    /// Its numbers.
    pub table: Table,
    /// The drawing in light colours, without further changes.
    drawing: String,
}

/// The beginning of every drawing; the rest of the tag gives its size.
const BEGINNING: &str = "<svg width=\"";

impl Figure {
    pub(crate) fn new(
        name: String,
        title: impl Into<String>,
        description: String,
        table: Table,
        drawing: String,
    ) -> Self {
        Self { name, title: title.into(), description, table, drawing }
    }

    /// The figure by itself, for a paper: in light colours, as a separate file.
    #[must_use]
    pub fn to_svg(&self) -> String {
        let (size, body) = self.parts();
        format!(
            "<svg width=\"{size} role=\"img\" aria-label=\"{}\">\n<title>{}</title>\n<desc>{}</desc>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#FFFFFF\"/>\n{body}",
            escape(&self.title),
            escape(&self.title),
            escape(&self.description)
        )
    }

    /// The figure for a page, in the page's colours, with its numbers beneath.
    pub(crate) fn to_html(&self) -> String {
        let (size, body) = self.parts();
        let Self { name, table, .. } = self;
        let (title, description) = (escape(&self.title), escape(&self.description));
        // The figure is never too narrow to read; it scrolls if it does not fit.
        let width: u32 = size.split('"').next().and_then(|width| width.parse().ok()).unwrap_or(WIDTH);
        let least = if width > WIDTH { format!(" style=\"min-width:{width}px\"") } else { String::new() };
        let body = follow_page(body);
        let table = table.to_html(name);
        format!(
            "<figure id=\"figure-{name}\">\n<figcaption>{title}</figcaption>\n\
             <div class=\"scroll\"><svg width=\"{size}{least} role=\"img\" aria-labelledby=\"figure-{name}-title figure-{name}-description\">\
             <title id=\"figure-{name}-title\">{title}</title><desc id=\"figure-{name}-description\">{description}</desc>\n{body}</div>\n\
             <details><summary>Numbers</summary>\n{table}</details>\n</figure>\n"
        )
    }

    /// The rest of the opening tag without its `>`, and everything that follows it.
    fn parts(&self) -> (&str, &str) {
        let rest = self.drawing.strip_prefix(BEGINNING).unwrap_or(&self.drawing);
        rest.split_once(">\n").unwrap_or((rest, ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::line_chart::tests::two_lines;

    fn figure() -> Figure {
        let drawing = two_lines().to_svg().expect("drawn");
        Figure::new("a-b".to_owned(), "<Loss>", "It \"falls\".".to_owned(), Table::new("Loss", &["x"]), drawing)
    }

    #[test]
    fn a_figure_says_what_it_shows() {
        let html = figure().to_html();
        assert!(html.contains("<figcaption>&lt;Loss&gt;</figcaption>"), "{html}");
        assert!(html.contains("role=\"img\" aria-labelledby=\"figure-a-b-title figure-a-b-description\">"));
        assert!(html.contains("<desc id=\"figure-a-b-description\">It &quot;falls&quot;.</desc>"), "{html}");
        assert!(html.contains("var(--series-0)") && !html.contains("#0072B2"), "{html}");
    }

    #[test]
    fn a_figure_by_itself_is_light_and_whole() {
        let svg = figure().to_svg();
        assert!(svg.starts_with("<svg width=\"") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert!(svg.contains("xmlns=\"http://www.w3.org/2000/svg\" role=\"img\""), "{svg}");
        assert!(svg.contains("#0072B2") && !svg.contains("var("), "{svg}");
    }
}
