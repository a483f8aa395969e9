//! The id of a symbol.

use serde::{Deserialize, Serialize};

/// The id of a symbol, in a [`Vocabulary`](crate::Vocabulary) or within a [`NumberEncoding`](crate::NumberEncoding).
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(pub u32);
