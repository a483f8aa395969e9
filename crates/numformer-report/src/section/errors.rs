//! The errors of answers, and the worst answers.

use numformer_encoding::DenseMatrix;
use numformer_evaluate::Solved;

use crate::chart::histogram::ErrorHistogram;
use crate::format::{count, percent, percent_short, verdict, with_causes};
use crate::markup::escape;
use crate::{Cell, ReportError, Table, TestResults, WorstCase};

use super::{Block, Named};

/// The histogram of errors and the worst cases; empty if the run has no results.
pub(crate) fn errors(named: &Named<'_>) -> Result<Vec<Block>, ReportError> {
    let Some(results) = &named.run.results else { return Ok(Vec::new()) };
    let prefix = &named.prefix;
    Ok([vec![Block::heading(3, "Errors"), histogram(prefix, results)?], worst_cases(prefix, results)].concat())
}

fn histogram(prefix: &str, results: &TestResults) -> Result<Block, ReportError> {
    let histogram = ErrorHistogram::of(results.errors(), results.without_error());
    let total = histogram.total().max(1) as f64;
    let mut table = Table::new("Answers by relative error", &["from", "below", "answers", "share"]);
    let mut row = |from: Cell, below: Cell, n: u64| {
        let share = n as f64 / total;
        table.push(vec![from, below, Cell::number(count(n), n as f64), Cell::number(percent(share), share)]);
    };
    row(Cell::number("0", 0.0), Cell::number("0", 0.0), histogram.zero);
    for (bin, n) in histogram.bins.iter().enumerate() {
        let (from, below) = ErrorHistogram::ends(bin);
        // The ends are roots of powers of ten, so they are rounded to three digits.
        let [from, below] = [from, below].map(|end| {
            let rounded = format!("{end:.2e}").parse().unwrap_or(end);
            Cell::number(if rounded == f64::INFINITY { "∞".to_owned() } else { percent_short(rounded) }, rounded)
        });
        row(from, below, *n);
    }
    row(Cell::none(), Cell::none(), histogram.none);
    let description = format!(
        "Histogram of the relative errors of {} answers: {} have an error of zero, {} have no finite error or are not \
         a matrix of the right shape.",
        count(histogram.total()),
        count(histogram.zero),
        count(histogram.none)
    );
    Block::figure(format!("{prefix}-errors"), "Answers by relative error", description, table, histogram.to_svg())
}

fn worst_cases(prefix: &str, results: &TestResults) -> Vec<Block> {
    let mut blocks = vec![Block::heading(4, "Worst cases")];
    if results.worst.is_empty() {
        blocks.push(Block::Paragraph("Every answer is right.".to_owned()));
        return blocks;
    }
    let columns = ["example", "found", "input", "exact", "answer", "input tokens", "exact tokens", "answer tokens"];
    let mut table = Table::new("Worst cases", &columns);
    let mut html = String::new();
    for case in &results.worst {
        let WorstCase { index, solved } = case;
        table.push(vec![
            Cell::number(index.to_string(), *index as f64),
            Cell::text(verdict(&solved.verdict)),
            Cell::text(solved.input.to_string()),
            Cell::text(solved.exact.to_string()),
            Cell::text(solved.found.as_ref().map_or_else(|_| String::new(), DenseMatrix::to_string)),
            Cell::text(&solved.src),
            Cell::text(&solved.target),
            Cell::text(&solved.answer),
        ]);
        html += &card(case);
    }
    let sentence = format!(
        "Of the {} answers, those with the largest errors, and some without an error because they are not a matrix of \
         the right shape.",
        count(results.verdicts.len() as u64)
    );
    blocks.push(Block::Paragraph(sentence));
    blocks.push(Block::Html(format!(
        "<div class=\"cases\">\n{html}</div>\n{}",
        table.download(&format!("{prefix}-worst"))
    )));
    blocks
}

/// An example as matrices and as tokens.
fn card(WorstCase { index, solved }: &WorstCase) -> String {
    format!(
        "<article class=\"case\">\n<h5>Test example {index}: {}</h5>\n{}\
         <dl><dt>input tokens</dt><dd><code>{}</code></dd><dt>exact tokens</dt><dd><code>{}</code></dd>\
         <dt>answer tokens</dt><dd><code>{}</code></dd></dl>\n</article>\n",
        escape(&verdict(&solved.verdict)),
        matrices(&format!("test example {index}"), solved),
        escape(&solved.src),
        escape(&solved.target),
        escape(&solved.answer)
    )
}

/// Input, exact answer and the model's answer side by side.
pub(super) fn matrices(of: &str, solved: &Solved) -> String {
    let found = match &solved.found {
        Ok(matrix) => grid("model's answer", matrix),
        Err(error) => {
            format!("<p class=\"none\">not a matrix: {}</p>", escape(&with_causes(error)))
        }
    };
    format!(
        "<div class=\"scroll matrices\" role=\"region\" aria-label=\"Matrices of {of}\" tabindex=\"0\">{}{}{found}</div>\n",
        grid("input", &solved.input),
        grid("exact answer", &solved.exact)
    )
}

fn grid(name: &str, matrix: &DenseMatrix) -> String {
    let row = |row: &[f64]| {
        let cells: String = row.iter().map(|x| format!("<td>{}</td>", coefficient(*x))).collect();
        format!("<tr>{cells}</tr>")
    };
    let rows: String = matrix.coefficients.chunks(matrix.cols.max(1)).map(row).collect();
    format!("<table class=\"matrix\"><caption>{name}</caption><tbody>{rows}</tbody></table>")
}

/// A coefficient in full, or shortened if that is long.
fn coefficient(x: f64) -> String {
    let text = x.to_string();
    if text.len() > 9 { format!("{x:.4e}") } else { text }
}
