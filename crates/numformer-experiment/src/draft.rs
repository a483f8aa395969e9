//! Experiments that have been read but not yet checked as a whole.

use toml::{Table, Value};

use crate::catalogue::Catalogue;
use crate::config::TrainConfig;
use crate::config::architecture::Architecture;
use crate::config::architecture_config::{Adaptation, adapt};
use crate::config::experiment_error::ExperimentError;
use crate::config::syntax::{SyntaxError, line_of, message_and_hint};
use crate::experiment::Experiment;
use crate::experiment_difference::is_part;

/// An experiment that was read, with settings applied, but not yet checked. Its values may still be inconsistent with
/// each other.
///
/// # Examples
/// ```
/// use numformer_experiment::{Catalogue, Draft};
///
/// let mut draft = Draft::load("transpose-3x3", &["model.architecture=lstm"])?;
/// draft.experiment.train.steps = 100;
/// // LSTMs have no heads.
/// assert_eq!(draft.adaptations[0].key, "model.encoder.n_heads");
/// let experiment = draft.check(&Catalogue::standard())?;
/// assert_eq!(experiment.model.encoder.n_heads, None);
/// # Ok::<(), numformer_experiment::ExperimentError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Draft {
    /// The experiment. Its values may be changed.
    pub experiment: Experiment,
    /// Further values that were changed so that the experiment fits another architecture.
    pub adaptations: Vec<Adaptation>,
    toml: String,
    origin: String,
}

impl Draft {
    /// Reads what [`Experiment::load`] reads, and sets some values as [`Experiment::with_settings`] does.
    ///
    /// # Errors
    /// When there is no such preset or file, or when [`Draft::from_toml`] fails.
    pub fn load(name_or_path: &str, settings: &[impl AsRef<str>]) -> Result<Self, ExperimentError> {
        let (toml, origin) = Experiment::read(name_or_path)?;
        Self::from_toml(&toml, &origin, settings)
    }

    /// Reads an experiment; `origin` names the text in errors. Each setting replaces a value of the text or adds one.
    ///
    /// # Errors
    /// When the text is not TOML, a setting is malformed, or a key is unknown or missing once all settings are applied.
    pub fn from_toml(toml: &str, origin: &str, settings: &[impl AsRef<str>]) -> Result<Self, ExperimentError> {
        let syntax = |error| ExperimentError::Syntax(SyntaxError::new(toml, origin, &error));
        let (experiment, adaptations) = if settings.is_empty() {
            (Experiment::parse(toml, origin)?, Vec::new())
        } else {
            apply(toml::from_str(toml).map_err(syntax)?, settings).map_err(|error| {
                // For a mistake in the text, the error gives its line.
                match (toml::from_str::<Experiment>(toml), &error) {
                    (Err(own), ExperimentError::Settings { message, .. }) if *message == message_and_hint(&own).0 => {
                        syntax(own)
                    }
                    _ => error,
                }
            })?
        };
        Ok(Self { experiment, adaptations, toml: toml.to_owned(), origin: origin.to_owned() })
    }

    /// Checks the experiment and returns it if every value is possible.
    ///
    /// # Errors
    /// When [`Experiment::validate`] fails. If the mistake is in the text itself, the error gives its line.
    pub fn check(self, catalogue: &Catalogue) -> Result<Experiment, ExperimentError> {
        match self.experiment.validate(catalogue) {
            Ok(()) => Ok(self.experiment),
            Err(error) => Err(match self.line(&error) {
                None => error,
                Some(line) => ExperimentError::Syntax(SyntaxError {
                    origin: self.origin,
                    line,
                    message: error.to_string(),
                    hint: String::new(),
                }),
            }),
        }
    }

    /// The line of a mistake in the text.
    fn line(&self, error: &ExperimentError) -> Option<usize> {
        let (key, value) = error.key()?;
        let written = Experiment::parse(&self.toml, &self.origin).ok()?;
        // Values from settings are not in the text.
        let is_set = |other: &str| is_part(key, other) || is_part(other, key);
        let differences = written.differences(&self.experiment);
        if differences.iter().any(|difference| is_set(&difference.key)) {
            return None;
        }
        line_of(&self.toml, key, value)
    }
}

/// Applies settings to a table. Returns the experiment and the further values that were adapted.
pub(crate) fn apply(
    mut table: Table,
    settings: &[impl AsRef<str>],
) -> Result<(Experiment, Vec<Adaptation>), ExperimentError> {
    // The warm-up fits the steps in the text, so a run that a setting extends is the same up to there.
    fit_warmup(&mut table);
    let former = architecture(&table);
    for setting in settings.iter().map(AsRef::as_ref) {
        set(&mut table, setting)
            .map_err(|problem| ExperimentError::Setting { setting: setting.to_owned(), problem })?;
    }
    let mut adaptations = Vec::new();
    if let Some(architecture) = architecture(&table)
        && Some(&architecture) != former.as_ref()
        && let Some(Value::Table(model)) = table.get_mut("model")
    {
        let keys = settings.iter().filter_map(|setting| setting.as_ref().split_once('='));
        let keys: Vec<&str> = keys.map(|(key, _)| key.trim()).collect();
        adaptations = adapt(model, &architecture, |key| keys.iter().any(|set| is_part(key, set)));
    }
    let experiment: Experiment = table.clone().try_into().map_err(|error| {
        let (message, hint) = message_and_hint(&error);
        let settings = settings.iter().map(|setting| format!("`{}`", setting.as_ref())).collect::<Vec<_>>();
        ExperimentError::Settings { message, hint, settings: settings.join(", ") }
    })?;
    Ok((experiment.completed(&table), adaptations))
}

/// Fills in the warm-up that fits the steps of a table, if the table sets the steps but no warm-up.
fn fit_warmup(table: &mut Table) {
    if let Some(Value::Table(train)) = table.get_mut("train")
        && let Some(steps) = train.get("steps").and_then(Value::as_integer).and_then(|steps| steps.try_into().ok())
        && let Ok(fitting) = TrainConfig::fitting_warmup_steps(steps).try_into()
    {
        train.entry("warmup_steps").or_insert(Value::Integer(fitting));
    }
}

/// The architecture that a table asks for, if its name is known.
fn architecture(table: &Table) -> Option<Architecture> {
    match table.get("model").and_then(|model| model.get("architecture")) {
        None => Some(Architecture::default()),
        Some(name) => name.clone().try_into().ok(),
    }
}

/// Splits a setting into key and value. The error says what is wrong with the setting.
pub(crate) fn key_and_value(setting: &str) -> Result<(&str, Value), String> {
    let (path, text) = setting.split_once('=').ok_or("expected KEY=VALUE, as in train.lr=1e-3")?;
    let (path, text) = (path.trim(), text.trim());
    let value = match toml::from_str::<Table>(&format!("value = {text}")) {
        Ok(mut parsed) if parsed.len() == 1 => parsed.remove("value").unwrap_or_else(|| Value::from(text)),
        // Without this check it would be read as text.
        _ if text.parse::<i128>().is_ok() => return Err(format!("expected an integer of at most {}", i64::MAX)),
        _ => Value::from(text),
    };
    Ok((path, value))
}

/// Sets one value of a table. The error says what is wrong with the setting.
fn set(table: &mut Table, setting: &str) -> Result<(), String> {
    let (path, value) = key_and_value(setting)?;
    let mut keys = path.split('.').peekable();
    let first = keys.next().filter(|key| !key.is_empty()).ok_or("expected a key before `=`")?;
    let mut at = match keys.peek() {
        Some(_) => table.entry(first).or_insert_with(|| Table::new().into()),
        None => {
            table.insert(first.to_owned(), value);
            return Ok(());
        }
    };
    let mut last = first;
    for key in keys {
        at = below(at, last, key)?;
        last = key;
    }
    *at = value;
    Ok(())
}

/// The value under a key of `at`, which is itself the value under `last`.
fn below<'v>(at: &'v mut Value, last: &str, key: &str) -> Result<&'v mut Value, String> {
    match at {
        Value::Table(table) => Ok(table.entry(key).or_insert_with(|| Table::new().into())),
        Value::Array(elements) => match (key.parse::<usize>(), &mut elements[..]) {
            // A list of one element counts as that element, as when an experiment is read.
            (Err(_), [only]) => below(only, last, key),
            (index, elements) => {
                let count = elements.len();
                let element = index.ok().and_then(|index| elements.get_mut(index));
                element.ok_or_else(|| format!("expected a number below {count} after `{last}`, found `{key}`"))
            }
        },
        _ => Err(format!("expected a table, but `{last}` is a value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presets;

    const SMALL: &str = include_str!("../presets/cpu/transpose-3x3.toml");

    fn read(toml: &str, settings: &[&str]) -> Result<Experiment, ExperimentError> {
        Draft::from_toml(toml, "my.toml", settings)?.check(&Catalogue::standard())
    }

    fn adapted(name: &str, settings: &[&str]) -> (Experiment, Vec<String>) {
        let draft = Draft::load(name, settings).expect(name);
        let notes = draft.adaptations.iter().map(ToString::to_string).collect();
        (draft.check(&Catalogue::standard()).expect(name), notes)
    }

    #[test]
    fn every_preset_takes_every_architecture() {
        for preset in presets::PRESETS {
            for architecture in ["transformer", "universal", "lstm", "gru"] {
                let (experiment, _) = adapted(preset.name, &[&format!("model.architecture={architecture}")]);
                assert_eq!(experiment.model.architecture.to_string(), architecture);
            }
        }
    }

    #[test]
    fn what_another_architecture_lacks_is_left_out_and_told() {
        let (experiment, notes) = adapted("transpose-3x3", &["model.architecture=lstm"]);
        let expected = ["encoder", "decoder"].map(|half| {
            format!("model.{half}.n_heads = 4 is left out: it is not an option of the architecture `lstm`")
        });
        assert_eq!(notes, expected);
        assert_eq!((experiment.model.encoder.n_heads, experiment.model.decoder.n_heads), (None, None));

        let settings = ["model.architecture=gru", "model.encoder.n_layers=3", "model.decoder.d_model=64"];
        let (experiment, notes) = adapted("transpose-3x3", &settings);
        assert_eq!(experiment.model.decoder.n_layers, 3);
        let expected = "model.decoder.n_layers is 3 instead of 1: both halves are alike in the architecture `gru`";
        assert_eq!(notes.last().map(String::as_str), Some(expected));

        // The same for an experiment that was not read from text.
        let preset = Experiment::preset("transpose-3x3").expect("embedded");
        let lstm = preset.with_settings(&["model.architecture=lstm"]).expect("settings");
        assert_eq!(lstm.validate(&Catalogue::standard()).map_err(|error| error.to_string()), Ok(()));
        // And back: transformers have heads by default.
        let again = lstm.with_settings(&["model.architecture=transformer"]).expect("settings");
        assert_eq!(again.validate(&Catalogue::standard()).map_err(|error| error.to_string()), Ok(()));
    }

    #[test]
    fn what_is_set_itself_is_not_left_out() {
        let refused = |settings: &[&str]| read(SMALL, settings).expect_err("a contradiction").to_string();
        let found = refused(&["model.architecture=lstm", "model.decoder.n_heads=2"]);
        assert_eq!(found, "model.decoder.n_heads is not an option of the architecture `lstm`");
        let found = refused(&["model.architecture=lstm", "model.decoder={d_model=32,n_layers=1}"]);
        assert!(found.starts_with("model.decoder.d_model must be the encoder's"), "{found}");
        // The architecture does not change, so the text is taken literally.
        let recurrent = SMALL.replacen("[model.encoder]", "[model]\narchitecture = \"lstm\"\n[model.encoder]", 1);
        let found = read(&recurrent, &["train.steps=5"]).expect_err("heads").to_string();
        assert!(found.starts_with("my.toml, line ") && found.contains("n_heads"), "{found}");
        assert!(read(&recurrent, &["model.architecture=transformer"]).is_ok());
        let found = refused(&["model.architecture=rnn"]);
        assert_eq!(found, "unknown name `rnn` in model.architecture; known: transformer, universal, lstm, gru");
    }

    #[test]
    fn a_setting_that_makes_a_run_longer_leaves_its_warm_up() {
        let toml = SMALL.replacen("warmup_steps = 500\n", "", 1);
        let warmup = |settings: &[&str]| read(&toml, settings).expect("an experiment").train.warmup_steps;
        assert_eq!(warmup(&[]), 150);
        assert_eq!(warmup(&["train.steps=15000"]), 150);
        assert_eq!(warmup(&["train.steps=15000", "train.warmup_steps=7"]), 7);
        // Replaces the whole table.
        assert_eq!(warmup(&["train={steps=200,lr=1e-3}"]), 20);
    }

    /// Covers a text that is no experiment without its settings, and texts whose mistakes are fixed by settings.
    #[test]
    fn settings_come_before_the_check() {
        let without = |part: &str| {
            assert!(SMALL.contains(part), "{part}");
            SMALL.replacen(part, "", 1)
        };
        assert!(read(&without("lr = 2e-3"), &["train.lr=1e-3"]).is_ok());
        assert!(read(&SMALL.replacen("rows = 3", "rows = 0", 1), &["matrices.rows=2"]).is_ok());
        assert!(read(&SMALL.replacen("steps = 1500", "stepz = 1500", 1), &["train={steps=5,lr=1e-3}"]).is_ok());
    }

    #[test]
    fn a_mistake_in_the_text_has_its_line_and_one_in_a_setting_has_none() {
        let error = |toml: &str, settings: &[&str]| read(toml, settings).expect_err("a mistake").to_string();
        let zero = SMALL.replacen("steps = 1500", "steps = 0", 1);
        for settings in [&[][..], &["seed=1"]] {
            let found = error(&zero, settings);
            assert!(found.starts_with("my.toml, line ") && found.ends_with("at least 1, found 0"), "{found}");
        }
        assert_eq!(error(SMALL, &["train.steps=0"]), "train.steps must be at least 1, found 0");
        assert_eq!(error(&zero, &["train={steps=0,lr=1}"]).lines().count(), 1);
        let unknown = SMALL.replacen("steps = 1500", "stepz = 1500", 1);
        let found = error(&unknown, &["seed=1"]);
        assert!(
            found.starts_with("my.toml, line ") && found.contains("did you mean `steps`? expected one of"),
            "{found}"
        );
        let found = error(SMALL, &["train.stepz=5"]);
        let expected = "`train.stepz=5`: unknown key `stepz`; did you mean `steps`? expected one of";
        assert!(found.starts_with(expected), "{found}");
    }

    #[test]
    fn a_list_of_one_problem_is_set_without_its_number() {
        let listed = SMALL.replacen("[problem]", "[[problem]]", 1);
        for setting in ["problem.name=inversion", "problem.0.name=inversion"] {
            let experiment = read(&listed, &[setting]).expect(setting);
            assert_eq!(experiment.problem.0[0].name, "inversion");
        }
    }
}
