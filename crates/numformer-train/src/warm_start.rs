//! Beginning a run with the weights of another.

use std::path::Path;

use numformer_encoding::Vocabulary;
use numformer_model::FlatLayout;

use crate::checkpoint::{CheckpointError, LayoutError};
use crate::run_dir::{EXPERIMENT, RunDirError, latest};
use crate::stored_model::StoredModel;
use crate::trainer::TrainError;

/// The model of a run as its latest good checkpoint has it, or the stored model in `dir`; and the damaged checkpoints that were
/// passed over.
pub(crate) fn load(dir: &Path) -> Result<(StoredModel, Vec<CheckpointError>), TrainError> {
    if !dir.join(EXPERIMENT).is_file() {
        return Ok((StoredModel::load(dir)?, Vec::new()));
    }
    let Some(latest) = latest(dir)? else {
        return Err(RunDirError::NoCheckpoint { path: dir.to_owned() }.into());
    };
    let checkpoint = latest.checkpoint;
    let model = StoredModel { config: checkpoint.config, vocabulary: checkpoint.vocabulary, weights: checkpoint.model };
    Ok((model, latest.skipped))
}

/// Copies the weights of `stored` over `weights`. What belongs to a symbol goes to the same symbol, wherever it stands in
/// the vocabularies; what belongs to a position, to the same position. Symbols and positions that are new keep the weights
/// they have.
///
/// # Errors
/// When a weight is missing or has another shape.
pub(crate) fn copy_weights(
    stored: &StoredModel,
    layout: &FlatLayout,
    vocabulary: &Vocabulary,
    weights: &mut [f32],
) -> Result<(), LayoutError> {
    for slot in layout.slots() {
        let name = slot.name();
        let Some((found, values)) = stored.weights.get(name) else {
            return Err(LayoutError::Missing { name: name.to_owned() });
        };
        let expected = slot.shape().dims();
        let to = &mut weights[slot.range()];
        if expected.len() != found.len() || expected.iter().skip(1).ne(found.iter().skip(1)) {
            return Err(mismatch(name, expected, found));
        }
        let row = expected.iter().skip(1).product::<usize>().max(1);
        match rows(name) {
            Rows::Symbols => {
                for (id, symbol) in vocabulary.symbols().iter().enumerate() {
                    if let Some(old) = stored.vocabulary.id(symbol)
                        && let Some(from) = values.get(old.0 as usize * row..(old.0 as usize + 1) * row)
                    {
                        to[id * row..(id + 1) * row].copy_from_slice(from);
                    }
                }
            }
            Rows::Positions => {
                let shared = to.len().min(values.len());
                to[..shared].copy_from_slice(&values[..shared]);
            }
            Rows::Others if expected == found.as_slice() => to.copy_from_slice(values),
            Rows::Others => return Err(mismatch(name, expected, found)),
        }
    }
    Ok(())
}

fn mismatch(name: &str, expected: &[usize], found: &[usize]) -> LayoutError {
    LayoutError::Shape { name: name.to_owned(), expected: expected.to_vec(), found: found.to_vec() }
}

/// What the rows of a weight belong to.
enum Rows {
    Symbols,
    Positions,
    Others,
}

fn rows(name: &str) -> Rows {
    if name.ends_with("tokens.weight") || name.ends_with("projection.weight") || name.ends_with("projection.bias") {
        Rows::Symbols
    } else if name.ends_with("positions.weight") {
        Rows::Positions
    } else {
        Rows::Others
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Experiment, RunDir, Trainer};

    fn small() -> Experiment {
        let mut experiment = Experiment::preset("transpose-3x3").expect("embedded");
        experiment.train.steps = 2;
        let settings = ["matrices.rows=2", "matrices.cols=2", "model.encoder.d_model=16", "model.decoder.d_model=16"];
        experiment.with_settings(&settings).expect("settings")
    }

    fn weight<'a>(trainer: &'a Trainer, stored: &StoredModel, name: &str) -> &'a [f32] {
        // Weights stand in the order of their names.
        let mut begin = 0;
        for (other, (shape, _)) in &stored.weights {
            let len: usize = shape.iter().product();
            if other == name {
                return &trainer.weights()[begin..begin + len];
            }
            begin += len;
        }
        panic!("no weight {name}");
    }

    #[test]
    fn symbols_and_positions_keep_what_was_learned() {
        let dir = tempfile::tempdir().expect("dir");
        let run_dir = RunDir::open(dir.path().join("small"), &small()).expect("new");
        let (mut trainer, _) = Trainer::new(small()).and_then(|trainer| trainer.in_dir(run_dir)).expect("a trainer");
        trainer.run().expect("a run");
        let (before, _) = load(&dir.path().join("small")).expect("a run");

        // Larger matrices: more positions, and another symbol in the middle of the vocabulary.
        let mut larger =
            small().with_settings(&["matrices.rows=[2,3]", "matrices.cols=[2,3]", "seed=9"]).expect("settings");
        let random = Trainer::new(larger.clone()).expect("a trainer");
        larger.start_from = Some(dir.path().join("small"));
        let begun = Trainer::new(larger.clone()).expect("a trainer");
        assert!(begun.task().vocabulary().len() > before.vocabulary.len());

        let after = StoredModel {
            config: before.config.clone(),
            vocabulary: begun.task().vocabulary().clone(),
            weights: begun.named_weights(),
        };
        let mut symbols = 0;
        for (name, (shape, old)) in &before.weights {
            let new = weight(&begun, &after, name);
            let row = shape.iter().skip(1).product::<usize>();
            match rows(name) {
                Rows::Others => assert_eq!(new, old, "{name}"),
                Rows::Positions => assert_eq!(&new[..old.len()], old, "{name}"),
                Rows::Symbols => {
                    for (id, symbol) in after.vocabulary.symbols().iter().enumerate() {
                        let new = &new[id * row..(id + 1) * row];
                        match before.vocabulary.id(symbol) {
                            Some(old_id) => assert_eq!(new, &old[old_id.0 as usize * row..][..row], "{name} {symbol}"),
                            None => {
                                symbols += 1;
                                assert_eq!(new, &weight(&random, &after, name)[id * row..][..row], "{name} {symbol}");
                            }
                        }
                    }
                }
            }
        }
        assert!(symbols > 0);

        larger.model.encoder.d_model = 32;
        let start = |experiment| Trainer::new(experiment).and_then(|mut trainer| trainer.check_start());
        let error = start(larger).expect_err("another width").to_string();
        assert!(error.contains("start_from") && error.contains("do not fit"), "{error}");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let mut experiment = small();
        experiment.start_from = Some("nowhere/at/all".into());
        let mut trainer = Trainer::new(experiment).expect("a trainer");
        let error = trainer.run().expect_err("no model").to_string();
        assert!(error.contains("nowhere/at/all"), "{error}");
    }
}
