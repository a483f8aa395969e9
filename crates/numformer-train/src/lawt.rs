//! Checkpoints of the program published with the paper, LAWT.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use numformer_encoding::{Balanced, EncodingError, Floating, NumberEncoding, Positional, Vocabulary};
use numformer_model::{
    ConfigError, CrossAttentionQuery, OutputProjection, Positions, StackConfig, TransformerConfig, sinusoidal_positions,
};

use crate::pytorch::{Archive, Id, Pickle, PytorchError, TensorError, TensorInfo};
use crate::stored_model::StoredModel;

/// Reads a checkpoint of the program published with the paper, as `torch.save` wrote it, without running anything in it.
///
/// Sizes, options and encodings come from the parameters it holds, `params`: a dictionary or an `argparse.Namespace`.
/// The weights are those of `encoder` and `decoder`, converted to `f32`; the state of the optimizer is passed over. The
/// vocabulary is [`Vocabulary::reference`] of the two encodings. Memory is bounded by the length of the file.
///
/// # Errors
/// When the file is no such checkpoint, or its model cannot be run here; the error names what and what to do.
///
/// # Examples
/// ```no_run
/// let model = numformer_train::import_lawt("checkpoint.pth".as_ref())?;
/// println!("{} symbols", model.vocabulary.len());
/// model.save("imported".as_ref())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Reference
/// Charton (2022), *Linear algebra with transformers*, <https://arxiv.org/abs/2112.01898>; its program's manual names
/// the options: <https://github.com/facebookresearch/LAWT>
pub fn import_lawt(path: &Path) -> Result<StoredModel, ImportError> {
    let mut archive = Archive::open(path)?;
    let pickle = archive.pickle();
    let options = Options::read(pickle, part(pickle, "params")?)?;
    let vocabulary = Vocabulary::reference(&*options.input, &*options.output);
    let mut stored = BTreeMap::new();
    for half in ["encoder", "decoder"] {
        collect_tensors(pickle, half, &mut stored)?;
    }
    let mut tensors = Tensors { archive: &archive, stored };

    let positions = tensors.peek(ENCODER_POSITIONS)?;
    let config = options.config(vocabulary.len(), positions.shape.first().copied().unwrap_or(0));
    config.validate()?;
    let rows = tensors.peek("encoder.embeddings.weight")?.shape.first().copied().unwrap_or(0);
    if rows != vocabulary.len() {
        let (input, output) = (options.input_name, options.output_name);
        return Err(ImportError::VocabularySize { input, output, expected: vocabulary.len(), found: rows });
    }

    for (half, sizes) in [("encoder", &config.encoder), ("decoder", &config.decoder)] {
        // Before a list of names grows as long as a number in the file says.
        if sizes.n_layers > tensors.stored.len() / TENSORS_PER_LAYER {
            let name = format!("{half}.layers.{}.layer_norm2.bias", sizes.n_layers - 1);
            return Err(ImportError::MissingTensor { name });
        }
    }
    let mut wanted = Wanted::of(&config);
    let tables: Vec<Name> = match config.positions {
        Positions::Learned => Vec::new(),
        Positions::Sinusoidal => wanted.remove_tables(),
    };
    let tables = tensors.take_all(tables)?;
    let weights = tensors.take_all(wanted.names)?;
    let shared = match config.output_projection {
        OutputProjection::Shared => tensors.take_shared_projection()?,
        OutputProjection::Separate => None,
    };
    if let Some(name) = tensors.stored.into_keys().next() {
        return Err(ImportError::UnknownTensor { name });
    }
    // Tensors may share their bytes. No two of them do so in a model but for the shared projection, and a coefficient
    // has two bytes at least: more coefficients than bytes is a file made to exhaust the memory.
    let counts = tables.iter().chain(&weights).map(|(_, tensor)| tensor.element_count());
    let coefficients = counts.fold(0, usize::saturating_add);
    if coefficients as u64 > archive.len_bytes() {
        return Err(ImportError::Overlap { coefficients, bytes: archive.len_bytes() });
    }

    for (name, tensor) in &tables {
        let found = read(&mut archive, name, tensor)?;
        let expected = sinusoidal_positions(name.shape[0], name.shape[1]);
        if found.iter().zip(&expected).any(|(found, expected)| !((found - expected).abs() <= SINUSOID_ERROR)) {
            return Err(ImportError::Sinusoids { name: name.theirs.clone() });
        }
    }
    if let Some(projection) = shared {
        let [name, embedding] = ["decoder.proj.weight", "decoder.embeddings.weight"];
        let same = |(found, _): &&(Name, TensorInfo)| found.theirs == embedding;
        let (_, embedding) = weights.iter().find(same).expect("every model has the decoder's embedding");
        let values = |archive: &mut Archive, tensor: &TensorInfo| {
            archive.read(tensor).map_err(|source| ImportError::Tensor { name: name.to_owned(), source })
        };
        if projection != *embedding && values(&mut archive, &projection)? != values(&mut archive, embedding)? {
            return Err(ImportError::NotShared);
        }
    }
    let weights = weights
        .into_iter()
        .map(|(name, tensor)| Ok((name.ours.clone(), (name.shape.clone(), read(&mut archive, &name, &tensor)?))))
        .collect::<Result<_, ImportError>>()?;
    Ok(StoredModel { config, vocabulary, weights })
}

const ENCODER_POSITIONS: &str = "encoder.position_embeddings.weight";

/// Those of a layer of the encoder: four linear layers and a norm in attention, two and a norm after it.
const TENSORS_PER_LAYER: usize = 2 * (4 + 1 + 2 + 1);

/// Largest difference between a stored sine and ours: some units in the last place of `f32`.
const SINUSOID_ERROR: f32 = 1e-6;

fn read(archive: &mut Archive, name: &Name, tensor: &TensorInfo) -> Result<Vec<f32>, ImportError> {
    archive.read(tensor).map_err(|source| ImportError::Tensor { name: name.theirs.clone(), source })
}

/// A part of the checkpoint: an entry of the dictionary that it is.
fn part(pickle: &Pickle, name: &'static str) -> Result<Id, ImportError> {
    pickle.entry(pickle.root(), name).ok_or_else(|| {
        let found = match pickle.entries(pickle.root()) {
            Some(entries) => entries.map(|(name, _)| name).take(20).collect::<Vec<_>>().join(", "),
            None => pickle.describe(pickle.root()),
        };
        ImportError::MissingPart { name, found }
    })
}

/// Adds the tensors of one half, their names preceded by its own.
fn collect_tensors(pickle: &Pickle, half: &'static str, tensors: &mut BTreeMap<String, Id>) -> Result<(), ImportError> {
    let part = part(pickle, half)?;
    let not_tensors = || ImportError::NotTensors { name: half, found: pickle.describe(part) };
    let entries: Vec<(&str, Id)> = pickle.entries(part).ok_or_else(not_tensors)?.collect();
    // Training on several GPUs wraps the model in another.
    const WRAPPED: &str = "module.";
    let wrapped = entries.iter().all(|(name, _)| name.starts_with(WRAPPED));
    tensors.extend(entries.into_iter().map(|(name, id)| {
        let name = if wrapped { &name[WRAPPED.len()..] } else { name };
        (format!("{half}.{name}"), id)
    }));
    Ok(())
}

/// What the checkpoint's parameters say about the model.
struct Options {
    encoder: StackConfig,
    decoder: StackConfig,
    positions: Positions,
    output_projection: OutputProjection,
    input_name: String,
    output_name: String,
    input: Arc<dyn NumberEncoding>,
    output: Arc<dyn NumberEncoding>,
}

impl Options {
    fn read(pickle: &Pickle, params: Id) -> Result<Self, ImportError> {
        let reader = OptionReader { pickle, params };
        // The places of delimiter and padding are those of every reference vocabulary.
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
        let (input_name, input) = reader.encoding("input_encoding")?;
        let (output_name, output) = reader.encoding("output_encoding")?;
        Ok(Self {
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

    fn config(&self, vocab_size: usize, max_positions: usize) -> TransformerConfig {
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

    fn encoding(&self, name: &'static str) -> Result<(String, Arc<dyn NumberEncoding>), ImportError> {
        let id = self.get(name)?;
        let unknown = || self.unknown(name, id, ENCODINGS);
        let text = self.pickle.as_text(id).ok_or_else(unknown)?;
        let encoding = encoding(text).ok_or_else(unknown)?;
        let encoding = encoding.map_err(|source| ImportError::Encoding { name, found: text.to_owned(), source })?;
        Ok((text.to_owned(), encoding))
    }
}

const ENCODINGS: &str = "`float,PRECISION,BASE`, `floatsymbol,PRECISION` or `FP15,PRECISION,EXPONENTS`";

/// The encoding that an option names; none if there is no such name.
///
/// A precision counts the digits after the point: one less than the significant ones.
fn encoding(text: &str) -> Option<Result<Arc<dyn NumberEncoding>, EncodingError>> {
    let mut words = text.split(',').map(str::trim);
    let name = words.next()?;
    let numbers: Vec<u32> = words.map(str::parse).collect::<Result<_, _>>().ok()?;
    // Exponents of ten in the reference vocabularies.
    let exponents = -100..=100;
    // FP15 counts in units of 1e-7.
    const FP15_DECIMALS: u32 = 7;
    Some(match (name, numbers.as_slice()) {
        ("float", [precision, base]) => {
            Positional::new(*base, precision.saturating_add(1), exponents).map(|e| Arc::new(e) as _)
        }
        ("floatsymbol", [precision]) => Balanced::new(precision.saturating_add(1), exponents).map(|e| Arc::new(e) as _),
        ("FP15" | "fp15", [precision, count]) => {
            Floating::new(precision.saturating_add(1), *count, FP15_DECIMALS).map(|e| Arc::new(e) as _)
        }
        _ => return None,
    })
}

/// A tensor's name in the checkpoint and in our models, and its shape.
#[derive(Clone, Debug)]
struct Name {
    theirs: String,
    ours: String,
    shape: Vec<usize>,
}

/// All tensors of a model.
struct Wanted {
    names: Vec<Name>,
}

impl Wanted {
    fn of(config: &TransformerConfig) -> Self {
        let mut wanted = Self { names: Vec::new() };
        let d_memory = config.encoder.d_model;
        for (half, sizes) in [("encoder", &config.encoder), ("decoder", &config.decoder)] {
            let d = sizes.d_model;
            let of = |theirs: &str, ours: &str| (format!("{half}.{theirs}"), format!("{half}.{ours}"));
            wanted.tensor(of("embeddings.weight", "embedding.tokens.weight"), &[config.vocab_size, d]);
            wanted.tensor(of("position_embeddings.weight", "embedding.positions.weight"), &[config.max_positions, d]);
            wanted.norm(of("layer_norm_emb", "embedding.norm"), d);
            for layer in 0..sizes.n_layers {
                let of = |theirs: &str, ours: &str| of(&format!("layers.{layer}.{theirs}"), &format!("layers.{layer}.{ours}"));
                wanted.attention(&of("self_attention", "self_attention"), d, d);
                wanted.norm(of("layer_norm1", "self_attention_norm"), d);
                if half == "decoder" {
                    wanted.attention(&of("cross_attention", "cross_attention"), d, d_memory);
                    wanted.norm(of("layer_norm15", "cross_attention_norm"), d);
                }
                wanted.linear(of("ffn.lin1", "feed_forward.up"), d, sizes.d_ff());
                wanted.linear(of("ffn.lin2", "feed_forward.down"), sizes.d_ff(), d);
                wanted.norm(of("layer_norm2", "feed_forward_norm"), d);
            }
        }
        let of = |part: &str| (format!("decoder.proj.{part}"), format!("projection.{part}"));
        if config.output_projection == OutputProjection::Separate {
            wanted.tensor(of("weight"), &[config.vocab_size, config.decoder.d_model]);
        }
        wanted.tensor(of("bias"), &[config.vocab_size]);
        wanted
    }

    /// Takes the tables of positions out.
    fn remove_tables(&mut self) -> Vec<Name> {
        let (tables, rest) = self.names.drain(..).partition(|name| name.ours.ends_with("positions.weight"));
        self.names = rest;
        tables
    }

    fn tensor(&mut self, (theirs, ours): (String, String), shape: &[usize]) {
        self.names.push(Name { theirs, ours, shape: shape.to_vec() });
    }

    fn linear(&mut self, (theirs, ours): (String, String), d_in: usize, d_out: usize) {
        self.tensor((format!("{theirs}.weight"), format!("{ours}.weight")), &[d_out, d_in]);
        self.tensor((format!("{theirs}.bias"), format!("{ours}.bias")), &[d_out]);
    }

    fn norm(&mut self, (theirs, ours): (String, String), d: usize) {
        for part in ["weight", "bias"] {
            self.tensor((format!("{theirs}.{part}"), format!("{ours}.{part}")), &[d]);
        }
    }

    fn attention(&mut self, (theirs, ours): &(String, String), d: usize, d_memory: usize) {
        for (name, ours_name, d_in) in
            [("q_lin", "query", d), ("k_lin", "key", d_memory), ("v_lin", "value", d_memory), ("out_lin", "output", d)]
        {
            self.linear((format!("{theirs}.{name}"), format!("{ours}.{ours_name}")), d_in, d);
        }
    }
}

/// The tensors of a checkpoint that no one has asked for yet.
struct Tensors<'a> {
    archive: &'a Archive,
    stored: BTreeMap<String, Id>,
}

impl Tensors<'_> {
    fn peek(&self, name: &str) -> Result<TensorInfo, ImportError> {
        let id = self.stored.get(name).ok_or_else(|| ImportError::MissingTensor { name: name.to_owned() })?;
        self.archive.tensor(*id).map_err(|source| ImportError::Tensor { name: name.to_owned(), source })
    }

    fn take(&mut self, Name { theirs: name, shape, .. }: &Name) -> Result<TensorInfo, ImportError> {
        let tensor = self.peek(name)?;
        self.stored.remove(name);
        if tensor.shape != *shape {
            return Err(ImportError::Shape { name: name.clone(), expected: shape.clone(), found: tensor.shape });
        }
        Ok(tensor)
    }

    fn take_all(&mut self, names: Vec<Name>) -> Result<Vec<(Name, TensorInfo)>, ImportError> {
        names.into_iter().map(|name| self.take(&name).map(|tensor| (name, tensor))).collect()
    }

    /// A shared projection is listed under both of its names, or under that of the embedding alone.
    fn take_shared_projection(&mut self) -> Result<Option<TensorInfo>, ImportError> {
        const NAME: &str = "decoder.proj.weight";
        let found = self.stored.contains_key(NAME).then(|| self.peek(NAME)).transpose();
        self.stored.remove(NAME);
        found
    }
}

/// Why a checkpoint of the published program cannot be imported. Tensors have their names there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file cannot be read as one of PyTorch.
    #[error(transparent)]
    File(#[from] PytorchError),
    /// A part of a checkpoint is not there.
    #[error("the checkpoint has no `{name}`: expected a checkpoint of the published program, found {found}")]
    MissingPart {
        /// `params`, `encoder` or `decoder`.
        name: &'static str,
        /// What the file holds.
        found: String,
    },
    /// A half of the model is no dictionary.
    #[error("`{name}`: expected a dictionary of tensors, found {found}")]
    NotTensors {
        /// `encoder` or `decoder`.
        name: &'static str,
        /// What it is.
        found: String,
    },
    /// The parameters lack one that defines the model.
    #[error("`params` has no `{name}`: the model's sizes and options must be stored with it")]
    MissingOption {
        /// Name of the parameter.
        name: &'static str,
    },
    /// A parameter has a value that this program does not know.
    #[error("option `{name}`: expected {expected}, found {found}")]
    UnknownOption {
        /// Name of the parameter.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// An encoding beyond our limits.
    #[error("option `{name}`: cannot make the encoding `{found}`")]
    Encoding {
        /// `input_encoding` or `output_encoding`.
        name: &'static str,
        /// Its description.
        found: String,
        /// Cause.
        source: EncodingError,
    },
    /// The sizes are impossible.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The vocabulary is not the one that the encodings give.
    #[error(
        "the encodings `{input}` and `{output}` give a vocabulary of {expected} symbols, the embedding has {found} rows: \
         the checkpoint is of another version of the program"
    )]
    VocabularySize {
        /// The input encoding.
        input: String,
        /// The output encoding.
        output: String,
        /// Size of their vocabulary.
        expected: usize,
        /// Rows of the embedding.
        found: usize,
    },
    /// A tensor of the model is not there.
    #[error("the checkpoint has no tensor `{name}`")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// The checkpoint holds more than a model of its options has.
    #[error("unknown tensor `{name}`: the checkpoint is of a model with a part that is not supported")]
    UnknownTensor {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape.
    #[error("tensor `{name}`: expected shape {expected:?}, found {found:?}")]
    Shape {
        /// Its name.
        name: String,
        /// Shape by the options.
        expected: Vec<usize>,
        /// Shape found.
        found: Vec<usize>,
    },
    /// A tensor cannot be read.
    #[error("tensor `{name}`")]
    Tensor {
        /// Its name.
        name: String,
        /// Cause.
        source: TensorError,
    },
    /// Tensors repeat each other's bytes.
    #[error("the tensors overlap: {coefficients} coefficients in a file of {bytes} bytes")]
    Overlap {
        /// Number of coefficients.
        coefficients: usize,
        /// Length of the file.
        bytes: u64,
    },
    /// A table of sines is none.
    #[error("tensor `{name}`: expected the sines and cosines of Vaswani et al. (2017), as `sinusoidal_embeddings` says")]
    Sinusoids {
        /// Its name.
        name: String,
    },
    /// Two tensors differ that should be one.
    #[error("`decoder.proj.weight` differs from `decoder.embeddings.weight`, although `share_inout_emb` is set")]
    NotShared,
}
