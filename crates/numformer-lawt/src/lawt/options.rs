//! What a checkpoint's parameters say about its model.

use std::sync::Arc;

use numformer_encoding::{Balanced, EncodingError, Floating, NumberEncoding, Positional, Preset};
use numformer_model::{CrossAttentionQuery, OutputProjection, Positions, StackConfig, TransformerConfig};
use numformer_store::EncodingNames;

use crate::pytorch::{Id, Pickle};

use super::import_error::ImportError;

/// What the checkpoint's parameters say about the model.
pub(super) struct Options {
    encoder: StackConfig,
    decoder: StackConfig,
    positions: Positions,
    output_projection: OutputProjection,
    pub(super) input_name: String,
    pub(super) output_name: String,
    pub(super) input: Arc<dyn NumberEncoding>,
    pub(super) output: Arc<dyn NumberEncoding>,
    /// The same encodings by our names.
    pub(super) encodings: EncodingNames,
}

impl Options {
    pub(super) fn read(pickle: &Pickle, params: Id) -> Result<Self, ImportError> {
        let reader = OptionReader { pickle, params };
        // The ids of delimiter and padding are those of every reference vocabulary.
        for (name, expected) in [("eos_index", 0), ("pad_index", 1)] {
            if let Some(id) = pickle.entry(params, name)
                && pickle.as_usize(id) != Some(expected)
            {
                return Err(reader.unknown(name, id, if expected == 0 { "0" } else { "1" }));
            }
        }
        let stack = |d_model, n_heads, n_layers| -> Result<StackConfig, ImportError> {
            Ok(StackConfig::new(reader.size(d_model)?, reader.size(n_heads)?, reader.size(n_layers)?))
        };
        let (input_name, (input, our_input)) = reader.encoding("input_encoding")?;
        let (output_name, (output, our_output)) = reader.encoding("output_encoding")?;
        Ok(Self {
            encodings: EncodingNames { input: our_input, output: our_output },
            encoder: stack("enc_emb_dim", "n_enc_heads", "n_enc_layers")?,
            decoder: stack("dec_emb_dim", "n_dec_heads", "n_dec_layers")?,
            positions: match reader.flag("sinusoidal_embeddings")? {
                true => Positions::Sinusoidal,
                false => Positions::Learned,
            },
            output_projection: match reader.flag("share_inout_emb")? {
                true => OutputProjection::Shared,
                false => OutputProjection::Separate,
            },
            input_name,
            output_name,
            input,
            output,
        })
    }

    pub(super) fn config(&self, vocab_size: usize, max_positions: usize) -> TransformerConfig {
        TransformerConfig {
            positions: self.positions,
            cross_attention_query: CrossAttentionQuery::LayerInput,
            output_projection: self.output_projection,
            ..TransformerConfig::new(vocab_size, max_positions, self.encoder.clone(), self.decoder.clone())
        }
    }
}

struct OptionReader<'a> {
    pickle: &'a Pickle,
    params: Id,
}

impl OptionReader<'_> {
    fn get(&self, name: &'static str) -> Result<Id, ImportError> {
        self.pickle.entry(self.params, name).ok_or(ImportError::MissingOption { name })
    }

    fn unknown(&self, name: &'static str, found: Id, expected: &'static str) -> ImportError {
        ImportError::UnknownOption { name, expected, found: self.pickle.describe(found) }
    }

    fn size(&self, name: &'static str) -> Result<usize, ImportError> {
        let id = self.get(name)?;
        self.pickle.as_usize(id).ok_or_else(|| self.unknown(name, id, "a number"))
    }

    fn flag(&self, name: &'static str) -> Result<bool, ImportError> {
        let id = self.get(name)?;
        self.pickle.as_bool(id).ok_or_else(|| self.unknown(name, id, "True or False"))
    }

    fn encoding(&self, name: &'static str) -> Result<(String, NamedEncoding), ImportError> {
        let id = self.get(name)?;
        let unknown = || self.unknown(name, id, ENCODINGS);
        let text = self.pickle.as_text(id).ok_or_else(unknown)?;
        let encoding = encoding(text).ok_or_else(unknown)?;
        let encoding = encoding.map_err(|source| ImportError::Encoding { name, found: text.to_owned(), source })?;
        Ok((text.to_owned(), encoding))
    }
}

const ENCODINGS: &str = "`float,PRECISION,BASE`, `floatsymbol,PRECISION` or `FP15,PRECISION,EXPONENTS`";

/// An encoding and our name for it.
type NamedEncoding = (Arc<dyn NumberEncoding>, String);

/// The encoding that an option names; `None` if the name is unknown.
///
/// A precision counts the digits after the point, one less than the number of significant digits.
pub(super) fn encoding(text: &str) -> Option<Result<NamedEncoding, EncodingError>> {
    let mut words = text.split(',').map(str::trim);
    let name = words.next()?;
    let numbers: Vec<u32> = words.map(str::parse).collect::<Result<_, _>>().ok()?;
    // Exponents of ten in the reference vocabularies.
    let exponents = -100..=100;
    // FP15 counts in units of 1e-7.
    const FP15_DECIMALS: u32 = 7;
    let (encoding, our_name): (Result<Arc<dyn NumberEncoding>, _>, _) = match (name, numbers.as_slice()) {
        ("float", [precision, base]) => {
            let digits = precision.saturating_add(1);
            let encoding = Positional::new(*base, digits, exponents).map(|e| Arc::new(e) as _);
            (encoding, format!("positional(base = {base}, precision = {digits})"))
        }
        ("floatsymbol", [precision]) => {
            let digits = precision.saturating_add(1);
            let encoding = Balanced::new(digits, exponents).map(|e| Arc::new(e) as _);
            (encoding, format!("balanced(precision = {digits})"))
        }
        ("FP15" | "fp15", [precision, count]) => {
            let digits = precision.saturating_add(1);
            let encoding = Floating::new(digits, *count, FP15_DECIMALS);
            let encoding = encoding.map(|e| Arc::new(e.with_out_of_range_symbols()) as _);
            (encoding, format!("floating(precision = {digits}, exponents = {count}, decimals = {FP15_DECIMALS})"))
        }
        _ => return None,
    };
    let named = |encoding: Arc<dyn NumberEncoding>| {
        // A published encoding is given its short name.
        let preset = Preset::ALL.into_iter().find(|preset| preset.encoding().symbols() == encoding.symbols());
        (encoding, preset.map_or(our_name, |preset| preset.name().to_owned()))
    };
    Some(encoding.map(named))
}
