//! Presets, run and held against what is expected of them.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn reproduce(arguments: &[&str], dir: &Path) -> (String, String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_numformer"));
    command.args(["reproduce", "--quiet", "--examples", "20"]).args(arguments).current_dir(dir);
    // Where there are columns to fit, the page is not what is shown.
    command.env_remove("COLUMNS");
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}

fn scorecard(dir: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(dir.join("docs/results/scorecard.json")).unwrap()).unwrap()
}

#[test]
fn a_run_goes_on_until_it_is_complete_and_every_seed_has_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let only = ["--only", "transpose-3x3", "--budget", "0.02"];
    let (page, stderr, code) = reproduce(&only, dir.path());
    assert_eq!(code, 0, "{stderr}");
    assert!(page.contains("| transpose-3x3 | transpose | 3×3 uniform, p1000, 1/1 layers"), "{page}");
    assert!(page.contains("stopped: the budget of 0.02 minutes is used up"), "{page}");
    let curve = "curves/transpose-3x3-seed0.svg";
    assert!(page.contains(&format!(" | [curve]({curve}) |")), "{page}");
    let of_run = fs::read(dir.path().join("runs/reproduce/transpose-3x3-seed0/learning-curve.svg")).unwrap();
    assert_eq!(fs::read(dir.path().join("docs/results").join(curve)).unwrap(), of_run);
    assert_eq!(fs::read_to_string(dir.path().join("docs/results/scorecard.md")).unwrap(), page);
    let first = scorecard(dir.path());
    let outcome = &first["outcomes"][0];
    assert_eq!((&outcome["is_complete"], &outcome["evaluation"]["count"]), (&false.into(), &20.into()));

    // The same command goes on; another seed begins.
    let (page, stderr, code) = reproduce(&[&only[..], &["--seeds", "0,1"]].concat(), dir.path());
    assert_eq!(code, 0, "{stderr}");
    let second = scorecard(dir.path());
    assert!(second["outcomes"][0]["step"].as_u64() > outcome["step"].as_u64(), "{second}");
    assert_eq!(second["outcomes"][1]["experiment"]["seed"], 1);
    assert!(page.contains(" | 0, 1 | "), "{page}");

    // Nothing is run to write the page again. A file beside the runs is no run.
    fs::write(dir.path().join("runs/reproduce/log.txt"), "").unwrap();
    fs::remove_dir_all(dir.path().join("docs")).unwrap();
    let (again, _, code) = reproduce(&["--list"], dir.path());
    assert_eq!((again, code), (page, 0));
    assert_eq!(scorecard(dir.path()), second);
}

#[test]
fn what_is_complete_is_not_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let only = ["--only", "transpose-3x3", "--budget", "0.02", "--threads", "1"];
    assert_eq!(reproduce(&only, dir.path()).2, 0);
    let path = dir.path().join("runs/reproduce/transpose-3x3-seed0/outcome.json");
    let mut outcome: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    outcome["is_complete"] = true.into();
    fs::write(&path, outcome.to_string()).unwrap();
    assert_eq!(reproduce(&only, dir.path()).2, 0);
    assert_eq!(scorecard(dir.path())["outcomes"][0]["step"], outcome["step"]);
    // One that is damaged stands in nobody's way: the run is judged again.
    fs::write(&path, "{").unwrap();
    let (page, stderr, code) = reproduce(&["--list"], dir.path());
    assert!(code == 0 && stderr.contains("outcome.json, which is damaged"), "{stderr}");
    assert!(page.contains("transpose-3x3"), "what stood on the page stays: {page}");
    // The threads are those that trained, not those that judge: other machines may have had more.
    let timings = dir.path().join("runs/reproduce/transpose-3x3-seed0/timings.jsonl");
    let of_others = r#"{"process":1,"step":1,"seconds":0.1,"threads":7}"#;
    fs::write(&timings, format!("{}{of_others}\n", fs::read_to_string(&timings).unwrap())).unwrap();
    let (_, stderr, code) = reproduce(&only, dir.path());
    assert_eq!(code, 0, "{stderr}");
    let again: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let threads = |outcome: &Value| outcome["hardware"].as_str().unwrap().rsplit_once(", ").unwrap().1.to_owned();
    assert_eq!([&outcome, &again].map(threads), ["1 thread", "1 to 7 threads"]);
}

#[test]
fn the_page_keeps_runs_that_are_gone_until_their_presets_change() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(reproduce(&["--only", "transpose-3x3", "--budget", "0.02"], dir.path()).2, 0);
    fs::remove_dir_all(dir.path().join("runs")).unwrap();
    let before = scorecard(dir.path());
    assert_eq!(before["outcomes"][0]["curve"], "curves/transpose-3x3-seed0.svg");
    assert_eq!(reproduce(&["--list"], dir.path()).2, 0);
    assert_eq!(scorecard(dir.path()), before);
    // Nor is a figure shown that is gone.
    fs::remove_dir_all(dir.path().join("docs/results/curves")).unwrap();
    assert!(reproduce(&["--list"], dir.path()).0.contains(" | - |"));

    let path = dir.path().join("docs/results/scorecard.json");
    let mut changed = before;
    changed["outcomes"][0]["experiment"]["train"]["lr"] = 0.5.into();
    fs::write(&path, changed.to_string()).unwrap();
    let (_, stderr, code) = reproduce(&["--list"], dir.path());
    assert!(code == 1 && stderr.contains("there are no runs of the suite cpu in runs/reproduce"), "{stderr}");
    assert_eq!(scorecard(dir.path()), changed, "nothing is written in its place");
    fs::write(&path, "{").unwrap();
    let (_, stderr, code) = reproduce(&["--list"], dir.path());
    assert!(code == 1 && stderr.contains("scorecard.json is damaged"), "{stderr}");
}

#[test]
fn what_there_is_not_is_told() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, expected, expected_code) in [
        (&["--only", "transpose-4x4"][..], "expected presets of the suite cpu (transpose-3x3", 1),
        (&["--suite", "gpu"], "expected a suite, cpu, desk or paper, found `gpu`", 2),
        (&["--suite", "desk", "--list"], "there are no runs of the suite desk", 1),
        (&["--list"], "there are no runs of the suite cpu", 1),
        (&["--list", "--only", "transpose-3x3"], "cannot be used with", 2),
        (&["--budget", "0"], "expected a positive number of minutes", 2),
        (&["--only", "paper-addition-10x10"], "is of another suite: use --suite paper", 1),
    ] {
        let (_, stderr, code) = reproduce(arguments, dir.path());
        assert!(code == expected_code && stderr.contains(expected), "{arguments:?}: {stderr}");
        assert!(!dir.path().join("runs").exists() && !dir.path().join("docs").exists());
    }
}
