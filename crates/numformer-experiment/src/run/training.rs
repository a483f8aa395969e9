//! The trainer of an experiment's model.

use std::sync::Arc;

use numformer_data::{BatchSource, Order, Split, Task};
use numformer_evaluate::Evaluator;
use numformer_fused::Precision;
use numformer_model::{Model, ModelConfig, Parameters};
use numformer_train::{HostLearner, Learner, Stage, Trainer, every, training_step};

use crate::catalogue::Catalogue;
use crate::config::TrainConfig;
use crate::data_files::DataFiles;
use crate::experiment::Experiment;
use crate::run::run_error::RunError;

/// Number of examples made together. Figures do not depend on it.
pub(crate) const EVALUATION_BATCH: usize = 256;

/// The learner on the CPU, with fresh weights.
pub(crate) fn learner(
    train: &TrainConfig,
    catalogue: &Catalogue,
    config: &ModelConfig,
    parameters: &Parameters,
) -> Result<HostLearner, RunError> {
    let (step, how) = training_step(config, parameters, train.gradients, train.precision, train.label_smoothing)?;
    let optimizer = catalogue.optimizer(&train.optimizer)?;
    Ok(HostLearner::new(step, optimizer, parameters)?.described_as(&how))
}

/// The model for evaluations, whose answers are generated in the precision of training.
pub(crate) fn in_precision(model: Model, precision: Precision) -> Model {
    match precision {
        Precision::F32 => model,
        Precision::Bf16 => model.in_bf16(),
    }
}

/// A trainer with all training settings of an experiment.
pub(crate) fn trainer(
    experiment: &Experiment,
    catalogue: &Catalogue,
    learner: impl Learner + 'static,
    task: &Arc<Task>,
    files: &DataFiles,
    model: &Model,
    parameters: &Parameters,
) -> Result<Trainer, RunError> {
    let Experiment { name, seed, train, evaluate, checkpoint, log, stop, data, .. } = experiment;
    let batches: Box<dyn BatchSource> = match files.of(Split::Train) {
        Some(file) => Box::new(file.dataset().batches(train.batch_size, Order::Shuffled(*seed))),
        None => Box::new(task.batches(*seed, Split::Train, train.batch_size).with_buckets(data.bucket_window)),
    };
    let evaluator = |task: &Arc<Task>, source: Box<dyn BatchSource>, count| -> Result<_, RunError> {
        let metrics = catalogue.metrics(&evaluate.metric, task)?;
        Ok(Evaluator::new(model.clone(), parameters, task, source, count)?.with_metrics(metrics))
    };
    let schedule = catalogue.schedule(&train.schedule, &train.schedule_parameters())?;
    let (validation, count) = examples(experiment, task, files, Split::Validation, EVALUATION_BATCH, evaluate.examples);
    let mut trainer = Trainer::new(learner, batches)
        .named(name)
        .with_steps(train.steps)
        .with_schedule(move |step| schedule.lr(step))
        .with_seed(*seed)
        .with_accumulation(train.accumulate)
        .with_clip_norm(train.clip_norm)
        .with_weight_decay(train.weight_decay)
        .with_divergence(train.divergence)
        .taking_snapshots(every(checkpoint.every))
        .with_evaluation(every(evaluate.every), evaluator(task, validation, count)?)
        .reporting(every(log.every));
    for figure in &checkpoint.best {
        trainer = trainer.keeping_best(figure.clone());
    }
    if let Some(goal) = &stop.target {
        trainer = trainer.with_stop(goal.clone());
    }
    if let Some(patience) = &stop.patience {
        trainer = trainer.with_stop(patience.clone());
    }
    for (config, task) in experiment.stage.iter().zip(experiment.stage_tasks(catalogue, task)?) {
        let task = Arc::new(task);
        let batches = task.batches(*seed, Split::Train, train.batch_size).with_buckets(data.bucket_window);
        let validation = Box::new(task.batches(evaluate.seed, Split::Validation, EVALUATION_BATCH));
        let mut stage =
            Stage::new(&config.name, batches).with_evaluation(evaluator(&task, validation, evaluate.examples)?);
        if let Some(steps) = config.steps {
            stage = stage.with_steps(steps);
        }
        if let Some(goal) = &config.until {
            stage = stage.until(goal.clone());
        }
        trainer = trainer.with_stage(stage);
    }
    Ok(trainer)
}

/// The examples of a split to judge the model on, in order, and how many of `count` there are.
pub(crate) fn examples(
    experiment: &Experiment,
    task: &Arc<Task>,
    files: &DataFiles,
    split: Split,
    size: usize,
    count: u64,
) -> (Box<dyn BatchSource>, u64) {
    match files.of(split) {
        Some(file) => (file.in_order(size), count.min(file.len())),
        None => (Box::new(task.batches(experiment.evaluate.seed, split, size)), count),
    }
}
