//! The processes that a launcher started together.

use std::env;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use candle_core::Device;
use clap::Args;
use numformer_data::DatasetError;
use numformer_distributed::{Communicator, CommunicatorError, Solo};
use numformer_experiment::{Catalogue, Experiment, Run, RunError};
use numformer_ops::device::DeviceSum;

use crate::device::DeviceName;
use crate::launcher::Launched;
use crate::verbosity::Verbosity;

/// How processes work together.
#[derive(Args)]
pub(crate) struct RanksArguments {
    /// Under a launcher such as mpirun or srun: how long a process waits for the others before it gives up, in seconds
    /// (0 for ever). It must be longer than what any of them does alone: a step, a part of an evaluation, a checkpoint.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
}

/// This process, and those that its launcher started beside it.
pub(crate) struct Ranks {
    communicator: Arc<dyn Communicator>,
    engine: Engine,
    /// The device, if the processes are connected by it.
    device: Option<Device>,
    timeout: Option<Duration>,
}

enum Engine {
    None,
    #[cfg(feature = "mpi")]
    Mpi(Arc<numformer_distributed::Mpi>),
    #[cfg(feature = "nccl")]
    Nccl(Arc<numformer_ops::device::Nccl>),
}

impl RanksArguments {
    /// Joins the processes that the launcher says there are, for work on this device.
    pub(crate) fn join(&self, device: DeviceName) -> Result<Ranks> {
        let timeout = (self.timeout > 0).then(|| Duration::from_secs(self.timeout));
        let ranks = match Launched::now()? {
            None => Ranks::solo(),
            Some(Launched::ByMpi { size }) => join_mpi(size, timeout)?,
            Some(Launched::ByTorchrun { rank, size }) => join_nccl(rank, size, device, timeout)?,
        };
        if ranks.communicator.size() > 1 {
            // Two programs of the same version may differ.
            let program = fs::read(env::current_exe()?).context("cannot read the program, to compare it")?;
            let values =
                [("program", format!("hash {:08x}", crc32c::crc32c(&program))), ("command line", command_line())];
            ranks.communicator.check_same(&values)?;
        }
        Ok(ranks)
    }
}

/// The arguments of this process, but for those that may differ between ranks.
fn command_line() -> String {
    let mut arguments = env::args().skip(1);
    let mut line = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--threads" | "--device" => drop(arguments.next()),
            own if own.starts_with("--threads=") || own.starts_with("--device=") => {}
            _ => line.push(argument),
        }
    }
    line.join(" ")
}

#[cfg(feature = "mpi")]
fn join_mpi(_size: Option<usize>, timeout: Option<Duration>) -> Result<Ranks> {
    let mpi = Arc::new(numformer_distributed::Mpi::join(timeout)?);
    Ok(Ranks { communicator: Arc::clone(&mpi) as _, engine: Engine::Mpi(mpi), device: None, timeout })
}

#[cfg(not(feature = "mpi"))]
fn join_mpi(size: Option<usize>, _timeout: Option<Duration>) -> Result<Ranks> {
    ensure!(
        size == Some(1),
        "a launcher started this process as one of {}, but this numformer was built without MPI and would run the same job \
         in each: build it with --features mpi (docs/distributed.md)",
        size.map_or("several".to_owned(), |size| size.to_string())
    );
    Ok(Ranks::solo())
}

#[cfg(feature = "nccl")]
fn join_nccl(rank: usize, size: usize, device: DeviceName, timeout: Option<Duration>) -> Result<Ranks> {
    if device == DeviceName::Cpu {
        ensure!(size == 1, TORCHRUN_ON_CPU);
        return Ok(Ranks::solo());
    }
    if size > 1 {
        crate::launcher::meeting_place()?;
    }
    let device = device.open()?;
    let nccl = Arc::new(numformer_ops::device::Nccl::join(&device, rank, size, timeout)?);
    Ok(Ranks { communicator: Arc::clone(&nccl) as _, engine: Engine::Nccl(nccl), device: Some(device), timeout })
}

#[cfg(not(feature = "nccl"))]
fn join_nccl(_rank: usize, size: usize, device: DeviceName, _timeout: Option<Duration>) -> Result<Ranks> {
    ensure!(size == 1 || device != DeviceName::Cpu, TORCHRUN_ON_CPU);
    ensure!(
        size == 1,
        "RANK and WORLD_SIZE say that this process is one of {size}, but this numformer was built without NCCL and would run \
         the same job in each: build it with --features nccl (docs/distributed.md)"
    );
    Ok(Ranks::solo())
}

/// What to do instead of starting processes on CPUs with torchrun.
const TORCHRUN_ON_CPU: &str = "RANK and WORLD_SIZE, as torchrun sets them, connect processes by NCCL, which needs \
                               --device cuda: start processes on CPUs with mpirun or srun, or unset them";

impl Ranks {
    /// A process without others.
    pub(crate) fn solo() -> Self {
        Self { communicator: Arc::new(Solo), engine: Engine::None, device: None, timeout: None }
    }

    /// The only process of a command that several cannot share.
    pub(crate) fn alone(command: &str) -> Result<Self> {
        let size = match Launched::now()? {
            None => Some(1),
            Some(Launched::ByMpi { size }) => size,
            Some(Launched::ByTorchrun { size, .. }) => Some(size),
        };
        ensure!(size == Some(1), "numformer {command} runs in one process: start it without a launcher");
        Ok(Self::solo())
    }

    /// The run of an experiment by all processes, each on its device.
    pub(crate) fn run_of(&self, experiment: Experiment, device: DeviceName) -> Result<Run> {
        let device = self.device.clone().map_or_else(|| device.open(), Ok)?;
        let sum = self.engine.device_sum(&device, self.timeout)?;
        Ok(Run::across_devices(experiment, &Catalogue::standard(), &device, self.communicator(), sum)?)
    }

    pub(crate) fn communicator(&self) -> Arc<dyn Communicator> {
        Arc::clone(&self.communicator)
    }

    /// Whether this process is the one that writes and reports.
    pub(crate) fn is_first(&self) -> bool {
        self.communicator.rank() == 0
    }

    /// Whether there are no others.
    pub(crate) fn are_one(&self) -> bool {
        self.communicator.size() == 1
    }

    /// How much this process reports.
    pub(crate) fn verbosity(&self, verbosity: Verbosity) -> Verbosity {
        if self.is_first() { verbosity } else { Verbosity { quiet: true, verbose: false } }
    }

    /// Does the work of this process. If it succeeds, waits for the others; if not, ends without them, and the launcher
    /// ends them.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let done = work()?;
        self.engine.finish()?;
        Ok(done)
    }
}

impl Engine {
    /// How vectors on devices are added up without the host, if this program can.
    #[cfg(feature = "nccl")]
    fn device_sum(&self, device: &Device, timeout: Option<Duration>) -> Result<Option<Arc<dyn DeviceSum>>> {
        match self {
            Self::Nccl(nccl) => Ok(Some(Arc::clone(nccl) as _)),
            #[cfg(feature = "mpi")]
            Self::Mpi(mpi) if !device.is_cpu() => {
                Ok(Some(Arc::new(numformer_ops::device::Nccl::join_by(device, mpi, timeout)?)))
            }
            _ => {
                let _ = (device, timeout);
                Ok(None)
            }
        }
    }

    #[cfg(not(feature = "nccl"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "NCCL is not in this program")]
    fn device_sum(&self, _device: &Device, _timeout: Option<Duration>) -> Result<Option<Arc<dyn DeviceSum>>> {
        Ok(None)
    }

    fn finish(&self) -> Result<(), CommunicatorError> {
        match self {
            Self::None => Ok(()),
            #[cfg(feature = "mpi")]
            Self::Mpi(mpi) => mpi.finish(),
            #[cfg(feature = "nccl")]
            Self::Nccl(nccl) => nccl.finish(),
        }
    }
}

/// Whether another process failed, which has reported why.
pub(crate) fn is_of_another_rank(error: &anyhow::Error) -> bool {
    let is_other = |error: &CommunicatorError| matches!(error, CommunicatorError::OtherRank { .. });
    error.chain().any(|cause| {
        cause.downcast_ref::<RunError>().is_some_and(RunError::is_of_another_rank)
            || matches!(cause.downcast_ref(), Some(DatasetError::Ranks(error)) if is_other(error))
            || cause.downcast_ref().is_some_and(is_other)
    })
}
