//! The random cases of property tests: how many, and which.

use std::env;

use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;

/// The environment variable that multiplies the numbers of cases.
pub const CASES_FACTOR: &str = "NUMFORMER_CASES_FACTOR";

/// The default for `PROPTEST_RNG_SEED`.
const SEED: u64 = 0;

/// The configuration of property tests: this many random cases, the same on every run.
///
/// `cargo xtask search` tries more through two environment variables: proptest's `PROPTEST_RNG_SEED` gives other cases,
/// and [`CASES_FACTOR`] gives more of them.
///
/// # Panics
/// When the factor is not a whole number.
///
/// # Examples
/// ```
/// use numformer_testkit::cases;
/// use proptest::prelude::*;
///
/// proptest! {
///     #![proptest_config(cases(100))]
///
///     fn addition_commutes(x in -1.0..1.0_f64, y in -1.0..1.0_f64) {
///         prop_assert_eq!((x + y).to_bits(), (y + x).to_bits());
///     }
/// }
/// addition_commutes();
/// ```
pub fn cases(cases: u32) -> ProptestConfig {
    let factor = env::var(CASES_FACTOR).map_or(1, |factor| factor.parse().expect("the factor must be a whole number"));
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: cases.saturating_mul(factor),
        // Limits on the number of cases that a test rejects.
        max_global_rejects: default.max_global_rejects.saturating_mul(factor),
        max_local_rejects: default.max_local_rejects.saturating_mul(factor),
        rng_seed: match default.rng_seed {
            RngSeed::Random => RngSeed::Fixed(SEED),
            given @ RngSeed::Fixed(_) => given,
        },
        ..default
    }
}
