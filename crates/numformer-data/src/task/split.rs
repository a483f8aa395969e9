//! Training, validation and test examples, and their random streams.

use std::fmt;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

/// The purpose of examples.
///
/// Each split has random streams of its own, so its examples are independent of those of the others.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// To learn from.
    Train,
    /// To watch the progress of training, and to choose between runs.
    Validation,
    /// To report on.
    Test,
}

impl Split {
    /// The generator that makes example `index`.
    ///
    /// The seed and the split are the key of a ChaCha stream cipher with 8 rounds, and the index is the number of the
    /// stream. So any example is reached at once, and no two examples share random numbers.
    pub(crate) fn generator(self, seed: u64, index: u64) -> ChaCha8Rng {
        self.tagged_generator(0, seed, index)
    }

    /// The generator that decides which example comes at place `index`, independent of those that make examples.
    pub(crate) fn order_generator(self, seed: u64, index: u64) -> ChaCha8Rng {
        self.tagged_generator(3, seed, index)
    }

    fn tagged_generator(self, purpose: u8, seed: u64, index: u64) -> ChaCha8Rng {
        // Changing a tag changes every data set.
        let tag = purpose
            + match self {
                Self::Train => 0,
                Self::Validation => 1,
                Self::Test => 2,
            };
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8] = tag;
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(index);
        generator
    }
}

/// The name used in configuration files.
impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand_chacha::rand_core::RngCore;

    use super::*;

    const SPLITS: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

    #[test]
    fn every_seed_split_and_index_has_its_own_numbers() {
        let edges = [0, 1, 2, 255, 256, 1 << 32, u64::MAX];
        let mut seen = HashSet::new();
        for seed in edges {
            for split in SPLITS {
                for index in edges {
                    assert!(seen.insert(split.generator(seed, index).next_u64()), "{seed} {split} {index}");
                    assert!(seen.insert(split.order_generator(seed, index).next_u64()), "{seed} {split} {index}");
                }
            }
        }
    }

    #[test]
    fn values_are_stable() {
        let first = |split: Split| split.generator(7, 3).next_u64();
        assert_eq!(
            SPLITS.map(first),
            [12_228_748_295_295_190_366, 6_762_461_754_165_009_045, 8_373_608_932_866_545_840]
        );
    }

    #[test]
    fn names_agree_with_configuration_files() {
        for split in SPLITS {
            assert_eq!(serde_json::to_value(split).unwrap(), split.to_string());
        }
    }
}
