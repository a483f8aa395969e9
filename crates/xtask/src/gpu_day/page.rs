//! The page that shows results.

use std::fmt::Write as _;

use crate::gpu_day::figures::{Figures, Metrics, Outcome, Step, Timing};

/// What the run recorded about its training.
pub(super) struct Course<'a> {
    pub(super) metrics: &'a [Metrics],
    pub(super) steps_per_second: Option<f64>,
    /// Whether there is a learning-curve.svg.
    pub(super) has_curve: bool,
}

/// The modes of PyTorch, as the script names them, and their columns.
const MODES: [(&str, &str); 3] = [("eager", "eager"), ("default", "compiled"), ("graphs", "compiled, with graphs")];

pub(super) fn page(figures: &Figures, course: &Course<'_>) -> String {
    let sections = [
        head(figures),
        correctness(figures),
        training_steps(&figures.timings),
        decoding(&figures.timings),
        remarks(figures),
        training(figures, course),
    ];
    sections.into_iter().flatten().collect::<Vec<_>>().join("\n\n") + "\n"
}

fn head(figures: &Figures) -> Option<String> {
    let Figures { machine, versions, date, seconds, took, device, .. } = figures;
    let or = |text: &str, otherwise: &str| if text.is_empty() { otherwise.to_owned() } else { text.to_owned() };
    let gpu = if machine.gpu.is_empty() {
        "no GPU".to_owned()
    } else {
        format!("{} ({}, driver {})", machine.gpu, machine.memory, machine.driver)
    };
    let torch = if versions.torch.is_empty() { "no PyTorch".to_owned() } else { format!("PyTorch {}", versions.torch) };
    let title = format!("# {}, {date}", or(&machine.gpu, "No GPU"));
    let program = or(&versions.numformer, "numformer, which did not start");
    let how = format!(
        "{program} at commit {}, built for sm_{} by `cargo xtask gpu-day`.\n`run.sh {seconds}` took {took:.0} s, on \
         the device {device}.",
        versions.commit, versions.capability
    );
    let machine = format!(
        "The machine: {gpu}; {}, {} cores; {}; {torch}.",
        or(&machine.processor, "an unknown processor"),
        machine.cores,
        or(&machine.system, "an unknown system")
    );
    Some(format!("{title}\n\n{how}\n{machine}"))
}

fn correctness(figures: &Figures) -> Option<String> {
    let steps = figures.steps.iter().filter(|step| step.phase == "correctness");
    let rows: Vec<_> = steps.map(|step| check(step, figures)).collect();
    let (all, passed) = (rows.len(), rows.iter().filter(|row| row[1] == "passed").count());
    let mut text = format!("## Correctness\n\n{passed} of {all} checks passed.");
    let is_closed = |step: &Step| step.name == "open-device" && step.outcome != Outcome::Passed;
    if figures.steps.iter().any(is_closed) {
        text += " **The device could not be opened: the tests tried the kernels on the host only.**";
    }
    text += "\n\n";
    text += &table(&["", "outcome", "seconds", "found"].map(str::to_owned), &rows);
    Some(text)
}

/// The row of a check.
fn check(step: &Step, figures: &Figures) -> Vec<String> {
    let outcome = match step.outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "**failed**",
        Outcome::LeftOut => "left out",
    };
    let mut found = step.note.clone();
    if let Some(tests) = figures.tests.iter().find(|tests| tests.name == step.name) {
        if tests.failed > 0 {
            found = format!("{} of {} tests failed: {found}", tests.failed, tests.failed + tests.passed);
        } else if tests.ignored > 0 {
            let _ = write!(found, ", {} ignored", tests.ignored);
        }
    }
    vec![step.name.clone(), outcome.to_owned(), figure(Some(step.seconds), 1), found]
}

fn training_steps(timings: &[Timing]) -> Option<String> {
    let rate = |timing: &Timing| Some(timing.train_steps_per_s.median);
    let rows: Vec<Vec<String>> = shapes(timings)
        .into_iter()
        .map(|(config, batch)| {
            let of = |who| median(timings, (config, batch), who, rate);
            let (ours, theirs) = (of("numformer"), MODES.map(|(mode, _)| of(mode)));
            let fastest = theirs.into_iter().flatten().reduce(f64::max);
            let mut cells = vec![config.to_owned(), batch.to_string(), figure(ours, 1)];
            cells.push(figure(ours.map(|rate| rate * f64::from(batch)), 0));
            cells.extend(theirs.map(|rate| figure(rate, 1)));
            cells.push(figure(ours.zip(fastest).map(|(ours, fastest)| ours / fastest), 2));
            cells
        })
        .collect();
    let mut header = ["", "batch", "numformer, steps/s", "examples/s"].map(str::to_owned).to_vec();
    header.extend(MODES.map(|(_, name)| format!("PyTorch {name}, steps/s")));
    header.push("numformer / fastest".to_owned());
    let about = "In bf16, in turn, medians of the rounds. The shapes are those of [benchmarks](../../benchmarks.md).";
    (!rows.is_empty()).then(|| format!("## Training steps, beside PyTorch\n\n{about}\n\n{}", table(&header, &rows)))
}

fn decoding(timings: &[Timing]) -> Option<String> {
    let rate = |timing: &Timing| timing.greedy_examples_per_s;
    let rows: Vec<Vec<String>> = shapes(timings)
        .into_iter()
        .filter_map(|(config, batch)| {
            let [ours, theirs] = ["numformer", "eager"].map(|who| median(timings, (config, batch), who, rate));
            ours.or(theirs)?;
            let ratio = ours.zip(theirs).map(|(ours, theirs)| ours / theirs);
            let at_once = (2 * batch).to_string();
            Some(vec![config.to_owned(), at_once, figure(ours, 0), figure(theirs, 0), figure(ratio, 2)])
        })
        .collect();
    let header = ["", "at once", "numformer, examples/s", "PyTorch eager, examples/s", "ratio"].map(str::to_owned);
    let about = "Of random weights. Ours ends when all answers do; PyTorch's script always writes the longest answer.";
    (!rows.is_empty()).then(|| format!("## Greedy decoding\n\n{about}\n\n{}", table(&header, &rows)))
}

/// What failed or was left out, other than checks, and what was said about timings. Steps with one reason share a line.
fn remarks(figures: &Figures) -> Option<String> {
    let is_said = |step: &&Step| match step.phase.as_str() {
        "correctness" => false,
        "timings" => step.outcome != Outcome::Passed || step.note.contains("PyTorch"),
        _ => step.outcome != Outcome::Passed,
    };
    let said: Vec<&Step> = figures.steps.iter().filter(is_said).collect();
    let lines = said.chunk_by(|a, b| a.phase == b.phase && a.note == b.note).map(|steps| {
        let names: Vec<_> = steps.iter().map(|step| step.name.as_str()).collect();
        format!("- {}, {}: {}", steps[0].phase, names.join(", "), steps[0].note)
    });
    let lines: Vec<_> = lines.collect();
    (!lines.is_empty()).then(|| format!("## What did not work\n\n{}", lines.join("\n")))
}

fn training(figures: &Figures, course: &Course<'_>) -> Option<String> {
    let training = figures.training.as_ref().filter(|training| training.steps > 0)?;
    let last = |event: &str| course.metrics.iter().rev().find(|line| line.event == event);
    let mut text = format!(
        "## Training\n\n`{}` in {}: {} steps in {:.0} s, starts and evaluations included.",
        training.name, training.precision, training.steps, training.seconds
    );
    if let Some(rate) = course.steps_per_second {
        let _ = write!(text, " Once started, {rate:.1} steps/s, evaluations included.");
    }
    if let Some(Metrics { step, examples, loss: Some(loss), .. }) = last("step") {
        let _ = write!(text, "\nThe loss was {loss:.3} after {step} steps, {examples} examples.");
    }
    if let Some(evaluation) = last("evaluation") {
        text += "\n\n";
        text += &evaluation_table(evaluation);
    }
    if !training.checkpoint.is_empty() {
        text += "\n\nIts last checkpoint came back, in bf16.";
    }
    if course.has_curve {
        text += "\n\n![Learning curve](learning-curve.svg)";
    }
    Some(text)
}

/// The last evaluation.
fn evaluation_table(evaluation: &Metrics) -> String {
    let percent = |share: f64| format!("{:.1}%", 100.0 * share);
    let mut header = ["last evaluation, steps", "examples seen", "judged on", "exact"].map(str::to_owned).to_vec();
    let mut cells = vec![
        evaluation.step.to_string(),
        evaluation.examples.to_string(),
        evaluation.count.map_or_else(|| "-".to_owned(), |count| count.to_string()),
        evaluation.exact.map_or_else(|| "-".to_owned(), percent),
    ];
    for (tolerance, share) in &evaluation.accuracy {
        header.push(format!("within {}%", 100.0 * tolerance));
        cells.push(percent(*share));
    }
    table(&header, &[cells])
}

/// The shapes with their batches, in the order in which they were measured.
fn shapes(timings: &[Timing]) -> Vec<(&str, u32)> {
    let mut shapes = Vec::new();
    for timing in timings {
        let shape = (timing.config.as_str(), timing.batch);
        if !shapes.contains(&shape) {
            shapes.push(shape);
        }
    }
    shapes.sort_by_key(|(config, batch)| (*batch, *config));
    shapes
}

/// The middle value of the rounds of one program at one shape.
fn median(timings: &[Timing], shape: (&str, u32), who: &str, of: impl Fn(&Timing) -> Option<f64>) -> Option<f64> {
    let rounds = timings.iter().filter(|timing| (timing.config.as_str(), timing.batch) == shape && timing.who() == who);
    let mut values: Vec<f64> = rounds.filter_map(of).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// A table; a bar in a cell does not end it.
fn table(header: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|").trim().to_owned()).collect();
        format!("| {} |", cells.join(" | ")).replace("|  |", "| |")
    };
    let mut lines = vec![line(header), format!("|{}", "---|".repeat(header.len()))];
    lines.extend(rows.iter().map(|row| line(row)));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu_day::figures::{lines, parse};

    /// Written by run.sh, with stand-ins for all programs: the figures mean nothing.
    fn sample() -> Figures {
        parse(include_str!("sample/figures.json")).expect("the sample")
    }

    fn shown(figures: &Figures) -> String {
        let metrics = lines(include_str!("sample/metrics.jsonl")).expect("the sample");
        page(figures, &Course { metrics: &metrics, steps_per_second: Some(321.0), has_curve: true })
    }

    #[test]
    fn the_sample_is_shown() {
        let found = shown(&sample());
        assert_eq!(found, include_str!("sample/expected.md"), "{found}");
    }

    #[test]
    fn rounds_are_medians_and_ratios_are_to_the_fastest() {
        let report = |who: &str, rate: f64, greedy: &str| {
            let mode = if who == "numformer" { String::new() } else { format!(r#""mode":"{who}","#) };
            format!(r#"{{"config":"T1","batch":64,{mode}"train_steps_per_s":{{"median":{rate}}}{greedy}}}"#)
        };
        let greedy = r#","greedy_examples_per_s":500"#;
        let reports = [
            report("numformer", 900.0, greedy),
            report("numformer", 1100.0, greedy),
            report("numformer", 1000.0, greedy),
            report("eager", 100.0, r#","greedy_examples_per_s":250.0"#),
            report("graphs", 400.0, ""),
        ];
        let timings: Vec<Timing> = lines(&reports.join("\n")).expect("reports");
        let steps = training_steps(&timings).expect("a table");
        assert_eq!(steps.lines().last(), Some("| T1 | 64 | 1000.0 | 64000 | 100.0 | - | 400.0 | 2.50 |"));
        let decoding = decoding(&timings).expect("a table");
        assert_eq!(decoding.lines().last(), Some("| T1 | 128 | 500 | 250 | 2.00 |"));
        assert_eq!(training_steps(&[]), None);
    }

    #[test]
    fn reasons_are_said_once() {
        let mut figures = sample();
        for step in figures.steps.iter_mut().filter(|step| step.phase == "timings") {
            step.outcome = Outcome::Failed;
            "no device".clone_into(&mut step.note);
        }
        let found = remarks(&figures).expect("some");
        assert_eq!(found, "## What did not work\n\n- timings, T1 at 64, T4 at 64, T1 at 512: no device");
    }

    #[test]
    fn a_machine_without_a_device_is_not_taken_for_one() {
        let mut figures = sample();
        let device = figures.steps.iter_mut().find(|step| step.name == "open-device").expect("it is tried");
        device.outcome = Outcome::Failed;
        "no | driver".clone_into(&mut device.note);
        let found = shown(&figures);
        assert!(found.contains("**The device could not be opened") && found.contains(r"no \| driver"), "{found}");
    }
}
