//! The tasks of an experiment: what its model reads and writes.

use numformer_data::{Task, TaskBuilder};
use numformer_problems::{Law, NearSymmetric, RandomScale};

use crate::catalogue::{Catalogue, LawParameters};
use crate::config::architecture::Architecture;
use crate::config::experiment_error::ExperimentError;
use crate::config::one_or_many::OneOrMany;
use crate::config::options::Options;
use crate::config::{EncodingConfig, MatricesConfig, ProblemConfig, StageConfig, TestSetConfig};
use crate::experiment::Experiment;

impl Experiment {
    /// The task: what the model reads and writes.
    ///
    /// # Errors
    /// When a name is not in the catalogue, the matrices are impossible, or a problem cannot be posed on them.
    pub fn task(&self, catalogue: &Catalogue) -> Result<Task, ExperimentError> {
        let mut builder = self.task_builder(catalogue)?;
        for stage in &self.stage {
            let other = self.of_stage(stage).task_builder(catalogue).map_err(|error| stage.error(error))?;
            builder = builder.with_room_for(&other).map_err(|source| stage.error(source.into()))?;
        }
        Ok(builder.build()?)
    }

    /// The tasks of the stages, written as the experiment's own `task`.
    ///
    /// # Errors
    /// When [`Experiment::task`] fails.
    pub(crate) fn stage_tasks(&self, catalogue: &Catalogue, task: &Task) -> Result<Vec<Task>, ExperimentError> {
        let tasks = self.stage.iter().map(|stage| {
            let builder = self.of_stage(stage).task_builder(catalogue)?.written_as(task);
            builder.build().map_err(|source| stage.error(source.into()))
        });
        tasks.collect()
    }

    /// The experiment with the examples of a test set.
    pub(crate) fn of_test_set(&self, set: &TestSetConfig) -> Self {
        let mut experiment = self.clone();
        experiment.stage.clear();
        // A set makes its own examples.
        experiment.data.test = None;
        experiment.problem = set.problem.clone().unwrap_or(experiment.problem);
        experiment.matrices = set.matrices.clone().unwrap_or(experiment.matrices);
        experiment.data.noise = set.noise.unwrap_or(experiment.data.noise);
        experiment.evaluate.seed = set.seed.unwrap_or(experiment.evaluate.seed);
        experiment
    }

    /// The experiment with a stage's problems and matrices.
    fn of_stage(&self, stage: &StageConfig) -> Self {
        let mut experiment = self.clone();
        experiment.problem = stage.problem.clone().unwrap_or(experiment.problem);
        experiment.matrices = stage.matrices.clone().unwrap_or(experiment.matrices);
        // All stages share one vocabulary, so either all have letters or none has.
        let of_several = |problem: &OneOrMany<ProblemConfig>| problem.0.len() > 1;
        let letters = self.encoding.task_letters.unwrap_or(of_several(&self.problem));
        experiment.encoding.task_letters = Some(letters);
        experiment
    }

    /// The task, written with the vocabulary of `trained`. It serves to judge a model of `trained` on this experiment.
    ///
    /// # Errors
    /// When [`Experiment::task`] fails, or the vocabulary lacks the symbol of a problem or a dimension.
    pub fn task_written_as(&self, catalogue: &Catalogue, trained: &Task) -> Result<Task, ExperimentError> {
        let task = self.task_builder(catalogue)?.written_as(trained).build()?;
        task.try_every_law(self.evaluate.seed)?;
        Ok(task)
    }

    fn task_builder(&self, catalogue: &Catalogue) -> Result<TaskBuilder, ExperimentError> {
        let EncodingConfig { input, output, input_layout, vocabulary, task_letters } = &self.encoding;
        let input = catalogue.encoding("encoding.input", input)?;
        let output = catalogue.encoding("encoding.output", output)?;
        let mut builder = Task::builder(input, output).with_vocabulary(*vocabulary).with_input_layout(*input_layout);
        for config in &self.problem.0 {
            let problem = catalogue.problem(config)?;
            let matrices = config.matrices.as_ref().unwrap_or(&self.matrices);
            let MatricesConfig { bound, entries, asymmetry, random_scale, .. } = *matrices;
            let options = Options::new(matrices.options.clone());
            if self.data.noise > 0.0 && bound.total_cmp(&self.matrices.bound).is_ne() {
                return Err(ExperimentError::NoiseOfTwoBounds { bounds: [self.matrices.bound, bound] });
            }
            let mut laws: Vec<(String, Box<dyn Law>)> = Vec::new();
            for shape in matrices.shapes() {
                let (rows, cols) = problem.input_shape(shape);
                for name in &matrices.law.0 {
                    let law = catalogue.law(name, &LawParameters { rows, cols, bound, entries, options: &options })?;
                    let law = match asymmetry {
                        None => law,
                        Some([least, most]) => Box::new(NearSymmetric::new(law, least..=most)?),
                    };
                    laws.push((
                        name.clone(),
                        match random_scale {
                            None => law,
                            Some([min, max]) => Box::new(RandomScale::new(law, min..=max)?),
                        },
                    ));
                }
            }
            options.check_read().map_err(|source| {
                let name = matrices.law.0.join(", ");
                ExperimentError::NotMade { key: "matrices.law", name, source }
            })?;
            builder = builder.with_named_laws(problem, config.weight, laws);
        }
        if task_letters.unwrap_or(self.problem.0.len() > 1) {
            builder = builder.with_task_letters();
        }
        if let Some(repeated) = self.data.repeated {
            builder = builder.with_repeated(repeated);
        }
        // The standard deviation of a uniform variable in [-A, A] is A / √3.
        Ok(builder.with_noise(self.data.noise * self.matrices.bound / 3.0_f64.sqrt()))
    }

    /// The model for `task`.
    ///
    /// # Errors
    /// When the architecture is unknown, the sizes are impossible, the architecture does not have an option that is
    /// set, or the table of positions is shorter than the task's sequences.
    pub fn model_config(
        &self,
        task: &Task,
        catalogue: &Catalogue,
    ) -> Result<numformer_model::ModelConfig, ExperimentError> {
        let mut lengths = [task.max_src_len(), task.max_tgt_len()];
        if let Architecture::Custom(_) = self.model.architecture {
            // Its model also reads and writes the sequences of stages and test sets.
            let sets = self.evaluate.set.iter().map(|set| {
                let of_set = self.of_test_set(set).task_written_as(catalogue, task);
                of_set.map_err(|error| set.error(error))
            });
            for other in self.stage_tasks(catalogue, task)?.into_iter().map(Ok).chain(sets) {
                let other = other?;
                lengths = [lengths[0].max(other.max_src_len()), lengths[1].max(other.max_tgt_len())];
            }
        }
        self.model.of(task.vocabulary(), lengths, catalogue)
    }
}

impl TestSetConfig {
    /// An error that names the set.
    pub(crate) fn error(&self, source: ExperimentError) -> ExperimentError {
        ExperimentError::TestSet { set: self.name.clone(), source: Box::new(source) }
    }
}

impl StageConfig {
    /// An error that names the stage.
    pub(crate) fn error(&self, source: ExperimentError) -> ExperimentError {
        ExperimentError::Stage { stage: self.name.clone(), source: Box::new(source) }
    }
}
