//! Errors of reading a checkpoint of the published program.

use numformer_encoding::EncodingError;
use numformer_model::ConfigError;
use numformer_store::TensorNames;

use crate::pytorch::{PytorchError, TensorError};

/// The reason that a checkpoint of the published program cannot be imported. Tensors are named as in the checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file cannot be read as a PyTorch file.
    #[error(transparent)]
    File(#[from] PytorchError),
    /// A part of the checkpoint is missing.
    #[error("the checkpoint has no `{name}`: expected a checkpoint of the published program, found {found}")]
    MissingPart {
        /// `params`, `encoder` or `decoder`.
        name: &'static str,
        /// What the file holds.
        found: String,
    },
    /// A half of the model is not a dictionary.
    #[error("`{name}`: expected a dictionary of tensors, found {found}")]
    NotTensors {
        /// `encoder` or `decoder`.
        name: &'static str,
        /// What it is.
        found: String,
    },
    /// A parameter that defines the model is missing.
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
        /// The possible values.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// An encoding exceeds our limits.
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
    /// A tensor of the model is missing.
    #[error("the checkpoint has no tensor `{name}`")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// There are tensors that a model with these options does not have.
    #[error("expected the tensors of the model that `params` describes, found {0}")]
    Names(TensorNames),
    /// A tensor has a coefficient that is infinite or NaN.
    #[error("tensor `{name}`: expected finite numbers, found others")]
    NotFinite {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape.
    #[error("tensor `{name}`: expected shape {expected:?}, found {found:?}")]
    Shape {
        /// Its name.
        name: String,
        /// Shape according to the options.
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
    /// Tensors share each other's bytes.
    #[error("the tensors overlap: {coefficients} coefficients in a file of {bytes} bytes")]
    Overlap {
        /// Number of coefficients.
        coefficients: usize,
        /// Length of the file.
        bytes: u64,
    },
    /// A table of sines does not hold the expected sines.
    #[error(
        "tensor `{name}`: expected the sines and cosines of Vaswani et al. (2017), as `sinusoidal_embeddings` says"
    )]
    Sinusoids {
        /// Its name.
        name: String,
    },
    /// Two tensors differ that should be one.
    #[error("`decoder.proj.weight` differs from `decoder.embeddings.weight`, although `share_inout_emb` is set")]
    NotShared,
}
