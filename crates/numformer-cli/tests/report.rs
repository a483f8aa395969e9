//! Reports of runs, by the command.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::fs;
use std::path::Path;
use std::process::Command;

const EXPERIMENT: &str = r#"
name = "tiny"
problem.name = "transpose"
matrices = { law = "uniform", rows = 2 }
encoding = { input = "p1000", output = "p10" }
model.encoder = { d_model = 16, n_heads = 2, n_layers = 1 }
model.decoder = { d_model = 16, n_heads = 2, n_layers = 1 }
train = { batch_size = 8, steps = 4, lr = 1e-3, warmup_steps = 2 }
evaluate = { every = 2, examples = 8 }
log = { every = 1 }
"#;

fn numformer(arguments: &[&str], dir: &Path) -> (String, String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_numformer")).args(arguments).current_dir(dir).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}

fn trained() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("my.toml"), EXPERIMENT).unwrap();
    let (_, stderr, code) = numformer(&["train", "my.toml", "--run-dir", "run"], dir.path());
    assert_eq!(code, 0, "{stderr}");
    dir
}

#[test]
fn a_report_and_its_figures_are_written() {
    let dir = trained();
    let arguments = ["report", "run", "--examples", "5", "--laws", "gaussian,wigner", "--svg", "figures"];
    let (stdout, stderr, code) = numformer(&arguments, dir.path());
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
    assert!(stderr.ends_with("run/report.html\n"), "{stderr}");
    let html = fs::read_to_string(dir.path().join("run/report.html")).unwrap();
    assert!(
        html.contains("<h1>Run run</h1>") && html.contains("tested on") && html.contains("5 test matrices"),
        "{html}"
    );
    for name in ["run-loss-examples", "run-accuracy-time", "run-errors", "laws"] {
        let svg = fs::read_to_string(dir.path().join(format!("figures/{name}.svg"))).unwrap();
        assert!(svg.starts_with("<svg") && html.contains(&format!("id=\"figure-{name}\"")), "{name}");
    }

    let again = numformer(&[&arguments[..6], &["--out", "-"]].concat(), dir.path()).0;
    assert_eq!(again, html, "the same run gives the same bytes");
}

#[test]
fn a_report_is_on_the_file_that_the_run_is_reported_on_and_tells_of_damage() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("my.toml"), format!("{EXPERIMENT}data.test = \"t30.tsv\"\n")).unwrap();
    let generated = numformer(&["generate", "my.toml", "--count", "30", "--seed", "5", "-o", "t30.tsv"], dir.path());
    assert_eq!(generated.2, 0, "{}", generated.1);
    let (stdout, stderr, code) = numformer(&["train", "my.toml", "--run-dir", "run", "--json"], dir.path());
    assert_eq!(code, 0, "{stderr}");
    let trained: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let report = |arguments: &[&str]| {
        numformer(&[&["report", "run", "--laws", "none", "--out", "-"], arguments].concat(), dir.path())
    };
    let (html, stderr, code) = report(&[]);
    assert_eq!(code, 0, "{stderr}");
    assert!(html.contains("Greedy decoding on 30 test matrices of t30.tsv after 4 steps"), "{html}");
    let cross_entropy = format!("{:.3}", trained["test"]["cross_entropy"].as_f64().unwrap());
    let cross_entropy = cross_entropy.trim_end_matches('0');
    assert!(html.contains(cross_entropy), "{cross_entropy}: {html}");
    // The worst of them are shown, the exact answers beside.
    let tokens = fs::read_to_string(dir.path().join("t30.tsv")).unwrap();
    let exact = html.split("<dt>exact tokens</dt><dd><code>").nth(1).unwrap().split('<').next().unwrap();
    assert!(tokens.lines().any(|line| line.ends_with(&format!("\t{exact}"))), "{exact}");
    let (_, stderr, code) = report(&["--examples", "31"]);
    assert!(code == 1 && stderr.contains("t30.tsv, found 30"), "{stderr}");

    fs::rename(dir.path().join("run/checkpoints/step-0000000004"), dir.path().join("run/checkpoints/step-0000000003"))
        .unwrap();
    fs::create_dir(dir.path().join("run/checkpoints/step-0000000004")).unwrap();
    let (html, stderr, code) = report(&["--examples", "5"]);
    assert!(code == 0 && stderr.contains("warning: passed over a checkpoint: "), "{stderr}");
    assert!(html.contains("a newer checkpoint was passed over (cannot access checkpoint file "), "{html}");
}

#[test]
fn nothing_is_replaced_unless_asked_and_what_cannot_be_written_is_told_before_the_work() {
    let dir = trained();
    let report = |arguments: &[&str]| {
        let (_, stderr, code) = numformer(&[&["report", "run", "--examples", "1"], arguments].concat(), dir.path());
        (code, stderr)
    };
    assert_eq!(report(&["--laws", "none"]).0, 0);
    let path = dir.path().join("run/report.html");
    fs::write(&path, "mine").unwrap();
    let refused = |arguments: &[&str], expected: &str| {
        let (code, stderr) = report(arguments);
        assert!(code == 1 && stderr.contains(expected) && stderr.lines().count() == 1, "{arguments:?}: {stderr}");
    };
    refused(&[], "run/report.html already exists: --force replaces it");
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    refused(&["--out", "other.html", "--svg", "run"], "run already exists: --force");
    refused(&["--out", "no/such/dir.html"], "cannot write no/such/dir.html");
    refused(&["--out", "run", "--force"], "cannot write run: it is a directory");
    refused(&["--out", "other.html", "--svg", "my.toml/figures"], "my.toml/figures");
    assert!(!dir.path().join("other.html").exists());
    assert_eq!(report(&["--laws", "none", "--force"]).0, 0);
    assert!(fs::read_to_string(&path).unwrap().starts_with("<!"));
    let partial = |entry: fs::DirEntry| entry.file_name().to_string_lossy().ends_with(".partial");
    for left in [dir.path().to_owned(), dir.path().join("run")] {
        assert!(!fs::read_dir(&left).unwrap().any(|entry| partial(entry.unwrap())), "{}", left.display());
    }
}

#[test]
fn an_answer_is_explained() {
    let dir = trained();
    let arguments = ["solve", "run", "--matrix", "1.5 2; 3 4", "--explain", "answer.html"];
    let (stdout, stderr, code) = numformer(&arguments, dir.path());
    assert!(code == 0 && stdout.contains("source  V2 V2 + 150"), "{stderr}");
    let html = fs::read_to_string(dir.path().join("answer.html")).unwrap();
    // One layer of two heads, and their mean; every coefficient is there to be looked at.
    for text in ["figure-layer-1", "figure-layer-1-head-2", ">a11</th>", ">a22</th>", "Probabilities"] {
        assert!(html.contains(text), "{text}");
    }
    let (_, stderr, code) = numformer(&["solve", "run", "--random", "2", "--explain", "answer.html"], dir.path());
    assert!(code == 1 && stderr.contains("single matrix, found 2"), "{stderr}");
}

#[test]
fn what_cannot_be_reported_is_told() {
    let dir = trained();
    let symmetric = ["--set", "problem.name=eigenvalues", "--set", "matrices.law=wigner", "--run-dir", "symmetric"];
    let (_, stderr, code) = numformer(&[&["train", "my.toml"], &symmetric[..]].concat(), dir.path());
    assert_eq!(code, 0, "{stderr}");
    let told = |arguments: &[&str], expected: &str| {
        let (_, stderr, code) = numformer(&[&["report"], arguments].concat(), dir.path());
        assert!(code == 1 && stderr.contains(expected), "{arguments:?}: {stderr}");
    };
    told(&["none"], "expected a run in none");
    told(&["run", "--laws", "uniform,cauchy"], "found `cauchy`");
    told(&["run", "--laws", "wigner", "--examples", "0"], "--laws has no effect with --examples 0");
    told(
        &["symmetric", "--laws", "wigner,uniform", "--examples", "1"],
        "no run has a problem with matrices of the law `uniform`",
    );
    told(&["run", "--examples", "1", "--out", "no/such/dir.html"], "cannot write no/such/dir.html");

    let timings = dir.path().join("run/timings.jsonl");
    let lines = fs::read_to_string(&timings).unwrap();
    fs::write(&timings, lines.replacen("step", "stop", 1)).unwrap();
    told(&["run"], "timings.jsonl, line 1: expected a step and its seconds");
    fs::write(&timings, lines).unwrap();

    fs::remove_dir_all(dir.path().join("run/checkpoints")).unwrap();
    told(&["run"], "--examples 0 reports what was logged");
    told(&["run"], "cannot evaluate the model of run");
    assert_eq!(numformer(&["report", "run", "--examples", "0"], dir.path()).2, 0);
    fs::write(dir.path().join("run/metrics.jsonl"), "").unwrap();
    told(&["run"], "found an empty log");
}
