//! The command as a user meets it.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

mod filters;

fn numformer(arguments: &[&str], input: &[u8], dir: &Path) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_numformer"))
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that fails before it reads closes its end: that is not this function's concern.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn filter(arguments: &[&str], input: &[u8]) -> (String, String, i32) {
    let output = numformer(arguments, input, Path::new("."));
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs the command where the terminal has so many columns.
fn in_columns(columns: &str, arguments: &[&str]) -> (String, String) {
    let command =
        Command::new(env!("CARGO_BIN_EXE_numformer")).args(arguments).env("COLUMNS", columns).output().unwrap();
    (text(&command.stdout), text(&command.stderr))
}

#[test]
fn help_and_lists_fit_the_terminal() {
    for arguments in [&["train", "--help"][..], &["presets", "list"], &["problems"]] {
        let (stdout, _) = in_columns("40", arguments);
        let is_split = |line: &&str| line.chars().count() <= 40 || line.split_whitespace().count() == 1;
        // Examples are to be pasted, names are not cut.
        let prose = stdout.split("\nExamples:").next().unwrap();
        let wide: Vec<&str> = prose.lines().filter(|line| !is_split(line)).collect();
        let is_name = |line: &&str| line.starts_with("paper  paper-") || line.starts_with("Usage: ");
        assert!(wide.iter().all(is_name), "{arguments:?}: {wide:?}");
    }
    let (stdout, _) = in_columns("100", &["presets", "list"]);
    assert!(stdout.lines().all(|line| line.chars().count() <= 100), "{stdout}");
    assert_eq!(stdout, in_columns("1000", &["presets", "list"]).0, "every description has a line");
}

#[test]
fn an_unknown_preset_gets_a_suggestion_before_the_names() {
    for arguments in [
        &["train", "transpos-3x3"][..],
        &["presets", "show", "transpos-3x3"],
        &["generate", "transpos-3x3", "--count", "1"],
    ] {
        let (_, stderr) = in_columns("60", arguments);
        let mut lines = stderr.lines();
        let expected = "error: no preset `transpos-3x3`; did you mean `transpose-3x3`?";
        assert!(lines.next().unwrap().starts_with(expected), "{stderr}");
        assert_eq!(lines.next(), Some("The presets are:"));
        assert!(
            lines.all(|line| line.len() <= 60 && line.starts_with("  ")) && stderr.contains("paper-svd-4x4"),
            "{stderr}"
        );
    }
}

#[test]
fn problems_are_listed() {
    let (output, ..) = filter(&["problems"], b"");
    assert!(output.contains("eigenvectors") && output.lines().count() >= 19, "{output}");
}

const TINY: &str = r#"
name = "tiny"
problem.name = "transpose"
matrices = { law = "uniform", rows = 1, cols = 2 }
encoding = { input = "p1000", output = "p10" }
model.encoder = { d_model = 8, n_heads = 2, n_layers = 1 }
model.decoder = { d_model = 8, n_heads = 2, n_layers = 1 }
train = { batch_size = 4, steps = 4, lr = 1e-3, warmup_steps = 2 }
evaluate = { every = 2, examples = 4 }
checkpoint = { every = 2 }
log = { every = 1 }
"#;

#[test]
fn train_runs_an_experiment_and_goes_on_with_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("my.toml"), TINY).unwrap();
    let train = |arguments: &[&str]| {
        let output = numformer(&[&["train", "my.toml"], arguments].concat(), b"", dir.path());
        assert!(output.status.success(), "{}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    };
    let (stdout, stderr) = train(&[]);
    assert!(stdout.contains("On 2000 unseen matrices") && stdout.contains("within 0.5%"), "{stdout}");
    assert_eq!(
        stdout.matches("relative error").count()
            + stdout.matches("malformed").count()
            + stdout.matches("wrong shape").count(),
        3,
        "{stdout}"
    );
    assert!(stderr.contains("evaluation, step 2, 8 trained on"), "{stderr}");
    let run = dir.path().join("runs/tiny-seed0");
    for file in
        ["experiment.toml", "metrics.jsonl", "learning-curve.svg", "checkpoints/step-0000000004/model.safetensors"]
    {
        assert!(run.join(file).exists(), "{file}");
    }
    let (_, stderr) = train(&["--steps", "6"]);
    assert!(stderr.contains("from step 4"), "{stderr}");
    train(&["--seed", "9", "--run-dir", "elsewhere"]);
    assert!(dir.path().join("elsewhere/metrics.jsonl").exists());
}

#[test]
fn train_refuses_what_it_cannot_do() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |toml: &str, arguments: &[&str], expected: &[&str]| {
        fs::write(dir.path().join("my.toml"), toml).unwrap();
        let output = numformer(&[&["train"], arguments].concat(), b"", dir.path());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        for part in expected {
            assert!(stderr.contains(part), "{part} is not in: {stderr}");
        }
    };
    let mine = ["my.toml"];
    refused(
        &TINY.replace("warmup_steps", "warmup"),
        &mine,
        &["my.toml, line 8", "unknown key `warmup`", "did you mean `warmup_steps`?"],
    );
    refused(&TINY.replace("\"p10\"", "\"p11\""), &mine, &["line 5", "p11", "did you mean `p10`?"]);
    refused(&TINY.replace("rows = 1", "rows = 0"), &mine, &["error: impossible matrices: ", "rows", "found 0"]);
    refused(
        &TINY.replace("d_model = 8", "d_model = 9"),
        &mine,
        &["error: impossible model: encoder: d_model must be a multiple of n_heads"],
    );
    refused(TINY, &["missing.toml"], &["missing.toml"]);
    refused(TINY, &["transpos-3x3"], &["no preset `transpos-3x3`", "did you mean `transpose-3x3`?"]);
    refused(TINY, &["my.toml", "--steps", "0"], &["train.steps must be at least 1"]);

    let output = numformer(&["train", "my.toml", "--run-dir", "run"], b"", dir.path());
    assert!(output.status.success(), "{}", text(&output.stderr));
    refused(
        &TINY.replace("1e-3", "2e-3"),
        &["my.toml", "--run-dir", "run"],
        &["depends on", "train.lr is 0.001 there and 0.002 here", "--start-from RUN"],
    );
    for step in ["2", "4"] {
        fs::write(dir.path().join(format!("run/checkpoints/step-000000000{step}/model.safetensors")), "cut").unwrap();
    }
    refused(TINY, &["my.toml", "--run-dir", "run"], &["no checkpoint", "model.safetensors is damaged"]);
}

#[test]
fn a_run_goes_on_with_what_its_weights_do_not_depend_on() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("my.toml"), TINY).unwrap();
    let called = |arguments: &[&str]| {
        let output = numformer(arguments, b"", dir.path());
        (text(&output.stderr), output.status.code().unwrap())
    };
    let run = ["--run-dir", "run"];
    assert_eq!(called(&[&["train", "my.toml"], &run[..]].concat()).1, 0);
    // By the same command on a file that was edited, and by resume.
    fs::write(
        dir.path().join("my.toml"),
        TINY.replace("checkpoint = { every = 2 }", "checkpoint = { every = 2, keep = 7 }"),
    )
    .unwrap();
    let (stderr, code) = called(&[&["train", "my.toml", "--steps", "6"], &run[..]].concat());
    assert!(code == 0 && stderr.contains("from here on, checkpoint.keep is 7 instead of 2"), "{stderr}");
    let (stderr, code) = called(&["resume", "run", "--steps", "8", "--set", "log.every=3"]);
    assert!(code == 0 && stderr.contains("from here on, log.every is 3 instead of 1"), "{stderr}");
    assert!(!stderr.contains("warning"), "{stderr}");
    let written = fs::read_to_string(dir.path().join("run/experiment.toml")).unwrap();
    assert!(written.contains("keep = 7") && written.contains("[log]\nevery = 3"), "{written}");
    let log = fs::read_to_string(dir.path().join("run/metrics.jsonl")).unwrap();
    assert_eq!(log.matches(r#""event":"change""#).count(), 2, "{log}");

    let (stderr, code) = called(&["resume", "run", "--set", "train.lr=0.5"]);
    assert_eq!((stderr.lines().count(), code), (1, 1), "{stderr}");
    assert!(stderr.contains("train.lr is 0.001 there and 0.5 here") && stderr.contains("--start-from RUN"), "{stderr}");
}

#[test]
fn another_architecture_is_taken_with_a_note() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("my.toml"), TINY).unwrap();
    for architecture in ["lstm", "gru", "universal"] {
        let setting = format!("model.architecture={architecture}");
        let output = numformer(&["train", "my.toml", "--run-dir", architecture, "--set", &setting], b"", dir.path());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        let notes = stderr.lines().filter(|line| line.starts_with("note: model.") && line.contains("is left out"));
        assert_eq!(notes.count(), if architecture == "universal" { 0 } else { 2 }, "{stderr}");
    }
}

/// An experiment that is only for examples has no model.
#[test]
fn examples_need_no_model() {
    let dir = tempfile::tempdir().unwrap();
    let without: String =
        TINY.lines().filter(|line| !line.starts_with("model.")).map(|line| format!("{line}\n")).collect();
    assert_ne!(without, TINY);
    let path = dir.path().join("my.toml");
    let generated = |toml: &str| {
        fs::write(&path, toml).unwrap();
        let output = numformer(&["generate", "my.toml", "--count", "3"], b"", dir.path());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    assert_eq!(generated(&without), generated(TINY));
}

#[test]
fn generate_gives_the_same_bytes_however_it_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("my.toml"), TINY).unwrap();
    let generate = |arguments: &[&str]| {
        let output = numformer(&[&["generate", "my.toml", "--seed", "3"], arguments].concat(), b"", dir.path());
        assert!(output.status.success(), "{}", text(&output.stderr));
        output.stdout
    };
    for format in ["tsv", "jsonl", "parquet"] {
        let alone = generate(&["--count", "1500", "--threads", "1", "--format", format]);
        assert_eq!(generate(&["--count", "1500", "--threads", "2", "--format", format]), alone);
        generate(&["--count", "1500", "--output", &format!("set.{format}")]);
        assert_eq!(fs::read(dir.path().join(format!("set.{format}"))).unwrap(), alone);
    }
    let whole = generate(&["--count", "1500"]);
    assert!(whole.ends_with(&generate(&["--count", "500", "--start", "1000"])));
    assert_ne!(whole, generate(&["--count", "1500", "--split", "train"]));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4, "nothing else is left");
}

#[test]
fn generate_refuses_what_it_cannot_do() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, code, expected) in [
        (&["--count", "1", "--output", "set.csv"][..], 1, "set.csv"),
        (&["--count", "1", "--output", "missing/set.tsv"], 1, "cannot write missing/set.tsv"),
        (&["--count", "2", "--start", "18446744073709551615"], 1, "below 2^64"),
        (&["--count", "1", "--threads", "0"], 2, "--threads"),
        (&["--count", "1", "--format", "jsonl", "--output", "set.tsv"], 1, "ends in .jsonl"),
        (&["--count", "-1"], 2, "--count"),
        (&[], 2, "--count"),
    ] {
        let output = numformer(&[&["generate", "transpose-3x3"], arguments].concat(), b"", dir.path());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
}

#[test]
fn files_are_trained_and_judged_on() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("my.toml"), TINY).unwrap();
    for (split, file, count) in [("train", "a.tsv", "30"), ("validation", "b.jsonl", "3"), ("test", "c.parquet", "7")] {
        let arguments = ["generate", "my.toml", "--split", split, "--count", count, "--output", file];
        assert!(numformer(&arguments, b"", dir.path()).status.success());
    }
    let data = "data = { train = \"a.tsv\", validation = \"b.jsonl\", test = \"c.parquet\" }\n";
    fs::write(dir.path().join("files.toml"), TINY.replace("problem.name", &format!("{data}problem.name"))).unwrap();
    let train = |arguments: &[&str]| numformer(&[&["train", "files.toml"], arguments].concat(), b"", dir.path());
    let output = train(&[]);
    assert!(text(&output.stdout).contains("On 7 unseen matrices"), "{}", text(&output.stderr));

    let lines = fs::read_to_string(dir.path().join("a.tsv")).unwrap();
    let fewer: String = lines.lines().skip(1).map(|line| format!("{line}\n")).collect();
    fs::write(dir.path().join("a.tsv"), fewer).unwrap();
    let output = train(&["--steps", "6"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("does not hold the examples that the run had up to its checkpoint after step 4"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn bench_names_the_option_that_it_cannot_take() {
    for (option, values, expected) in [
        ("--batch", &["0", "-1", "4097", "99999999999999999999", "x"][..], "'--batch <BATCH>'"),
        ("--windows", &["0", "1001", "1.5"], "'--windows <WINDOWS>'"),
        ("--threads", &["0", "1025", "-2"], "'--threads <THREADS>'"),
        ("--seconds", &["0", "-1", "NaN", "inf", "3601", "1e999", "x"], "'--seconds <SECONDS>'"),
        ("--config", &["T0", ""], "'--config <NAME>'"),
    ] {
        for value in values {
            let (stdout, stderr, code) = filter(&["bench", "--json", option, value], b"");
            assert_eq!((stdout.as_str(), code), ("", 2), "{option} {value}: {stderr}");
            assert!(stderr.contains(&format!("invalid value '{value}' for {expected}")), "{option} {value}: {stderr}");
        }
    }
}

/// On a machine with a GPU these would train; the numbers are of ones that no machine has.
#[test]
fn a_gpu_that_cannot_be_had_is_one_line_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let train = ["train", "transpose-3x3", "--run-dir", "run", "--steps", "2"];
    for (arguments, expected, expected_code) in [
        (&[&train[..], &["--device", "cuda:99"]].concat()[..], "error: cuda:99 cannot be opened: ", 1),
        (&["bench", "--device", "cuda:99"], "error: cuda:99 cannot be opened: ", 1),
        (
            &["reproduce", "--only", "transpose-3x3", "--device", "cuda:99", "-q"],
            "error: cuda:99 cannot be opened: ",
            1,
        ),
        (
            &[&train[..], &["--set", "train.precision=bf16", "--set", "model.dropout=0.1"]].concat(),
            "train.precision = \"bf16\" needs the fused step, which has no dropout",
            1,
        ),
        (&[&train[..], &["--dry-run", "--device", "cuda:99"]].concat(), "error: cuda:99 cannot be opened: ", 1),
        (&["bench", "--bf16", "--gradients", "autodiff"], "error: --bf16 needs the fused step", 1),
        (&["bench", "--level", "sse"], "expected one that this processor has: plain", 2),
        (&["bench", "--gradients", "autodiff", "--device", "cuda:99"], "error: cuda:99 cannot be opened: ", 1),
        (&["train", "transpose-3x3", "--device", "gpu"], "expected cpu, cuda, or cuda:N", 2),
    ] {
        let output = numformer(arguments, b"", dir.path());
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(expected_code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
        assert!(expected_code == 2 || stderr.lines().count() == 1, "{arguments:?}: {stderr}");
        assert!(fs::read_dir(dir.path()).unwrap().next().is_none(), "{arguments:?} leaves something behind");
    }
}

#[test]
fn numbers_that_cannot_be_are_refused_by_their_options() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, expected, code) in [
        (&["train", "transpose-3x3", "--steps", "-1"][..], "invalid value '-1' for '--steps", 2),
        (&["train", "transpose-3x3", "--threads", "-1"], "invalid value '-1' for '--threads", 2),
        (&["reproduce", "--budget", "-1"], "invalid value '-1' for '--budget", 2),
        (&["generate", "transpose-3x3", "--count", "-5"], "invalid value '-5' for '--count", 2),
        (&["bench", "--seconds", "-2.5"], "invalid value '-2.5' for '--seconds", 2),
        (&["train", "transpose-3x3", "--steps", "9223372036854775808"], "train.steps must be at most", 1),
        (&["train", "transpose-3x3", "--seed", "18446744073709551615"], "seed must be at most 9223372036854775807", 1),
        (&["train", "transpose-3x3", "--set", "seed=18446744073709551615"], "expected an integer of at most", 1),
        (&["presets", "show", "my.toml"], "error: `my.toml` is a file: expected the name of a preset", 1),
    ] {
        let output = numformer(arguments, b"", dir.path());
        let stderr = text(&output.stderr);
        assert!(output.status.code() == Some(code) && stderr.contains(expected), "{arguments:?}: {stderr}");
        assert!(fs::read_dir(dir.path()).unwrap().next().is_none(), "{arguments:?} leaves something behind");
    }
}

#[test]
fn a_warm_up_that_is_longer_than_the_run_is_told() {
    let dir = tempfile::tempdir().unwrap();
    for (warmup, expected) in [(", warmup_steps = 5", true), (", warmup_steps = 4", false), ("", false)] {
        fs::write(dir.path().join("my.toml"), TINY.replace(", warmup_steps = 2", warmup)).unwrap();
        let output = numformer(&["train", "my.toml", "--dry-run"], b"", dir.path());
        let stderr = text(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        assert!(text(&output.stdout).contains("gradients:   fused step\n"), "{}", text(&output.stdout));
        let told = stderr.contains("never reaches 1e-3: train.warmup_steps is 5, train.steps 4");
        assert_eq!(told, expected, "{warmup}: {stderr}");
    }
}

/// Divergence on purpose: of the run, and of the answers of a checkpoint that was written before it.
#[test]
fn a_run_that_diverges_is_logged_and_its_checkpoints_can_be_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let diverging = TINY.replace("steps = 4, lr = 1e-3, warmup_steps = 2", "steps = 40, lr = 1e30, warmup_steps = 0");
    let saving = diverging.replace("checkpoint = { every = 2 }", "checkpoint = { every = 1 }");
    fs::write(dir.path().join("my.toml"), saving).unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_numformer"))
            .args(arguments)
            .current_dir(dir.path())
            .env("RUST_BACKTRACE", "1")
            .output()
            .unwrap();
        let stderr = text(&output.stderr);
        let errors: Vec<_> =
            stderr.lines().skip_while(|line| !line.starts_with("error: ")).map(str::to_owned).collect();
        assert!(output.status.code() == Some(1) && errors.len() == 1, "{arguments:?}: {stderr}");
        errors[0].clone()
    };
    assert!(run(&["train", "my.toml", "--run-dir", "run", "-q"]).contains("training diverged at step"));
    let metrics = fs::read_to_string(dir.path().join("run/metrics.jsonl")).unwrap();
    let last = metrics.lines().last().unwrap();
    assert!(last.contains(r#""event":"divergence""#) && last.contains(r#""remedy":"stopped""#), "{metrics}");
    // The newest checkpoint is of weights that are finite and give nothing that is.
    let told = run(&["evaluate", "run", "--examples", "8"]);
    assert!(told.contains("no finite numbers") && told.contains("--checkpoint"), "{told}");
}

/// What a command writes to standard output and standard error, and its exit code.
fn said(arguments: &[&str], dir: &Path) -> (String, String, Option<i32>) {
    let output = numformer(arguments, b"", dir);
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

/// Commands on a stored run, too, refuse a device that this machine or this build does not have.
#[test]
fn a_device_for_a_run_that_cannot_be_opened_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run");
    let run = path.to_str().unwrap();
    let (_, stderr, code) = said(&["train", "transpose-3x3", "--steps", "1", "--run-dir", run, "-q"], dir.path());
    assert_eq!(code, Some(0), "{stderr}");
    let checkpoint = path.join("checkpoints/step-0000000001");
    let commands: [&[&str]; 4] = [
        &["resume", run, "--steps", "2"],
        &["evaluate", run],
        &["solve", run, "--random"],
        &["score", checkpoint.to_str().unwrap()],
    ];
    for arguments in commands {
        let (stdout, stderr, code) = said(&[arguments, &["--device", "cuda:99"]].concat(), dir.path());
        assert_eq!((code, stderr.lines().count(), &*stdout), (Some(1), 1, ""), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("error: cuda:99 cannot be opened: "), "{arguments:?}: {stderr}");
    }
}

#[test]
fn an_exported_model_is_scored_and_begins_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let train = ["train", "transpose-3x3", "--steps", "1", "--run-dir", "run", "-q"];
    let (_, stderr, code) = said(&train, dir.path());
    assert_eq!(code, Some(0), "{stderr}");
    let (stdout, stderr, code) = said(&["export", "run", "--bf16", "--output", "model"], dir.path());
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.starts_with("model: ") && stdout.contains("in bf16, after 1 steps"), "{stdout}");
    let bytes = |path: &str| fs::metadata(dir.path().join(path)).unwrap().len();
    let [exported, whole] = ["model/model.safetensors", "run/checkpoints/step-0000000001/model.safetensors"].map(bytes);
    assert!(exported < whole * 51 / 100, "{exported} {whole}");
    let begin = ["train", "transpose-3x3", "--steps", "1", "--run-dir", "next", "-q", "--start-from", "model"];
    let (_, stderr, code) = said(&begin, dir.path());
    assert_eq!(code, Some(0), "{stderr}");
    // A damaged checkpoint is passed over, and told.
    let (_, stderr, code) = said(&["resume", "run", "--steps", "2", "-q"], dir.path());
    assert_eq!(code, Some(0), "{stderr}");
    fs::write(dir.path().join("run/checkpoints/step-0000000002/model.safetensors"), "damaged").unwrap();
    let (stdout, stderr, _) = said(&["export", "run", "--output", "earlier"], dir.path());
    assert!(stdout.contains("after 1 steps") && stderr.contains("passed over a checkpoint"), "{stdout} {stderr}");
    // Nothing is overwritten, and what is no run is named.
    let (_, stderr, code) = said(&["export", "run", "--output", "model"], dir.path());
    assert!(code == Some(1) && stderr.contains("model"), "{stderr}");
    let (_, stderr, code) = said(&["export", "model", "--output", "other"], dir.path());
    assert!(code == Some(1) && stderr.lines().count() == 1, "{stderr}");
}
