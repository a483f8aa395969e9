//! Any list of token ids, two bytes each, is a matrix or an error at the right place.

#![no_main]

use libfuzzer_sys::fuzz_target;
use numformer_encoding::TokenId;

#[expect(dead_code, reason = "each target calls one of the bodies")]
#[path = "../../crates/numformer-encoding/tests/bodies/mod.rs"]
mod bodies;

fuzz_target!(|data: &[u8]| {
    let id = |bytes: &[u8; 2]| TokenId(u16::from_le_bytes(*bytes).into());
    bodies::decode_any(&data.as_chunks().0.iter().map(id).collect::<Vec<_>>());
});
