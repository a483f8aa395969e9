//! How many random cases a property is tried on, and which.

use std::env;

use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;

/// The environment variable by whose value numbers of cases are multiplied.
pub const CASES_FACTOR: &str = "NUMFORMER_CASES_FACTOR";

/// What stands for `PROPTEST_RNG_SEED` where that is not set.
const SEED: u64 = 0;

/// The configuration of property tests: this many random cases, the same ones on every run.
///
/// `cargo xtask search` looks further, by two environment variables: proptest's `PROPTEST_RNG_SEED`, for other cases, and
/// [`CASES_FACTOR`], for more of them.
///
/// # Panics
/// If the factor is not a whole number.
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
    let factor = env::var(CASES_FACTOR).map_or(1, |factor| factor.parse().expect("a factor is a whole number"));
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: cases.saturating_mul(factor),
        // Limits on the cases that a test leaves out.
        max_global_rejects: default.max_global_rejects.saturating_mul(factor),
        max_local_rejects: default.max_local_rejects.saturating_mul(factor),
        rng_seed: match default.rng_seed {
            RngSeed::Random => RngSeed::Fixed(SEED),
            given @ RngSeed::Fixed(_) => given,
        },
        ..default
    }
}
