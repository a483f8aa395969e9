//! The report on one or several runs.

use numformer_experiment::Experiment;

use crate::markup::{escape, file_name};
use crate::page::page;
use crate::section::{Block, Named, accuracy, comparison, curves, errors, failures, laws, summary};
use crate::{Figure, ReportError, ReportedRun};

/// The report on one or several runs: a page and its figures.
///
/// # Examples
/// See the [crate](crate).
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    title: String,
    blocks: Vec<Block>,
}

impl Report {
    /// Draws the report on these runs, in this order.
    ///
    /// # Errors
    /// When there are no runs, or a figure cannot be drawn.
    pub fn new(runs: Vec<ReportedRun>) -> Result<Self, ReportError> {
        let named = names(&runs);
        let title = match &named[..] {
            [] => return Err(ReportError::NoRuns),
            [one] => format!("Run {}", one.label),
            [first, .., last] => format!("{} runs, {} to {}", named.len(), first.label, last.label),
        };
        let mut blocks = comparison(&named)?;
        const LAWS: &str = "Other laws of random matrices";
        if let [one] = &named[..] {
            blocks.extend(of_run(one, laws(&named, Block::heading(3, LAWS))?)?);
        } else {
            blocks.extend(laws(&named, Block::section("laws", LAWS))?);
            for one in &named {
                blocks.push(Block::section(one.prefix.clone(), format!("Run {}", one.label)));
                blocks.extend(of_run(one, Vec::new())?);
            }
        }
        Ok(Self { title, blocks })
    }

    /// The page: one self-contained file.
    #[must_use]
    pub fn to_html(&self) -> String {
        page(&self.title, &self.blocks)
    }

    /// The figures, in reading order.
    pub fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.blocks.iter().filter_map(|block| match block {
            Block::Figure(figure) => Some(&**figure),
            _ => None,
        })
    }
}

/// The blocks about one run; `laws` come before its configuration.
fn of_run(named: &Named<'_>, laws: Vec<Block>) -> Result<Vec<Block>, ReportError> {
    let configuration = named.run.experiment.as_ref().map(configuration).unwrap_or_default();
    let sections =
        [summary(named), curves(named)?, accuracy(named)?, errors(named)?, failures(named)?, laws, configuration];
    Ok(sections.concat())
}

fn configuration(experiment: &Experiment) -> Vec<Block> {
    let toml = escape(&experiment.to_toml());
    let configuration = format!(
        "<details open><summary>experiment.toml</summary>\n<pre tabindex=\"0\"><code>{toml}</code></pre></details>\n"
    );
    vec![Block::heading(3, "Configuration"), Block::Html(configuration)]
}

/// Unique names: those of the directories, or the whole paths if two directories have the same name.
fn names(runs: &[ReportedRun]) -> Vec<Named<'_>> {
    let is_alone = |name: &str| runs.iter().filter(|run| run.name() == name).count() == 1;
    let mut named: Vec<Named<'_>> = Vec::with_capacity(runs.len());
    for (index, run) in runs.iter().enumerate() {
        let name = run.name();
        let label = if is_alone(&name) { name } else { run.path.display().to_string() };
        let plain = file_name(&label);
        // Other sections have these names.
        let is_taken = ["", "comparison", "differences", "laws"].contains(&plain.as_str())
            || named.iter().any(|other| other.prefix == plain);
        let prefix = if is_taken { format!("run-{}-{plain}", index + 1) } else { plain };
        named.push(Named { run, label, prefix });
    }
    named
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use numformer_evaluate::Figure;

    use super::*;
    use crate::results;
    use crate::run::tests::example;

    fn report() -> Report {
        let first = example("first").with_results(results::tests::example());
        let mut second = example("<second>").with_results(results::tests::example());
        second.experiment.as_mut().expect("an experiment").train.lr = 0.5;
        Report::new(vec![first, second]).expect("drawn")
    }

    /// All values of an attribute.
    fn values<'a>(html: &'a str, attribute: &str) -> Vec<&'a str> {
        html.split(&format!(" {attribute}=\"")).skip(1).filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn every_section_is_there() {
        let html = report().to_html();
        for text in [
            "Comparison",
            "<td>train.lr</td><td>0.001</td><td>0.5</td>",
            "Other laws of random matrices",
            "Learning curves",
            "Accuracy by dimension",
            "Answers by relative error",
            "Test example 4: relative error 75.00%",
            "lr = 0.001",
        ] {
            assert!(html.contains(text), "{text}");
        }
        let names: Vec<_> = report().figures().map(|figure| figure.name.clone()).collect();
        let of_first: Vec<_> = names.iter().filter(|name| name.starts_with("first-")).collect();
        let expected = [
            "loss-examples",
            "loss-time",
            "accuracy-examples",
            "accuracy-time",
            "by-norm",
            "by-dimension",
            "by-set",
            "errors",
        ];
        assert_eq!(of_first, expected.map(|name| format!("first-{name}")).iter().collect::<Vec<_>>());
        assert!(
            names.contains(&"laws".to_owned()) && names.contains(&"comparison-accuracy-time".to_owned()),
            "{names:?}"
        );
    }

    #[test]
    fn text_of_runs_is_escaped() {
        let html = report().to_html();
        assert!(html.contains("&lt;second&gt;") && !html.contains("<second>"));
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script"));
    }

    #[test]
    fn the_page_needs_nothing_else() {
        let html = report().to_html();
        for link in [values(&html, "href"), values(&html, "src")].concat() {
            assert!(link.starts_with("data:") || link.starts_with('#'), "{link}");
        }
        assert!(!html.contains("@import") && !html.contains("url("));
        let ids: Vec<_> = values(&html, "id");
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "{ids:?}");
        for link in values(&html, "href").iter().filter_map(|link| link.strip_prefix('#')) {
            assert!(ids.contains(&link), "{link}");
        }
    }

    #[test]
    fn every_table_can_be_saved() {
        let html = report().to_html();
        let tables = html.matches("<caption>").count() - html.matches("<table class=\"matrix\"").count();
        // Each run has one more, for its worst cases.
        assert_eq!(html.matches("href=\"data:text/csv").count(), tables + 2);
    }

    #[test]
    fn the_same_runs_give_the_same_bytes() {
        assert_eq!(report().to_html(), report().to_html());
    }

    #[test]
    fn a_run_that_was_not_asked_shows_its_log() {
        let html = Report::new(vec![example("alone")]).expect("drawn").to_html();
        assert!(html.contains("<h1>Run alone</h1>") && html.contains("validation matrices after 2 steps"), "{html}");
        assert!(!html.contains("Worst cases") && !html.contains("Comparison"));
        assert!(matches!(Report::new(Vec::new()), Err(ReportError::NoRuns)));
    }

    #[test]
    fn a_run_without_an_experiment_shows_its_log() {
        let bare = || ReportedRun { experiment: None, ..example("bare") };
        let html = Report::new(vec![bare()]).expect("drawn").to_html();
        for text in
            ["<h1>Run bare</h1>", "<td>steps</td><td>2</td>", "Training loss", "validation matrices after 2 steps"]
        {
            assert!(html.contains(text), "{text}");
        }
        for text in ["Configuration", "<td>problem</td>", "<td>output encoding</td>"] {
            assert!(!html.contains(text), "{text}");
        }
        let mut other = example("other");
        other.experiment.as_mut().expect("an experiment").train.lr = 0.5;
        let html = Report::new(vec![bare(), example("whole")]).expect("drawn").to_html();
        assert!(html.contains("<td>problem</td><td>–</td><td>transpose</td>"), "{html}");
        assert!(!html.contains("All are runs of") && !html.contains("Differences"), "{html}");
        let html = Report::new(vec![bare(), example("whole"), other]).expect("drawn").to_html();
        assert!(html.contains("<td>train.lr</td><td>0.001</td><td>0.5</td>"), "{html}");
        let html = Report::new(vec![bare(), example("whole"), example("twin")]).expect("drawn").to_html();
        assert!(!html.contains("All are runs of") && !html.contains("Differences"), "{html}");
    }

    #[test]
    fn custom_figures_are_drawn_and_listed() {
        let mut run = example("run");
        for (report, value) in run.evaluations.iter_mut().zip([2.0, -2.5e-7]) {
            let figure = Figure::less_is_better(value);
            report.evaluation.custom = ["<residual>", "heavy tails"].map(|name| (name.to_owned(), figure)).into();
        }
        run.evaluations[0].evaluation.custom.remove("heavy tails");
        let report = Report::new(vec![run, example("other")]).expect("drawn");
        let html = report.to_html();
        for text in [
            "<td>validation &lt;residual&gt;</td><td>-2.500e-7</td><td>–</td>",
            "<td>&lt;residual&gt;</td><td class=\"number\">-2.500e-7</td>",
            "<figcaption>&lt;residual&gt; against examples</figcaption>",
            "&lt;residual&gt;: 2 at the start, -2.500e-7 at the end.",
            "heavy tails: -2.500e-7 at the start, -2.500e-7 at the end.",
        ] {
            assert!(html.contains(text), "{text}");
        }
        assert!(!html.contains("<residual>"));
        let names: Vec<_> = report.figures().map(|figure| figure.name.as_str()).collect();
        let custom: Vec<_> = names.into_iter().filter(|name| name.contains("-custom-")).collect();
        let expected = ["1-residual-examples", "1-residual-time", "2-heavy-tails-examples", "2-heavy-tails-time"];
        assert_eq!(custom, expected.map(|name| format!("run-custom-{name}")));
    }

    #[test]
    fn runs_of_one_name_are_told_apart() {
        let [mut first, mut second] = [example("run"), example("run")];
        (first.path, second.path) = ("a/run".into(), "b/run".into());
        let html = Report::new(vec![first, second, example("laws")]).expect("drawn").to_html();
        assert!(html.contains("id=\"a-run\">Run a/run<") && html.contains("id=\"b-run\">Run b/run<"));
        assert!(html.contains("id=\"run-3-laws\">Run laws<"));
    }
}
