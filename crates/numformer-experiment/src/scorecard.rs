//! A comparison of what models achieve with what is expected of them.

use std::fmt::{self, Write as _};

use numformer_evaluate::text::{Align, table};
use numformer_evaluate::{Better, Evaluation, Figure, FigureName};
use serde::{Deserialize, Serialize};

use crate::config::ExpectedConfig;
use crate::experiment::Experiment;

/// The result of a run, and where it was computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was run.
    pub experiment: Experiment,
    /// Number of updates that the model has had.
    pub step: u64,
    /// Number of training examples that the model has seen.
    pub examples: u64,
    /// Seconds of training, evaluations included.
    pub seconds: f64,
    /// How the run ended.
    pub ended: String,
    /// Whether the run ended by itself, not through an interruption or a time limit.
    pub is_complete: bool,
    /// The figures on unseen matrices.
    pub evaluation: Evaluation,
    /// The figures on each test set of the experiment, by its name.
    pub sets: Vec<(String, Evaluation)>,
    /// The processor and the number of threads.
    pub hardware: String,
    /// The commit of the program, or its version.
    pub commit: String,
}

/// A comparison of what models achieve with what is expected of them: one line per experiment, over all its seeds.
///
/// # Examples
/// ```
/// use numformer_experiment::Scorecard;
///
/// let empty = Scorecard::default().to_markdown();
/// assert!(empty.starts_with("# Scorecard"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scorecard {
    /// All runs. Runs of the same experiment are adjacent.
    pub outcomes: Vec<Outcome>,
}

/// The figure shown for an experiment without expectations.
const USUAL: FigureName = FigureName::Within(0);

impl Scorecard {
    /// Formats the scorecard as a Markdown page.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut page = "# Scorecard\n\nWritten by `numformer reproduce`; not to be edited. Accuracies are per cent of unseen matrices \
                        whose answer is within the tolerance, relative, in the norm L1; in brackets Wilson's 95% interval of one \
                        run, after ± the standard deviation over several seeds. `within_5%` is within 5 per cent.\n"
            .to_owned();
        let titles = TITLES.join(" | ");
        let _ = writeln!(page, "\n| {titles} |\n|{}", "---|".repeat(TITLES.len()));
        for runs in self.by_experiment() {
            let _ = writeln!(page, "| {} |", cells(runs).join(" | "));
        }
        page += "\n## Sources of what is expected\n\n";
        for runs in self.by_experiment() {
            if let [Outcome { experiment: Experiment { name, expected: Some(expected), .. }, .. }, ..] = runs {
                let _ = writeln!(page, "- {name}: {}", expected.source);
            }
        }
        page += "\n## Runs\n\n| experiment | seed | within 5% | 2% | 1% | 0.5% | exact | of | examples | seconds | ended | hardware | commit |\n";
        page += "|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
        self.outcomes.iter().for_each(|outcome| page += &run_line(outcome));
        if self.outcomes.iter().any(|outcome| !outcome.sets.is_empty()) {
            page += "\n## Other test sets\n\n| experiment | seed | set | within 5% | 2% | 1% | 0.5% | exact |\n|---|---|---|---|---|---|---|---|\n";
            for Outcome { experiment, sets, .. } in &self.outcomes {
                for (name, evaluation) in sets {
                    let figures = figures(evaluation);
                    let _ = writeln!(page, "| {} | {} | {name} | {figures} |", experiment.name, experiment.seed);
                }
            }
        }
        page
    }

    /// The runs of each experiment.
    fn by_experiment(&self) -> impl Iterator<Item = &[Outcome]> {
        self.outcomes.chunk_by(|a, b| a.experiment.name == b.experiment.name)
    }
}

impl fmt::Display for Scorecard {
    /// Formats only the first table, as text. If a width is given, as in `{:40}`, a table wider than that becomes a
    /// list.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<Vec<String>> = self.by_experiment().map(|runs| cells(runs).into()).collect();
        f.write_str(table(&TITLES, &rows, Align::Left, f.width().filter(|width| *width > 0)).trim_end())
    }
}

/// Titles of the columns.
const TITLES: [&str; 9] =
    ["experiment", "problem", "configuration", "expected", "found", "examples", "seconds", "seeds", "reached"];

/// The cells of the runs of one experiment, in the order of [`TITLES`].
fn cells(runs: &[Outcome]) -> [String; TITLES.len()] {
    let first = &runs[0];
    let experiment = &first.experiment;
    let metric = experiment.expected.as_ref().map_or(&USUAL, |expected| &expected.metric);
    let figures: Vec<Figure> = runs.iter().filter_map(|run| metric.of(&run.evaluation)).collect();
    let values: Vec<f64> = figures.iter().map(|figure| figure.value).collect();
    let expected = match &experiment.expected {
        Some(ExpectedConfig { metric, value, .. }) => {
            format!("{metric} {} {}", bound(figures.first()), shown(metric, *value))
        }
        None => "-".to_owned(),
    };
    let found = match &values[..] {
        [] => "-".to_owned(),
        [only] => format!("{}{}", shown(metric, *only), interval(metric, &first.evaluation)),
        several => format!("{} ± {}", shown(metric, mean(several)), shown(metric, deviation(several))),
    };
    let reached = match &experiment.expected {
        None => "-".to_owned(),
        Some(expected) => {
            let reached = runs.iter().filter(|run| expected.goal().is_reached(&run.evaluation)).count();
            format!("{reached} of {}", runs.len())
        }
    };
    let problems: Vec<&str> = experiment.problem.0.iter().map(|problem| problem.name.as_str()).collect();
    let [examples, seconds] = [|run: &Outcome| run.examples as f64, |run: &Outcome| run.seconds]
        .map(|of| mean(&runs.iter().map(of).collect::<Vec<_>>()));
    let seeds: Vec<String> = runs.iter().map(|run| run.experiment.seed.to_string()).collect();
    [
        experiment.name.clone(),
        problems.join(" + "),
        configuration(experiment),
        expected,
        found,
        format!("{examples:.0}"),
        format!("{seconds:.0}"),
        seeds.join(", "),
        reached,
    ]
}

/// A short description of dimension, encodings and model.
fn configuration(experiment: &Experiment) -> String {
    let (matrices, encoding, model) = (&experiment.matrices, &experiment.encoding, &experiment.model);
    let shapes = matrices.shapes();
    let name = |shape: Option<&(usize, usize)>| shape.map_or_else(String::new, |(rows, cols)| format!("{rows}×{cols}"));
    let (first, last) = (name(shapes.first()), name(shapes.last()));
    let dimension = if first == last { first } else { format!("{first} to {last}") };
    let encodings = if encoding.input == encoding.output {
        encoding.input.clone()
    } else {
        format!("{} → {}", encoding.input, encoding.output)
    };
    let noise = if experiment.data.noise > 0.0 { format!(", noise {}", experiment.data.noise) } else { String::new() };
    format!(
        "{dimension} {}{noise}, {encodings}, {}/{} layers, {}/{} wide, batch {}",
        matrices.law.0.join("+"),
        model.encoder.n_layers,
        model.decoder.n_layers,
        model.encoder.d_model,
        model.decoder.d_model,
        experiment.train.batch_size
    )
}

fn run_line(outcome: &Outcome) -> String {
    let Outcome { experiment, evaluation, examples, seconds, ended, hardware, commit, .. } = outcome;
    format!(
        "| {} | {} | {} | {} | {examples} | {seconds:.0} | {ended} | {hardware} | {commit} |\n",
        experiment.name,
        experiment.seed,
        figures(evaluation),
        evaluation.count
    )
}

/// The accuracy at each tolerance and the share of exact answers, with intervals, as cells.
fn figures(evaluation: &Evaluation) -> String {
    let names = (0..evaluation.accuracy.len()).map(FigureName::Within).chain([FigureName::Exact]);
    let cells = names.map(|name| {
        let value = name.of(evaluation).map_or_else(|| "-".to_owned(), |figure| percent(figure.value));
        format!("{value}{}", interval(&name, evaluation))
    });
    cells.collect::<Vec<_>>().join(" | ")
}

/// The 95% interval of a share, in brackets; empty for a figure without one.
fn interval(name: &FigureName, evaluation: &Evaluation) -> String {
    let interval = match name {
        FigureName::Within(place) => {
            let estimates = evaluation.norms.get(&numformer_metrics::Norm::L1);
            estimates.and_then(|estimates| estimates.get(*place)).map(|estimate| estimate.interval)
        }
        FigureName::Exact => Some(evaluation.exact_interval),
        FigureName::Decodable => Some(evaluation.decodable_interval),
        FigureName::CrossEntropy | FigureName::Coefficients | FigureName::Own(_) => None,
    };
    interval.map_or_else(String::new, |(lower, upper)| format!(" ({}-{})", percent(lower), percent(upper)))
}

/// Whether a figure should lie above or below its expected value.
fn bound(figure: Option<&Figure>) -> &'static str {
    if figure.is_some_and(|figure| figure.better == Better::Less) { "≤" } else { "≥" }
}

/// Formats a figure; shares are shown in per cent.
fn shown(metric: &FigureName, value: f64) -> String {
    match metric {
        FigureName::CrossEntropy | FigureName::Own(_) => format!("{value:.4}"),
        _ => percent(value),
    }
}

/// Formats a share in per cent.
fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The estimated standard deviation of the distribution that the values are drawn from.
fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(seed: u64, within: f64) -> Outcome {
        let mut experiment = Experiment::preset("transpose-3x3").expect("embedded");
        experiment.seed = seed;
        let source = "no published figure at hand".to_owned();
        experiment.expected = Some(ExpectedConfig { metric: USUAL, value: 0.95, source });
        let json = format!(
            r#"{{"count":100,"accuracy":[[0.05,{within}]],"exact":0.25,"decodable":1.0,"cross_entropy":0.125,
            "exact_interval":[0.1,0.4],"norms":{{"l1":[[0.05,{within},0.9,0.99]]}}}}"#
        );
        let evaluation: Evaluation = serde_json::from_str(&json).expect("an evaluation");
        Outcome {
            experiment,
            step: 10,
            examples: 640,
            seconds: 12.4,
            ended: "completed".to_owned(),
            is_complete: true,
            sets: vec![("gaussian".to_owned(), evaluation.clone())],
            evaluation,
            hardware: "a processor, 2 threads".to_owned(),
            commit: "abcdef".to_owned(),
        }
    }

    #[test]
    fn one_seed_has_an_interval_and_several_a_deviation() {
        let line = |outcomes: &[Outcome]| {
            let page = Scorecard { outcomes: outcomes.to_vec() }.to_markdown();
            page.lines().find(|line| line.starts_with("| transpose-3x3")).expect("a line").to_owned()
        };
        let head =
            "| transpose-3x3 | transpose | 3×3 uniform, p1000, 1/1 layers, 64/64 wide, batch 64 | within_5% ≥ 95.0 |";
        let one = line(&[outcome(0, 0.96)]);
        assert_eq!(one, format!("{head} 96.0 (90.0-99.0) | 640 | 12 | 0 | 1 of 1 |"));
        let two = line(&[outcome(0, 0.96), outcome(1, 0.94)]);
        assert_eq!(two, format!("{head} 95.0 ± 1.4 | 640 | 12 | 0, 1 | 1 of 2 |"));
        let card = Scorecard { outcomes: vec![outcome(0, 0.96)] };
        let (text, list) = (card.to_string(), format!("{card:40}"));
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.starts_with("experiment     problem    configuration"), "{text}");
        assert_eq!(list.lines().take(2).collect::<Vec<_>>(), ["experiment", "transpose-3x3"], "{list}");
        assert!(
            list.lines().all(|line| line.chars().count() <= 40) && list.contains("found 96.0 (90.0-99.0)"),
            "{list}"
        );
    }

    #[test]
    fn runs_sets_and_sources_are_listed() {
        let card = Scorecard { outcomes: vec![outcome(0, 0.96)] };
        let page = card.to_markdown();
        for line in [
            "- transpose-3x3: no published figure at hand",
            "| transpose-3x3 | 0 | 96.0 (90.0-99.0) | 25.0 (10.0-40.0) | 100 | 640 | 12 | completed | a processor, 2 threads | abcdef |",
            "| transpose-3x3 | 0 | gaussian | 96.0 (90.0-99.0) | 25.0 (10.0-40.0) |",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        let json = serde_json::to_string(&card).expect("plain data");
        assert_eq!(serde_json::from_str::<Scorecard>(&json).expect("its own output"), card);
    }
}
