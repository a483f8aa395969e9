//! Examples and batches of token ids, made on the fly from a problem, a law of random matrices and two encodings.
//! Everything that is made is a function of the configuration, a seed and an index, so any example or batch can be
//! asked for first.
//!
//! ```
//! use std::sync::Arc;
//! use numformer_data::{BatchSource, Split, Task};
//! use numformer_encoding::Positional;
//! use numformer_problems::{Transpose, UniformEntries};
//!
//! let p1000 = Arc::new(Positional::p1000());
//! let task = Arc::new(Task::new(Transpose, UniformEntries::new(1, 2, 10.0)?, p1000.clone(), p1000)?);
//! let example = task.example(7, Split::Train, 0)?;
//! assert_eq!(task.vocabulary().render(&example.src), "<s> V1 V2 + 528 E-2 - 681 E-3 <s>");
//! assert_eq!(task.vocabulary().render(&example.tgt), "<s> V2 V1 + 528 E-2 - 681 E-3 <s>");
//!
//! let batch = task.batches(7, Split::Train, 64).batch(1_000)?;
//! assert_eq!((batch.src.len(), batch.src.width), (64, 10));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Main types
//! - [`Task`]: makes [`Example`]s and judges predictions; [`TaskError`] says why it cannot. [`TaskBuilder`] mixes
//!   problems and shapes, adds noise, repeats training examples ([`Repeated`]) and chooses the vocabulary.
//! - [`Judgement`]: the verdict on one prediction in every norm.
//! - [`AnswerAnalysis`]: which properties of the exact answer a wrong one lacks, and how far a classical iteration has
//!   to go.
//! - [`AnswerGrammar`]: which tokens may follow which in an answer.
//! - [`Split`]: training, validation and test examples, from separate random streams.
//! - [`BatchSource`]: random access to batches, of a task or from a custom source. [`TaskBatches`] makes those of a
//!   task, [`RankBatches`] one process's part of each, and [`prefetch`] makes batches ahead on threads.
//! - [`write_examples`] writes examples to a file of a [`Format`], as [`write_examples_across`] does on several processes;
//!   a [`Dataset`] reads them back.
//! - [`Batch`], [`Sequences`]: padded ids with lengths.
//! - [`TextReader`], [`read_text`]: text in UTF-8 or UTF-16, with a byte order mark or without.
//!
//! # As a dependency
//! ```toml
//! [dependencies]
//! numformer-data = { path = "../numformer/crates/numformer-data" }
//! ```
//!
//! # Features
//! - `parquet`, on by default: files of examples in Apache Parquet. Without it there are a dozen fewer dependencies, and
//!   such files are refused.
//!
//! # References
//! Charton (2022), *Linear algebra with transformers*. <https://arxiv.org/abs/2112.01898>

#![forbid(unsafe_code)]

mod batch;
mod batch_source;
mod files;
mod prefetch;
mod rank_batches;
mod shuffle;
mod task;
mod task_batches;

pub use batch::Batch;
pub use batch_source::BatchSource;
pub use faer;
pub use files::dataset::{Dataset, DatasetBatches, Order};
pub use files::dataset_error::DatasetError;
pub use files::format::Format;
pub use files::record_error::RecordError;
pub use files::text::{TextReader, read_text};
pub use files::write::{write_examples, write_examples_across};
pub use numformer_encoding::Sequences;
pub use prefetch::{Prefetch, prefetch};
pub use rank_batches::RankBatches;
pub use task::Task;
pub use task::answer_analysis::{AnswerAnalysis, RefinementSteps};
pub use task::answer_grammar::{AnswerGrammar, AnswerState};
pub use task::builder::{TaskBuilder, VocabularyKind};
pub use task::error::{OtherError, TaskError};
pub use task::example::Example;
pub use task::judgement::Judgement;
pub use task::repeated::Repeated;
pub use task::split::Split;
pub use task_batches::TaskBatches;
