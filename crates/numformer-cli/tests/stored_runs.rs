//! What can be asked of a run that was trained before.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const EXPERIMENT: &str = r#"
name = "tiny"
problem.name = "transpose"
matrices = { law = "uniform", rows = [1, 2], cols = 2 }
encoding = { input = "p1000", output = "p10" }
model.encoder = { d_model = 16, n_heads = 2, n_layers = 1 }
model.decoder = { d_model = 16, n_heads = 2, n_layers = 1 }
train = { batch_size = 8, steps = 4, lr = 1e-3, warmup_steps = 2 }
evaluate = { every = 4, examples = 8 }
checkpoint = { every = 2 }
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
fn a_stored_run_solves_given_and_random_matrices() {
    let dir = trained();
    let (stdout, stderr, code) = numformer(&["solve", "run", "--json", "--matrix", "-1.5 2; 3 4"], dir.path());
    assert_eq!(code, 0, "{stderr}");
    let object: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(object["src"], serde_json::json!([[-1.5, 2.0], [3.0, 4.0]]));
    assert_eq!(object["exact"], serde_json::json!([[-1.5, 3.0], [2.0, 4.0]]));
    assert_eq!(object["src_tokens"], "V2 V2 - 150 E-2 + 200 E-2 + 300 E-2 + 400 E-2");
    assert!(["ok", "wrong-shape", "malformed"].contains(&object["verdict"].as_str().unwrap()));

    let random = |seed: &str| numformer(&["solve", "run", "--random", "2", "--json", "--seed", seed], dir.path()).0;
    assert_eq!(random("0").lines().count(), 2);
    assert_eq!(random("0"), random("0"));
    assert_ne!(random("0"), random("1"));
}

#[test]
fn a_run_writes_event_files_if_asked_to() {
    let dir = trained();
    assert!(!dir.path().join("run/tensorboard").exists());
    let train = ["train", "my.toml", "--run-dir", "watched", "--set", "log.tensorboard=true", "--set", "log.every=1"];
    for steps in ["4", "6"] {
        let (_, stderr, code) = numformer(&[&train[..], &["--steps", steps]].concat(), dir.path());
        assert_eq!(code, 0, "{stderr}");
    }
    let files = fs::read_dir(dir.path().join("watched/tensorboard")).unwrap().map(|entry| entry.unwrap().path());
    let (mut losses, mut evaluations, mut restarts) = (0, 0, 0);
    for file in files {
        assert!(file.to_str().unwrap().contains("tfevents"), "{file:?}");
        let content = fs::read(file).unwrap();
        let count = |tag: &[u8]| content.windows(tag.len()).filter(|window| *window == tag).count();
        losses += count(b"train/loss");
        evaluations += count(b"validation/within_5%");
        // Step 5, and a session log that says START.
        restarts += count(&[0x10, 5, 0x3a, 2, 0x08, 1]);
    }
    assert_eq!((losses, evaluations, restarts), (6, 2, 1));
}

#[test]
fn what_cannot_be_solved_is_told() {
    let dir = trained();
    for (matrix, expected) in
        [("1 2; 3", "expected"), ("1 2 3; 4 5 6; 7 8 9", "cannot be written"), ("1e30 2", "cannot be written")]
    {
        let (_, stderr, code) = numformer(&["solve", "run", "--matrix", matrix], dir.path());
        assert!(code > 0 && stderr.contains(expected), "{matrix}: {stderr}");
    }
    let (_, stderr, code) = numformer(&["solve", "nowhere", "--random"], dir.path());
    assert!(code == 1 && stderr.contains("expected a run in nowhere"), "{stderr}");
    let (_, stderr, code) = numformer(&["solve", "run"], dir.path());
    assert!(code == 2 && stderr.contains("--random"), "{stderr}");
}

#[test]
fn options_of_solve_without_effect_are_refused() {
    let dir = trained();
    let of_matrix = ["solve", "run", "--matrix", "1 2"];
    for (arguments, expected_code, expected) in [
        (&["--seed", "1"][..], 2, "'--matrix <ROWS>' cannot be used with '--seed <SEED>'"),
        (&["--all", "--decoding", "greedy"], 1, "--all: expected --decoding beam or sample, found greedy"),
    ] {
        let (_, stderr, code) = numformer(&[&of_matrix[..], arguments].concat(), dir.path());
        assert!(code == expected_code && stderr.contains(expected), "{arguments:?}: {stderr}");
    }
    let (_, stderr, code) = numformer(&["solve", "run", "--random", "0"], dir.path());
    assert!(code == 2 && stderr.contains("--random"), "{stderr}");
}

#[test]
fn the_answers_of_a_beam_have_scores() {
    let dir = trained();
    let solve = |arguments: &[&str]| {
        let (stdout, stderr, code) = numformer(&[&["solve", "run", "--matrix", "1 2"], arguments].concat(), dir.path());
        assert_eq!(code, 0, "{stderr}");
        stdout
    };
    let beam = ["--decoding", "beam", "--beam-width", "3", "--all"];
    let objects = solve(&[&beam[..], &["--json"]].concat());
    let scores: Vec<f64> =
        objects.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["score"].as_f64().unwrap()).collect();
    assert!(scores.len() == 3 && scores.iter().all(|score| *score < 0.0), "{scores:?}");
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    let text = solve(&beam);
    for score in &scores {
        assert!(text.contains(&format!("\nscore   {score:.4}\n")), "{text}");
    }
    let greedy: Value = serde_json::from_str(&solve(&["--json"])).unwrap();
    assert!(greedy["score"].is_null() && !solve(&[]).contains("score"), "{greedy}");
}

/// As `np.save` writes a transposed matrix, and as Windows PowerShell writes text.
#[test]
fn matrices_of_other_programs_are_solved() {
    let dir = trained();
    let expected = numformer(&["solve", "run", "--matrix", "1.5 2; 3 4"], dir.path()).0;
    let mut npy = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    npy.extend(format!("{:<117}\n", "{'descr': '>f8', 'fortran_order': True, 'shape': (2, 2), }").bytes());
    npy.extend([1.5f64, 3.0, 2.0, 4.0].iter().flat_map(|x| x.to_be_bytes()));
    fs::write(dir.path().join("m.npy"), npy).unwrap();
    let text = "\u{feff}1.5,2\r\n3,4\r\n";
    fs::write(dir.path().join("utf16.csv"), text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>())
        .unwrap();
    fs::write(dir.path().join("marked.csv"), text).unwrap();
    for file in ["m.npy", "utf16.csv", "marked.csv"] {
        let (stdout, stderr, code) = numformer(&["solve", "run", "--file", file], dir.path());
        assert_eq!((stdout.as_str(), code), (expected.as_str(), 0), "{file}: {stderr}");
    }
}

#[test]
fn a_stored_run_is_judged_on_other_matrices() {
    let dir = trained();
    let evaluate =
        |arguments: &[&str]| numformer(&[&["evaluate", "run", "--examples", "40"], arguments].concat(), dir.path());
    let (stdout, stderr, code) = evaluate(&[]);
    assert!(code == 0 && stdout.contains("After 4 steps, on 40 unseen matrices"), "{stdout}{stderr}");

    let figures = |arguments: &[&str]| -> Value {
        let (stdout, stderr, code) = evaluate(&[&["--json"], arguments].concat());
        assert_eq!(code, 0, "{stderr}");
        serde_json::from_str(&stdout).unwrap()
    };
    assert_eq!(figures(&[])["count"], 40);
    assert_eq!(figures(&[])["by_dimension"].as_object().unwrap().len(), 2);
    // Entries as the model knows them, and entries with exponents that it has no tokens for.
    assert_eq!(figures(&["--set", "matrices.rows=2"])["rejected"], 0);
    let wider = figures(&["--set", "matrices.law=gaussian", "--set", "matrices.bound=2000"]);
    assert!(wider["rejected"].as_u64().unwrap() > 0, "{wider}");

    for (setting, expected) in [
        ("matrices.rows=3", "cannot be written"),
        ("matrices.law=uniforn", "did you mean `uniform`?"),
        ("matrices.bound=1e30", "none of the 1000 matrices"),
    ] {
        let (_, stderr, code) = evaluate(&["--set", setting]);
        assert!(code == 1 && stderr.contains(expected), "{setting}: {stderr}");
    }
}

#[test]
fn a_run_is_judged_on_its_test_sets_and_on_laws() {
    let dir = tempfile::tempdir().unwrap();
    let sets = r#"
[[evaluate.set]]
name = "small"
matrices = { law = "uniform", rows = 1, cols = 2 }

[[evaluate.set]]
name = "noisy"
noise = 0.1
"#;
    let inline = "evaluate = { every = 4, examples = 8 }\n";
    let experiment = EXPERIMENT.replace(inline, "") + "[evaluate]\nevery = 4\nexamples = 8\n";
    fs::write(dir.path().join("my.toml"), format!("{experiment}{sets}")).unwrap();
    let (_, stderr, code) = numformer(&["train", "my.toml", "--run-dir", "run"], dir.path());
    assert_eq!(code, 0, "{stderr}");
    let evaluate = |more: &[&str]| {
        let (stdout, stderr, code) = numformer(&[&["evaluate", "run", "--examples", "20"], more].concat(), dir.path());
        assert_eq!(code, 0, "{stderr}");
        stdout
    };
    let text = evaluate(&[]);
    assert!(text.contains("\nset    examples  within 5%"), "{text}");
    let names: Vec<&str> = text.lines().rev().take(3).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["noisy", "small", "test"], "{text}");
    let object: Value = serde_json::from_str(&evaluate(&["--json"])).unwrap();
    assert_eq!(object["small"]["count"], 20);
    assert!(object["test"]["by_dimension"].is_object() && object["small"]["by_dimension"].is_null());
    assert!(object["noisy"]["cross_entropy"] != object["test"]["cross_entropy"]);
    assert!(evaluate(&["--csv"]).lines().any(|line| line.starts_with("test,dimension 1x2,")));

    let grid = evaluate(&["--grid", "laws", "--laws", "uniform,gaussian,wigner"]);
    let [head, line] = grid.lines().skip(1).collect::<Vec<_>>()[..] else { panic!("{grid}") };
    assert!(head.starts_with("run  trained on  uniform  gaussian  wigner"), "{grid}");
    let cells: Vec<&str> = line.split_whitespace().collect();
    assert_eq!((cells[0], cells[1], cells[4]), ("run", "uniform", "-"), "{grid}");
    let csv = evaluate(&["--grid", "laws", "--csv"]);
    assert!(csv.lines().nth(1).unwrap().starts_with("run,uniform,uniform,20,"), "{csv}");

    for (wrong, expected) in [
        ("name = \"test\"", "other than `test`, found `test` again"),
        ("name = \"large\"\nmatrices = { law = \"uniform\", rows = 9 }", "evaluate.set `large`"),
        ("name = \"n\"\nnoise = -1.0", "evaluate.set.noise"),
    ] {
        fs::write(dir.path().join("wrong.toml"), format!("{experiment}[[evaluate.set]]\n{wrong}\n")).unwrap();
        let (_, stderr, code) = numformer(&["train", "wrong.toml"], dir.path());
        assert!(code == 1 && stderr.contains(expected), "{stderr}");
    }
}

/// A run with files of its own for what it is watched and reported on; and what it said of the latter at its end.
fn trained_on_files() -> (tempfile::TempDir, Value) {
    let dir = tempfile::tempdir().unwrap();
    let sets = "[[evaluate.set]]\nname = \"noisy\"\nnoise = 0.1\n";
    let experiment = EXPERIMENT.replace("evaluate = { every = 4, examples = 8 }\n", "")
        + "[data]\nvalidation = \"v8.tsv\"\ntest = \"t30.tsv\"\n[evaluate]\nevery = 4\nexamples = 8\n"
        + sets;
    fs::write(dir.path().join("my.toml"), experiment).unwrap();
    // Not those that are drawn anyway.
    generate("test", "30", "t30.tsv", dir.path());
    generate("validation", "8", "v8.tsv", dir.path());
    let (stdout, stderr, code) = numformer(&["train", "my.toml", "--run-dir", "run", "--json"], dir.path());
    assert_eq!(code, 0, "{stderr}");
    (dir, serde_json::from_str::<Value>(&stdout).unwrap()["test"].clone())
}

fn generate(split: &str, count: &str, file: &str, dir: &Path) {
    let arguments = ["generate", "my.toml", "--split", split, "--count", count, "--seed", "5", "--output", file];
    let (_, stderr, code) = numformer(&arguments, dir);
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn the_file_of_a_split_is_what_a_run_is_judged_on() {
    let (dir, told) = trained_on_files();
    let evaluate = |arguments: &[&str]| -> Value {
        let (stdout, stderr, code) = numformer(&[&["evaluate", "run", "--json"], arguments].concat(), dir.path());
        assert_eq!(code, 0, "{arguments:?}: {stderr}");
        serde_json::from_str(&stdout).unwrap()
    };
    let test = |arguments: &[&str]| evaluate(arguments)["test"].clone();
    assert_eq!(told["count"], 30);
    assert_eq!(test(&[]), told, "all of the file, as at the end of training");
    assert_eq!(evaluate(&[])["noisy"]["count"], 2000, "a set draws its own");
    assert_eq!(test(&["--examples", "30"]), told);
    assert_eq!(test(&["--examples", "20"])["count"], 20);

    // The last line of the log is on the validation set.
    let log = fs::read_to_string(dir.path().join("run/metrics.jsonl")).unwrap();
    let logged: Value = log.lines().rev().find(|line| line.contains("evaluation")).unwrap().parse().unwrap();
    let validation = evaluate(&["--split", "validation"]);
    assert_eq!((&validation["count"], &validation["cross_entropy"]), (&8.into(), &logged["cross_entropy"]));

    // Files of other examples, and examples that are drawn.
    generate("test", "12", "t12.jsonl", dir.path());
    assert_eq!(test(&["--set", "data.test=t12.jsonl"])["count"], 12);
    let drawn = |setting: &str| test(&["--examples", "40", "--set", setting]);
    assert_eq!(drawn("matrices.law=gaussian")["count"], 40);
    assert_ne!(drawn("evaluate.seed=1"), drawn("evaluate.seed=2"));
    let text = numformer(&["evaluate", "run"], dir.path()).0;
    let expected = format!("on the first 30 matrices of {}:", dir.path().join("t30.tsv").display());
    assert!(text.contains(&expected), "{text}");

    for (arguments, expected) in [
        (&["--examples", "31"][..], "data.test: expected 31 examples in "),
        (&["--examples", "31", "--failures"], "t30.tsv, found 30"),
        (&["--split", "validation", "--examples", "9"], "v8.tsv, found 8"),
        (&["--set", "data.test=nonexistent.tsv"], "nonexistent.tsv: No such file"),
    ] {
        let (stdout, stderr, code) = numformer(&[&["evaluate", "run"], arguments].concat(), dir.path());
        assert!((code, stdout.as_str()) == (1, "") && stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

#[test]
fn settings_that_change_nothing_of_what_is_judged_on_are_refused() {
    let (dir, _) = trained_on_files();
    for (arguments, expected) in [
        (
            &["--set", "train.lr=1"][..],
            "`train.lr` has no effect on what a trained model is judged on; expected a key of",
        ),
        (&["--set", "model.architecture=lstm"], "`model.architecture` has no effect"),
        (&["--set", "model={dropout=0.5}"], "`model.dropout` has no effect"),
        (&["--set", "encoding.input=p10"], "`encoding.input` has no effect"),
        (&["--set", "data={train='t30.tsv'}"], "`data.train` has no effect"),
        (&["--set", "evaluate.examples=3"], "`evaluate.examples` has no effect"),
        (&["--set", "matrices.rows=2", "--set", "seed=3"], "`seed` has no effect"),
        (&["--set", "matrixes.rows=2"], "did you mean `matrices`?"),
        (&["--set", "data.validation=v8.tsv"], "`data.validation` has no effect here: it is for --split validation"),
        (&["--set", "data={test='t30.tsv'}", "--split", "validation"], "it is for --split test"),
    ] {
        let (stdout, stderr, code) = numformer(&[&["evaluate", "run"], arguments].concat(), dir.path());
        assert!((code, stdout.as_str()) == (1, "") && stderr.contains(expected), "{arguments:?}: {stderr}");
    }
    let (_, stderr, code) = numformer(&["evaluate", "run", "--grid", "laws", "--split", "validation"], dir.path());
    assert!(code == 2 && stderr.contains("cannot be used with"), "{stderr}");
}

#[test]
fn a_file_is_found_from_anywhere_and_named_when_it_is_gone_or_another() {
    let (dir, told) = trained_on_files();
    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let judged = numformer(&["resume", "../run", "--json"], &elsewhere).0;
    assert_eq!(serde_json::from_str::<Value>(&judged).unwrap()["test"], told);
    for file in ["t30.tsv", "v8.tsv"] {
        let path = dir.path().join(file);
        let content = fs::read_to_string(&path).unwrap();
        let key = if file == "t30.tsv" { "data.test" } else { "data.validation" };
        let split = &key["data.".len()..];
        let refused = |expected: &str| {
            for arguments in [&["resume", "../run", "--steps", "6"][..], &["evaluate", "../run", "--split", split]] {
                let (_, stderr, code) = numformer(arguments, &elsewhere);
                assert!(code == 1 && stderr.contains(key) && stderr.contains(expected), "{arguments:?}: {stderr}");
                assert!(stderr.contains(path.to_str().unwrap()), "{arguments:?}: {stderr}");
            }
        };
        let lines: Vec<&str> = content.lines().collect();
        // As many examples in another order.
        fs::write(&path, [&lines[1..], &lines[..1]].concat().join("\n")).unwrap();
        refused("does not hold the examples that the run had up to its checkpoint after step 4");
        fs::rename(&path, elsewhere.join(file)).unwrap();
        refused("No such file");
        // What is named is judged, whatever the run was reported on before.
        let setting = format!("{key}={file}");
        let (_, stderr, code) = numformer(&["evaluate", "../run", "--split", split, "--set", &setting], &elsewhere);
        assert_eq!(code, 0, "{stderr}");
        fs::remove_file(elsewhere.join(file)).unwrap();
        fs::write(&path, content).unwrap();
    }
    // The same examples in another place are the same run.
    fs::rename(dir.path().join("t30.tsv"), elsewhere.join("moved.tsv")).unwrap();
    let moved = ["train", "my.toml", "--run-dir", "run", "--steps", "6", "--set", "data.test=elsewhere/moved.tsv"];
    let (_, stderr, code) = numformer(&moved, dir.path());
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn an_older_checkpoint_than_the_newest_is_not_asked_in_silence() {
    let dir = trained();
    let weights = dir.path().join("run/checkpoints/step-0000000004/model.safetensors");
    let content = fs::read(&weights).unwrap();
    fs::write(&weights, &content[..content.len() / 2]).unwrap();
    for arguments in [
        &["solve", "run", "--random"][..],
        &["evaluate", "run", "--examples", "5"],
        &["evaluate", "run", "--grid", "laws", "--examples", "5"],
        &["--quiet", "report", "run", "--examples", "5", "--laws", "none"],
    ] {
        let (_, stderr, code) = numformer(arguments, dir.path());
        assert_eq!(code, 0, "{stderr}");
        let [warning] = stderr.lines().collect::<Vec<_>>()[..] else { panic!("{arguments:?}: {stderr}") };
        assert!(warning.starts_with("warning: passed over a checkpoint: ") && warning.contains("step-0000000004"));
        assert!(warning.ends_with("using the model after step 2"), "{warning}");
    }
    let (_, stderr, code) = numformer(&["solve", "run", "--random", "--checkpoint", "2"], dir.path());
    assert_eq!((code, stderr.as_str()), (0, ""), "it is asked for");
    let (_, stderr, code) = numformer(&["solve", "run", "--random", "--checkpoint", "4"], dir.path());
    assert!(code == 1 && stderr.contains("is damaged"), "{stderr}");
}

#[test]
fn answers_are_found_in_the_way_that_is_asked_for() {
    let dir = trained();
    let solve = |arguments: &[&str]| -> Vec<Value> {
        let (stdout, stderr, code) =
            numformer(&[&["solve", "run", "--random", "6", "--json"], arguments].concat(), dir.path());
        assert_eq!(code, 0, "{stderr}");
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    // So short a training teaches nothing: what is a matrix is one because of the constraint.
    assert!(solve(&[]).iter().any(|object| object["verdict"] != "ok"));
    let sample = ["--decoding", "sample", "--candidates", "3", "--temperature", "1.5"];
    for decoding in [&[][..], &["--decoding", "beam", "--beam-width", "2", "--length-penalty", "-0.5"], &sample] {
        let solved = solve(&[decoding, &["--constrained"]].concat());
        assert!(solved.iter().all(|object| object["verdict"] == "ok"), "{solved:?}");
    }
    assert_eq!(solve(&sample), solve(&sample));
    assert_ne!(solve(&sample), solve(&[&sample[..], &["--sampling-seed", "1"]].concat()));

    let evaluate = |arguments: &[&str]| {
        let all = [&["evaluate", "run", "--examples", "20", "--json"], arguments].concat();
        let (stdout, stderr, code) = numformer(&all, dir.path());
        assert_eq!(code, 0, "{stderr}");
        serde_json::from_str::<Value>(&stdout).unwrap()
    };
    assert_eq!(evaluate(&["--decoding", "greedy"]), evaluate(&[]));
    assert!(evaluate(&[])["decodable"].as_f64().unwrap() < 1.0);
    let constrained = evaluate(&[&sample[..], &["--constrained", "--verified"]].concat());
    assert_eq!(constrained["decodable"].as_f64(), Some(1.0), "{constrained}");
}

#[test]
fn ways_that_there_are_not_are_refused() {
    let dir = trained();
    for (arguments, expected) in [
        (&["--decoding", "greedily"][..], "[possible values: greedy, beam, sample]"),
        (&["--decoding", "sample", "--temperature", "0"], "expected a positive, finite number"),
        (&["--decoding", "sample", "--candidates", "0"], "expected a number from 1 to 1000"),
        (&["--decoding", "beam", "--length-penalty", "inf"], "expected a finite number"),
        (&["--beam-width", "2"], "--decoding <HOW>"),
        (&["--verified"], "--decoding <HOW>"),
        (&["--decoding", "greedy", "--beam-width", "7"], "--beam-width has no effect with --decoding greedy"),
        (&["--decoding", "greedy", "--sampling-seed", "0"], "it is for --decoding sample"),
        (&["--decoding", "sample", "--length-penalty", "1"], "it is for --decoding beam"),
        (&["--decoding", "beam", "--candidates", "3"], "--candidates has no effect with --decoding beam"),
        (&["--decoding", "greedy", "--verified"], "--verified has no effect with --decoding greedy"),
        (&["--decoding", "sample", "--verified"], "or several --candidates"),
    ] {
        for command in [&["solve", "run", "--random"][..], &["evaluate", "run"]] {
            let (_, stderr, code) = numformer(&[command, arguments].concat(), dir.path());
            assert!(code == 2 && stderr.contains(expected), "{arguments:?}: {stderr}");
        }
    }
    let (_, stderr, code) = numformer(&["score", "model", "--decoding", "greedy", "--temperature", "2"], dir.path());
    assert!(code == 2 && stderr.contains("--temperature has no effect"), "{stderr}");
    // Which problem a model without a run has learned is not known.
    let (_, stderr, code) = numformer(&["score", "model", "--constrained"], dir.path());
    assert!(code == 2 && stderr.contains("unexpected argument '--constrained'"), "{stderr}");
}

#[test]
fn all_answers_of_a_beam_are_shown() {
    let dir = trained();
    let beam = ["--decoding", "beam", "--beam-width", "3", "--constrained", "--json"];
    let solve = |arguments: &[&str]| {
        let (stdout, stderr, code) =
            numformer(&[&["solve", "run", "--matrix", "1 2; 3 4"], arguments].concat(), dir.path());
        assert_eq!(code, 0, "{stderr}");
        stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let all = solve(&[&beam[..], &["--all"]].concat());
    assert_eq!(all.len(), 3);
    assert_eq!(all[0], solve(&beam)[0]);
    assert!(all[0]["answer_tokens"] != all[1]["answer_tokens"] && all[1]["src"] == all[0]["src"]);

    for arguments in [&["--random", "--decoding", "beam", "--all"][..], &["--matrix", "1 2", "--all"]] {
        let (_, stderr, code) = numformer(&[&["solve", "run"], arguments].concat(), dir.path());
        assert_eq!(code, 2, "{stderr}");
    }
}

#[test]
fn failures_are_analysed_where_answers_have_properties() {
    let dir = trained();
    let (_, stderr, code) = numformer(&["evaluate", "run", "--examples", "5", "--failures"], dir.path());
    assert!(code == 1 && stderr.contains("expected a problem on inverses"), "{stderr}");

    let settings = ["--set", "problem.name=inversion", "--set", "matrices.rows=2"];
    let (_, stderr, code) =
        numformer(&[&["train", "my.toml", "--run-dir", "inverse"], &settings[..]].concat(), dir.path());
    assert_eq!(code, 0, "{stderr}");
    let evaluate = ["evaluate", "inverse", "--examples", "30", "--failures", "--decoding", "greedy", "--constrained"];
    let (text, stderr, code) = numformer(&evaluate, dir.path());
    assert_eq!(code, 0, "{stderr}");
    assert!(
        text.contains("\ninversion\nanswers of the right shape: 30 of 30\n") && text.contains("cold start"),
        "{text}"
    );
    let (json, _, _) = numformer(&[&evaluate[..], &["--json"]].concat(), dir.path());
    let object: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&object["evaluation"]["test"]["count"], &object["failures"]["inversion"]["shaped"]),
        (&30.into(), &30.into())
    );
    let cold = &object["failures"]["inversion"]["refinement"]["from_cold_starts"];
    assert!(cold["reached"].as_f64().unwrap() > 0.9, "{object}");
}

#[test]
fn a_run_that_starts_from_another_says_what_it_took_over() {
    let dir = trained();
    let start = |settings: &[&str], path: &str| {
        let common = ["train", "my.toml", "--start-from", "run", "--run-dir", path, "--seed", "3"];
        let settings = settings.iter().flat_map(|setting| ["--set", setting]);
        numformer(&common.into_iter().chain(settings).collect::<Vec<_>>(), dir.path())
    };
    let (_, stderr, code) = start(&[], "same");
    assert_eq!(code, 0, "{stderr}");
    let line = stderr.lines().find(|line| line.starts_with("starting from the weights of ")).unwrap();
    assert!(line.contains("run: symbols of the encoder: ") && line.contains(" 0 new; of the decoder: "), "{line}");
    assert!(line.contains("; positions: ") && line.ends_with(" 0 new"), "{line}");
    // A run that goes on takes nothing over.
    let (_, stderr, code) = numformer(&["resume", "same"], dir.path());
    assert!(code == 0 && !stderr.contains("starting from"), "{stderr}");

    // The numbers that it reads are written otherwise: ten digits are new to the encoder, and known to the decoder.
    let (_, stderr, code) = start(&["encoding.input=p10"], "other");
    assert_eq!(code, 0, "{stderr}");
    let line = stderr.lines().find(|line| line.starts_with("starting from the weights of ")).unwrap();
    let (encoder, decoder) = line.split_once("; of the decoder: ").unwrap();
    assert!(encoder.ends_with(" 10 new") && decoder.contains(" rows taken over, 0 new"), "{line}");

    for (setting, difference) in [
        ("model.encoder.n_heads=4", "model.encoder.n_heads is 2 there and 4 here"),
        ("model.encoder.n_layers=2", "model.encoder.n_layers is 1 there and 2 here"),
        ("model.copy_gate=true", "model.copy_gate is false there and true here"),
        ("model.positions=sinusoidal", "model.positions is \"learned\" there and \"sinusoidal\" here"),
    ] {
        let (_, stderr, code) = start(&[setting], "refused");
        assert!(stderr.contains("do not fit: ") && stderr.contains(difference) && code == 1, "{stderr}");
        assert!(!dir.path().join("refused").exists());
    }
}

#[test]
fn runs_are_listed_and_told_apart() {
    let dir = trained();
    let (stdout, stderr, code) = numformer(&["runs", "list", "."], dir.path());
    assert!(code == 0 && stdout.contains("\nrun    4/4        32"), "{stdout}{stderr}");
    let (stdout, stderr, code) = numformer(&["runs", "list", "run"], dir.path());
    assert_eq!((stdout.as_str(), code), ("", 0));
    assert_eq!(stderr, "no runs in run\nit is itself a run: give the directory that contains it\n");

    let (_, stderr, code) =
        numformer(&["train", "my.toml", "--seed", "7", "--run-dir", "other/run", "--quiet"], dir.path());
    assert_eq!(code, 0, "{stderr}");
    let (stdout, stderr, code) = numformer(&["runs", "compare", "run", "other/run"], dir.path());
    assert!(code == 0 && stdout.contains("\nother/run compared with run:\n  seed: 0 -> 7\n"), "{stdout}{stderr}");

    // What would be refused is, when it is tried.
    let dry_run = ["train", "transpose-3x3", "--dry-run", "--run-dir", "run"];
    let (_, stderr, code) = numformer(&dry_run, dir.path());
    assert!(
        code == 1 && stderr.starts_with("error: cannot continue the run in run: it depends on a key that differs"),
        "{stderr}"
    );
}

/// Of several dimensions, so that there is a table of groups.
#[test]
fn figures_fit_the_terminal() {
    let dir = trained();
    let inversion = EXPERIMENT.replace("transpose", "inversion").replace("rows = [1, 2], cols = 2", "rows = [1, 2]");
    fs::write(dir.path().join("inversion.toml"), inversion).unwrap();
    let (_, stderr, code) = numformer(&["train", "inversion.toml", "--run-dir", "inversion"], dir.path());
    assert_eq!(code, 0, "{stderr}");
    for arguments in [
        &["evaluate", "run", "--examples", "20"][..],
        &["evaluate", "inversion", "--examples", "20", "--failures"],
        &["evaluate", "run", "inversion", "--grid", "laws", "--examples", "20"],
        &["runs", "compare", "run", "inversion"],
        &["train", "my.toml", "--dry-run"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_numformer"));
        let output = command.args(arguments).current_dir(dir.path()).env("COLUMNS", "40").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.lines().count() > 4, "{arguments:?}: {text}");
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{arguments:?}: {text}");
    }
}
