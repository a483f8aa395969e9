//! Any text is read as a matrix or as tokens, or refused.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "each target calls one of the bodies")]
#[path = "../../crates/numformer-encoding/tests/bodies/mod.rs"]
mod bodies;

fuzz_target!(|text: &str| {
    bodies::parse_any(text);
});
