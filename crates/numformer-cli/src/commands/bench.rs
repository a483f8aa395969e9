//! `numformer bench`: how fast this machine trains and generates.

use std::fs;
use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use numformer_data::Sequences;
use numformer_distributed::{Communicator, share};
use numformer_evaluate::text;
use numformer_fused::{Precision, device_model};
use numformer_model::{Model, Padded, Parameters, StackConfig, Transformer, greedy};
use numformer_ops::Activation;
use numformer_ops::device::Accelerator;
use numformer_ops::kernels::{Level, Operand, Panels, bf16, for_each, linear_rows, multiply_adds};
use numformer_train::{Gradients, Workload};
use serde::Serialize;

use crate::device::DeviceName;
use crate::ranks::{Ranks, RanksArguments};
use crate::{launcher, layout};

/// Measure training steps per second on the shape of a published run, with random tokens.
///
/// A step is a forward pass, a backward pass, gradient clipping and an Adam update, in f32 unless --bf16 is given.
/// Steps are counted in windows of a few seconds, at least two in each; quote the median. Rates of operations are those of
/// all threads together: of the step, of the products of its affine maps alone, and of multiply-adds in registers, which
/// nothing exceeds.
#[derive(Args)]
#[command(
    after_help = "Configurations (tokens of source and target, width, layers of encoder and decoder, vocabulary):
  T1  transpose 5x5, P1000        79/79    256  1/1   1328
  T2  addition 10x10, B1999       404/204  512  2/2   2329
  T3  eigenvalues 5x5, FP15       29/9     512  6/1  29128
  T4  multiplication 5x5, P1000   154/79   512  1/4   1328
  T5  transpose 3x3, P1000        31/31     64  1/1   1328

Examples:
  $ numformer bench --config T5 --seconds 2
  $ mpirun -n 2 numformer bench --threads 1   # one step by two processes, if built with MPI"
)]
pub(crate) struct Arguments {
    /// Which configuration: T1 to T5.
    #[arg(long, value_name = "NAME", default_value = "T1", value_parser = workload)]
    config: Workload,
    /// Examples per step, at most 4096: memory use grows with the batch.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Number of threads [default: one per core].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Where to train: cpu, or cuda:N, the NVIDIA GPU with that number (cuda is cuda:0).
    #[arg(long, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    /// Round the operands of products to bf16.
    #[arg(long)]
    bf16: bool,
    /// The widest instruction set to use: plain, avx2, avx512, avx512-bf16 or amx [default: the widest of the processor].
    #[arg(long, value_name = "SET", value_parser = level)]
    level: Option<Level>,
    /// How the gradients are computed.
    #[arg(long, value_name = "HOW", default_value = "explicit")]
    gradients: How,
    /// Number of windows.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    windows: u32,
    /// Length of a window, in seconds.
    #[arg(long, default_value_t = 4.0, value_parser = window_seconds)]
    seconds: f64,
    #[command(flatten)]
    ranks: RanksArguments,
    /// Also measure greedy decoding, of twice as many examples at once.
    #[arg(long)]
    generate: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum How {
    /// By the fused step, with an explicit backward pass.
    Explicit,
    /// By automatic differentiation.
    Autodiff,
}

fn workload(name: &str) -> Result<Workload, String> {
    Workload::named(name).ok_or_else(|| format!("expected one of {}", Workload::NAMES.join(", ")))
}

fn level(name: &str) -> Result<Level, String> {
    let levels = Level::available();
    let names: Vec<_> = levels.iter().map(Level::to_string).collect();
    let found = levels.into_iter().find(|level| level.to_string() == name);
    found.ok_or_else(|| format!("expected one that this processor has: {}", names.join(", ")))
}

fn window_seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0.0 && *seconds <= 3600.0);
    seconds.ok_or_else(|| "expected a number above 0 and at most 3600".to_owned())
}

/// The fields that the PyTorch script for comparison also writes, and our own: `program`, `gradients` and the rates of
/// floating-point operations.
#[derive(Serialize)]
struct Report {
    config: &'static str,
    device: String,
    batch: u32,
    compile: bool,
    bf16: bool,
    torch: Option<&'static str>,
    program: &'static str,
    gradients: &'static str,
    /// The same in words, with the precision.
    #[serde(skip)]
    how: String,
    threads: usize,
    /// Processes that these threads are in.
    ranks: usize,
    level: String,
    parameters: usize,
    train_steps_per_s: Rate,
    train_examples_per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    greedy_examples_per_s: Option<f64>,
    peak_memory_mb: Option<f64>,
    train_gflop_per_s: f64,
    /// Of products of the shapes of this configuration.
    product_gflop_per_s: f64,
    /// Of fused multiply-adds in registers.
    multiply_add_gflop_per_s: f64,
}

/// Calls per second over the windows.
#[derive(Serialize)]
struct Rate {
    median: f64,
    min: f64,
    max: f64,
}

/// The number of steps between two queries of a device for its results, as in a training run.
const STEPS_OF_A_DEVICE: u32 = 50;

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let ranks = arguments.ranks.join(arguments.device)?;
    ranks.run(|| bench(arguments, &ranks))
}

fn bench(arguments: &Arguments, ranks: &Ranks) -> Result<()> {
    let size = ranks.communicator().size();
    ensure!(
        size <= arguments.batch as usize,
        "--batch: expected an example for each of {size} ranks, found {}",
        arguments.batch
    );
    ensure!(size == 1 || arguments.device == DeviceName::Cpu, "bench measures one GPU: start it without a launcher");
    if matches!(arguments.gradients, How::Autodiff) && arguments.bf16 {
        bail!("--bf16 needs the fused step, not automatic differentiation: leave out --bf16 or --gradients");
    }
    let threads = arguments.threads.map(|threads| threads as usize).or_else(launcher::threads).unwrap_or(0);
    let level = arguments.level.unwrap_or_else(Level::widest);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).start_handler(move |_| level.choose());
    let pool = pool.build().context("cannot start the threads")?;
    // Runs inside the pool: a fork from there costs microseconds less.
    let report = pool.install(|| measure(arguments, &ranks.communicator()))?;
    if !ranks.is_first() {
        return Ok(());
    }
    let mut output = std::io::stdout().lock();
    if arguments.json {
        writeln!(output, "{}", serde_json::to_string(&report)?)?;
    } else {
        write!(output, "{}", shown(arguments, &report))?;
    }
    Ok(())
}

fn measure(arguments: &Arguments, ranks: &Arc<dyn Communicator>) -> Result<Report> {
    let Arguments { config: workload, batch, .. } = arguments;
    let (name, gradients) = match arguments.gradients {
        How::Explicit => ("explicit", Gradients::Fused),
        How::Autodiff => ("autodiff", Gradients::Autodiff),
    };
    let precision = if arguments.bf16 { Precision::Bf16 } else { Precision::F32 };
    let device = arguments.device.open()?;
    let (mut training, steps) = if device.is_cpu() {
        (workload.training_across(gradients, precision, Arc::clone(ranks))?, 1)
    } else {
        (workload.training_on(Accelerator::new(&device)?, gradients, precision)?, STEPS_OF_A_DEVICE)
    };
    let rows = share(*batch as usize, ranks);
    let own = |batch: [Sequences; 2]| batch.map(|sequences| sequences.rows(rows.clone()));
    let batches: Vec<_> = (0..8).map(|seed| own(workload.batch(seed, *batch as usize))).collect();
    let mut next = batches.iter().cycle();
    let train_steps_per_s = rate(arguments, steps, ranks, || {
        training.steps(next.by_ref().take(steps as usize))?;
        Ok(())
    })?;
    let greedy_examples_per_s = if arguments.generate {
        let [src, _] = workload.batch(0, 2 * *batch as usize);
        let parameters = Parameters::random(0, &device);
        Transformer::init(&workload.config, &parameters)?;
        let src = Padded::new(&src.ids, &src.lengths, src.width, &device)?;
        let model: Model = if device.is_cpu() {
            let model = Transformer::new(&workload.config, &parameters.frozen())?;
            if arguments.bf16 { model.in_bf16() } else { model }.into()
        } else {
            device_model(&workload.config.clone().into(), &parameters, precision, || Accelerator::new(&device))?
        };
        let rate = rate(arguments, 1, ranks, || {
            greedy(&model, &src, workload.tgt_len)?;
            Ok(())
        })?;
        Some(rate.median * f64::from(2 * batch))
    } else {
        None
    };
    // Read before the products below, which would add to it.
    let peak_memory_mb = peak_memory_mb();
    let StackConfig { d_model, .. } = workload.config.encoder;
    let d_ff = workload.config.encoder.d_ff();
    let [multiply_add_gflop_per_s, product_gflop_per_s] = match precision {
        Precision::F32 => bounds::<f32>(d_model, d_ff),
        Precision::Bf16 => bounds::<bf16>(d_model, d_ff),
    }
    .map(|of_this_rank| of_this_rank * ranks.size() as f64);
    Ok(Report {
        config: workload.name,
        device: arguments.device.to_string(),
        batch: *batch,
        compile: false,
        bf16: arguments.bf16,
        torch: None,
        program: concat!("numformer ", env!("CARGO_PKG_VERSION")),
        gradients: name,
        how: training.how(),
        threads: rayon::current_num_threads() * ranks.size(),
        ranks: ranks.size(),
        level: arguments.level.unwrap_or_else(Level::widest).to_string(),
        parameters: training.parameters(),
        train_examples_per_s: train_steps_per_s.median * f64::from(*batch),
        train_gflop_per_s: train_steps_per_s.median * workload.flop_per_step(*batch as usize) / 1e9,
        train_steps_per_s,
        greedy_examples_per_s,
        peak_memory_mb,
        product_gflop_per_s,
        multiply_add_gflop_per_s,
    })
}

/// Operations per second, where each `call` does `times` of them. The first three calls do not count.
fn rate(
    arguments: &Arguments,
    times: u32,
    ranks: &dyn Communicator,
    mut call: impl FnMut() -> Result<()>,
) -> Result<Rate> {
    for _ in 0..3 {
        call()?;
    }
    let window = Duration::from_secs_f64(arguments.seconds);
    let mut rates = Vec::new();
    for _ in 0..arguments.windows {
        let begin = Instant::now();
        let mut calls = 0;
        // All ranks make as many calls.
        while ranks.any(calls < 2 || begin.elapsed() < window)? {
            call()?;
            calls += 1;
        }
        rates.push(f64::from(calls * times) / begin.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    let middle = rates.len() / 2;
    let median = if rates.len() % 2 == 1 { rates[middle] } else { f64::midpoint(rates[middle - 1], rates[middle]) };
    Ok(Rate { median, min: rates[0], max: rates[rates.len() - 1] })
}

/// The rates of fused multiply-adds in registers and of products, in 10⁹ floating-point operations a second on all
/// threads: bounds for a step. The products are those of the affine maps of a microbatch: the sums of their operations
/// and of their times.
fn bounds<E: Operand>(d_model: usize, d_ff: usize) -> [f64; 2] {
    let threads = rayon::current_num_threads();
    let seconds_of = |run: &(dyn Fn() -> f64 + Sync)| {
        let seconds = |_| {
            let begin = Instant::now();
            for_each((0..threads).map(|_| ()), |()| {
                black_box(run());
            });
            begin.elapsed().as_secs_f64()
        };
        // The median, as of the step: the best moment of a shared machine would be a bound that nothing reaches.
        let mut all: Vec<f64> = (0..21).map(seconds).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let registers = threads as f64 * multiply_adds::<E>(1000) / seconds_of(&|| multiply_adds::<E>(1000)) / 1e9;
    let mut total = [0.0; 2];
    for [n, k] in [[d_model, d_model], [d_ff, d_model], [d_model, d_ff]] {
        const ROWS: usize = 640;
        let mut weight_t = Panels::<E>::default();
        weight_t.pack_transpose(&vec![0.5; n * k], k);
        let bias = vec![0.5; n];
        // Operands begin with a line of the cache, as those of a step do.
        let memory = vec![E::round(0.5); ROWS * k + 64];
        let x = &memory[memory.as_ptr().align_offset(64).min(64)..][..ROWS * k];
        let times = (1 << 28) / (n * k * ROWS) + 1;
        let products = || {
            let mut y = vec![E::round(0.0); ROWS * n];
            for _ in 0..times {
                linear_rows(&mut y, x, &weight_t, &bias, Activation::Identity);
            }
            0.0
        };
        total[0] += 2.0 * (threads * times * n * k * ROWS) as f64;
        total[1] += seconds_of(&products);
    }
    [registers, total[0] / total[1] / 1e9]
}

/// The peak memory of this process, in MiB, if the system reports it.
fn peak_memory_mb() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes / 1024.0)
}

fn shown(arguments: &Arguments, report: &Report) -> String {
    let Rate { median, min, max } = report.train_steps_per_s;
    let Report { train_gflop_per_s, product_gflop_per_s, multiply_add_gflop_per_s, .. } = *report;
    let share = |of: f64| 100.0 * train_gflop_per_s / of;
    let training = format!("{median:.3} steps/s ({min:.3} to {max:.3}), {:.0} examples/s", report.train_examples_per_s);
    let of_step = format!("{train_gflop_per_s:.0} GFLOP/s");
    let of_products = format!(
        "{product_gflop_per_s:.0} GFLOP/s in products alone; the step reaches {:.0}% of it",
        share(product_gflop_per_s)
    );
    let of_registers = format!(
        "{multiply_add_gflop_per_s:.0} GFLOP/s in multiply-adds in registers; the step reaches {:.0}% of it",
        share(multiply_add_gflop_per_s)
    );
    let (of_ranks, each) = match report.ranks {
        1 => (String::new(), ""),
        ranks => (format!(" in {ranks} ranks"), " in the first"),
    };
    let figures = [
        ("parameters", Some(report.parameters.to_string())),
        ("gradients", Some(report.how.clone())),
        ("threads", Some(format!("{}{of_ranks}, {}", report.threads, report.level))),
        ("training", Some(training)),
        ("greedy", report.greedy_examples_per_s.map(|rate| format!("{rate:.0} examples/s"))),
        ("operations", Some(of_step)),
        ("products", Some(of_products)),
        ("bound", Some(of_registers)),
        ("peak memory", report.peak_memory_mb.map(|peak| format!("{peak:.0} MB{each}"))),
    ];
    let width = layout::width();
    let lines = figures.map(|(name, figure)| {
        figure.map_or_else(String::new, |figure| text::entry(&format!("{name:<13}"), &figure, width))
    });
    let head = format!("{}: {}, batch {}\n", report.config, arguments.config.problem, report.batch);
    text::folded(&head, width) + &lines.concat()
}
