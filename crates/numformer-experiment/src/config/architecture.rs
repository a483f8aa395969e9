//! The kind of model.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of model that is trained.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// The transformer of the paper.
    #[default]
    Transformer,
    /// A transformer that applies one layer again and again in each half (Dehghani et al. 2019).
    Universal,
    /// An encoder-decoder of LSTMs (Sutskever et al. 2014).
    Lstm,
    /// The same of gated recurrent units (Cho et al. 2014).
    Gru,
    /// A custom architecture that the [`Catalogue`](crate::Catalogue) knows by this name.
    #[serde(untagged)]
    Custom(String),
}

impl Architecture {
    /// The names of all built-in architectures.
    pub const NAMES: [&str; 4] = ["transformer", "universal", "lstm", "gru"];
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transformer => "transformer",
            Self::Universal => "universal",
            Self::Lstm => "lstm",
            Self::Gru => "gru",
            Self::Custom(name) => name,
        })
    }
}
