//! Judging a model on 10,000 examples, in several ways. One line of JSON for each model.
//!
//! The preset `transpose-3x3` is trained, in batches of 64 at a constant rate, for some of its steps, so that about every
//! other batch of an evaluation holds a mistake, and to its end. Each model is judged by `evaluate` on all threads and on
//! one, by greedy decoding of every example, and as the published program does it: a pass with teacher forcing, then
//! greedy decoding of every batch in which a sequence was not right token by token. All ways use the same model code; in
//! turn, several times.

use std::error::Error;
use std::io::{Write, stdout};
use std::sync::Arc;
use std::time::Instant;

use candle_core::{D, Device};
use numformer::data::{BatchSource, Sequences, Split, Task};
use numformer::encoding::TokenId;
use numformer::evaluate::{Evaluation, evaluate};
use numformer::experiment::{Catalogue, Experiment, Run};
use numformer::metrics::{Norm, Tolerance};
use numformer::model::{End, Mode, Model, Padded, Seq2Seq, greedy};

const EXAMPLES: u64 = 10_000;
const ROUNDS: usize = 3;
/// The published program's batches of an evaluation.
const BATCH: usize = 128;
/// Updates after which some answers are wrong, and after which nearly all are right.
const STEPS: [u64; 2] = [850, 1500];

/// Judges the model, and says its accuracy within 5%.
type Way<'a> = &'a dyn Fn() -> Result<f64, Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    for steps in STEPS {
        let mut experiment = Experiment::preset("transpose-3x3")?;
        experiment.train.batch_size = 64;
        experiment.train.lr = 1e-3;
        experiment.train.schedule = Default::default();
        experiment.train.steps = steps;
        experiment.evaluate.examples = 1;
        let mut run = Run::new(experiment.clone())?;
        run.run()?;
        let task = Arc::new(experiment.task(&Catalogue::standard())?);
        let model = run.model();

        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
        let ours = || Ok(within(&evaluate(model, &task, &task.batches(0, Split::Test, 256), EXAMPLES, &Device::Cpu)?));
        let ways: [(&str, Way<'_>); 4] = [
            ("evaluate", &ours),
            ("evaluate_1_thread", &|| one.install(|| ours().map_err(|error| error.to_string())).map_err(Into::into)),
            ("greedy_always", &|| batch_by_batch(model, &task, false)),
            ("published_method", &|| batch_by_batch(model, &task, true)),
        ];
        let mut rates = vec![Vec::new(); ways.len()];
        let mut accuracies = Vec::new();
        for _ in 0..ROUNDS {
            for ((_, way), rates) in ways.iter().zip(&mut rates) {
                let begin = Instant::now();
                accuracies.push(way()?);
                rates.push(EXAMPLES as f64 / begin.elapsed().as_secs_f64());
            }
        }
        let accuracy = accuracies[0];
        // Rounding may decide between two tokens that are as probable.
        assert!(accuracies.iter().all(|other| (other - accuracy).abs() < 1e-3), "{accuracies:?}");
        let figures = ways.iter().zip(&mut rates).map(|((name, _), rates)| {
            rates.sort_by(f64::total_cmp);
            format!(r#""{name}_examples_per_s": {:.0}"#, rates[ROUNDS / 2])
        });
        let figures = figures.collect::<Vec<_>>().join(", ");
        writeln!(stdout(), r#"{{"steps": {steps}, "within_5%": {accuracy}, "rounds": {ROUNDS}, {figures}}}"#)?;
    }
    Ok(())
}

fn within(evaluation: &Evaluation) -> f64 {
    evaluation.accuracy[0].1
}

/// The accuracy within 5% by greedy decoding; with `spare`, batches of which every sequence is right token by token under
/// teacher forcing are not decoded.
fn batch_by_batch(model: &Model, task: &Arc<Task>, spare: bool) -> Result<f64, Box<dyn Error>> {
    let source = task.batches(0, Split::Test, BATCH);
    let mut correct = 0;
    for index in 0..EXAMPLES.div_ceil(BATCH as u64) {
        let mut batch = source.batch(index)?;
        batch.truncate((EXAMPLES - index * BATCH as u64).min(BATCH as u64) as usize);
        let padded = |Sequences { ids, lengths, width }: &Sequences| Padded::new(ids, lengths, *width, &Device::Cpu);
        let src = padded(&batch.src)?;
        if spare && is_right_token_by_token(model, &src, &batch.tgt)? {
            correct += batch.src.len();
            continue;
        }
        let tokens = |ids: &[u32]| ids.iter().copied().map(TokenId).collect::<Vec<_>>();
        for (row, answer) in greedy(model, &src, task.max_tgt_len())?.iter().enumerate() {
            let hypothesis = (answer.end == End::Delimiter).then(|| tokens(&answer.ids));
            let judgement =
                task.judgement(&tokens(batch.src.row(row)), &tokens(batch.tgt.row(row)), hypothesis.as_deref())?;
            correct += usize::from(judgement.verdict(Norm::L1).is_correct(Tolerance::relative(0.05)));
        }
    }
    Ok(correct as f64 / EXAMPLES as f64)
}

/// Whether the most probable token is the target's everywhere; all sequences are of one length.
fn is_right_token_by_token(model: &Model, src: &Padded, tgt: &Sequences) -> Result<bool, Box<dyn Error>> {
    let rows = tgt.ids.chunks(tgt.width);
    let read: Vec<u32> = rows.clone().flat_map(|row| &row[..row.len() - 1]).copied().collect();
    let expected: Vec<u32> = rows.flat_map(|row| &row[1..]).copied().collect();
    let lengths: Vec<u32> = tgt.lengths.iter().map(|length| length - 1).collect();
    let read = Padded::new(&read, &lengths, tgt.width - 1, &Device::Cpu)?;
    let memory = model.encode(src, Mode::Evaluate)?;
    let states = model.decode(&memory, &read, None, Mode::Evaluate)?;
    let chosen = model.logits(&states)?.argmax(D::Minus1)?;
    Ok(chosen.flatten_all()?.to_vec1::<u32>()? == expected)
}
