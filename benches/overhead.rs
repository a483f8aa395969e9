//! What a run costs beside its training steps: examples, log and checkpoints. One line of JSON.
//!
//! The preset `transpose-3x3`, whose model is that of T5, is trained in batches of 64 for some steps, and the bare loop takes as
//! many on a fixed batch of the same lengths; in turn, several times.

use std::error::Error;
use std::io::{Write, stdout};
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::Device;
use numformer::data::{BatchSource, Split};
use numformer::experiment::{Catalogue, Experiment, Run};
use numformer::fused::FusedStep;
use numformer::model::{Mode, Model, Parameters, TokenRows, TrainingStep};
use numformer::ops::sum_of_squares;
use numformer::train::Update;

const STEPS: u64 = 600;
const ROUNDS: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let mut experiment = Experiment::preset("transpose-3x3")?;
    experiment.train.batch_size = 64; // as T5
    experiment.train.steps = STEPS;
    // Judging the model is no overhead: it is asked for. One example, since every run ends with an evaluation.
    experiment.evaluate.every = STEPS;
    experiment.evaluate.examples = 1;
    let mut ratios = Vec::new();
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let [bare, whole] =
            [bare_loop(&experiment)?, whole_run(&experiment)?].map(|time| STEPS as f64 / time.as_secs_f64());
        ratios.push(bare / whole - 1.0);
        rates.push([bare, whole]);
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let [mut bare, mut whole] = [0, 1].map(|i| rates.iter().map(|pair| pair[i]).collect::<Vec<_>>());
    let (bare, whole, overhead) = (median(&mut bare), median(&mut whole), median(&mut ratios));
    writeln!(
        stdout(),
        r#"{{"steps": {STEPS}, "rounds": {ROUNDS}, "bare_steps_per_s": {bare:.2}, "run_steps_per_s": {whole:.2}, "overhead": {overhead:.4}}}"#
    )?;
    Ok(())
}

/// A run in a directory of its own.
fn whole_run(experiment: &Experiment) -> Result<Duration, Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut run = Run::new(experiment.clone())?.in_dir(dir.path().join("run"))?;
    let begin = Instant::now();
    run.run()?;
    Ok(begin.elapsed())
}

/// Steps, clipping and optimizer, and nothing else.
fn bare_loop(experiment: &Experiment) -> Result<Duration, Box<dyn Error>> {
    let task = Arc::new(experiment.task(&Catalogue::standard())?);
    let config = experiment.model_config(&task, &Catalogue::standard())?;
    let parameters = Parameters::random(experiment.seed, &Device::Cpu);
    Model::init(&config, &parameters)?;
    let mut step = FusedStep::new(config.as_transformer().expect("a transformer"), &parameters)?;
    let mut weights = vec![0.0; step.layout().len()];
    step.layout().read(&parameters, &mut weights)?;
    let mut gradients = vec![0.0; weights.len()];
    let mut optimizer = Catalogue::standard().optimizer(&experiment.train.optimizer)?;
    optimizer.begin(step.layout());
    let batch = task.batches(experiment.seed, Split::Train, experiment.train.batch_size).batch(0)?;
    let [src, tgt] =
        [&batch.src, &batch.tgt].map(|rows| TokenRows { ids: &rows.ids, lengths: &rows.lengths, width: rows.width });
    let begin = Instant::now();
    for index in 0..STEPS {
        let mode = Mode::Train { seed: experiment.seed, step: index };
        step.loss_and_gradients(&weights, src, tgt, mode, &mut gradients)?;
        let norm = sum_of_squares(&gradients).sqrt();
        let gradient_scale = (experiment.train.clip_norm / norm).min(1.0);
        let update = Update { gradient_scale, ..Update::at(index + 1, experiment.train.lr) };
        optimizer.update(update, &mut weights, &gradients);
    }
    Ok(begin.elapsed())
}
