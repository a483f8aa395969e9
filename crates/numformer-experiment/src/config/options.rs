//! Options of custom parts of an experiment.

use std::cell::Cell;
use std::error::Error;

use numformer_problems::LawError;
use serde::de::DeserializeOwned;
use toml::Table;

use crate::config::syntax::message_and_hint;

/// The options that an experiment gives to a custom part: a TOML table, read as a custom type.
///
/// # Examples
/// ```
/// use numformer_experiment::Options;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// #[serde(deny_unknown_fields, default)]
/// struct Lion {
///     beta1: f64,
/// }
///
/// impl Default for Lion {
///     fn default() -> Self {
///         Self { beta1: 0.9 }
///     }
/// }
///
/// let options = Options::new(toml::toml! { beta1 = 0.95 });
/// assert_eq!(options.read::<Lion>()?.beta1, 0.95);
/// let error = Options::new(toml::toml! { beta = 0.95 }).read::<Lion>().err().unwrap();
/// assert!(error.to_string().starts_with("unknown key `beta`; did you mean `beta1`?"));
/// # Ok::<(), numformer_experiment::MakeError>(())
/// ```
#[derive(Debug, Default)]
pub struct Options {
    table: Table,
    is_read: Cell<bool>,
}

impl Options {
    /// The options in a table.
    #[must_use]
    pub fn new(table: Table) -> Self {
        Self { table, is_read: Cell::new(false) }
    }

    /// Reads all options. The type should deny unknown fields, so that mistakes are reported.
    ///
    /// # Errors
    /// When an option is unknown, is missing, or has an impossible value.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, MakeError> {
        self.is_read.set(true);
        self.table.clone().try_into().map_err(|error| {
            let (message, hint) = message_and_hint(&error);
            MakeError::Options { message: message + &hint }
        })
    }

    /// Checks that the options were read, if there are any.
    pub(crate) fn check_read(&self) -> Result<(), MakeError> {
        match self.table.keys().next().filter(|_| !self.is_read.get()) {
            None => Ok(()),
            Some(key) => Err(MakeError::Options { message: format!("it has no options, found `{key}`") }),
        }
    }
}

/// Errors of making a part of an experiment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MakeError {
    /// Its options are wrong.
    #[error("{message}")]
    Options {
        /// What is wrong.
        message: String,
    },
    /// The law of random matrices does not exist.
    #[error(transparent)]
    Law(#[from] LawError),
    /// A custom constructor failed.
    #[error(transparent)]
    Other(Box<dyn Error + Send + Sync>),
}

impl MakeError {
    /// An error of a custom constructor.
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }
}

/// A model cannot be built.
impl From<candle_core::Error> for MakeError {
    fn from(error: candle_core::Error) -> Self {
        Self::other(error)
    }
}
