//! Runs that are interrupted, and go on as if they had not been.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const STEPS: u64 = 3000;

const EXPERIMENT: &str = r#"
name = "tiny"
problem.name = "transpose"
matrices = { law = "uniform", rows = 1, cols = 2 }
encoding = { input = "p1000", output = "p10" }
model.encoder = { d_model = 16, n_heads = 2, n_layers = 1 }
model.decoder = { d_model = 16, n_heads = 2, n_layers = 1 }
train = { batch_size = 8, steps = 3000, lr = 1e-3, warmup_steps = 2 }
evaluate = { every = 500, examples = 8 }
checkpoint = { every = 25 }
log = { every = 10 }
"#;

fn start(arguments: &[&str], dir: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_numformer"))
        .args(arguments)
        .current_dir(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn train(run: &str, dir: &Path) -> Child {
    start(&["train", "my.toml", "--run-dir", run], dir)
}

fn ended(child: Child) -> Output {
    child.wait_with_output().unwrap()
}

fn send(signal: &str, child: &Child) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run.join("checkpoints")).into_iter().flatten();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.join("state.json").exists()).collect();
    paths.sort();
    paths
}

fn wait_for_a_checkpoint(run: &Path) {
    let began = Instant::now();
    while checkpoints(run).is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "no checkpoint after a minute");
        sleep(Duration::from_millis(5));
    }
}

fn assert_same_end(dir: &Path, run: &str, uninterrupted: &str) {
    let of = |run: &str, file: &str| {
        let last = checkpoints(&dir.join(run)).pop().unwrap();
        assert!(last.ends_with(format!("step-{STEPS:010}")), "{}", last.display());
        fs::read(last.join(file)).unwrap()
    };
    for file in ["model.safetensors", "optimizer.safetensors"] {
        assert!(of(run, file) == of(uninterrupted, file), "{file} differs");
    }
    let metrics = |run: &str| fs::read_to_string(dir.join(run).join("metrics.jsonl")).unwrap();
    assert_eq!(metrics(run), metrics(uninterrupted));
}

fn prepared() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("my.toml"), EXPERIMENT).unwrap();
    dir
}

#[test]
fn a_run_that_is_killed_twenty_times_ends_with_the_same_bits() {
    let dir = prepared();
    let dir = dir.path();
    let began = Instant::now();
    let output = ended(train("whole", dir));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let whole = began.elapsed();

    // Moments by a linear congruential generator: any will do, the same in every run of the test.
    let mut state = 1u64;
    let mut share = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 24) as f64
    };
    for _ in 0..20 {
        let mut child = train("killed", dir);
        sleep(whole.mul_f64(share() / 15.0));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let output = ended(train("killed", dir));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_same_end(dir, "killed", "whole");
}

#[test]
fn an_interrupted_run_is_saved_and_resumed() {
    let dir = prepared();
    let dir = dir.path();
    assert!(ended(train("whole", dir)).status.success());
    // The second name is a word only where it is quoted, and the hint is to be pasted.
    for (signal, run, hint) in
        [("-INT", "run", "run"), ("-TERM", "läufe mit Leerzeichen/x", "'läufe mit Leerzeichen/x'")]
    {
        let child = train(run, dir);
        wait_for_a_checkpoint(&dir.join(run));
        send(signal, &child);
        let output = ended(child);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        assert!(stderr.contains(&format!("numformer resume {hint}\n")), "{stderr}");

        let output = ended(start(&["resume", run], dir));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_same_end(dir, run, "whole");
    }
}

/// A validation set that takes a while, at a step that is no end and at the last one.
#[test]
fn an_evaluation_is_broken_off_and_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let toml = EXPERIMENT
        .replace("steps = 3000", "steps = 4")
        .replace("evaluate = { every = 500, examples = 8 }", "evaluate = { every = 2, examples = 8000 }")
        .replace("log = { every = 10 }", "log = { every = 1 }");
    fs::write(dir.join("my.toml"), toml.replace("every = 25", "every = 100, best = [\"cross_entropy\"]")).unwrap();
    assert!(ended(train("whole", dir)).status.success());
    let metrics = |run: &str| fs::read_to_string(dir.join(run).join("metrics.jsonl")).unwrap_or_default();
    for step in [2, 4] {
        let run = format!("broken-off-{step}");
        let child = train(&run, dir);
        let began = Instant::now();
        // The line of the step is there, that of its evaluation is not.
        while !metrics(&run).contains(&format!("\"step\":{step},")) {
            assert!(began.elapsed() < Duration::from_secs(120), "{}", metrics(&run));
            sleep(Duration::from_millis(2));
        }
        send("-INT", &child);
        let output = ended(child);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        assert!(stderr.contains("evaluation interrupted") && stderr.contains("saved after step"), "{stderr}");
        assert_eq!(metrics(&run).matches("\"event\":\"evaluation\"").count() as u64, step / 2 - 1);

        let output = ended(start(&["resume", &run], dir));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(metrics(&run), metrics("whole"));
        let last = |run: &str| checkpoints(&dir.join(run)).pop().unwrap();
        for file in ["model.safetensors", "optimizer.safetensors", "state.json"] {
            assert!(fs::read(last(&run).join(file)).unwrap() == fs::read(last("whole").join(file)).unwrap(), "{file}");
        }
    }
}

/// Its steps take a second or so, with as many examples.
#[test]
fn a_signal_is_acknowledged_before_the_step_ends() {
    let dir = tempfile::tempdir().unwrap();
    let toml = EXPERIMENT.replace("batch_size = 8, steps = 3000", "batch_size = 30000, steps = 1000");
    fs::write(dir.path().join("my.toml"), toml).unwrap();
    let child = train("run", dir.path());
    let began = Instant::now();
    while !dir.path().join("run/metrics.jsonl").exists() {
        assert!(began.elapsed() < Duration::from_secs(60));
        sleep(Duration::from_millis(5));
    }
    send("-INT", &child);
    let output = ended(child);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let at = |what: &str| stderr.find(what).unwrap_or_else(|| panic!("{what}: {stderr}"));
    assert!(at("the run will save and end after this step") < at("saved after step"), "{stderr}");
}

#[test]
fn a_judgement_of_reproduce_ends_at_once_and_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let reproduce = |examples| {
        let only = ["reproduce", "--only", "transpose-3x3", "--budget", "0.01", "--examples", examples];
        start(&only, dir.path())
    };
    let mut child = reproduce("100000000");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("judging it on 100000000 unseen matrices")));
    sleep(Duration::from_millis(200));
    send("-INT", &child);
    assert_eq!(ended(child).status.code(), Some(130));
    let outcome = dir.path().join("runs/reproduce/transpose-3x3-seed0/outcome.json");
    assert!(!outcome.exists());

    let output = ended(reproduce("20"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(outcome.exists());
}

#[test]
fn generate_leaves_nothing_behind_when_it_is_interrupted() {
    let dir = prepared();
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        for name in ["set.tsv", "set.parquet"] {
            let child = start(&["generate", "my.toml", "--count", "100000000", "-o", name], dir.path());
            let began = Instant::now();
            while fs::read_dir(dir.path()).unwrap().count() < 2 {
                assert!(began.elapsed() < Duration::from_secs(60));
                sleep(Duration::from_millis(2));
            }
            send(signal, &child);
            assert_eq!(ended(child).status.code(), Some(code), "{signal}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{name} at {signal}: only my.toml is left");
        }
    }
}

#[test]
fn a_run_saves_when_it_is_asked_to() {
    let dir = prepared();
    let toml = EXPERIMENT.replace("checkpoint = { every = 25 }", "checkpoint = { every = 1000000 }");
    fs::write(dir.path().join("my.toml"), toml.replace("steps = 3000", "steps = 300000")).unwrap();
    let mut child = train("run", dir.path());
    let run = dir.path().join("run");
    let began = Instant::now();
    // Signals are handled once the run directory is there, a moment later.
    while !run.join("metrics.jsonl").exists() {
        assert!(began.elapsed() < Duration::from_secs(60));
        sleep(Duration::from_millis(5));
    }
    send("-USR1", &child);
    wait_for_a_checkpoint(&run);
    assert!(child.try_wait().unwrap().is_none(), "the run goes on");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_is_no_run_is_not_resumed() {
    let dir = prepared();
    let output = ended(start(&["resume", "nowhere"], dir.path()));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && stderr.contains("nowhere is not a run"), "{stderr}");
}

#[test]
fn settings_change_the_experiment() {
    let dir = prepared();
    let dir = dir.path();
    let settings = ["--set", "train.steps=2", "--set", "problem.name=addition", "--set", "model.encoder.n_layers=2"];
    let output = ended(start(&[&["train", "my.toml", "--run-dir", "set"], &settings[..]].concat(), dir));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let written = fs::read_to_string(dir.join("set/experiment.toml")).unwrap();
    for line in ["steps = 2", "name = \"addition\"", "n_layers = 2"] {
        assert!(written.contains(line), "{written}");
    }
    for (setting, expected) in [
        ("train.stepz=2", "did you mean `steps`?"),
        ("train.steps", "expected KEY=VALUE"),
        ("train.steps.more=2", "`steps` is a value"),
        ("train.steps=many", "invalid type"),
        ("train.lr=-1", "train.lr must be positive"),
    ] {
        let output = ended(start(&["train", "my.toml", "--run-dir", "bad", "--set", setting], dir));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && stderr.contains(expected), "{setting}: {stderr}");
        assert!(!dir.join("bad").exists(), "a mistake leaves no directory behind");
    }
}

/// A disk of its own is filled while the run saves, and emptied again. It is filled anew until the run notices: what a
/// run deletes makes room for one more checkpoint.
#[cfg(target_os = "linux")]
#[expect(clippy::print_stdout, reason = "a test that cannot run says so")]
#[test]
fn a_run_waits_while_the_disk_is_full_and_loses_nothing() {
    const SCRIPT: &str = r#"
        mkdir disk && mount -t tmpfs -o size=4m tmpfs disk || exit 77
        timeout 100 "$NUMFORMER" train my.toml --run-dir disk/run > out 2> err &
        run=$!
        until ls disk/run/checkpoints/step-* > /dev/null 2>&1; do kill -0 $run || exit 1; sleep 0.01; done
        until grep -q '^paused' err; do cat /dev/zero >> disk/filler 2> /dev/null; kill -0 $run || exit 2; sleep 0.02; done
        sleep 1.5
        kill -0 $run || exit 3
        rm disk/filler
        wait $run || exit 4
        cp -r disk/run run
    "#;
    let dir = prepared();
    let dir = dir.path();
    let output = ended(train("whole", dir));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let script = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", SCRIPT])
        .env("NUMFORMER", env!("CARGO_BIN_EXE_numformer"))
        .current_dir(dir)
        .output();
    let may_not_mount = |output: &Output| {
        output.status.code() == Some(77) || String::from_utf8_lossy(&output.stderr).contains("unshare failed")
    };
    match script {
        Ok(output) if output.status.success() => {}
        Err(error) => return println!("skipped: no `unshare` here ({error})"),
        Ok(output) if may_not_mount(&output) => return println!("skipped: no file system may be mounted here"),
        Ok(output) => panic!("{output:?}\n{}", fs::read_to_string(dir.join("err")).unwrap()),
    }
    let said = fs::read_to_string(dir.join("err")).unwrap();
    assert!(said.contains("the run goes on when there is room, nothing is lost"), "{said}");
    assert_same_end(dir, "run", "whole");
}
