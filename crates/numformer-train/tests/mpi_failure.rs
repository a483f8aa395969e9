//! What becomes of a job when one of its ranks dies or hangs, and how it goes on.
//!
//! The tests start `mpirun` with this program as its ranks. They do nothing where they are started by `mpirun`
//! themselves. `NUMFORMER_KILLS` sets how many ranks are killed.

#[path = "together/setting.rs"]
mod setting;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use candle_core::Device;
use numformer_data::{Batch, BatchSource, Sequences};
use numformer_distributed::{Communicator, Mpi, Solo};
use numformer_fused::FusedStep;
use numformer_model::{Mode, Parameters, TokenRows, TrainingStep};
use numformer_store::RunStore;
use numformer_train::{Adam, every};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::setting::{batches, config, task, trainer_of};

/// Steps between two checkpoints.
const SAVED_EVERY: u64 = 10;
/// Steps of a whole run.
const STEPS: u64 = 120;
/// How long a rank of these tests waits for the others.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A fused step that writes down the hash of each example that it sees, and takes its time.
struct Recorded {
    step: FusedStep,
    size: u64,
    seen: File,
}

fn hash(src: &[u32], tgt: &[u32]) -> u32 {
    let ids = src.iter().chain([&u32::MAX]).chain(tgt);
    ids.fold(0, |hash, id| crc32c::crc32c_append(hash, &id.to_le_bytes()))
}

impl TrainingStep for Recorded {
    fn loss_and_gradients(
        &mut self,
        weights: &[f32],
        src: TokenRows<'_>,
        tgt: TokenRows<'_>,
        mode: Mode,
        gradients: &mut [f32],
    ) -> candle_core::Result<f64> {
        let Mode::Train { step, .. } = mode else { unreachable!("it only trains") };
        let mut line = format!("{}", step / self.size);
        for row in 0..src.lengths.len() {
            line += &format!(" {:08x}", hash(src.row(row), tgt.row(row)));
        }
        writeln!(self.seen, "{line}").map_err(candle_core::Error::wrap)?;
        thread::sleep(Duration::from_millis(5));
        self.step.loss_and_gradients(weights, src, tgt, mode, gradients)
    }
}

/// One rank of a job: trains in the directory that the environment names, if it names one.
#[test]
fn worker() {
    let Some(dir) = std::env::var_os("NUMFORMER_TEST_DIR").map(PathBuf::from) else { return };
    let number = |name: &str| std::env::var(name).expect("set").parse::<u64>().expect("a number");
    let (steps, start) = (number("NUMFORMER_TEST_STEPS"), number("NUMFORMER_TEST_START"));
    let mpi = Arc::new(Mpi::join(Some(TIMEOUT)).expect("MPI"));
    let ranks: Arc<dyn Communicator> = Arc::clone(&mpi) as _;
    let rank = ranks.rank();
    let task = task();
    let parameters = Parameters::random(0, &Device::Cpu);
    let step = FusedStep::new(&config(&task), &parameters).expect("a step");
    let seen = OpenOptions::new().create(true).append(true).open(dir.join(format!("seen-{start}-{rank}")));
    let step = Recorded { step, size: ranks.size() as u64, seen: seen.expect("a file") };
    let mut trainer =
        trainer_of(step, Adam::default(), &parameters, &task, &ranks).expect("a trainer").with_steps(steps);
    trainer = trainer.taking_snapshots(every(SAVED_EVERY));
    if rank == 0 {
        let store = RunStore::open(dir.join("run")).expect("a directory");
        trainer = trainer.saved_in(store, every(SAVED_EVERY)).expect("a good checkpoint");
    }
    let mut trainer = trainer.joining(&ranks).expect("the state of rank 0");
    fs::write(dir.join(format!("pid-{start}-{rank}")), std::process::id().to_string()).expect("a file");
    trainer.run().expect("a run");
    mpi.finish().expect("all ranks finish");
}

/// Starts the ranks of a job that trains up to `steps`.
fn start(dir: &Path, size: usize, steps: u64, start: u64) -> Child {
    let program = std::env::current_exe().expect("this program");
    Command::new("mpirun")
        .args(["-n", &size.to_string(), "--oversubscribe"])
        .arg(program)
        .args(["worker", "--exact", "--nocapture", "--test-threads", "1"])
        .env("NUMFORMER_TEST_DIR", dir)
        .env("NUMFORMER_TEST_STEPS", steps.to_string())
        .env("NUMFORMER_TEST_START", start.to_string())
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mpirun")
}

/// The output of a job, which must end within `limit`.
fn output(mut job: Child, limit: Duration) -> Output {
    let begin = Instant::now();
    while job.try_wait().expect("a process").is_none() {
        if begin.elapsed() > limit {
            let _ = job.kill();
            panic!("the job did not end within {limit:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    job.wait_with_output().expect("its output")
}

/// The processes of the ranks, once all have begun to train.
fn pids(dir: &Path, size: usize, start: u64) -> Vec<String> {
    let begin = Instant::now();
    loop {
        let found = (0..size).map(|rank| fs::read_to_string(dir.join(format!("pid-{start}-{rank}"))).ok());
        match found.collect::<Option<Vec<_>>>() {
            Some(pids) if pids.iter().all(|pid| !pid.is_empty()) => return pids,
            _ => assert!(begin.elapsed() < Duration::from_secs(60), "the ranks do not begin"),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args([name, pid]).status().expect("kill").success(), "{name} {pid}");
}

fn is_alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// The hashes of the examples that a job saw at each step, in the order of its ranks.
fn seen(dir: &Path, size: usize, start: u64) -> BTreeMap<u64, Vec<String>> {
    let mut steps = BTreeMap::<u64, Vec<String>>::new();
    for rank in 0..size {
        let text = fs::read_to_string(dir.join(format!("seen-{start}-{rank}"))).expect("a file");
        let numbers: Vec<u64> =
            text.lines().map(|line| line.split(' ').next().expect("a step").parse().expect("a number")).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "start {start}, rank {rank}: {numbers:?}");
        for (step, line) in numbers.into_iter().zip(text.lines()) {
            steps.entry(step).or_default().extend(line.split(' ').skip(1).map(str::to_owned));
        }
    }
    steps
}

/// The hashes of the examples of a step.
fn expected(step: u64) -> Vec<String> {
    let batch: Batch = batches(&task(), &(Arc::new(Solo) as Arc<dyn Communicator>)).batch(step).expect("a batch");
    let row = |rows: &Sequences, at| rows.row(at).to_vec();
    (0..batch.src.len()).map(|at| format!("{:08x}", hash(&row(&batch.src, at), &row(&batch.tgt, at)))).collect()
}

fn is_under_a_launcher() -> bool {
    std::env::var_os("OMPI_COMM_WORLD_SIZE").is_some() || std::env::var_os("PMI_SIZE").is_some()
}

#[test]
fn a_killed_rank_ends_the_job_which_goes_on_with_any_number_of_ranks() {
    if is_under_a_launcher() {
        return;
    }
    let kills = std::env::var("NUMFORMER_KILLS").map_or(2, |kills| kills.parse().expect("a number"));
    let mut rng = ChaCha8Rng::seed_from_u64(std::process::id().into());
    for kill in 0..kills {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let job = start(dir, 2, STEPS, 0);
        let pids = pids(dir, 2, 0);
        thread::sleep(Duration::from_millis(rng.random_range(0..500)));
        signal("-KILL", &pids[kill % 2]);
        let ended = output(job, 2 * TIMEOUT);
        assert!(!ended.status.success(), "a job without a rank");
        let begin = Instant::now();
        while pids.iter().any(|pid| is_alive(pid)) {
            assert!(begin.elapsed() < TIMEOUT, "a rank outlives the other");
            thread::sleep(Duration::from_millis(10));
        }
        let text = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(text.contains("signal 9"), "{text}");

        // Goes on with one rank, and then with two, from the last checkpoint each time.
        for (size, steps, number) in [(1, 100, 1), (2, STEPS, 2)] {
            let ended = output(start(dir, size, steps, number), Duration::from_secs(60));
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        }
        let jobs = [seen(dir, 2, 0), seen(dir, 1, 1), seen(dir, 2, 2)];
        let killed_at = jobs[0].keys().last().copied();
        for pair in jobs.windows(2) {
            let (before, begin) = (pair[0].keys().last().copied(), *pair[1].keys().next().expect("a step"));
            // Nothing but what came after the last checkpoint is done again.
            let end = before.map_or(0, |last| last + 1);
            assert!(
                begin.is_multiple_of(SAVED_EVERY) && begin <= end && end - begin <= SAVED_EVERY + 1,
                "{begin} {end}"
            );
        }
        for job in &jobs {
            for (step, examples) in job {
                // The last step of the killed job may be that of one rank alone.
                if Some(*step) != killed_at || examples.len() == expected(*step).len() {
                    assert_eq!(*examples, expected(*step), "step {step}");
                }
            }
        }
        assert!((0..STEPS).all(|step| jobs.iter().any(|job| job.contains_key(&step))), "all steps");
    }
}

#[test]
fn a_rank_that_hangs_is_waited_for_no_longer_than_the_time_out() {
    if is_under_a_launcher() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let job = start(dir.path(), 2, STEPS, 0);
    let pids = pids(dir.path(), 2, 0);
    thread::sleep(Duration::from_millis(100));
    signal("-STOP", &pids[1]);
    let ended = output(job, 3 * TIMEOUT);
    let text = String::from_utf8_lossy(&ended.stderr).into_owned() + &String::from_utf8_lossy(&ended.stdout);
    assert!(!ended.status.success() && text.contains("TimedOut") && text.contains("add up vectors"), "{text}");
    let begin = Instant::now();
    while pids.iter().any(|pid| is_alive(pid)) {
        assert!(begin.elapsed() < TIMEOUT, "the rank that hangs is not ended");
        thread::sleep(Duration::from_millis(10));
    }
}
