//! Sub-commands that read lines and write lines.

use super::filter;

#[test]
fn encode_and_decode_are_inverse_filters() {
    let (tokens, stderr, code) = filter(&["encode", "--encoding", "p1000"], b"1.5 2; 3 4\n-0.004\n");
    assert_eq!((stderr.as_str(), code), ("", 0));
    assert_eq!(tokens, "V2 V2 + 150 E-2 + 200 E-2 + 300 E-2 + 400 E-2\nV1 V1 - 400 E-5\n");
    let (matrices, stderr, code) = filter(&["decode", "--encoding", "p1000"], tokens.as_bytes());
    assert_eq!((matrices.as_str(), stderr.as_str(), code), ("1.5 2; 3 4\n-0.004\n", "", 0));
}

#[test]
fn a_bad_line_does_not_stop_the_others() {
    let (tokens, stderr, code) = filter(&["encode", "--encoding", "p10"], b"1\nnan\n1 2; 3\ntwo\n\n\xff\n1e200\n2\r\n");
    assert_eq!(tokens, "V1 V1 + 1 0 0 E-2\nV1 V1 + 2 0 0 E-2\n");
    let lines: Vec<&str> = stderr.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(lines, ["line 2", "line 3", "line 4", "line 5", "line 6", "line 7"], "{stderr}");
    assert_eq!(code, 1);

    let (matrices, stderr, code) = filter(&["decode", "--encoding", "p10"], b"V1 V1 +\nV1 V1 + 2 E0\nV1 hello\n");
    assert_eq!((matrices.as_str(), code), ("2\n", 1));
    assert!(stderr.starts_with("line 1: ") && stderr.contains("\nline 3: ") && stderr.contains("hello"), "{stderr}");
}

/// As Windows programs write lines.
#[test]
fn filters_read_text_in_utf16() {
    let lines = "\u{feff}1.5 2; 3 4\r\n-0.004\r\n";
    let utf16: Vec<u8> = lines.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let expected = "V2 V2 + 150 E-2 + 200 E-2 + 300 E-2 + 400 E-2\nV1 V1 - 400 E-5\n";
    for input in [lines.as_bytes(), &utf16] {
        let (tokens, stderr, code) = filter(&["encode", "--encoding", "p1000"], input);
        assert_eq!((tokens.as_str(), stderr.as_str(), code), (expected, "", 0));
    }
}

#[test]
fn unknown_encodings_are_listed() {
    for command in ["encode", "decode"] {
        let (stdout, stderr, code) = filter(&[command, "--encoding", "p99"], b"1\n");
        assert_eq!((stdout.as_str(), code), ("", 2));
        assert!(stderr.contains("p99") && stderr.contains("p1000"), "{stderr}");
    }
}

#[test]
fn json_has_an_object_for_every_line() {
    let input = b"1.5 2; 3 4\nnan\n[[-0.0, 5e-324]]\n[[1, 2], [3]]\n[]\n\n\xff\n";
    let (output, stderr, code) = filter(&["encode", "--encoding", "fp15", "--json"], input);
    assert_eq!((stderr.as_str(), code), ("", 1));
    let objects: Vec<serde_json::Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 7);
    assert_eq!(objects[0]["tokens"], serde_json::json!(["V2", "V2", "N150e7", "N200e7", "N300e7", "N400e7"]));
    assert_eq!(objects[2]["tokens"], serde_json::json!(["V1", "V2", "N0e0", "N0e0"]));
    for (index, expected) in [(1, "NaN"), (3, "expected 2 numbers in row 2"), (4, "0x0"), (5, ""), (6, "utf-8")] {
        assert_eq!(objects[index]["line"], index + 1);
        assert!(objects[index]["error"].as_str().unwrap().contains(expected), "{}", objects[index]);
    }

    let input = b"V1 V2 N150e7 N-400e4\nV1 V2 N150e7\nV1 hello\n";
    let (output, stderr, code) = filter(&["decode", "--encoding", "fp15", "--json"], input);
    assert_eq!((stderr.as_str(), code), ("", 1));
    let objects: Vec<serde_json::Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects[0], serde_json::json!({ "rows": 1, "cols": 2, "matrix": [[1.5, -0.004]] }));
    assert_eq!((&objects[1]["line"], &objects[1]["position"]), (&2.into(), &3.into()));
    assert!(objects[2]["error"].as_str().unwrap().contains("hello"));
    assert_eq!(objects[2]["position"], 1);
}

#[test]
fn each_reads_what_the_other_prints_as_json() {
    let (tokens, ..) = filter(&["encode", "--encoding", "p10", "--json"], b"1.5 2; 3 4\n");
    let (matrix, stderr, code) = filter(&["decode", "--encoding", "p10", "--json"], tokens.as_bytes());
    assert_eq!((stderr.as_str(), code), ("", 0));
    assert_eq!(filter(&["encode", "--encoding", "p10", "--json"], matrix.as_bytes()).0, tokens);
}

#[test]
fn verify_judges_as_asked() {
    let line = br#"{"src": [[2, 0], [0, 1]], "tgt": [[1, 2], [0, 1], [1, 0]], "hyp": [[0, 0], [0, 0], [0, 0]]}"#;
    let judged = |arguments: &[&str], input: &[u8]| {
        let (output, stderr, code) =
            filter(&[&["verify", "--problem", "eigenvectors", "--json"], arguments].concat(), input);
        let objects: Vec<serde_json::Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (objects, stderr, code)
    };
    let (objects, _, code) = judged(&[], line);
    assert_eq!((&objects[0]["verdict"], code), (&"ok".into(), 0));
    assert!(objects[0]["l1"].as_f64().unwrap() > 0.99, "a zero answer is wrong: {}", objects[0]);
    let (objects, ..) = judged(&["--reference"], line);
    assert_eq!(objects[0]["l1"], 0.0, "the published program finds no error in a zero answer");

    let with_hyp = |hyp: &str| format!(r#"{{"src": [[2, 0], [0, 1]], "tgt": [[1, 2], [0, 1], [1, 0]], "hyp": {hyp}}}"#);
    for (hyp, verdict) in [
        ("[[1]]", "wrong-shape"),
        ("[[1, 2], [3]]", "malformed"),
        ("null", "malformed"),
        ("\"x\"", "malformed"),
        ("[[NaN, 1], [0, 1], [1, 0]]", "malformed"),
        ("[[-Infinity, 1], [0, 1], [1, 0]]", "malformed"),
        ("[[1e999, 1], [0, 1], [1, 0]]", "malformed"),
        ("\"NaN \\\" 1e999\"", "malformed"),
    ] {
        let (objects, _, code) = judged(&[], with_hyp(hyp).as_bytes());
        assert_eq!((&objects[0]["verdict"], &objects[0]["l1"], code), (&verdict.into(), &serde_json::Value::Null, 0));
    }
    for line in ["{}", "[1", "7", r#"{"src": [[1, NaN]], "tgt": [[1], [2]], "hyp": null}"#] {
        let (objects, _, code) = judged(&[], line.as_bytes());
        assert!(objects[0]["error"].is_string() && code == 1, "{line}");
    }
}

/// What cannot have an answer is an error of the line, not a judgement.
#[test]
fn verify_refuses_inputs_without_an_answer() {
    for (problem, src, expected) in [
        ("eigenvalues", "[[1, 2], [3, 4]]", "symmetric"),
        ("cholesky", "[[1, 2], [2, 1]]", "positive definite"),
        ("inversion", "[[1, 2], [2, 4]]", "invertible"),
    ] {
        let tgt = if problem == "eigenvalues" { "[[1], [2]]" } else { src };
        let line = format!(r#"{{"src": {src}, "tgt": {tgt}, "hyp": {tgt}}}"#);
        let (output, _, code) = filter(&["verify", "--problem", problem, "--json"], line.as_bytes());
        assert!(output.contains("src: expected") && output.contains(expected) && code == 1, "{output}");
    }
    let (_, stderr, code) = filter(&["verify", "--problem", "rank", "--reference"], b"");
    assert!(stderr.contains("the published program has no rank") && code == 1, "{stderr}");
}

/// The share of coefficients is strict: only a zero is within a share of zero.
#[test]
fn verify_counts_coefficients_strictly() {
    let line = br#"{"src": [[1, 0]], "tgt": [[1], [0]], "hyp": [[1], [5e-15]]}"#;
    for (arguments, expected) in [(&[][..], 0.5), (&["--reference"], 1.0)] {
        let (output, ..) = filter(&[&["verify", "--problem", "transpose", "--json"], arguments].concat(), line);
        let object: serde_json::Value = serde_json::from_str(output.trim()).unwrap();
        assert_eq!(object["coefficients_within_1pct"], expected);
    }
}

/// With `--reference`, the errors are those recorded from the published program, for every problem it has.
#[test]
fn verify_agrees_with_the_recorded_errors() {
    let recorded = include_str!("../../../numformer-problems/tests/reference.json");
    let recorded: serde_json::Map<String, serde_json::Value> = serde_json::from_str(recorded).unwrap();
    for (problem, cases) in recorded.iter().filter(|(name, _)| *name != "about") {
        let cases = cases.as_array().unwrap();
        let lines: Vec<String> = cases.iter().map(ToString::to_string).collect();
        let arguments = ["verify", "--reference", "--json", "--problem", problem];
        let (output, stderr, code) = filter(&arguments, lines.join("\n").as_bytes());
        assert_eq!((output.lines().count(), code), (cases.len(), 0), "{problem}: {stderr}");
        for (line, case) in output.lines().zip(cases) {
            let found: serde_json::Value = serde_json::from_str(line).unwrap();
            for (name, expected) in ["max", "l1", "squared_frobenius"].iter().zip(case["error"].as_array().unwrap()) {
                let (found, expected) = (found[name].as_f64().unwrap(), expected.as_f64().unwrap());
                let is_close = (found - expected).abs() <= 1e-9 * expected || found.max(expected) < 1e-13;
                assert!(is_close, "{problem}, {name}: {found:e}, recorded {expected:e}");
            }
        }
    }
}
