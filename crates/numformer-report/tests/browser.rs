//! Checks reports in Chromium as a reader sees them: light and dark, on a wide screen and on a phone.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

mod chromium;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use chromium::Chromium;
use numformer_experiment::{Catalogue, Experiment, Run};
use numformer_report::{Report, ReportedRun, TestResults};
use serde_json::{Value, json};

const CHECK: &str = include_str!("check.js");

/// Two problems with several shapes and laws, so that a report has figures of every kind.
fn experiment(law: &str) -> Experiment {
    let toml = format!(
        r#"
        name = "mixed"
        problem = [{{ name = "transpose" }}, {{ name = "determinant" }}]
        matrices = {{ law = ["{law}", "wigner"], rows = [1, 3] }}
        encoding = {{ input = "p10", output = "p1000" }}
        model.encoder = {{ d_model = 16, n_heads = 2, n_layers = 1 }}
        model.decoder = {{ d_model = 16, n_heads = 2, n_layers = 1 }}
        train = {{ batch_size = 16, steps = 40, lr = 5e-3, warmup_steps = 10 }}
        evaluate = {{ every = 10, examples = 20 }}
        log.every = 1
        "#
    );
    Experiment::from_toml(&toml, "mixed.toml", &Catalogue::standard()).unwrap()
}

fn run(path: &Path, law: &str) -> ReportedRun {
    let experiment = experiment(law);
    Run::new(experiment).unwrap().in_dir(path).unwrap().run().unwrap();
    let laws: Vec<String> = Catalogue::standard().laws().map(str::to_owned).collect();
    ReportedRun::read(path).unwrap().with_results(TestResults::of(path, 40, &laws).unwrap())
}

/// Reports on one run and on two runs, the second of which has a long name.
fn reports(dir: &Path) -> [(PathBuf, usize); 2] {
    let first = run(&dir.join("short"), "uniform");
    let second = run(&dir.join("a-run-with-a-long-name-that-no-phone-has-room-for-in-a-single-line"), "gaussian");
    [("one.html", vec![first.clone()]), ("two.html", vec![first, second])].map(|(name, runs)| {
        let report = Report::new(runs).unwrap();
        let path = dir.join(name);
        fs::write(&path, report.to_html()).unwrap();
        (path, report.figures().count())
    })
}

/// A Chromium, or `None` with a message on where to get one.
fn chromium() -> Option<Chromium> {
    let Some(program) = Chromium::find() else {
        // Not printed by a macro, because the test harness would hide its text.
        let message = "SKIPPED: no Chromium in PATH or NUMFORMER_CHROMIUM; `cargo xtask browser-test` installs one\n";
        std::io::stderr().write_all(message.as_bytes()).unwrap();
        return None;
    };
    Some(Chromium::start(&program))
}

#[test]
fn a_report_reads_well_in_both_themes_and_at_both_widths() {
    let Some(mut chromium) = chromium() else { return };
    let dir = tempfile::tempdir().unwrap();
    let reports = reports(dir.path());
    for (page, figures) in &reports {
        let mut pages = Vec::new();
        for theme in ["light", "dark"] {
            for width in [1280, 390] {
                let what = format!("{}, {theme}, {width} wide", page.file_name().unwrap().display());
                let features = json!([{"name": "prefers-color-scheme", "value": theme}]);
                chromium.call("Emulation.setEmulatedMedia", json!({"features": features}));
                let metrics = json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500});
                chromium.call("Emulation.setDeviceMetricsOverride", metrics);
                chromium.open(page);
                let checked = chromium.evaluate(CHECK);
                assert_eq!(checked["found"], json!([]), "{what}");
                assert_eq!(checked["figures"], *figures, "{what}");
                assert_ne!(checked["page"], checked["text"], "{what}");
                pages.push(checked["page"].clone());

                assert_eq!(complaints(&chromium, page), [""; 0], "{what}");
            }
        }
        assert!(pages[0] == pages[1] && pages[2] == pages[3] && pages[0] != pages[2], "{pages:?}");
    }
}

/// Everything that the page wrote to the console, and every address that it requested beyond its own file.
fn complaints(chromium: &Chromium, page: &Path) -> Vec<String> {
    let own = format!("file://{}", page.display());
    let complaint = |event: &Value| match event["method"].as_str()? {
        "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded" => Some(event["params"].to_string()),
        "Network.requestWillBeSent" => {
            let url = event["params"]["request"]["url"].as_str().filter(|url| !url.starts_with("data:"))?;
            (url != own).then(|| url.to_owned())
        }
        _ => None,
    };
    chromium.events.iter().filter_map(complaint).collect()
}

#[test]
fn what_a_reader_would_stumble_over_is_found() {
    let Some(mut chromium) = chromium() else { return };
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("faulty.html");
    let html = r#"<!doctype html><meta charset="utf-8"><p style="width:9000px">wide</p><img src="http://127.0.0.1:9/other.png">
        <figure id="a"><svg width="200" height="200" role="img"><title>T</title><text x="20" y="50">one</text>
        <text x="22" y="52">two</text><text x="190" y="90">three</text></svg></figure>
        <figure id="b"><svg width="20" height="20"></svg></figure><script>console.log("chatter")</script>"#;
    fs::write(&page, html).unwrap();
    chromium.open(&page);
    let found = chromium.evaluate(CHECK)["found"].to_string();
    for fault in ["the page is 9", "one and two overlap", "three is cut off", "a has no alternative", "b is 20 by 20"] {
        assert!(found.contains(fault), "{fault}: {found}");
    }
    let complaints = complaints(&chromium, &page).join("\n");
    assert!(complaints.contains("chatter") && complaints.contains("other.png"), "{complaints}");
}
