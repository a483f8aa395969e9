//! `cargo xtask bench-compare`: compares the training steps of numformer and PyTorch on this machine, in turn.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;

use crate::root;

/// Run `numformer bench` and a PyTorch script of the same model in turn, and print the ratios.
///
/// The script is benches/baseline/torch_baseline.py. It needs PyTorch: `--install` installs it in a virtual environment
/// under target/, and `--python` names a Python that has it.
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
    /// Also compare with compiled PyTorch.
    #[arg(long)]
    compile: bool,
    /// Path of a Python that has PyTorch.
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// First install PyTorch into target/torch-venv, if it is not there.
    #[arg(long)]
    install: bool,
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
}

#[derive(Clone, Debug, Deserialize)]
struct Rate {
    median: f64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let root = root()?;
    let python = python(arguments, root)?;
    let ours = build(root)?;
    let script = root.join("benches/baseline/torch_baseline.py");

    let mut variants = vec!["eager"];
    if arguments.compile {
        variants.push("compiled");
    }
    println!("medians of {} rounds in turn; ratio: ours over the fastest PyTorch", arguments.rounds);
    println!();
    println!("| | numformer, steps/s | PyTorch, steps/s | ratio | of the GEMM rate | peak MB | ratio |{}", {
        if arguments.generate { " greedy, examples/s | PyTorch | ratio |" } else { "" }
    });
    println!("|---|---|---|---|---|---|---|{}", if arguments.generate { "---|---|---|" } else { "" });
    for config in &arguments.configs {
        let mut own = Vec::new();
        let mut theirs = vec![Vec::new(); variants.len()];
        for round in 1..=arguments.rounds {
            eprintln!("{config}, round {round} of {}", arguments.rounds);
            own.push(report(Command::new(&ours).arg("bench").arg("--json"), arguments, config)?);
            for (variant, reports) in variants.iter().zip(&mut theirs) {
                let mut command = Command::new(&python);
                command.arg(&script);
                if *variant == "compiled" {
                    command.arg("--compile");
                }
                reports.push(report(&mut command, arguments, config)?);
            }
        }
        println!("{}", row(config, &own, &theirs, arguments.generate));
    }
    Ok(())
}

/// A row of the table.
fn row(config: &str, own: &[Report], theirs: &[Vec<Report>], generate: bool) -> String {
    let steps = |reports: &[Report]| median(reports.iter().map(|report| Some(report.train_steps_per_s.median)));
    let memory = |reports: &[Report]| median(reports.iter().map(|report| report.peak_memory_mb));
    let greedy = |reports: &[Report]| median(reports.iter().map(|report| report.greedy_examples_per_s));
    let fastest = |of: &dyn Fn(&[Report]) -> Option<f64>| theirs.iter().filter_map(|r| of(r)).reduce(f64::max);
    let share = median(own.iter().map(|report| Some(report.train_gflop_per_s? / report.product_gflop_per_s?)));

    let ratio = |a: Option<f64>, b: Option<f64>| figure(a.zip(b).map(|(a, b)| a / b), 2);
    let mut cells = vec![
        config.to_owned(),
        figure(steps(own), 3),
        figure(fastest(&steps), 3),
        ratio(steps(own), fastest(&steps)),
        figure(share.map(|share| 100.0 * share), 0) + "%",
        format!("{} / {}", figure(memory(own), 0), figure(memory(&theirs[0]), 0)),
        ratio(memory(own), memory(&theirs[0])),
    ];
    if generate {
        cells.extend([figure(greedy(own), 0), figure(fastest(&greedy), 0), ratio(greedy(own), fastest(&greedy))]);
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
    fn ratios_are_to_the_fastest_variant_and_memory_to_the_first() {
        let report = |steps: f64, memory: f64| Report {
            train_steps_per_s: Rate { median: steps },
            greedy_examples_per_s: None,
            peak_memory_mb: Some(memory),
            train_gflop_per_s: Some(80.0),
            product_gflop_per_s: Some(100.0),
        };
        let line = row("T1", &[report(6.0, 100.0)], &[vec![report(3.0, 400.0)], vec![report(4.0, 900.0)]], false);
        assert_eq!(line, "| T1 | 6.000 | 4.000 | 1.50 | 80% | 100 / 400 | 0.25 |");
    }
}
