//! The folder for a machine with a GPU.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::cuda;

const SCRIPT: &str = include_str!("run.sh");

/// The largest size of the folder, in bytes: together with a checkout, it stays within 64 MiB.
const LARGEST: u64 = 56 << 20;

/// The programs of tests: what cargo calls the target, and what it is called in the folder.
const TESTS: [(&str, &str); 4] =
    [("numformer_ops", "operations"), ("device_step", "device-step"), ("on_device", "on-device"), ("parity", "parity")];

/// What they are built by: one call, so that all are built with the same features.
const TEST_PACKAGES: [&str; 4] = ["numformer-ops", "numformer-fused", "numformer-train", "numformer-experiment"];

/// Builds everything and makes the folder. Returns its size in bytes.
pub(super) fn assemble(root: &Path, capability: &str, train: &str, output: &Path) -> Result<u64> {
    clear(output)?;
    let staged = output.join("staged");
    fs::create_dir_all(staged.join("tests")).with_context(|| format!("cannot make {}", staged.display()))?;

    copy(&cuda::built(root, capability)?, &staged.join("numformer"))?;
    for (program, name) in built(root, capability)? {
        cuda::strip(&program, &staged.join("tests").join(name))?;
    }
    copy(&root.join("benches/baseline/torch_baseline.py"), &staged.join("torch_baseline.py"))?;
    let recorded = [
        Some(root.join("crates/numformer-experiment/tests/golden")),
        env::var_os("NUMFORMER_GOLDEN").map(PathBuf::from),
    ];
    for folder in recorded.into_iter().flatten() {
        copy_checkpoints(&folder, &staged.join("golden"))?;
    }

    write_script(output, &settings(&commit(root), capability, train))?;
    seal(output, &staged, LARGEST)
}

/// Removes the folder of an earlier call.
fn clear(output: &Path) -> Result<()> {
    if !output.exists() {
        return Ok(());
    }
    // A call that failed leaves what it staged.
    let is_ours = ["run.sh", "staged"].iter().any(|name| output.join(name).exists());
    if !is_ours && fs::read_dir(output)?.next().is_some() {
        bail!("{} holds other files: choose an empty folder, or a new one", output.display());
    }
    // The script leaves its results beside itself, unless it is told otherwise.
    let results = output.join("results");
    if results.exists() {
        bail!("{} holds the results of a run: move or remove them first", results.display());
    }
    fs::remove_dir_all(output).with_context(|| format!("cannot empty {}", output.display()))
}

/// Packs the staged files, and removes them. Returns the size of all.
fn seal(output: &Path, staged: &Path, largest: u64) -> Result<u64> {
    // Every machine has gzip; xz, which finds what programs have in common, is for what is too large otherwise.
    let mut archive = pack(staged, &output.join("programs.tar.gz"), &["gzip", "-9"])?;
    if fs::metadata(&archive)?.len() > largest {
        fs::remove_file(&archive)?;
        archive = pack(staged, &output.join("programs.tar.xz"), &["xz", "-9"])?;
    }
    fs::remove_dir_all(staged)?;
    let size = fs::metadata(&archive)?.len() + SCRIPT.len() as u64;
    if size > largest {
        bail!("{} has {:.1} MiB: expected at most {:.1}", output.display(), mebibytes(size), mebibytes(largest));
    }
    Ok(size)
}

pub(super) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// What the script reads.
fn settings(commit: &str, capability: &str, train: &str) -> String {
    format!(
        "NUMFORMER_COMMIT='{commit}'\nNUMFORMER_CAPABILITY='{capability}'\nNUMFORMER_TRAIN=${{NUMFORMER_TRAIN:-{train}}}\n"
    )
}

fn write_script(output: &Path, settings: &str) -> Result<()> {
    let script = output.join("run.sh");
    fs::write(&script, SCRIPT).with_context(|| format!("cannot write {}", script.display()))?;
    fs::write(output.join("settings.sh"), settings)?;
    make_executable(&script)
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;

    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> Result<()> {
    bail!("the folder is for Linux, and is made there")
}

/// The commit that is built, with a plus sign if files have changed since.
fn commit(root: &Path) -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(root).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => commit + "+",
    }
}

/// A line of what cargo writes about a build.
#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds the programs of tests, and returns the path of each with its name in the folder.
fn built(root: &Path, capability: &str) -> Result<Vec<(PathBuf, &'static str)>> {
    let mut command = cuda::command(root, capability)?;
    command.args(["test", "--release", "--no-run", "--message-format=json-render-diagnostics", "--lib"]);
    command.args(TEST_PACKAGES.iter().flat_map(|package| ["--package", package]));
    command.args(TESTS.iter().skip(1).flat_map(|(target, _)| ["--test", target]));
    command.args(["--features", "numformer-experiment/cuda"]).stderr(Stdio::inherit());
    let output = command.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the tests do not build: {}", output.status);
    }
    programs(&String::from_utf8_lossy(&output.stdout))
}

/// The programs of tests among the messages of cargo.
fn programs(messages: &str) -> Result<Vec<(PathBuf, &'static str)>> {
    let messages: Vec<Message> = messages.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let find = |(target, name): &(&str, &'static str)| {
        let is_it = |message: &&Message| {
            message.reason == "compiler-artifact"
                && message.executable.is_some()
                && message.target.as_ref().is_some_and(|found| found.name == *target)
        };
        let program = messages.iter().find(is_it).and_then(|message| message.executable.clone());
        Ok((program.with_context(|| format!("cargo built no tests {target}"))?, *name))
    };
    TESTS.iter().map(find).collect()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// Copies the recorded checkpoints of a folder, each a folder of files.
fn copy_checkpoints(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let checkpoint = entry?.path();
        let Some(name) = checkpoint.file_name().filter(|_| checkpoint.join("checkpoint.pth").exists()) else {
            continue;
        };
        let to = to.join(name);
        fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
        for file in fs::read_dir(&checkpoint)? {
            let file = file?;
            copy(&file.path(), &to.join(file.file_name()))?;
        }
    }
    Ok(())
}

/// Packs a folder with tar and a program that compresses.
fn pack(folder: &Path, archive: &Path, compress: &[&str]) -> Result<PathBuf> {
    let mut tar = Command::new("tar")
        .args(["--sort=name", "--owner=0", "--group=0", "--create", "--file=-", "--directory"])
        .args([folder, Path::new(".")])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run tar")?;
    let file = File::create(archive).with_context(|| format!("cannot write {}", archive.display()))?;
    let from = tar.stdout.take().context("tar has an output")?;
    let compressed = Command::new(compress[0]).args(&compress[1..]).stdin(from).stdout(file).status();
    let compressed = compressed.with_context(|| format!("cannot run {}", compress[0]))?;
    let packed = tar.wait()?;
    if !(compressed.success() && packed.success()) {
        bail!("cannot pack {}: tar ended with {packed}, {} with {compressed}", folder.display(), compress[0]);
    }
    Ok(archive.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_their_targets() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"parity"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"device_step"},"profile":{"test":true},"executable":"/t/device_step-1"}
not JSON
{"reason":"build-finished","success":true}"#;
        let error = programs(messages).expect_err("parity has no executable").to_string();
        assert_eq!(error, "cargo built no tests numformer_ops");
        let all: String = TESTS
            .iter()
            .map(|(target, _)| {
                format!(
                    r#"{{"reason":"compiler-artifact","target":{{"name":"{target}"}},"executable":"/t/{target}-1"}}"#
                ) + "\n"
            })
            .collect();
        let found = programs(&(messages.to_owned() + "\n" + &all)).expect("all are there");
        assert_eq!(found[1], (PathBuf::from("/t/device_step-1"), "device-step"));
        assert_eq!((found.len(), found[3].0.as_path()), (TESTS.len(), Path::new("/t/parity-1")));
    }

    #[test]
    fn the_script_runs_the_tests_that_are_packed() {
        for (_, name) in TESTS {
            assert!(SCRIPT.contains(name), "{name}");
        }
    }

    #[test]
    fn staged_files_are_packed_and_a_large_folder_is_refused() {
        let output = env::temp_dir().join(format!("gpu-day-pack-{}", std::process::id()));
        let staged = output.join("staged");
        let stage = || {
            fs::create_dir_all(&staged).expect("a folder");
            fs::write(staged.join("numformer"), "a program").expect("a file");
        };
        stage();
        let size = seal(&output, &staged, LARGEST).expect("it is small");
        assert!(size > SCRIPT.len() as u64 && output.join("programs.tar.gz").exists() && !staged.exists());
        stage();
        let error = seal(&output, &staged, 1 << 10).expect_err("the script alone is larger").to_string();
        assert!(error.ends_with("MiB: expected at most 0.0"), "{error}");
        fs::remove_dir_all(&output).expect("removed");
    }

    #[test]
    fn only_the_folder_of_an_earlier_call_is_removed() {
        let output = env::temp_dir().join(format!("gpu-day-clear-{}", std::process::id()));
        clear(&output).expect("there is none");
        fs::create_dir_all(output.join("results")).expect("a folder");
        assert!(clear(&output).expect_err("not ours").to_string().contains("holds other files"));
        fs::write(output.join("run.sh"), "").expect("a file");
        assert!(clear(&output).expect_err("results").to_string().contains("holds the results of a run"));
        fs::remove_dir(output.join("results")).expect("removed");
        clear(&output).expect("from an earlier call");
        assert!(!output.exists());
    }

    #[test]
    fn the_script_is_bash() {
        let mut command = Command::new("bash");
        let status = command.arg("-n").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/gpu_day/run.sh")).status();
        // Elsewhere than on Linux, there may be no bash.
        assert!(status.map_or(true, |status| status.success()));
    }
}
