//! How fast the inputs of a device are made: examples, batches and the words that a step reads, in the buffer from which
//! they are uploaded. A line of JSON for each preset and number of threads. Needs no GPU.
//!
//! `cargo bench --bench inputs -- paper-eigenvalues-5x5 transpose-5x5` names other presets.

use std::error::Error;
use std::io::{Write, stdout};
use std::sync::Arc;
use std::time::{Duration, Instant};

use numformer::data::{Split, prefetch};
use numformer::experiment::{Catalogue, Experiment};
use numformer::fused::batch_words;

const PRESETS: [&str; 4] =
    ["paper-eigenvalues-5x5", "paper-transpose-5x5-p1000", "paper-multiplication-5x5", "paper-inversion-5x5"];
const THREADS: [usize; 3] = [1, 2, 16];
const BATCH: usize = 64;
const ROUNDS: usize = 5;
const WINDOW: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn Error>> {
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let presets = if named.is_empty() { PRESETS.map(str::to_owned).to_vec() } else { named };
    for preset in presets {
        let experiment = Experiment::preset(&preset)?;
        for threads in THREADS {
            let mut rates = (0..ROUNDS).map(|_| rate(&experiment, threads)).collect::<Result<Vec<_>, _>>()?;
            rates.sort_by(f64::total_cmp);
            let (median, min, max) = (rates[ROUNDS / 2], rates[0], rates[ROUNDS - 1]);
            writeln!(
                stdout(),
                r#"{{"preset": "{preset}", "batch": {BATCH}, "threads": {threads}, "batches_per_s": {median:.0}, "min": {min:.0}, "max": {max:.0}}}"#
            )?;
        }
    }
    Ok(())
}

/// Batches a second that `threads` threads make, and one more brings into the form of a device.
fn rate(experiment: &Experiment, threads: usize) -> Result<f64, Box<dyn Error>> {
    let task = Arc::new(experiment.task(&Catalogue::standard())?);
    let config = experiment.model_config(&task, &Catalogue::standard())?;
    let config = config.as_transformer().ok_or("expected a preset with a transformer")?;
    let source = task.batches(experiment.seed, Split::Train, BATCH).with_buckets(experiment.data.bucket_window);
    let mut batches = prefetch(source, 0, threads);
    let mut buffer: Vec<u32> = Vec::new();
    let mut make = || -> Result<(), Box<dyn Error>> {
        let batch = batches.next().ok_or("a stream of batches has no end")??;
        let words = batch_words(config, (&batch.src).into(), (&batch.tgt).into())?;
        buffer.resize(buffer.len().max(words.len()), 0);
        buffer[..words.len()].copy_from_slice(&words);
        std::hint::black_box(&mut buffer);
        Ok(())
    };
    for _ in 0..2 * threads {
        make()?;
    }
    let begin = Instant::now();
    let mut count = 0;
    while begin.elapsed() < WINDOW {
        make()?;
        count += 1;
    }
    Ok(f64::from(count) / begin.elapsed().as_secs_f64())
}
