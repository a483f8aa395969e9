//! How a model came to an answer.

use crate::chart::heat_map::{HeatMap, Size};
use crate::format::{percent, significant, verdict};
use crate::markup::escape;
use crate::{Cell, Explanation, LookedAt, ReportError, Table, Written};

use super::Block;
use super::errors::matrices;

/// The answer, the probabilities of its tokens, and where each layer looked.
pub(crate) fn explanation(explanation: &Explanation) -> Result<Vec<Block>, ReportError> {
    let Explanation { solved, written, looked_at } = explanation;
    let words = format!(
        "<dl><dt>input tokens</dt><dd><code>{}</code></dd><dt>answer tokens</dt><dd><code>{}</code></dd></dl>\n",
        escape(&solved.src),
        escape(&solved.answer)
    );
    let mut blocks = vec![
        Block::Paragraph(format!("The answer: {}.", verdict(&solved.verdict))),
        Block::Html(matrices("the example", solved) + &words),
        Block::section("looked-at", "What it looked at"),
    ];
    blocks.push(Block::Paragraph(if looked_at.is_empty() {
        "This model has no attention: it reads the input once, then writes from its internal state.".to_owned()
    } else {
        "The share of its weight that the cross-attention of each layer gives to each coefficient of the input, for \
         each token written, summed over the coefficient's tokens. The encoder has already mixed the tokens, so the \
         position of a coefficient may also carry information about others."
            .to_owned()
    }));
    for (index, layer) in looked_at.iter().enumerate() {
        let number = index + 1;
        let mean = format!("Layer {number}, mean of {} heads", layer.heads.len());
        blocks.push(map(&format!("layer-{number}"), &mean, layer, &layer.mean(), written)?);
        for (head, shares) in layer.heads.iter().enumerate().filter(|_| layer.heads.len() > 1) {
            let (name, head) = (format!("layer-{number}-head-{}", head + 1), head + 1);
            blocks.push(map(&name, &format!("Layer {number}, head {head}"), layer, shares, written)?);
        }
    }
    blocks.push(Block::section("probabilities", "What it might have written"));
    let note = "The probability of each token given those before it, and the most probable tokens at its position.";
    blocks.push(Block::Paragraph(note.to_owned()));
    blocks.push(Block::Table { name: "probabilities".to_owned(), table: probabilities(written) });
    Ok(blocks)
}

/// A token with its coefficient.
fn label(written: &Written) -> String {
    let Written { place, token, .. } = written;
    if place.is_empty() { token.clone() } else { format!("{place}  {token}") }
}

fn map(
    name: &str,
    title: &str,
    layer: &LookedAt,
    shares: &[Vec<f64>],
    written: &[Written],
) -> Result<Block, ReportError> {
    let headings: Vec<&str> =
        ["coefficient", "token"].into_iter().chain(layer.sources.iter().map(String::as_str)).collect();
    let mut table = Table::new(title, &headings);
    for (written, shares) in written.iter().zip(shares) {
        let cells = shares.iter().map(|share| Cell::number(percent(*share), *share));
        table.push([Cell::text(&written.place), Cell::text(&written.token)].into_iter().chain(cells).collect());
    }
    let looks = written.iter().zip(shares).filter_map(|(written, shares)| {
        let (source, share) = layer.sources.iter().zip(shares).max_by(|a, b| a.1.total_cmp(b.1))?;
        Some(format!("{}: {source} {}.", label(written), percent(*share)))
    });
    let description = format!("Where most of the weight lies. {}", looks.collect::<Vec<_>>().join(" "));
    let map = HeatMap {
        size: Size::Small,
        row_name: "written".to_owned(),
        column_name: "looked at".to_owned(),
        columns: layer.sources.clone(),
        rows: written
            .iter()
            .zip(shares)
            .map(|(written, shares)| (label(written), shares.iter().copied().map(Some).collect()))
            .collect(),
    };
    Block::figure(name.to_owned(), title, description, table, map.to_svg())
}

fn probabilities(written: &[Written]) -> Table {
    let mut table = Table::new(
        "Probabilities",
        &[
            "coefficient",
            "token",
            "probability",
            "1st",
            "p of 1st",
            "2nd",
            "p of 2nd",
            "3rd",
            "p of 3rd",
            "4th",
            "p of 4th",
        ],
    );
    for Written { place, token, probability, candidates } in written {
        let mut row = vec![Cell::text(place), Cell::text(token), Cell::number(significant(*probability), *probability)];
        for (token, p) in candidates {
            row.extend([Cell::text(token), Cell::number(significant(*p), *p)]);
        }
        row.resize_with(table.columns.len(), || Cell::text(""));
        table.push(row);
    }
    table
}
