//! How the vectors of numbers begin.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};

use numformer_encoding::{SymbolMeaning, Vocabulary};
use numformer_model::{FlatLayout, value_vectors};
use numformer_store::EncodingNames;

use crate::catalogue::Catalogue;
use crate::config::experiment_error::ExperimentError;
use crate::run::symbol_meanings::{Halves, Meaning, NumberSymbol};

/// Gives the tokens of numbers [vectors of their values](numformer_model::value_vectors), in both halves of the model with these
/// weights. Numbers, significands, digits and powers of ten are separate kinds, each with frequencies of its own.
///
/// # Errors
/// When an encoding is unknown, or does not say what any of its symbols stands for.
pub(crate) fn begin_with_values(
    layout: &FlatLayout,
    vocabulary: &Vocabulary,
    encodings: &EncodingNames,
    catalogue: &Catalogue,
    weights: &mut [f32],
) -> Result<(), ExperimentError> {
    let Halves { encoder, decoder } = Halves::new(vocabulary, encodings, catalogue)?;
    for (half, encoding, meanings) in [("encoder", &encodings.input, encoder), ("decoder", &encodings.output, decoder)]
    {
        let name = format!("{half}.embedding.tokens.weight");
        let slot = layout.slots().iter().find(|slot| slot.name() == name).expect("both halves embed their tokens");
        let d = slot.range().len() / vocabulary.len();
        let table = &mut weights[slot.range()];
        let mut kinds: HashMap<Discriminant<SymbolMeaning>, Vec<(usize, f64)>> = HashMap::new();
        for (id, meaning) in meanings.iter().enumerate() {
            if let Meaning::Number(NumberSymbol::Shared(meaning)) = meaning
                && let Some(value) = value(*meaning)
            {
                kinds.entry(discriminant(meaning)).or_default().push((id, value));
            }
        }
        if kinds.is_empty() {
            return Err(ExperimentError::NoValues { encoding: encoding.clone() });
        }
        for of_kind in kinds.values() {
            let (ids, values): (Vec<usize>, Vec<f64>) = of_kind.iter().copied().unzip();
            for (id, vector) in ids.iter().zip(value_vectors(&values, d).chunks_exact(d)) {
                table[id * d..(id + 1) * d].copy_from_slice(vector);
            }
        }
    }
    Ok(())
}

/// The value that the vector of a symbol begins with. Powers of ten are told by their exponents, since they are far beyond each
/// other.
fn value(meaning: SymbolMeaning) -> Option<f64> {
    match meaning {
        SymbolMeaning::PowerOfTen(exponent) => Some(exponent.into()),
        _ => meaning.value(),
    }
}
