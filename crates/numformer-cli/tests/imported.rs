//! `import-lawt` and `score` as a user meets them.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

fn numformer(arguments: &[&str], input: &[u8], dir: &Path) -> (String, String, i32) {
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
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

/// Recorded from the reference program: see the README beside it.
fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../numformer-experiment/tests/golden/b1999_cotrain/checkpoint.pth")
}

fn import(dir: &Path) -> (String, String, i32) {
    numformer(&["import-lawt", recorded().to_str().unwrap(), "--out", "imported"], b"", dir)
}

#[test]
fn a_checkpoint_is_imported_and_scores_lines() {
    let dir = tempfile::tempdir().unwrap();
    let (stdout, stderr, code) = import(dir.path());
    assert_eq!((stderr.as_str(), code), ("", 0));
    assert!(stdout.starts_with("encoder: 1 layers, 24 dimensions, 3 heads\ndecoder: 2 layers"), "{stdout}");
    assert!(stdout.contains("vocabulary: 2329 symbols") && stdout.ends_with("written to imported\n"), "{stdout}");
    // By hand: tokens and a norm in both halves; a layer of the encoder and one of the decoder, 4d² + 4d of each
    // attention, 8d² + 5d of the network, 2d of each norm; the bias of the projection.
    let (d, vocab_size) = (24, 2329);
    let embedding = 2 * (vocab_size * d + 2 * d);
    let encoder = 12 * d * d + 13 * d;
    let decoder = 2 * (16 * d * d + 19 * d);
    for (name, count) in [
        ("embedding", embedding),
        ("encoder layers", encoder),
        ("decoder layers", decoder),
        ("projection", vocab_size),
        ("total", embedding + encoder + decoder + vocab_size),
    ] {
        assert!(stdout.contains(&format!("  {name:<16}{count:>12}\n")), "{name} {count}: {stdout}");
    }
    // One attention in the encoder's layer, two in each of the decoder's.
    let expected = format!("  without gradient{:>12}  biases of keys, to which softmax is blind\n", 5 * d);
    assert!(stdout.contains(&expected), "{stdout}");

    let lines = "T V1 V1 N314 E-2\tT V1 V1 N314 E-2\nT V1 V1 N314 E-2\tT V1 V1\r\n";
    let (stdout, stderr, code) = numformer(&["score", "imported"], lines.as_bytes(), dir.path());
    assert_eq!((stderr.as_str(), code), ("", 0));
    let plain: Vec<f64> = stdout.lines().map(|line| line.parse().unwrap()).collect();
    assert!(plain.len() == 2 && plain.iter().all(|x| *x > 0.0 && *x < 20.0), "{stdout}");

    let arguments = ["score", "imported", "--json", "--generate", "greedy"];
    let (stdout, stderr, code) = numformer(&arguments, lines.as_bytes(), dir.path());
    assert_eq!((stderr.as_str(), code), ("", 0));
    let scores: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for ((score, plain), tokens) in scores.iter().zip(&plain).zip([6, 4]) {
        assert!((score["cross_entropy"].as_f64().unwrap() - plain).abs() < 1e-6, "{score}");
        assert_eq!((&score["target_tokens"], score.as_object().unwrap().len()), (&tokens.into(), 5));
        assert!(score["exact"].is_boolean() && score["generated"].is_string(), "{score}");
        assert!(score["generated_score"].is_null(), "greedy decoding has none: {score}");
    }
    assert_eq!(scores[0]["generated"], scores[1]["generated"]);

    // The model's own answer as the target is exact.
    let line = format!("T V1 V1 N314 E-2\t{}\n", scores[0]["generated"].as_str().unwrap());
    let (stdout, _, _) = numformer(&arguments, line.as_bytes(), dir.path());
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["exact"], true);
    let (stdout, _, _) = numformer(&["score", "imported", "--generate", "greedy"], line.as_bytes(), dir.path());
    assert_eq!(stdout.trim_end().split_once('\t').unwrap().1, scores[0]["generated"]);
    // The opening delimiter is one of three.
    let arguments = ["score", "imported", "--generate", "greedy", "--max-tokens", "3"];
    let (stdout, _, _) = numformer(&arguments, line.as_bytes(), dir.path());
    let answer: Vec<&str> = stdout.trim_end().split_once('\t').unwrap().1.split(' ').collect();
    let whole: Vec<&str> = scores[0]["generated"].as_str().unwrap().split(' ').collect();
    assert_eq!(answer, whole[..2]);
    let (_, stderr, code) = numformer(&[&arguments[..5], &["1"]].concat(), b"", dir.path());
    assert!(stderr.contains("'1' for '--max-tokens <N>'") && code == 2, "{stderr}");

    // A beam finds an answer that is no less probable per token.
    let beam = ["score", "imported", "--generate", "beam", "--beam-width", "2", "--json"];
    let (stdout, stderr, code) = numformer(&beam, line.as_bytes(), dir.path());
    assert_eq!((stderr.as_str(), code), ("", 0));
    let found: Value = serde_json::from_str(&stdout).unwrap();
    let best = found["generated"].as_str().unwrap().to_owned();
    let score_of_best = found["generated_score"].as_f64().unwrap();
    let lines = format!("{line}T V1 V1 N314 E-2\t{best}\n");
    // A sample is drawn by the number of the pair, and a cold one is greedy.
    let sampled = |temperature: &str| {
        let arguments = ["score", "imported", "--decoding", "sample", "--temperature", temperature];
        let input = "T V1 V1 N314 E-2\tT V1 V1\n".repeat(70);
        let (stdout, stderr, code) = numformer(&arguments, input.as_bytes(), dir.path());
        assert_eq!(code, 0, "{stderr}");
        stdout.lines().map(|line| line.split_once('\t').unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    assert!(sampled("1e-9").iter().all(|answer| *answer == scores[0]["generated"]));
    let answers = sampled("2");
    assert!(answers[0] != answers[64] || answers[1] != answers[65], "{answers:?}");
    let (stdout, _, _) = numformer(&["score", "imported"], lines.as_bytes(), dir.path());
    let costs: Vec<f64> = stdout.lines().map(|cost| cost.parse().unwrap()).collect();
    assert!(costs[1] < costs[0] + 1e-5, "{costs:?}");
    // With the default penalty the score is the mean over tokens, which the model gives the same answer as a target.
    assert!((costs[1] + score_of_best).abs() < 1e-4, "{costs:?} {score_of_best}");
    let (_, stderr, code) =
        numformer(&["score", "imported", "--generate", "beam", "--beam-width", "0"], b"", dir.path());
    assert!(code == 2 && stderr.contains("expected a number from 1 to 1000"), "{stderr}");

    let (stdout, _, _) = numformer(&["score", "imported", "--json"], line.as_bytes(), dir.path());
    let score: Value = serde_json::from_str(&stdout).unwrap();
    assert!(score["exact"].is_null() && score["generated"].is_null(), "{score}");
}

#[test]
fn scores_do_not_depend_on_the_batch() {
    let dir = tempfile::tempdir().unwrap();
    import(dir.path());
    // More lines than are read at once, of unequal length.
    let lines: Vec<String> = (0..150)
        .map(|i| {
            format!("T V1 V{}{}\tT V{}{}", 1 + i % 3, " N314 E-2".repeat(i % 7), 1 + i % 5, " N5 E0".repeat(i % 4))
        })
        .collect();
    let scores = |lines: &[String]| -> Vec<f64> {
        let input = lines.join("\n");
        let (stdout, stderr, code) = numformer(&["score", "imported", "--json"], input.as_bytes(), dir.path());
        assert_eq!((stderr.as_str(), code), ("", 0));
        let score = |line: &str| serde_json::from_str::<Value>(line).unwrap()["cross_entropy"].as_f64().unwrap();
        stdout.lines().map(score).collect()
    };
    let together = scores(&lines);
    assert_eq!(together.len(), lines.len());
    for index in [0, 63, 64, 149] {
        let alone = scores(&lines[index..=index])[0];
        assert!((alone - together[index]).abs() < 1e-6, "{index}: {alone} {}", together[index]);
    }
}

#[test]
fn a_bad_line_does_not_stop_the_others() {
    let dir = tempfile::tempdir().unwrap();
    import(dir.path());
    let long = "V1 ".repeat(4095);
    let input = format!("V1\tV1\nV1 V1\nV1\tx\n{long}\tV1\nV1\tV1\tV1\n<s>\tV1\nV1\tV1\n");
    let mut input = input.into_bytes();
    input.extend(b"\xff\tV1\n\nV1\tV1");
    let (stdout, stderr, code) = numformer(&["score", "imported"], &input, dir.path());
    assert_eq!((stdout.lines().count(), code), (3, 1), "{stderr}");
    let lines: Vec<&str> = stderr.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(lines, ["line 2", "line 3", "line 4", "line 5", "line 6", "line 8", "line 9"], "{stderr}");
}

#[test]
fn a_checkpoint_of_a_run_can_be_scored() {
    let dir = tempfile::tempdir().unwrap();
    let experiment = r#"
        name = "tiny"
        problem.name = "transpose"
        matrices = { law = "uniform", rows = 1, cols = 2 }
        encoding = { input = "p1000", output = "p10" }
        model.encoder = { d_model = 8, n_heads = 2, n_layers = 1 }
        model.decoder = { d_model = 8, n_heads = 2, n_layers = 1 }
        train = { batch_size = 4, steps = 2, lr = 1e-3, warmup_steps = 2 }
        evaluate = { every = 2, examples = 4 }
        checkpoint = { every = 2 }
        log = { every = 1 }
    "#;
    fs::write(dir.path().join("my.toml"), experiment).unwrap();
    let (_, stderr, code) = numformer(&["train", "my.toml", "--run-dir", "run"], b"", dir.path());
    assert_eq!(code, 0, "{stderr}");
    let line = b"V1 V2 + 314 E-2 - 5 E0\tV2 V1 + 3 1 4 E-2 - 5 0 0 E-2\n";
    let checkpoint = "run/checkpoints/step-0000000002";
    let (stdout, stderr, code) = numformer(&["score", checkpoint], line, dir.path());
    assert_eq!((stderr.as_str(), code), ("", 0));
    assert!(stdout.trim_end().parse::<f64>().unwrap() > 0.0, "{stdout}");
    let (_, stderr, code) = numformer(&["score", "run"], line, dir.path());
    assert!(code == 1 && stderr.contains("run holds no model") && stderr.contains("checkpoints/step-"), "{stderr}");
}

#[test]
fn import_refuses_what_it_cannot_do() {
    let dir = tempfile::tempdir().unwrap();
    let (_, _, code) = import(dir.path());
    assert_eq!(code, 0);
    let (stdout, stderr, code) = import(dir.path());
    assert_eq!((stdout.as_str(), code), ("", 1));
    assert!(stderr.starts_with("error: imported already exists: remove it"), "{stderr}");

    let content = fs::read(recorded()).unwrap();
    fs::write(dir.path().join("cut.pth"), &content[..content.len() / 2]).unwrap();
    for (file, expected) in [
        ("cut.pth", "error: cannot import cut.pth: the file is damaged or incomplete, copy it again"),
        ("missing.pth", "error: cannot import missing.pth: cannot read the file: "),
        ("imported/config.json", "error: cannot import imported/config.json: expected a zip file"),
    ] {
        let (stdout, stderr, code) = numformer(&["import-lawt", file, "--out", "other"], b"", dir.path());
        assert_eq!((stdout.as_str(), code), ("", 1));
        assert!(stderr.starts_with(expected), "{stderr}");
        assert!(!dir.path().join("other").exists());
    }
}

/// An experiment for the recorded model, as far as it has to be the same.
const LIKE_IMPORTED: &str = r#"
name = "like-imported"
problem.name = "transpose"
matrices = { law = "uniform", rows = 1 }
encoding = { input = "b1999", output = "b1999" }
model.positions = "sinusoidal"
model.cross_attention_query = "layer_input"
model.encoder = { d_model = 24, n_heads = 3, n_layers = 1 }
model.decoder = { d_model = 24, n_heads = 3, n_layers = 2 }
train = { batch_size = 2, steps = 1, lr = 1e-3 }
evaluate = { every = 1, examples = 2 }
"#;

#[test]
fn a_run_begins_with_imported_weights() {
    let dir = tempfile::tempdir().unwrap();
    import(dir.path());
    let encodings = fs::read_to_string(dir.path().join("imported/encodings.json")).unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&encodings).unwrap(),
        serde_json::json!({"input": "b1999", "output": "b1999"})
    );
    let start = |experiment: &str| {
        fs::write(dir.path().join("my.toml"), experiment).unwrap();
        numformer(&["train", "my.toml", "--start-from", "imported", "--run-dir", "run"], b"", dir.path())
    };
    let (_, stderr, code) = start(&LIKE_IMPORTED.replace("n_heads = 3, n_layers = 2", "n_heads = 4, n_layers = 2"));
    assert!(code == 1 && stderr.contains("model.decoder.n_heads is 3 there and 4 here"), "{stderr}");
    let (_, stderr, code) = start(LIKE_IMPORTED);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(stderr.matches(" rows taken over, 0 new").count(), 2, "{stderr}");
    fs::remove_dir_all(dir.path().join("run")).unwrap();
    fs::remove_file(dir.path().join("imported/encodings.json")).unwrap();
    let (_, stderr, code) = start(LIKE_IMPORTED);
    assert!(code == 1 && stderr.contains("import the checkpoint again, or write encodings.json"), "{stderr}");
}

#[test]
fn weights_that_are_not_those_of_the_model_give_no_numbers() {
    let dir = tempfile::tempdir().unwrap();
    import(dir.path());
    let [config, weights] = ["config.json", "model.safetensors"].map(|name| dir.path().join("imported").join(name));
    let score = || numformer(&["score", "imported"], b"T V1 V1 N314 E-2\tT V1 V1 N314 E-2\n", dir.path());
    assert_eq!(score().2, 0);

    let original = fs::read_to_string(&config).unwrap();
    fs::write(&config, original.replace("\"n_layers\": 2", "\"n_layers\": 1")).unwrap();
    let (stdout, stderr, code) = score();
    assert_eq!((stdout.as_str(), code), ("", 1));
    assert!(stderr.contains("model.safetensors") && stderr.contains("unknown tensors `decoder.layers.1."), "{stderr}");
    fs::write(&config, original).unwrap();

    // The last bytes are coefficients.
    let mut content = fs::read(&weights).unwrap();
    let end = content.len();
    content[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&weights, content).unwrap();
    let (stdout, stderr, code) = score();
    assert_eq!((stdout.as_str(), code), ("", 1));
    assert!(stderr.contains("expected finite numbers, found others"), "{stderr}");
}
