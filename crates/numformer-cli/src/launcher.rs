//! What a launcher such as mpirun, srun or torchrun says in the environment.

use std::env;
use std::fs;
use std::io;
use std::thread;

use anyhow::{Result, bail, ensure};

/// How processes were started together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Launched {
    ByMpi { size: Option<usize> },
    ByTorchrun { rank: usize, size: usize },
}

impl Launched {
    /// `None` if this process was started without a launcher.
    pub(crate) fn now() -> Result<Option<Self>> {
        Environment::OURS.launched(cfg!(feature = "mpi"))
    }
}

/// Whether this process is not the first of those that were started together. What all find wrong is reported by the
/// first, whose end makes the launcher end the others.
pub(crate) fn is_not_first() -> bool {
    Environment::OURS.rank() > 0
}

/// The GPU of this process among those that it sees, as far as the launcher says.
pub(crate) fn gpu() -> usize {
    Environment::OURS.gpu()
}

/// The number of threads of this process, if the user gives none: all that it may use, or its part of them where others
/// run on the same machine and are not bound to cores of their own.
pub(crate) fn threads() -> Option<usize> {
    let processes = Environment::OURS.processes_here();
    if processes <= 1 {
        return None;
    }
    let usable = thread::available_parallelism().map_or(1, Into::into);
    Some(usable.min((cores().unwrap_or(usable) / processes).max(1)))
}

/// Environment variables.
struct Environment<F>(F);

impl Environment<fn(&str) -> Option<String>> {
    const OURS: Self = Self(|variable| env::var(variable).ok());
}

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    fn number(&self, variable: &str) -> Option<usize> {
        (self.0)(variable)?.parse().ok()
    }

    fn first(&self, variables: &[&str]) -> Option<usize> {
        variables.iter().find_map(|variable| self.number(variable))
    }

    fn rank(&self) -> usize {
        self.first(&["OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "RANK"]).unwrap_or(0)
    }

    fn launched(&self, has_mpi: bool) -> Result<Option<Launched>> {
        for variable in ["RANK", "WORLD_SIZE"] {
            let value = (self.0)(variable);
            ensure!(
                value.is_some() == self.number(variable).is_some(),
                "{variable}: expected a number, found {value:?}"
            );
        }
        // A half of the pair would make every process a job of its own.
        let by_torchrun = match (self.number("RANK"), self.number("WORLD_SIZE")) {
            (Some(rank), Some(size)) if rank < size => Some(Launched::ByTorchrun { rank, size }),
            (None | Some(0), None | Some(1)) => None,
            _ => bail!(
                "expected RANK and WORLD_SIZE as torchrun sets them, two numbers, the first of them smaller, or neither"
            ),
        };
        // Open MPI, MPICH and SLURM with PMI; PMIx does not say how many there are.
        let size = self.first(&["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"]);
        let by_mpi = (size.is_some() || (self.0)("PMIX_RANK").is_some()).then_some(Launched::ByMpi { size });
        let tasks = self.number("SLURM_STEP_NUM_TASKS").unwrap_or(1);
        ensure!(
            tasks == 1 || by_mpi.is_some() || by_torchrun.is_some(),
            "srun started this process as one of {tasks}, which do not know each other: use srun --mpi=pmix or --mpi=pmi2, \
             or set RANK and WORLD_SIZE (docs/distributed.md)"
        );
        Ok(if has_mpi { by_mpi.or(by_torchrun) } else { by_torchrun.or(by_mpi) })
    }

    fn gpu(&self) -> usize {
        let local = self.first(&["OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID", "LOCAL_RANK"]);
        // A launcher may show each process its own GPU alone.
        let visible = (self.0)("CUDA_VISIBLE_DEVICES").map_or(usize::MAX, |devices| devices.split(',').count());
        local.unwrap_or(0) % visible
    }

    /// How many processes the launcher started on this machine, as far as it says.
    fn processes_here(&self) -> usize {
        // As in 2(x4),1.
        let of_slurm = || {
            let tasks = (self.0)("SLURM_STEP_TASKS_PER_NODE")?;
            tasks.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let local = self.first(&["OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "LOCAL_WORLD_SIZE"]);
        local.or_else(of_slurm).unwrap_or(1)
    }
}

/// Sees that NCCL knows where the processes meet: at the address of torchrun, unless `NCCL_COMM_ID` gives another. NCCL
/// reads it from the environment, which a process with threads cannot change; so this one starts itself anew.
#[cfg(feature = "nccl")]
pub(crate) fn meeting_place() -> Result<()> {
    use std::os::unix::process::CommandExt;

    const PLACE: &str = "NCCL_COMM_ID";
    if env::var_os(PLACE).is_some() {
        return Ok(());
    }
    let (Ok(host), Some(port)) = (env::var("MASTER_ADDR"), Environment::OURS.number("MASTER_PORT")) else {
        bail!("expected MASTER_ADDR and MASTER_PORT beside RANK and WORLD_SIZE: a free port of the first rank");
    };
    // torchrun itself listens at its port.
    let is_taken = env::var("TORCHELASTIC_USE_AGENT_STORE").is_ok_and(|value| value == "True");
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let place = format!("{host}:{}", port + usize::from(is_taken));
    let error = std::process::Command::new(env::current_exe()?).args(env::args_os().skip(1)).env(PLACE, place).exec();
    Err(anyhow::Error::new(error).context("cannot start again with NCCL_COMM_ID"))
}

/// The cores of the machine, whatever this process is bound to.
fn cores() -> io::Result<usize> {
    let online = fs::read_to_string("/sys/devices/system/cpu/online")?;
    let count = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1)
    };
    let counts: Option<usize> = online.trim().split(',').map(count).sum();
    counts.ok_or_else(|| io::Error::other("expected ranges of cores"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &'static str) -> Environment<impl Fn(&str) -> Option<String>> {
        Environment(move |wanted: &str| {
            let pairs = variables.split(' ').filter_map(|pair| pair.split_once('='));
            pairs.into_iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned())
        })
    }

    #[test]
    fn launchers_are_known_by_their_variables() {
        let launched = |variables, has_mpi| environment(variables).launched(has_mpi).expect("a launcher, or none");
        let torchrun = Some(Launched::ByTorchrun { rank: 1, size: 4 });
        assert_eq!(launched("", true), None);
        assert_eq!(launched("RANK=0", true), None);
        assert_eq!(launched("OMPI_COMM_WORLD_SIZE=4", false), Some(Launched::ByMpi { size: Some(4) }));
        assert_eq!(launched("PMIX_RANK=2 SLURM_STEP_NUM_TASKS=3", true), Some(Launched::ByMpi { size: None }));
        assert_eq!(launched("RANK=1 WORLD_SIZE=4 SLURM_STEP_NUM_TASKS=4", true), torchrun);
        // A program without MPI, as srun with PMI and NCCL start it.
        assert_eq!(launched("RANK=1 WORLD_SIZE=4 PMI_SIZE=4", false), torchrun);
        assert_eq!(launched("RANK=1 WORLD_SIZE=4 PMI_SIZE=4", true), Some(Launched::ByMpi { size: Some(4) }));
        for alone in ["RANK=1", "WORLD_SIZE=2", "RANK=4 WORLD_SIZE=4", "RANK=x WORLD_SIZE=1", "SLURM_STEP_NUM_TASKS=2"]
        {
            assert!(environment(alone).launched(true).is_err(), "{alone}");
        }
    }

    #[test]
    fn processes_of_a_machine_share_its_gpus_and_cores() {
        assert_eq!(environment("LOCAL_RANK=3").gpu(), 3);
        assert_eq!(environment("SLURM_LOCALID=3 CUDA_VISIBLE_DEVICES=5").gpu(), 0);
        assert_eq!(environment("OMPI_COMM_WORLD_LOCAL_RANK=3 CUDA_VISIBLE_DEVICES=0,1").gpu(), 1);
        assert_eq!(environment("").gpu(), 0);
        assert_eq!((environment("").rank(), environment("PMIX_RANK=2").rank()), (0, 2));
        assert_eq!(environment("").processes_here(), 1);
        assert_eq!(environment("SLURM_STEP_TASKS_PER_NODE=2(x4),1").processes_here(), 2);
        assert_eq!(environment("LOCAL_WORLD_SIZE=8").processes_here(), 8);
    }
}
