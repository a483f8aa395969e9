//! Any number is written as the formatter of the standard library rounds it, or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "each target calls one of the bodies")]
#[path = "../../crates/numformer-encoding/tests/bodies/mod.rs"]
mod bodies;

fuzz_target!(|x: f64| {
    bodies::encode_any(x);
});
