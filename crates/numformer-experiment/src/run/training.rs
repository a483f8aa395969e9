//! The trainer of an experiment's model.

use std::sync::Arc;

use candle_core::Device;
use numformer_data::{BatchSource, Order, RankBatches, Split, Task};
use numformer_distributed::{Communicator, share};
use numformer_evaluate::Evaluator;
use numformer_fused::{Precision, device_model};
use numformer_model::{Model, ModelConfig, Parameters};
use numformer_ops::device::{Accelerator, DeviceSum, HostSum};
use numformer_train::{
    DeviceLearner, HostLearner, Learner, Stage, Trainer, device_training, device_training_step, every, training_step,
};

use crate::catalogue::Catalogue;
use crate::config::TrainConfig;
use crate::config::choice::Choice;
use crate::data_files::DataFiles;
use crate::experiment::Experiment;
use crate::run::run_error::RunError;

/// Number of examples made together. Figures do not depend on it.
pub(crate) const EVALUATION_BATCH: usize = 256;

/// The processes of a run, and how they add up vectors on their devices; `None` by way of the host.
#[derive(Clone, Copy)]
pub(crate) struct Together<'a> {
    pub(crate) ranks: &'a Arc<dyn Communicator>,
    pub(crate) on_devices: Option<&'a Arc<dyn DeviceSum>>,
}

/// Where a run is computed.
pub(crate) enum Place<'a> {
    /// On the CPU.
    Cpu,
    /// On a device of candle, with any number of accelerators there.
    Device { device: &'a Device, open: &'a dyn Fn() -> candle_core::Result<Accelerator> },
}

impl Place<'_> {
    /// An accelerator there; none on the CPU.
    pub(crate) fn accelerator(&self) -> candle_core::Result<Option<Accelerator>> {
        match self {
            Self::Cpu => Ok(None),
            Self::Device { open, .. } => open().map(Some),
        }
    }

    /// The device of its tensors.
    pub(crate) fn device(&self) -> &Device {
        match self {
            Self::Cpu => &Device::Cpu,
            Self::Device { device, .. } => device,
        }
    }
}

/// The learner, with fresh weights in `parameters`: on an accelerator, or on the CPU.
pub(crate) fn learner(
    train: &TrainConfig,
    catalogue: &Catalogue,
    config: &ModelConfig,
    parameters: &Parameters,
    accelerator: Option<Accelerator>,
    Together { ranks, on_devices }: Together<'_>,
) -> Result<Box<dyn Learner>, RunError> {
    let TrainConfig { gradients, precision, label_smoothing, .. } = *train;
    // What updates weights on a device, if one does.
    let on_device = match &train.optimizer {
        Choice::BuiltIn(optimizer) => optimizer.kind().map(|kind| (optimizer, kind)),
        Choice::Custom(_) => None,
    };
    let (step, how) = match (accelerator, on_device) {
        (None, _) => training_step(config, parameters, gradients, precision, label_smoothing)?,
        (Some(accelerator), Some((optimizer, kind))) => {
            let on = (accelerator, kind);
            let (training, how) = device_training(config, parameters, gradients, precision, label_smoothing, on)?;
            let learner = DeviceLearner::new(training, *optimizer)?.described_as(&how);
            if ranks.size() == 1 && on_devices.is_none() {
                return Ok(Box::new(learner));
            }
            let sum = on_devices.cloned().unwrap_or_else(|| Arc::new(HostSum::new(Arc::clone(ranks))));
            return Ok(Box::new(learner.across(Arc::clone(ranks), sum)));
        }
        (Some(accelerator), None) => {
            device_training_step(config, parameters, gradients, precision, label_smoothing, accelerator)?
        }
    };
    let optimizer = catalogue.optimizer(&train.optimizer)?;
    let learner = HostLearner::new(step, optimizer, parameters)?.described_as(&how);
    Ok(Box::new(learner.across(Arc::clone(ranks))))
}

/// A model for use, and the same model as it writes answers: in the precision of training, and on a device by the fused
/// decoder if that has all that the model needs.
pub(crate) fn models(
    config: &ModelConfig,
    parameters: &Parameters,
    precision: Precision,
    place: &Place<'_>,
) -> candle_core::Result<(Model, Model)> {
    let model = Model::new(config, &parameters.frozen())?;
    Ok(match place {
        Place::Cpu => {
            let model = match precision {
                Precision::F32 => model,
                Precision::Bf16 => model.in_bf16(),
            };
            (model.clone(), model)
        }
        Place::Device { open, .. } => (model, device_model(config, parameters, precision, open)?),
    })
}

/// A trainer with all training settings of an experiment.
pub(crate) fn trainer(
    experiment: &Experiment,
    catalogue: &Catalogue,
    learner: impl Learner + 'static,
    task: &Arc<Task>,
    files: &DataFiles,
    (model, parameters): (&Model, &Parameters),
    ranks: &Arc<dyn Communicator>,
) -> Result<Trainer, RunError> {
    let Experiment { name, seed, train, evaluate, checkpoint, log, stop, data, .. } = experiment;
    let batches: Box<dyn BatchSource> = match files.of(Split::Train) {
        Some(file) => Box::new(file.dataset().batches(train.batch_size, Order::Shuffled(*seed))),
        None => Box::new(task.batches(*seed, Split::Train, train.batch_size).with_buckets(data.bucket_window)),
    };
    let evaluator = |task: &Arc<Task>, source: Box<dyn BatchSource>, count| -> Result<_, RunError> {
        let metrics = catalogue.metrics(&evaluate.metric, task)?;
        let evaluator = Evaluator::new(model.clone(), parameters, task, source, count)?;
        Ok(evaluator.with_metrics(metrics).across(Arc::clone(ranks)))
    };
    let rows = share(train.batch_size, ranks);
    let schedule = catalogue.schedule(&train.schedule, &train.schedule_parameters())?;
    let (validation, count) = examples(experiment, task, files, Split::Validation, EVALUATION_BATCH, evaluate.examples);
    let mut trainer = Trainer::new(learner, RankBatches::new(batches, rows.clone()))
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
        let batches = RankBatches::new(batches, rows.clone());
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
