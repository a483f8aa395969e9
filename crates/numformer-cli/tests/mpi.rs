//! The command under `mpirun`. Nothing is tested where these tests are started by `mpirun` themselves.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const EXPERIMENT: &str = r#"
name = "tiny"
problem.name = "transpose"
matrices = { law = "uniform", rows = 1, cols = 2 }
encoding = { input = "p1000", output = "p10" }
model.encoder = { d_model = 16, n_heads = 2, n_layers = 1 }
model.decoder = { d_model = 16, n_heads = 2, n_layers = 1 }
train = { batch_size = 8, steps = 40, lr = 1e-3, warmup_steps = 2 }
evaluate = { every = 20, examples = 300 }
checkpoint = { every = 10 }
log = { every = 10 }
"#;

fn is_under_a_launcher() -> bool {
    std::env::var_os("OMPI_COMM_WORLD_SIZE").is_some() || std::env::var_os("PMI_SIZE").is_some()
}

/// `mpirun` with these arguments; `numformer` stands for the command.
fn mpirun(arguments: &str, dir: &Path) -> Command {
    let mut command = Command::new("mpirun");
    command.arg("--oversubscribe").current_dir(dir);
    for argument in arguments.split(' ') {
        command.arg(if argument == "numformer" { env!("CARGO_BIN_EXE_numformer") } else { argument });
    }
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(arguments: &str, dir: &Path) -> Output {
    mpirun(arguments, dir).output().unwrap()
}

fn alone(arguments: &str, dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_numformer")).args(arguments.split(' ')).current_dir(dir).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

fn prepared() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("my.toml"), EXPERIMENT).unwrap();
    dir
}

#[test]
fn ranks_train_judge_and_generate_what_one_process_does() {
    if is_under_a_launcher() {
        return;
    }
    let dir = prepared();
    let dir = dir.path();
    let trained = run("-n 2 numformer train my.toml --run-dir two --threads 1", dir);
    assert!(trained.status.success(), "{}", said(&trained));
    let text = said(&trained);
    assert_eq!(text.matches("On 2000 unseen matrices").count(), 1, "{text}");
    assert!(text.contains("fused step, on 2 ranks"), "{text}");
    for again in ["two-again", "one"] {
        let size = if again == "one" { 1 } else { 2 };
        let trained = run(&format!("-n {size} numformer train my.toml --run-dir {again} --quiet"), dir);
        assert!(trained.status.success(), "{}", said(&trained));
    }
    let metrics = |name: &str| fs::read_to_string(dir.join(name).join("metrics.jsonl")).unwrap();
    assert_eq!(metrics("two"), metrics("two-again"));
    let loss = |name: &str| {
        let text = metrics(name);
        let line = text.lines().rfind(|line| line.contains("\"loss\"")).unwrap().to_owned();
        line.split("\"loss\":").nth(1).unwrap().split(',').next().unwrap().parse::<f64>().unwrap()
    };
    assert!((loss("two") - loss("one")).abs() < 1e-4 * loss("one"), "{} {}", loss("two"), loss("one"));

    let of_two = run("-n 2 numformer evaluate two --examples 1000 --json", dir);
    assert!(of_two.status.success(), "{}", said(&of_two));
    assert_eq!(of_two.stdout, alone("evaluate two --examples 1000 --json", dir).stdout);
    for (to, file) in [("-n 3 numformer", "three.parquet"), ("", "one.parquet")] {
        let arguments = format!("generate my.toml --count 1000 --output {file}");
        let made = if to.is_empty() { alone(&arguments, dir) } else { run(&format!("{to} {arguments}"), dir) };
        assert!(made.status.success(), "{}", said(&made));
    }
    assert_eq!(fs::read(dir.join("three.parquet")).unwrap(), fs::read(dir.join("one.parquet")).unwrap());
    let lines = run("-n 2 numformer generate my.toml --count 200", dir);
    assert_eq!(lines.stdout, alone("generate my.toml --count 200", dir).stdout);

    // The run goes on with another number of ranks, and ends when one of them gets a signal.
    let more = run("-n 3 numformer resume two --steps 60 --quiet", dir);
    assert!(more.status.success(), "{}", said(&more));
    assert!(dir.join("two/checkpoints/step-0000000060/state.json").exists());
}

#[test]
fn a_signal_to_one_rank_saves_and_ends_all() {
    if is_under_a_launcher() {
        return;
    }
    let dir = prepared();
    let dir = dir.path();
    let job = mpirun("-n 2 numformer train my.toml --run-dir run --steps 1000000 --threads 1", dir).spawn().unwrap();
    let begin = Instant::now();
    while !dir.join("run/checkpoints/step-0000000010/state.json").exists() {
        assert!(begin.elapsed() < Duration::from_secs(60), "no checkpoint");
        thread::sleep(Duration::from_millis(5));
    }
    // The second child of mpirun is rank 1.
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", job.id())).unwrap();
    let rank = children.split_whitespace().nth(1).unwrap().to_owned();
    assert!(Command::new("kill").args(["-INT", &rank]).status().unwrap().success());
    let ended = job.wait_with_output().unwrap();
    let text = said(&ended);
    assert!(ended.status.success() && text.contains("saved after step") && text.contains("to resume:"), "{text}");
    let saved: u64 = text.split("saved after step ").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
    assert!(dir.join(format!("run/checkpoints/step-{saved:010}/state.json")).exists(), "{text}");
}

#[test]
fn ranks_of_another_experiment_are_refused_with_one_message() {
    if is_under_a_launcher() {
        return;
    }
    let dir = prepared();
    let both = "-n 1 numformer train my.toml --run-dir run : -n 1 numformer train my.toml --run-dir run --seed 1";
    let refused = run(both, dir.path());
    let text = said(&refused);
    assert!(!refused.status.success() && !dir.path().join("run").exists(), "{text}");
    assert_eq!(text.matches("error: ").count(), 1, "{text}");
    assert!(text.contains("error: rank 1: expected the command line of rank 0, train my.toml"), "{text}");
    for command in ["generate my.toml --count 3", "bench --config T5"] {
        let both = format!("-n 1 numformer {command} : -n 1 numformer {command} --timeout 30");
        let refused = run(&both, dir.path());
        assert!(
            !refused.status.success() && said(&refused).contains("expected the command line"),
            "{}",
            said(&refused)
        );
    }
    // The same arguments, another file.
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    fs::write(dir.path().join("elsewhere/my.toml"), EXPERIMENT.replace("1e-3", "2e-3")).unwrap();
    let both = "-n 1 numformer train my.toml : -n 1 --wdir elsewhere numformer train my.toml";
    let refused = run(both, dir.path());
    let text = said(&refused);
    assert!(!refused.status.success() && !dir.path().join("runs").exists(), "{text}");
    assert_eq!(text.matches("error: ").count(), 1, "{text}");
    assert!(text.contains("error: rank 1: expected the experiment of rank 0, hash "), "{text}");

    // A program that differs in a byte, which it never reads.
    let other = dir.path().join("other");
    fs::copy(env!("CARGO_BIN_EXE_numformer"), &other).unwrap();
    fs::OpenOptions::new().append(true).open(&other).unwrap().write_all(b" ").unwrap();
    let both = "-n 1 numformer train my.toml --run-dir run : -n 1 ./other train my.toml --run-dir run";
    let refused = run(both, dir.path());
    let text = said(&refused);
    assert!(!refused.status.success() && !dir.path().join("run").exists(), "{text}");
    assert!(text.contains("error: rank 1: expected the program of rank 0, hash "), "{text}");

    // What all ranks find wrong is told once.
    let refused = run("-n 3 numformer train my.toml --run-dir run --set train.batch_size=2", dir.path());
    let text = said(&refused);
    assert_eq!(text.matches("error: ").count(), 1, "{text}");
    assert!(text.contains("expected at most 2 ranks"), "{text}");
    for command in ["reproduce --only transpose-3x3", "solve run --random", "train my.toml --dry-run"] {
        let refused = run(&format!("-n 2 numformer {command}"), dir.path());
        let text = said(&refused);
        assert!(!refused.status.success() && text.contains("runs in one process"), "{text}");
        assert_eq!(text.matches("error: ").count(), 1, "{text}");
    }
    for command in ["resume nothing", "train", "evaluate run --examples 0"] {
        let refused = run(&format!("-n 2 numformer {command}"), dir.path());
        let text = said(&refused);
        assert!(!refused.status.success() && text.matches("error: ").count() == 1, "{text}");
    }
}
