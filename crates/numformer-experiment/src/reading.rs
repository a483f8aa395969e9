//! Reading experiments from presets, TOML files and settings.

use std::path::Path;

use numformer_data::read_text;
use toml::{Table, Value};

use crate::catalogue::Catalogue;
use crate::config::TrainConfig;
use crate::config::experiment_error::ExperimentError;
use crate::config::syntax::SyntaxError;
use crate::draft::{Draft, apply, key_and_value};
use crate::experiment::Experiment;
use crate::{presets, signed};

impl Experiment {
    /// An embedded experiment by name; see [`presets::PRESETS`].
    ///
    /// # Errors
    /// When no preset has this name.
    pub fn preset(name: &str) -> Result<Self, ExperimentError> {
        let (toml, origin) = preset_text(name)?;
        Self::from_toml(&toml, &origin, &Catalogue::standard())
    }

    /// Loads a preset by its name, or a TOML file by its path. An argument that ends in `.toml` or contains a path
    /// separator is a path. The names in the experiment are looked up in the standard catalogue.
    ///
    /// # Errors
    /// When there is no such preset or file, or when [`Experiment::from_toml`] fails.
    pub fn load(name_or_path: &str) -> Result<Self, ExperimentError> {
        let (toml, origin) = Self::read(name_or_path)?;
        Self::from_toml(&toml, &origin, &Catalogue::standard())
    }

    /// The text that [`Experiment::load`] reads, and the name that errors give it.
    pub(crate) fn read(name_or_path: &str) -> Result<(String, String), ExperimentError> {
        let path = Path::new(name_or_path);
        let is_file = path.extension().is_some_and(|e| e == "toml") || path.components().count() > 1;
        if !is_file {
            return preset_text(name_or_path);
        }
        let toml = read_text(path).map_err(|source| ExperimentError::Read { path: path.to_owned(), source })?;
        Ok((toml, name_or_path.to_owned()))
    }

    /// Reads and checks an experiment; `origin` names the text in errors, `catalogue` resolves its names.
    ///
    /// # Errors
    /// When the text is not TOML, a key is unknown or missing, or a value is impossible.
    pub fn from_toml(toml: &str, origin: &str, catalogue: &Catalogue) -> Result<Self, ExperimentError> {
        Draft::from_toml(toml, origin, &[] as &[&str])?.check(catalogue)
    }

    /// A copy of the experiment with some values changed. Each setting has the form `KEY=VALUE`, where the key is a
    /// dotted path and the value is written as in TOML. A value that is not valid TOML is taken as text, so names need
    /// no quotes. If there are several problems, the key indexes them from 0: `problem.1.weight=2`. A setting that
    /// changes `model.architecture` also removes the options that the new architecture lacks. Check the result with
    /// [`Experiment::validate`]; to apply settings before an experiment is checked, see [`Draft`].
    ///
    /// # Errors
    /// When a setting is not of that form, or sets an unknown key or an impossible type.
    ///
    /// # Examples
    /// ```
    /// use numformer_experiment::Experiment;
    ///
    /// let experiment = Experiment::preset("transpose-3x3")?;
    /// let larger = experiment.with_settings(&["model.encoder.n_layers=4", "problem.name=inversion"])?;
    /// assert_eq!(larger.model.encoder.n_layers, 4);
    /// let error = larger.with_settings(&["train.stepz=3"]).unwrap_err();
    /// assert!(error.to_string().contains("did you mean `steps`?"));
    /// # Ok::<(), numformer_experiment::ExperimentError>(())
    /// ```
    pub fn with_settings(&self, settings: &[impl AsRef<str>]) -> Result<Self, ExperimentError> {
        apply(signed::table(self), settings).map(|(experiment, _)| experiment)
    }

    /// The dotted paths of the keys that a [setting](Self::with_settings) sets. If its value is a table, these are the
    /// keys in the table.
    ///
    /// # Errors
    /// When the setting is not `KEY=VALUE`.
    ///
    /// # Examples
    /// ```
    /// use numformer_experiment::Experiment;
    ///
    /// assert_eq!(Experiment::keys_of_setting("train.lr=1e-3")?, ["train.lr"]);
    /// assert_eq!(Experiment::keys_of_setting("data={test='t.tsv', noise=0.1}")?, ["data.noise", "data.test"]);
    /// # Ok::<(), numformer_experiment::ExperimentError>(())
    /// ```
    pub fn keys_of_setting(setting: &str) -> Result<Vec<String>, ExperimentError> {
        fn push(path: &str, value: &Value, keys: &mut Vec<String>) {
            match value {
                Value::Table(table) => {
                    table.iter().for_each(|(key, value)| push(&format!("{path}.{key}"), value, keys))
                }
                _ => keys.push(path.to_owned()),
            }
        }
        let (path, value) = key_and_value(setting)
            .map_err(|problem| ExperimentError::Setting { setting: setting.to_owned(), problem })?;
        let mut keys = Vec::new();
        push(path, &value, &mut keys);
        Ok(keys)
    }

    /// Reads an experiment without checking its values.
    pub(crate) fn parse(toml: &str, origin: &str) -> Result<Self, ExperimentError> {
        let syntax = |error| ExperimentError::Syntax(SyntaxError::new(toml, origin, &error));
        let experiment: Self = toml::from_str(toml).map_err(syntax)?;
        Ok(experiment.completed(&toml::from_str(toml).map_err(syntax)?))
    }

    /// Fills in the one default that depends on another value, unless `written`, the table that was read, sets it.
    pub(crate) fn completed(mut self, written: &Table) -> Self {
        if written.get("train").and_then(|train| train.get("warmup_steps")).is_none() {
            self.train.warmup_steps = TrainConfig::fitting_warmup_steps(self.train.steps);
        }
        self
    }
}

/// The text of a preset, and the name that errors give it.
fn preset_text(name: &str) -> Result<(String, String), ExperimentError> {
    let preset = presets::find(name)
        .ok_or_else(|| ExperimentError::UnknownPreset { name: name.to_owned(), known: presets::names() })?;
    Ok((preset.toml.to_owned(), format!("preset {name}")))
}

#[cfg(test)]
mod tests {
    use numformer_data::Split;

    use super::*;

    fn from_toml(toml: &str) -> Result<Experiment, ExperimentError> {
        Experiment::from_toml(toml, "my.toml", &Catalogue::standard())
    }

    const SMALL: &str = include_str!("../presets/cpu/transpose-3x3.toml");

    fn toml_with(from: &str, to: &str) -> String {
        let toml = SMALL;
        assert!(toml.contains(from), "{from} is not in the preset");
        toml.replacen(from, to, 1)
    }

    fn error_with(from: &str, to: &str) -> String {
        from_toml(&toml_with(from, to)).expect_err("a mistake").to_string()
    }

    #[test]
    fn every_preset_reads_and_carries_its_own_name() {
        for preset in presets::PRESETS {
            let experiment = Experiment::preset(preset.name).expect("embedded");
            assert_eq!(experiment.name, preset.name);
        }
    }

    #[test]
    fn toml_round_trip_keeps_the_experiment() {
        let experiment = Experiment::preset("transpose-3x3").expect("embedded");
        let again = from_toml(&experiment.to_toml()).expect("its own output");
        assert_eq!(again, experiment);
    }

    #[test]
    fn the_layout_of_inputs_is_that_of_the_task() {
        let eigenvalues = Experiment::preset("eigenvalues-2x2").expect("embedded");
        assert!(!eigenvalues.to_toml().contains("input_layout"));
        let setting = "encoding.input_layout=lower-triangle";
        let packed = eigenvalues.with_settings(&[setting]).expect("a layout");
        assert_eq!(from_toml(&packed.to_toml()).expect("its own output"), packed);
        let longest = |experiment: &Experiment| experiment.task(&Catalogue::standard()).map(|task| task.max_src_len());
        assert_eq!(longest(&eigenvalues).expect("a task"), 2 + 2 + 4);
        assert_eq!(longest(&packed).expect("a task"), 2 + 2 + 3);
        // Positions stand for other entries: a run does not go on with them.
        assert!(eigenvalues.difference(&packed).is_some());

        // Neither a law of other matrices nor a stage of them can be written so.
        for other in [
            "matrices={law=\"uniform\",rows=2,cols=3}",
            "stage=[{name=\"first\",steps=3,problem={name=\"addition\"},matrices={law=\"uniform\",rows=2}}]",
        ] {
            let experiment = packed.with_settings(&[r#"problem={name="transpose"}"#, other]).expect("settings");
            let catalogue = Catalogue::standard();
            let tasks = experiment.task(&catalogue).and_then(|task| experiment.stage_tasks(&catalogue, &task));
            let error = tasks.expect_err("not square");
            assert!(format!("{error:?}").contains("NotSquare"), "{error:?}");
        }
    }

    #[test]
    fn log_uniform_entries_have_three_orders_of_magnitude() {
        let transpose = Experiment::preset("transpose-3x3").expect("embedded");
        let settings = ["matrices.law=log-uniform", "matrices.bound=50.0"];
        let experiment = transpose.with_settings(&settings).expect("a law");
        let task = experiment.task(&Catalogue::standard()).expect("a task");
        let input = |index| task.example(0, Split::Train, index).expect("an example").input;
        let drawn: Vec<f64> = (0..100).flat_map(|index| magnitudes(&input(index))).collect();
        assert!(drawn.iter().all(|x| (0.05..=50.0).contains(x)));
        for decade in [0.05, 0.5, 5.0] {
            // A third of 900, with a standard deviation of 14.
            let count = drawn.iter().filter(|x| (decade..10.0 * decade).contains(*x)).count();
            assert!(count.abs_diff(300) < 60, "{decade}: {count}");
        }
    }

    fn magnitudes(matrix: &faer::Mat<f64>) -> Vec<f64> {
        matrix.col_iter().flat_map(|column| column.iter().map(|x| x.abs()).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn matrices_may_be_nearly_symmetric() {
        let values = Experiment::preset("singular-values-2x2").expect("embedded");
        assert!(!values.to_toml().contains("asymmetry"));
        let symmetric = values.with_settings(&["matrices.asymmetry=[0.0,0.0]"]).expect("an asymmetry");
        assert_eq!(from_toml(&symmetric.to_toml()).expect("its own output"), symmetric);
        assert!(values.difference(&symmetric).is_some());
        let example = |experiment: &Experiment| {
            let task = experiment.task(&Catalogue::standard()).expect("a task");
            task.example(0, Split::Train, 3).expect("an example").input
        };
        let [input, whole] = [&symmetric, &values].map(example);
        assert_eq!(input, input.transpose());
        assert!((&input + input.transpose() - &whole - whole.transpose()).norm_max() < 1e-14);

        for (setting, expected) in [
            ("matrices={law=\"uniform\",rows=2,asymmetry=[0.0,1.5]}", "within 0 to 1, found 0 to 1.5"),
            ("matrices={law=\"uniform\",rows=2,cols=3,asymmetry=[0.0,0.5]}", "as many rows as columns, found 2x3"),
        ] {
            let experiment = values.with_settings(&[setting]).expect("settings");
            let error = experiment.task(&Catalogue::standard()).expect_err("no such law");
            let cause = std::error::Error::source(&error).expect("the law's").to_string();
            assert!(cause.contains(expected), "{cause}");
        }
    }

    #[test]
    fn unknown_keys_give_the_line_and_the_nearest_key() {
        let error = error_with("warmup_steps = 500", "warmup_step = 500");
        let line = 1 + SMALL.lines().position(|line| line.starts_with("warmup_steps")).expect("in the preset");
        let expected = format!("my.toml, line {line}: unknown key `warmup_step`; did you mean `warmup_steps`? ");
        assert!(error.starts_with(&expected), "{error}");
        let error = error_with("n_layers = 1", "n_layer = 1");
        assert!(error.contains("; did you mean `n_layers`? "), "{error}");
    }

    #[test]
    fn unknown_names_list_what_there_is() {
        let error = error_with("\"p1000\"", "\"p100\"");
        assert!(error.contains("p100") && error.contains("p1000") && error.contains("line"), "{error}");
        let error = error_with("\"transpose\"", "\"transposed\"");
        assert!(error.contains("did you mean `transpose`?"), "{error}");
        let error = Experiment::load("transpose-3x").expect_err("no preset").to_string();
        assert!(error.starts_with("no preset `transpose-3x`; did you mean `transpose-3x3`?"), "{error}");
    }

    /// Covers the encodings that PowerShell and other Windows programs write.
    #[test]
    fn files_are_read_whatever_the_encoding_of_the_text() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("my.toml");
        let load = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            Experiment::load(path.to_str().expect("a name"))
        };
        let expected = from_toml(SMALL).expect("an experiment");
        let marked = format!("\u{feff}{SMALL}");
        assert_eq!(load(marked.as_bytes()).expect("an experiment"), expected);
        let utf16 = |bytes: fn(u16) -> [u8; 2]| marked.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        assert_eq!(load(&utf16(u16::to_le_bytes)).expect("an experiment"), expected);
        assert_eq!(load(&utf16(u16::to_be_bytes)).expect("an experiment"), expected);
        let error = load(b"name = \"l\xe4ufe\"").expect_err("latin-1");
        let source = std::error::Error::source(&error).expect("a cause").to_string();
        assert_eq!(source, "expected text in UTF-8 or UTF-16, found neither at byte 9");
    }

    #[test]
    fn impossible_values_are_named() {
        for (from, to) in [("rows = 3", "rows = 0"), ("bound = 10.0", "bound = -1.0")] {
            let error = from_toml(&toml_with(from, to)).expect_err("impossible");
            assert!(matches!(error, ExperimentError::Law(_)), "{error}");
        }
        assert!(error_with("steps = 1500", "steps = 0").ends_with(": train.steps must be at least 1, found 0"));
        assert!(error_with("lr = 2e-3", "lr = nan").ends_with(": train.lr must be positive and finite, found NaN"));
        assert_eq!(error_with("n_heads = 4", "n_heads = 5"), "impossible model");
        assert!(error_with("\"transpose-3x3\"", "\"../x\"").contains("found `../x`"));
        assert!(error_with("batch_size = 16", "batch_size = 1000000000").contains("at most 65536"));
        let of_data = |data: &str| error_with("[model.encoder]", &format!("[data]\n{data}\n[model.encoder]"));
        let error = of_data("repeated = { examples = 0 }");
        assert!(error.ends_with("data.repeated.examples must be at least 1, found 0"), "{error}");
        for found in ["0.0", "1.5", "nan"] {
            let error = of_data(&format!("repeated = {{ examples = 5, probability = {found} }}"));
            assert!(error.contains("data.repeated.probability must be above 0 and at most 1"), "{error}");
        }
        let error = of_data("train = \"train.tsv\"\nrepeated = { examples = 5 }");
        assert!(error.ends_with("come from a file: leave out one of them"), "{error}");
        let error = error_with("[model.encoder]", "[train.optimizer]\nname = \"muon\"\nbeta1 = 1.0\n[model.encoder]");
        assert!(error.contains("train.optimizer.beta1 must be from 0, below 1"), "{error}");
        let error = error_with("[model.encoder]", "[model]\nmax_positions = 30\n[model.encoder]");
        let expected = ": model.max_positions must be at least 31, the longest sequence of the task, found 30";
        assert!(error.ends_with(expected), "{error}");
    }

    #[test]
    fn a_warm_up_that_is_not_given_fits_the_steps() {
        let of = |steps: &str, given: &str| {
            let toml = SMALL.replace("warmup_steps = 500", given);
            let line = toml.lines().find(|line| line.starts_with("steps")).expect("in the preset").to_owned();
            Experiment::parse(&toml.replace(&line, &format!("steps = {steps}")), "x").expect("an experiment").train
        };
        assert_eq!(of("1500", "").warmup_steps, 150);
        assert_eq!(of("3000000", "").warmup_steps, 10_000);
        assert_eq!(of("5", "").warmup_steps, 0);
        assert_eq!(of("5", "warmup_steps = 10000").warmup_steps, 10_000);
        assert!(of("5", "warmup_steps = 6").ends_in_warmup() && !of("5", "warmup_steps = 5").ends_in_warmup());
        // The warm-up is written out, so a run that is extended keeps its original warm-up.
        let mut experiment = Experiment::parse(&SMALL.replace("warmup_steps = 500", ""), "x").expect("an experiment");
        let warmup = experiment.train.warmup_steps;
        experiment.train.steps *= 10;
        assert_eq!(Experiment::parse(&experiment.to_toml(), "x").expect("an experiment").train.warmup_steps, warmup);
    }

    #[test]
    fn difference_names_the_key_but_not_the_steps() {
        let a = Experiment::preset("transpose-3x3").expect("embedded");
        let mut b = a.clone();
        b.train.steps = 1;
        assert_eq!(a.difference(&b), None);
        b.model.encoder.d_ff = Some(7);
        let found = a.difference(&b).expect("d_ff");
        assert_eq!(found.to_string(), "model.encoder.d_ff is absent there and 7 here");
    }
}
