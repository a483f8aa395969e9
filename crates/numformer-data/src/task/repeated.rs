//! Training examples that come again.

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::Split;

/// A small set of examples that a model sees again and again, among others that it sees once: two-set training.
///
/// Training example `i` of a [`Task`](crate::Task) is one of a set of `examples` with this probability, and otherwise an
/// example of its own. Which one is a function of the seed and `i`. With the probability 1, all examples are of the small
/// set. They are drawn with replacement: some come again before others have come at all.
///
/// # Examples
/// ```
/// use std::collections::HashSet;
/// use std::sync::Arc;
/// use numformer_data::{Repeated, Split, Task};
/// use numformer_encoding::Positional;
/// use numformer_problems::{Transpose, UniformEntries};
///
/// let p1000 = Arc::new(Positional::p1000());
/// let law = UniformEntries::new(1, 2, 10.0)?;
/// let task = Task::builder(p1000.clone(), p1000)
///     .with_problem(Transpose, 1.0, vec![Box::new(law)])
///     .with_repeated(Repeated { examples: 10, probability: 0.5 })
///     .build()?;
/// let sources = |split| (0..100).map(move |index| Ok(task.example(3, split, index)?.src));
/// let different = sources(Split::Train).collect::<Result<HashSet<_>, numformer_data::TaskError>>()?.len();
/// assert!((50..70).contains(&different));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Reference
/// Charton and Kempe (2024), *Emergent properties with repeated examples*. <https://arxiv.org/abs/2410.07041>
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table, such as { examples = 50000, probability = 0.25 }")]
pub struct Repeated {
    /// Number of examples in the small set: at least one, and 0 counts as one.
    pub examples: u64,
    /// The share of examples that are of the small set: above 0, at most 1. With 0 or no number, there are none of it; with more
    /// than 1, there are no others.
    #[serde(default = "all")]
    pub probability: f64,
}

fn all() -> f64 {
    1.0
}

impl Repeated {
    /// The example that is training example `index`: below `examples`, one of the small set.
    pub(crate) fn example(self, seed: u64, index: u64) -> u64 {
        let Self { examples, probability } = self;
        let mut rng = Split::Train.order_generator(seed, index);
        if rng.random::<f64>() < probability {
            rng.random_range(0..examples.max(1))
        } else {
            index.wrapping_add(examples)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use numformer_testkit::cases;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(cases(16))]

        #[test]
        fn the_small_set_has_its_share_and_all_else_comes_once(
            seed: u64,
            examples in 1u64..1000,
            probability in 0.05f64..0.95,
            first in 0u64..1 << 40,
        ) {
            const COUNT: u64 = 4000;
            let repeated = Repeated { examples, probability };
            let drawn: Vec<u64> =
                (first..first + COUNT).map(|index| repeated.example(seed, index)).collect();
            let (small, fresh): (Vec<u64>, Vec<u64>) = drawn.iter().partition(|example| **example < examples);
            let share = small.len() as f64 / COUNT as f64;
            let deviation = (probability * (1.0 - probability) / COUNT as f64).sqrt();
            prop_assert!((share - probability).abs() < 5.0 * deviation, "{share} {probability}");
            let different: HashSet<u64> = fresh.iter().copied().collect();
            prop_assert_eq!(different.len(), fresh.len());
            // Draws are uniform: the mean of n has a standard deviation of examples / √(12 n).
            let mean = small.iter().sum::<u64>() as f64 / small.len() as f64;
            let expected = (examples - 1) as f64 / 2.0;
            prop_assert!((mean - expected).abs() < 5.0 * examples as f64 / (12.0 * small.len() as f64).sqrt());
            // In any order, and beside another seed.
            let again: Vec<u64> =
                (first..first + COUNT).rev().map(|index| repeated.example(seed, index)).collect();
            prop_assert!(again.iter().rev().eq(&drawn));
            let mut other = (first..first + COUNT).map(|index| repeated.example(seed ^ 1, index)).zip(&drawn);
            prop_assert!(other.any(|(other, here)| other != *here));
        }
    }

    #[test]
    fn a_finite_set_has_no_other_examples() {
        let repeated = Repeated { examples: 3, probability: 1.0 };
        let drawn: HashSet<u64> = (0..200).map(|index| repeated.example(0, index)).collect();
        assert_eq!(drawn, HashSet::from([0, 1, 2]));
    }

    #[test]
    fn values_are_stable() {
        let repeated = Repeated { examples: 100, probability: 0.5 };
        let drawn: Vec<u64> = (0..8).map(|index| repeated.example(7, index)).collect();
        assert_eq!(drawn, [14, 50, 1, 103, 49, 79, 106, 107]);
    }
}
