//! Accuracy on matrices from other laws than the training matrices.

use crate::chart::heat_map::{HeatMap, Size};
use crate::format::{count, percent};
use crate::{Cell, ReportError, Table};

use super::summary::within_five_percent;
use super::{Block, Named};

/// The matrix of training laws and test laws; empty if no model was tested on other laws.
pub(crate) fn laws(runs: &[Named<'_>], heading: Block) -> Result<Vec<Block>, ReportError> {
    let asked: Vec<_> = runs
        .iter()
        .filter_map(|named| Some((named, named.run.results.as_ref().filter(|asked| !asked.by_law.is_empty())?)))
        .collect();
    let Some((_, first)) = asked.first() else { return Ok(Vec::new()) };
    // In the order of the run that was tested on the most laws.
    let longest = asked.iter().map(|(_, results)| &results.by_law).max_by_key(|by_law| by_law.len());
    let others = asked.iter().flat_map(|(_, results)| &results.by_law);
    let mut laws: Vec<&str> = Vec::new();
    for (law, _) in longest.into_iter().flatten().chain(others) {
        if !laws.contains(&law.as_str()) {
            laws.push(law);
        }
    }

    let trained: Vec<String> = asked.iter().map(|(named, _)| named.run.trained_on()).collect();
    let label = |index: usize| {
        let is_unique = trained.iter().filter(|other| **other == trained[index]).count() == 1;
        if is_unique { trained[index].clone() } else { format!("{} ({})", trained[index], asked[index].0.label) }
    };
    let title = "Accuracy within 5% by law";
    let headings = ["run", "trained on", "tested on", "within 5%", "exact", "drawn again"];
    let mut table = Table::new(title, &headings);
    for (named, results) in &asked {
        for (law, evaluation) in &results.by_law {
            let within = within_five_percent(evaluation);
            table.push(vec![
                Cell::text(&named.label),
                Cell::text(named.run.trained_on()),
                Cell::text(law),
                within.map_or_else(Cell::none, |share| Cell::number(percent(share), share)),
                Cell::number(percent(evaluation.exact), evaluation.exact),
                Cell::number(count(evaluation.rejected), evaluation.rejected as f64),
            ]);
        }
    }
    let share = |law: &str, index: usize| {
        let by_law = &asked[index].1.by_law;
        within_five_percent(&by_law.iter().find(|(name, _)| name == law)?.1)
    };
    let row = |law: &str| (law.to_owned(), (0..asked.len()).map(|index| share(law, index)).collect::<Vec<_>>());
    let rows: Vec<_> = laws.into_iter().map(row).collect();
    let mut description = "Percentage of answers within 5% in the l1 norm. ".to_owned();
    for index in 0..asked.len() {
        let mut shares: Vec<_> = rows.iter().filter_map(|(law, shares)| Some((law, shares[index]?))).collect();
        shares.sort_by(|a, b| b.1.total_cmp(&a.1));
        if let (Some(best), Some(least)) = (shares.first(), shares.last()) {
            description += &format!(
                "Trained on {}: highest on {} ({}), lowest on {} ({}). ",
                label(index),
                best.0,
                percent(best.1),
                least.0,
                percent(least.1)
            );
        }
    }
    let map = HeatMap {
        size: Size::Large,
        row_name: "tested on".to_owned(),
        column_name: "trained on".to_owned(),
        columns: (0..asked.len()).map(label).collect(),
        rows,
    };
    let sentence = format!(
        "The models, tested on {} matrices of each law that suits their problem, written with the tokens that they \
         know. Cells show the percentage of answers within 5%.",
        count(first.by_law.first().map_or(0, |(_, evaluation)| evaluation.count))
    );
    Ok(vec![
        heading,
        Block::Paragraph(sentence),
        Block::figure("laws".to_owned(), title, description.trim_end().to_owned(), table, map.to_svg())?,
    ])
}
