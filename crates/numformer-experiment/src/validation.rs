//! Validation of experiments.

use std::sync::Arc;

use numformer_data::Repeated;
use numformer_evaluate::FigureName;
use numformer_problems::MAX_DIMENSION;
use numformer_train::{AdamConfig, AfterWarmUp, DivergencePolicy, OptimizerConfig, SgdConfig};

use crate::catalogue::Catalogue;
use crate::config::choice::Choice;
use crate::config::experiment_error::ExperimentError;
use crate::config::one_or_many::Span;
use crate::config::{MatricesConfig, TEST};
use crate::experiment::Experiment;
use crate::signed;

/// Maximum number of examples in a window of buckets. Their lengths are inspected for every batch.
const MAX_WINDOW_EXAMPLES: u64 = 1 << 18;

impl Experiment {
    /// Checks every value, and that an example can be made. If this succeeds, [`Experiment::task`] and
    /// [`Experiment::model_config`] cannot fail.
    ///
    /// # Errors
    /// When a value is impossible. The error names the first such value.
    pub fn validate(&self, catalogue: &Catalogue) -> Result<(), ExperimentError> {
        let at_least_one = [
            ("train.batch_size", self.train.batch_size as u64),
            ("train.steps", self.train.steps),
            ("train.accumulate", u64::from(self.train.accumulate)),
            ("evaluate.every", self.evaluate.every),
            ("evaluate.examples", self.evaluate.examples),
            ("checkpoint.every", self.checkpoint.every),
            ("checkpoint.keep", self.checkpoint.keep as u64),
            ("log.every", self.log.every),
            ("data.bucket_window", u64::from(self.data.bucket_window)),
        ];
        for (key, found) in at_least_one {
            if found == 0 {
                return Err(ExperimentError::Zero { key });
            }
        }
        // A batch beyond its limit would not fit in memory.
        let at_most =
            [("train.steps", self.train.steps, 1 << 40), ("train.batch_size", self.train.batch_size as u64, 1 << 16)];
        for (key, found, limit) in at_most {
            if found > limit {
                return Err(ExperimentError::TooLarge { key: key.to_owned(), limit, found });
            }
        }
        if let Some((key, found)) = signed::larger_than_toml(self) {
            return Err(ExperimentError::TooLarge { key, limit: signed::LARGEST, found });
        }
        if let Some(Repeated { examples, probability }) = self.data.repeated {
            if examples == 0 {
                return Err(ExperimentError::Zero { key: "data.repeated.examples" });
            }
            if !(probability > 0.0 && probability <= 1.0) {
                let key = "data.repeated.probability";
                return Err(ExperimentError::OutOfRange { key, expected: "above 0 and at most 1", found: probability });
            }
            if self.data.train.is_some() {
                return Err(ExperimentError::RepeatedFile);
            }
        }
        // Lengths are inspected one window at a time.
        let (window, limit) = (u64::from(self.data.bucket_window), MAX_WINDOW_EXAMPLES / self.train.batch_size as u64);
        if window > limit.max(1) {
            return Err(ExperimentError::TooLarge { key: "data.bucket_window".to_owned(), limit, found: window });
        }
        let problems =
            self.problem.0.iter().chain(self.stage.iter().filter_map(|s| s.problem.as_ref()).flat_map(|p| &p.0));
        let matrices = problems.filter_map(|problem| problem.matrices.as_ref()).chain([&self.matrices]);
        for MatricesConfig { rows, cols, .. } in matrices {
            for (key, span) in [("matrices.rows", Some(*rows)), ("matrices.cols", *cols)] {
                if let Some(Span { max, .. }) = span
                    && max > MAX_DIMENSION
                {
                    let (limit, found) = (MAX_DIMENSION as u64, max as u64);
                    return Err(ExperimentError::TooLarge { key: key.to_owned(), limit, found });
                }
            }
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(is_plain) {
            return Err(ExperimentError::Name { found: self.name.clone() });
        }
        for (key, found) in [("train.lr", self.train.lr), ("train.clip_norm", self.train.clip_norm)] {
            if !(found.is_finite() && found > 0.0) {
                return Err(ExperimentError::NotPositive { key, found });
            }
        }
        for (key, found) in [("train.weight_decay", self.train.weight_decay), ("data.noise", self.data.noise)] {
            if !(found.is_finite() && found >= 0.0) {
                return Err(ExperimentError::Negative { key, found });
            }
        }
        if let Choice::BuiltIn(AfterWarmUp::Cosine { period, multiplier, shrink, min_lr }) = self.train.schedule {
            if period == 0 {
                return Err(ExperimentError::Zero { key: "train.schedule.period" });
            }
            if !(multiplier.is_finite() && multiplier >= 1.0) {
                let key = "train.schedule.multiplier";
                return Err(ExperimentError::OutOfRange { key, expected: "1 or more", found: multiplier });
            }
            if !(shrink > 0.0 && shrink <= 1.0) {
                let key = "train.schedule.shrink";
                return Err(ExperimentError::OutOfRange { key, expected: "above 0 and at most 1", found: shrink });
            }
            if !(0.0..=self.train.lr).contains(&min_lr) {
                let key = "train.schedule.min_lr";
                return Err(ExperimentError::OutOfRange { key, expected: "from 0 to train.lr", found: min_lr });
            }
        }
        catalogue.check_names()?;
        self.validate_optimizer()?;
        self.validate_ends()?;
        self.validate_test_sets()?;
        catalogue.optimizer(&self.train.optimizer)?;
        catalogue.schedule(&self.train.schedule, &self.train.schedule_parameters())?;
        let task = self.task(catalogue)?;
        self.validate_figures()?;
        let task = Arc::new(task);
        catalogue.metrics(&self.evaluate.metric, &task)?;
        // A law that never suits its problem shows at once.
        task.try_every_law(self.seed)?;
        let limit = self.model_config(&task, catalogue)?.max_positions();
        for (stage, task) in self.stage.iter().zip(self.stage_tasks(catalogue, &task)?) {
            task.try_every_law(self.seed).map_err(|source| stage.error(source.into()))?;
            if let Some(found) = limit.filter(|limit| task.max_len() > *limit) {
                return Err(stage.error(ExperimentError::TooFewPositions { found, needed: task.max_len() }));
            }
        }
        for set in &self.evaluate.set {
            let of_set = self.of_test_set(set).task_written_as(catalogue, &task).map_err(|error| set.error(error))?;
            if let Some(found) = limit.filter(|limit| of_set.max_len() > *limit) {
                return Err(set.error(ExperimentError::TooFewPositions { found, needed: of_set.max_len() }));
            }
        }
        Ok(())
    }

    /// Checks that every named figure is part of the evaluations.
    fn validate_figures(&self) -> Result<(), ExperimentError> {
        let of_stage =
            self.stage.iter().filter_map(|stage| stage.until.as_ref()).map(|goal| ("stage.until", &goal.metric));
        let target = self.stop.target.iter().map(|goal| ("stop.target.metric", &goal.metric));
        let patience = self.stop.patience.iter().map(|patience| ("stop.patience.metric", &patience.metric));
        let best = self.checkpoint.best.iter().map(|figure| ("checkpoint.best", figure));
        let expected = self.expected.iter().map(|expected| ("expected.metric", &expected.metric));
        for (key, figure) in target.chain(patience).chain(best).chain(of_stage).chain(expected) {
            let FigureName::Custom(found) = figure else { continue };
            if self.evaluate.metric.iter().all(|metric| metric.name != *found) {
                let standard = FigureName::standard().map(|figure| figure.to_string());
                let known = standard.chain(self.evaluate.metric.iter().map(|metric| metric.name.clone())).collect();
                return Err(ExperimentError::UnknownFigure { key, found: found.clone(), known });
            }
        }
        Ok(())
    }

    fn validate_test_sets(&self) -> Result<(), ExperimentError> {
        for (index, set) in self.evaluate.set.iter().enumerate() {
            if set.name == TEST || self.evaluate.set[..index].iter().any(|earlier| earlier.name == set.name) {
                return Err(ExperimentError::SameTestSetName { set: set.name.clone() });
            }
            if let Some(found) = set.noise.filter(|noise| !(noise.is_finite() && *noise >= 0.0)) {
                return Err(ExperimentError::Negative { key: "evaluate.set.noise", found });
            }
        }
        Ok(())
    }

    fn validate_optimizer(&self) -> Result<(), ExperimentError> {
        let share = |key, found: f64| match found {
            0.0..1.0 => Ok(()),
            _ => Err(ExperimentError::OutOfRange { key, expected: "from 0, below 1", found }),
        };
        let adam = |AdamConfig { beta1, beta2, epsilon }| {
            share("train.optimizer.beta1", beta1)?;
            share("train.optimizer.beta2", beta2)?;
            if epsilon.is_finite() && epsilon > 0.0 {
                Ok(())
            } else {
                Err(ExperimentError::NotPositive { key: "train.optimizer.epsilon", found: epsilon })
            }
        };
        share("train.label_smoothing", self.train.label_smoothing)?;
        match self.train.optimizer {
            Choice::BuiltIn(OptimizerConfig::Adam(config)) => adam(config)?,
            Choice::BuiltIn(OptimizerConfig::Muon(config)) => {
                share("train.optimizer.momentum", config.momentum)?;
                adam(config.adam())?;
            }
            Choice::BuiltIn(OptimizerConfig::Sgd(SgdConfig { momentum, .. })) => {
                share("train.optimizer.momentum", momentum)?;
            }
            Choice::Custom(_) => {}
        }
        if let DivergencePolicy::RollBack { lr_factor, .. } = self.train.divergence
            && !(lr_factor > 0.0 && lr_factor < 1.0)
        {
            let key = "train.divergence.lr_factor";
            return Err(ExperimentError::OutOfRange { key, expected: "above 0, below 1", found: lr_factor });
        }
        Ok(())
    }

    fn validate_ends(&self) -> Result<(), ExperimentError> {
        if let Some(patience) = &self.stop.patience {
            if patience.evaluations == 0 {
                return Err(ExperimentError::Zero { key: "stop.patience.evaluations" });
            }
            if !(patience.min_delta.is_finite() && patience.min_delta >= 0.0) {
                return Err(ExperimentError::Negative { key: "stop.patience.min_delta", found: patience.min_delta });
            }
        }
        if !self.stage.is_empty() && self.data.train.is_some() {
            return Err(ExperimentError::StagesOfAFile);
        }
        let steps = self.stage.iter().filter_map(|stage| stage.steps).fold(0, u64::saturating_add);
        if !self.stage.is_empty() && steps >= self.train.steps {
            return Err(ExperimentError::StagesTooLong { found: steps, limit: self.train.steps });
        }
        for (index, stage) in self.stage.iter().enumerate() {
            if stage.steps == Some(0) {
                return Err(ExperimentError::Zero { key: "stage.steps" });
            }
            if stage.steps.is_none() && stage.until.is_none() {
                return Err(ExperimentError::EndlessStage { stage: stage.name.clone() });
            }
            if self.stage[..index].iter().any(|earlier| earlier.name == stage.name) || stage.name == self.name {
                return Err(ExperimentError::SameStageName { stage: stage.name.clone() });
            }
        }
        Ok(())
    }
}
