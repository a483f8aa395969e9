//! Checkpoints of the program published with the paper, LAWT.

mod import_error;
mod names;
mod options;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use numformer_encoding::Vocabulary;
use numformer_model::{OutputProjection, Positions, sinusoidal_positions};
use numformer_store::{StoredModel, TensorNames};

use crate::pytorch::{Archive, Id, Pickle, TensorInfo};

pub use self::import_error::ImportError;
use self::names::{Name, Wanted};
use self::options::Options;

/// Reads a checkpoint of the program published with the paper, as written by `torch.save`, without running any code in
/// it.
///
/// Sizes, options and encodings come from its parameters, `params`: a dictionary or an `argparse.Namespace`.
/// The weights are those of `encoder` and `decoder`, converted to `f32`; the state of the optimizer is ignored. The
/// vocabulary is [`Vocabulary::reference`] of the two encodings. Memory is bounded by the length of the file.
///
/// # Errors
/// When the file is not such a checkpoint, or its model cannot be run here. The error names the cause and the remedy.
///
/// # Examples
/// ```no_run
/// let model = numformer_lawt::import_lawt("checkpoint.pth".as_ref())?;
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
        // Checked before a list of names grows as long as a number in the file claims.
        if sizes.n_layers > tensors.stored.len() / TENSORS_PER_LAYER {
            let name = format!("{half}.layers.{}.layer_norm2.bias", sizes.n_layers - 1);
            return Err(ImportError::MissingTensor { name });
        }
    }
    let mut wanted = Wanted::of(&config);
    let may_be_there = (config.output_projection == OutputProjection::Shared).then_some(PROJECTION);
    tensors.check_names(&wanted.names, may_be_there)?;
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
    // Tensors may share their bytes, but in a model only the shared projection does, and a coefficient has at least two
    // bytes. A file with more coefficients than bytes was made to exhaust the memory.
    let counts = tables.iter().chain(&weights).map(|(_, tensor)| tensor.element_count());
    let coefficients = counts.fold(0, usize::saturating_add);
    if coefficients as u64 > archive.len_bytes() {
        return Err(ImportError::Overlap { coefficients, bytes: archive.len_bytes() });
    }

    for (name, tensor) in &tables {
        check_sinusoids(&mut archive, name, tensor)?;
    }
    if let Some(projection) = shared {
        check_shared(&mut archive, &projection, &weights)?;
    }
    let weights = weights
        .into_iter()
        .map(|(name, tensor)| Ok((name.ours.clone(), (name.shape.clone(), read(&mut archive, &name, &tensor)?))))
        .collect::<Result<_, ImportError>>()?;
    Ok(StoredModel { config: config.into(), vocabulary, weights, encodings: Some(options.encodings) })
}

const ENCODER_POSITIONS: &str = "encoder.position_embeddings.weight";
const PROJECTION: &str = "decoder.proj.weight";

/// Tensors of an encoder layer: four linear layers and a norm in attention, then two linear layers and a norm.
const TENSORS_PER_LAYER: usize = 2 * (4 + 1 + 2 + 1);

/// Largest allowed difference between a stored sine and ours: a few units in the last place of `f32`.
const SINUSOID_ERROR: f32 = 1e-6;

fn read(archive: &mut Archive, name: &Name, tensor: &TensorInfo) -> Result<Vec<f32>, ImportError> {
    let values = archive.read(tensor).map_err(|source| ImportError::Tensor { name: name.theirs.clone(), source })?;
    if values.iter().all(|value| value.is_finite()) {
        return Ok(values);
    }
    Err(ImportError::NotFinite { name: name.theirs.clone() })
}

/// A table of sines can be dropped if it equals the one that the model computes.
fn check_sinusoids(archive: &mut Archive, name: &Name, tensor: &TensorInfo) -> Result<(), ImportError> {
    let found = read(archive, name, tensor)?;
    let expected = sinusoidal_positions(name.shape[0], name.shape[1]);
    if found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() <= SINUSOID_ERROR) {
        return Ok(());
    }
    Err(ImportError::Sinusoids { name: name.theirs.clone() })
}

/// A shared projection that is listed separately must equal the decoder's embedding.
fn check_shared(
    archive: &mut Archive,
    projection: &TensorInfo,
    weights: &[(Name, TensorInfo)],
) -> Result<(), ImportError> {
    let embedding = weights.iter().find(|(name, _)| name.theirs == "decoder.embeddings.weight");
    let (name, embedding) = embedding.expect("every model has the decoder's embedding");
    if projection == embedding {
        return Ok(());
    }
    let values = archive.read(projection);
    let values = values.map_err(|source| ImportError::Tensor { name: PROJECTION.to_owned(), source })?;
    if values != read(archive, name, embedding)? {
        return Err(ImportError::NotShared);
    }
    Ok(())
}

/// A part of the checkpoint, which is an entry of its dictionary.
fn part(pickle: &Pickle, name: &'static str) -> Result<Id, ImportError> {
    pickle.entry(pickle.root(), name).ok_or_else(|| {
        let found = match pickle.entries(pickle.root()) {
            Some(entries) => entries.map(|(name, _)| name).take(20).collect::<Vec<_>>().join(", "),
            None => pickle.describe(pickle.root()),
        };
        ImportError::MissingPart { name, found }
    })
}

/// Adds the tensors of one half. Their names are prefixed with the name of the half.
fn collect_tensors(pickle: &Pickle, half: &'static str, tensors: &mut BTreeMap<String, Id>) -> Result<(), ImportError> {
    let part = part(pickle, half)?;
    let not_tensors = || ImportError::NotTensors { name: half, found: pickle.describe(part) };
    let entries: Vec<(&str, Id)> = pickle.entries(part).ok_or_else(not_tensors)?.collect();
    // Training on several GPUs wraps the model in another module.
    const WRAPPED: &str = "module.";
    let wrapped = entries.iter().all(|(name, _)| name.starts_with(WRAPPED));
    tensors.extend(entries.into_iter().map(|(name, id)| {
        let name = if wrapped { &name[WRAPPED.len()..] } else { name };
        (format!("{half}.{name}"), id)
    }));
    Ok(())
}

/// The tensors of a checkpoint that have not been taken yet.
struct Tensors<'a> {
    archive: &'a Archive,
    stored: BTreeMap<String, Id>,
}

impl Tensors<'_> {
    /// Checks that the tensors are exactly those of the model, except for an optional one, `may_be_there`.
    fn check_names(&self, wanted: &[Name], may_be_there: Option<&str>) -> Result<(), ImportError> {
        let wanted: BTreeSet<&str> = wanted.iter().map(|name| name.theirs.as_str()).collect();
        let missing = wanted.iter().filter(|name| !self.stored.contains_key(**name)).copied();
        let known = |name: &str| wanted.contains(name) || may_be_there == Some(name);
        let unknown = self.stored.keys().filter(|name| !known(name)).cloned();
        let names = TensorNames { missing: missing.map(str::to_owned).collect(), unknown: unknown.collect() };
        if names == TensorNames::default() { Ok(()) } else { Err(ImportError::Names(names)) }
    }

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
        let found = self.stored.contains_key(PROJECTION).then(|| self.peek(PROJECTION)).transpose();
        self.stored.remove(PROJECTION);
        found
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "copied numbers are the same to the bit")]
mod tests;
