//! Memory stays flat over a long training run.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test, whose figures are for the documentation")]

use std::fs;

use numformer_fused::Precision;
use numformer_train::{Gradients, Workload};
use serde_json::json;

/// The whole run, and how often memory is read.
const STEPS: usize = 10_000;
const EVERY: usize = 500;

/// By how much resident memory may grow after the first reading. An allocator's pages come and go; 8 bytes kept in each
/// step would be more.
const GROWTH_KB: u64 = 64;

/// An entry of the process's status, in kB.
fn status_kb(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
#[ignore = "trains for some minutes"]
fn ten_thousand_steps_of_the_smallest_workload_take_no_more_memory_than_the_first_few() {
    let workload = Workload::named("T5").unwrap();
    let batches: Vec<_> = (0..8).map(|seed| workload.batch(seed, 64)).collect();
    let mut training = workload.training(Gradients::Fused, Precision::F32).unwrap();
    let mut resident_kb = Vec::with_capacity(STEPS / EVERY);
    for step in 1..=STEPS {
        training.steps([&batches[step % batches.len()]].into_iter()).unwrap();
        if step % EVERY == 0 {
            resident_kb.push(status_kb("VmRSS"));
        }
    }
    let report = json!({
        "config": workload.name,
        "steps": STEPS,
        "every": EVERY,
        "resident_kb": resident_kb,
        "peak_kb": status_kb("VmHWM"),
    });
    println!("{report}");
    let (first, last) = (resident_kb[0], resident_kb[resident_kb.len() - 1]);
    assert!(last <= first + GROWTH_KB, "expected at most {GROWTH_KB} kB more than {first} kB, found {last} kB");
}
