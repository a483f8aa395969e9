//! `cargo xtask bench-compare`: compares the training steps of numformer and PyTorch on this machine, in turn.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::root;

/// Run `numformer bench` and a PyTorch script of the same model in turn, and print the ratios.
///
/// Ours runs in f32 and in bf16. PyTorch runs eager and compiled, each in f32 and under bf16 autocast; the fastest counts. The script is
/// benches/baseline/torch_baseline.py. It needs PyTorch: `--install` installs it in a virtual environment under target/,
/// and `--python` names a Python that has it.
#[derive(Args)]
#[command(after_help = "Example:
  $ cargo xtask bench-compare --configs T1,T5 --rounds 3 --install")]
pub(crate) struct Arguments {
    /// Shapes to compare, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "T1,T2,T3,T4,T5")]
    configs: Vec<String>,
    /// Number of rounds; each program runs once per round.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Examples per step.
    #[arg(long, default_value_t = 64)]
    batch: u32,
    /// Threads of both programs; all threads of the machine if absent.
    #[arg(long)]
    threads: Option<u32>,
    /// Length of each of three windows of a run, in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Also compare greedy decoding.
    #[arg(long)]
    generate: bool,
    /// Which kinds of PyTorch to run, separated by commas. Compiling takes up to a minute in each round.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "eager,compiled,eager-bf16,compiled-bf16")]
    variants: Vec<Variant>,
    /// The widest instruction set that either program may use: avx2 or avx512, to see how a processor that has no more
    /// would compare.
    #[arg(long, value_enum)]
    level: Option<Level>,
    /// Path of a Python that has PyTorch.
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// First install PyTorch into target/torch-venv, if it is not there.
    #[arg(long)]
    install: bool,
}

/// An instruction set that PyTorch can be limited to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Level {
    Avx2,
    Avx512,
}

impl Level {
    /// The name by which our command knows it.
    fn name(self) -> &'static str {
        match self {
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// The variables that limit PyTorch's own kernels and those of oneDNN and MKL.
    fn variables(self) -> [(&'static str, &'static str); 3] {
        match self {
            Self::Avx2 => {
                [("ATEN_CPU_CAPABILITY", "avx2"), ("ONEDNN_MAX_CPU_ISA", "AVX2"), ("MKL_ENABLE_INSTRUCTIONS", "AVX2")]
            }
            Self::Avx512 => [
                ("ATEN_CPU_CAPABILITY", "avx512"),
                ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE"),
                ("MKL_ENABLE_INSTRUCTIONS", "AVX512"),
            ],
        }
    }
}

/// How PyTorch runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Variant {
    Eager,
    Compiled,
    EagerBf16,
    CompiledBf16,
}

impl Variant {
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Eager => &[],
            Self::Compiled => &["--compile"],
            Self::EagerBf16 => &["--bf16"],
            Self::CompiledBf16 => &["--compile", "--bf16"],
        }
    }

    fn is_bf16(self) -> bool {
        matches!(self, Self::EagerBf16 | Self::CompiledBf16)
    }
}

/// The compared part of either program's report.
#[derive(Clone, Debug, Deserialize)]
struct Report {
    train_steps_per_s: Rate,
    #[serde(default)]
    greedy_examples_per_s: Option<f64>,
    #[serde(default)]
    peak_memory_mb: Option<f64>,
    #[serde(default)]
    train_gflop_per_s: Option<f64>,
    #[serde(default)]
    product_gflop_per_s: Option<f64>,
    #[serde(default)]
    multiply_add_gflop_per_s: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
struct Rate {
    median: f64,
}

/// The reports of all rounds for one configuration.
#[derive(Debug, Default)]
struct Reports {
    /// Ours in f32 and in bf16.
    own: [Vec<Report>; 2],
    theirs: Vec<(Variant, Vec<Report>)>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let root = root()?;
    let python = python(arguments, root)?;
    let ours = build(root)?;
    let script = root.join("benches/baseline/torch_baseline.py");

    println!("batch {}, medians of {} rounds in turn, steps/s", arguments.batch, arguments.rounds);
    println!();
    println!("{}", header(arguments.generate));
    for config in &arguments.configs {
        let theirs = arguments.variants.iter().map(|variant| (*variant, Vec::new())).collect();
        let mut reports = Reports { theirs, ..Reports::default() };
        for round in 1..=arguments.rounds {
            eprintln!("{config}, round {round} of {}", arguments.rounds);
            for (own, precision) in reports.own.iter_mut().zip([&[][..], &["--bf16"]]) {
                let mut command = Command::new(&ours);
                command.args(["bench", "--json"]).args(precision);
                if let Some(level) = arguments.level {
                    command.args(["--level", level.name()]);
                }
                own.push(report(&mut command, arguments, config)?);
            }
            for (variant, theirs) in &mut reports.theirs {
                let mut command = Command::new(&python);
                command
                    .arg(&script)
                    .args(variant.options())
                    .envs(arguments.level.into_iter().flat_map(Level::variables));
                theirs.push(report(&mut command, arguments, config)?);
            }
        }
        println!("{}", row(config, &reports, arguments.generate));
    }
    Ok(())
}

fn header(generate: bool) -> String {
    let mut cells = vec![
        "",
        "steps/s, f32",
        "steps/s, bf16",
        "PyTorch, f32",
        "PyTorch, bf16",
        "f32 / PyTorch's",
        "fastest / PyTorch's",
        "products f32, bf16, of the bound",
        "step f32, bf16, of the bound",
        "peak MB f32, bf16 / PyTorch",
    ];
    if generate {
        cells.extend(["greedy f32, bf16, examples/s", "PyTorch", "ratio"]);
    }
    format!("| {} |\n|{}", cells.join(" | "), "---|".repeat(cells.len()))
}

/// A row of the table.
fn row(config: &str, reports: &Reports, generate: bool) -> String {
    let median_of = |reports: &[Report], of: &dyn Fn(&Report) -> Option<f64>| median(reports.iter().map(of));
    let own = |of: &dyn Fn(&Report) -> Option<f64>| reports.own.each_ref().map(|reports| median_of(reports, of));
    let theirs = |is_bf16: bool, of: &dyn Fn(&Report) -> Option<f64>| {
        let kinds = reports.theirs.iter().filter(|(variant, _)| variant.is_bf16() == is_bf16);
        kinds.filter_map(|(_, reports)| median_of(reports, of)).reduce(f64::max)
    };
    let either = |a: Option<f64>, b: Option<f64>| [a, b].into_iter().flatten().reduce(f64::max);
    let ratio = |a: Option<f64>, b: Option<f64>| figure(a.zip(b).map(|(a, b)| a / b), 2);
    let pair = |[a, b]: [Option<f64>; 2], digits| format!("{}, {}", figure(a, digits), figure(b, digits));
    let percent = |of: &dyn Fn(&Report) -> Option<f64>| {
        let shares = own(&|report| Some(100.0 * of(report)? / report.multiply_add_gflop_per_s?));
        shares.map(|share| figure(share, 0) + "%").join(", ")
    };

    let steps = |report: &Report| Some(report.train_steps_per_s.median);
    let (ours, [f32s, bf16s]) = (own(&steps), [false, true].map(|is_bf16| theirs(is_bf16, &steps)));
    let memory = |report: &Report| report.peak_memory_mb;
    let least = reports.theirs.iter().filter_map(|(_, reports)| median_of(reports, &memory)).reduce(f64::min);
    let mut cells = vec![
        config.to_owned(),
        figure(ours[0], 3),
        figure(ours[1], 3),
        figure(f32s, 3),
        figure(bf16s, 3),
        ratio(ours[0], f32s),
        ratio(either(ours[0], ours[1]), either(f32s, bf16s)),
        percent(&|report| report.product_gflop_per_s),
        percent(&|report| report.train_gflop_per_s),
        format!("{} / {}", pair(own(&memory), 0), figure(least, 0)),
    ];
    if generate {
        let greedy = |report: &Report| report.greedy_examples_per_s;
        let (ours, theirs) = (own(&greedy), either(theirs(false, &greedy), theirs(true, &greedy)));
        cells.extend([pair(ours, 0), figure(theirs, 0), ratio(either(ours[0], ours[1]), theirs)]);
    }
    format!("| {} |", cells.join(" | "))
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// The middle value; `None` if there is no value, or one is missing.
fn median(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let mut values = values.collect::<Option<Vec<_>>>()?;
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// Runs a program to its end and reads the last line it prints.
fn report(command: &mut Command, arguments: &Arguments, config: &str) -> Result<Report> {
    command.args(["--config", config, "--windows", "3"]);
    command.args(["--batch", &arguments.batch.to_string(), "--seconds", &arguments.seconds.to_string()]);
    if let Some(threads) = arguments.threads {
        command.args(["--threads", &threads.to_string()]);
    }
    if arguments.generate {
        command.arg("--generate");
    }
    let name = command.get_program().display().to_string();
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().with_context(|| format!("{name} printed nothing"))?;
    serde_json::from_str(line).with_context(|| format!("{name} printed no report: {line}"))
}

/// Builds the command and returns its path. It builds the whole workspace, so that dependencies have the same features
/// as in every other build and are not compiled again.
fn build(root: &Path) -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(root)
        .args(["build", "--release", "--quiet", "--workspace", "--bins"])
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the command does not build: {status}");
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release").join(format!("numformer{}", env::consts::EXE_SUFFIX)))
}

/// A Python that has PyTorch.
fn python(arguments: &Arguments, root: &Path) -> Result<PathBuf> {
    if let Some(python) = &arguments.python {
        return Ok(python.clone());
    }
    let venv = root.join("target/torch-venv");
    let python = venv.join("bin/python");
    if !python.exists() {
        if !arguments.install {
            bail!("expected PyTorch in {}: give --install to put it there, or --python PATH", venv.display());
        }
        eprintln!("installing PyTorch into {}", venv.display());
        let run = |program: &Path, args: &[&str]| -> Result<()> {
            let status = Command::new(program).args(args).status();
            let status = status.with_context(|| format!("cannot run {}", program.display()))?;
            if !status.success() {
                bail!("{} {} failed: {status}", program.display(), args.join(" "));
            }
            Ok(())
        };
        run(Path::new("python3"), &["-m", "venv", &venv.to_string_lossy()])?;
        run(&python, &["-m", "pip", "install", "--quiet", "numpy", "torch"])?;
    }
    Ok(python)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_need_every_value() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter().map(Some)), Some(2.0));
        assert_eq!(median([4.0, 1.0].into_iter().map(Some)), Some(2.5));
        assert_eq!(median([Some(1.0), None].into_iter()), None);
    }

    #[test]
    fn ratios_are_to_the_fastest_variant() {
        let report = |steps: f64, memory: f64| Report {
            train_steps_per_s: Rate { median: steps },
            greedy_examples_per_s: Some(10.0 * steps),
            peak_memory_mb: Some(memory),
            train_gflop_per_s: Some(80.0),
            product_gflop_per_s: Some(90.0),
            multiply_add_gflop_per_s: Some(100.0),
        };
        let reports = Reports {
            own: [vec![report(6.0, 100.0)], vec![report(9.0, 90.0)]],
            theirs: vec![
                (Variant::Eager, vec![report(3.0, 400.0)]),
                (Variant::Compiled, vec![report(4.0, 900.0)]),
                (Variant::EagerBf16, vec![report(2.0, 500.0)]),
            ],
        };
        let expected = "| T1 | 6.000 | 9.000 | 4.000 | 2.000 | 1.50 | 2.25 | 90%, 90% | 80%, 80% | 100, 90 / 400 | 60, 90 | 40 | 2.25 |";
        assert_eq!(row("T1", &reports, true), expected);
        assert_eq!(
            header(true).lines().next().map(|line| line.matches('|').count()),
            Some(expected.matches('|').count())
        );
    }
}
