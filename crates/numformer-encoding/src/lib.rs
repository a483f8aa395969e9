//! Real numbers and matrices written as tokens, and read back. A number is rounded to a few significant decimal digits
//! and becomes a short word; a matrix is its shape followed by the words of its coefficients.
//!
//! ```
//! use std::sync::Arc;
//! use numformer_encoding::{MatrixEncoding, Positional, Vocabulary};
//!
//! let p10 = Positional::p10();
//! let vocabulary = Vocabulary::reference(&p10, &p10);
//! let encoding = MatrixEncoding::new(Arc::new(p10), &vocabulary)?;
//! let mut tokens = Vec::new();
//! encoding.encode(1, 2, [3.14159, 0.0], &mut tokens)?;
//! assert_eq!(vocabulary.render(&tokens), "V1 V2 + 3 1 4 E-2 + 0 E0");
//! assert_eq!(encoding.decode(&tokens)?.to_string(), "3.14 0");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`NumberEncoding`]: the trait. [`Positional`], [`Balanced`] and [`Floating`] implement it for any precision;
//!   [`Preset`] names the published parameters.
//! - [`Vocabulary`]: symbols and their ids ([`TokenId`]); [`SymbolMeaning`]: what a symbol stands for, in any encoding.
//! - [`MatrixEncoding`]: an encoding bound to a vocabulary; [`DenseMatrix`]: a matrix that it has read.
//! - [`MatrixGrammar`]: which tokens may follow which in a matrix; [`WordGrammar`]: the same for a single number.
//! - [`EncodeError`], [`DecodeError`]: why a number or a list of tokens was refused.
//!
//! # As a dependency
//! ```toml
//! [dependencies]
//! numformer-encoding = { path = "../numformer/crates/numformer-encoding" }
//! ```
//!
//! # Reference
//! Charton (2022), *Linear algebra with transformers*, section 2. <https://arxiv.org/abs/2112.01898>

#![forbid(unsafe_code)]

mod dense;
mod error;
mod grammar;
mod layout;
mod matrix;
mod nearest;
mod numbers;
mod sequences;
mod spelling;
mod token_id;
mod vocabulary;

pub use dense::{DenseMatrix, ParseMatrixError};
pub use error::{DecodeError, EncodeError, EncodingError};
pub use grammar::matrix_grammar::{GrammarError, MatrixGrammar, MatrixState};
pub use grammar::meaning::SymbolMeaning;
pub use grammar::word_grammar::{Branch, WordGrammar, WordGrammarError};
pub use layout::Layout;
pub use matrix::MatrixEncoding;
pub use numbers::balanced::Balanced;
pub use numbers::encoding_name::{EncodingNameError, encoding_by_name};
pub use numbers::floating::Floating;
pub use numbers::number::NumberEncoding;
pub use numbers::positional::Positional;
pub use numbers::preset::{Preset, UnknownEncoding};
pub use sequences::Sequences;
pub use token_id::TokenId;
pub use vocabulary::{Vocabulary, VocabularyError};
