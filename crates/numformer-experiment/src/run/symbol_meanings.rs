//! What the symbols of a vocabulary stand for.

use std::collections::HashMap;
use std::sync::Arc;

use numformer_encoding::{NumberEncoding, SymbolMeaning, Vocabulary};
use numformer_store::EncodingNames;

use crate::catalogue::Catalogue;
use crate::config::experiment_error::ExperimentError;

/// What the symbols of a vocabulary stand for in both halves of a model, in the order of their ids.
pub(crate) struct Halves<'a> {
    pub(crate) encoder: Vec<Meaning<'a>>,
    pub(crate) decoder: Vec<Meaning<'a>>,
}

/// What a symbol stands for in one half of a model.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Meaning<'a> {
    Delimiter,
    Padding,
    /// A part of a number that this half reads or writes.
    Number(NumberSymbol<'a>),
    /// A part of a number that only the other half reads or writes.
    OfOtherHalf(NumberSymbol<'a>),
    /// A dimension, the letter of a problem, or nothing.
    Other(&'a str),
}

/// A part of a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum NumberSymbol<'a> {
    /// A symbol that other encodings have, too.
    Shared(SymbolMeaning),
    /// A symbol that only this encoding defines.
    Own { encoding: &'a str, symbol: &'a str },
}

impl<'a> Halves<'a> {
    pub(crate) fn new(
        vocabulary: &'a Vocabulary,
        names: &'a EncodingNames,
        catalogue: &Catalogue,
    ) -> Result<Self, ExperimentError> {
        let input = catalogue.encoding("encoding.input", &names.input)?;
        let output = catalogue.encoding("encoding.output", &names.output)?;
        let read = number_symbols(vocabulary, &names.input, &input);
        let written = number_symbols(vocabulary, &names.output, &output);
        let meanings = |own: &[Option<NumberSymbol<'a>>], other: &[Option<NumberSymbol<'a>>]| {
            let symbols = vocabulary.symbols().iter().enumerate();
            symbols
                .map(|(id, symbol)| match (own[id], other[id]) {
                    _ if id == vocabulary.delimiter().0 as usize => Meaning::Delimiter,
                    _ if id == vocabulary.padding().0 as usize => Meaning::Padding,
                    (Some(own), _) => Meaning::Number(own),
                    (None, Some(other)) => Meaning::OfOtherHalf(other),
                    (None, None) => Meaning::Other(symbol),
                })
                .collect()
        };
        Ok(Self { encoder: meanings(&read, &written), decoder: meanings(&written, &read) })
    }
}

/// What the symbols of a vocabulary stand for in an encoding; `None` for symbols that the encoding lacks.
fn number_symbols<'a>(
    vocabulary: &'a Vocabulary,
    name: &'a str,
    encoding: &Arc<dyn NumberEncoding>,
) -> Vec<Option<NumberSymbol<'a>>> {
    let indices: HashMap<&str, usize> =
        encoding.symbols().iter().enumerate().map(|(index, symbol)| (symbol.as_str(), index)).collect();
    let meaning = |symbol: &'a String| {
        let index = *indices.get(symbol.as_str())?;
        let own = NumberSymbol::Own { encoding: name, symbol };
        Some(encoding.meaning(index).map_or(own, NumberSymbol::Shared))
    };
    vocabulary.symbols().iter().map(meaning).collect()
}
