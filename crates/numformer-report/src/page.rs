//! The page around the blocks of a report.

use std::fmt::Write as _;

use crate::markup::escape;
use crate::section::Block;
use crate::theme::variables;

/// The style sheet, for wide and narrow screens, in the colours of the theme.
const STYLE: &str = include_str!("style.css");

/// A whole document.
pub(crate) fn page(title: &str, blocks: &[Block]) -> String {
    let escaped = escape(title);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{escaped}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<style>\n{}{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{escaped}</h1>\n",
        variables()
    );
    html += &contents(blocks);
    let mut is_among_figures = false;
    for block in blocks {
        let is_figure = matches!(block, Block::Figure(_));
        if is_figure != is_among_figures {
            html += if is_figure { "<div class=\"figures\">\n" } else { "</div>\n" };
            is_among_figures = is_figure;
        }
        match block {
            Block::Section { id, text } => {
                writeln!(html, "<h2 id=\"{id}\">{}</h2>", escape(text)).expect("strings grow");
            }
            Block::Heading { level, text } => {
                writeln!(html, "<h{level}>{}</h{level}>", escape(text)).expect("strings grow");
            }
            Block::Paragraph(text) => writeln!(html, "<p>{}</p>", escape(text)).expect("strings grow"),
            Block::Figure(figure) => html += &figure.to_html(),
            Block::Table { name, table } => html += &table.to_html(name),
            Block::Html(part) => html += part,
        }
    }
    if is_among_figures {
        html += "</div>\n";
    }
    html += "</main>\n</body>\n</html>\n";
    html
}

/// Links to the sections, if there are several.
fn contents(blocks: &[Block]) -> String {
    let sections = blocks.iter().filter_map(|block| match block {
        Block::Section { id, text } => Some(format!("<li><a href=\"#{id}\">{}</a></li>", escape(text))),
        _ => None,
    });
    let links: Vec<String> = sections.collect();
    if links.len() < 2 {
        return String::new();
    }
    format!("<nav aria-label=\"Contents\"><ul>{}</ul></nav>\n", links.concat())
}
