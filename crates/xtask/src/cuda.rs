//! `cargo xtask cuda-toolkit` and `cargo xtask cuda-build`: install a CUDA compiler without root, and build a binary
//! for GPUs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{lazy_libraries, root};

/// The wheels on PyPI that hold a CUDA 13.0 compiler. CUDA's libraries are not among them, because a program that is
/// built with this compiler loads them when it needs them.
const WHEELS: [&str; 5] = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cccl==13.0.85",
];

/// Fetch a CUDA 13 compiler from PyPI into target/cuda, and print the environment variables that select it.
///
/// Installs nothing elsewhere, and needs neither root nor a GPU. Files that exist are not fetched again. Programs that
/// are built in this environment start on every machine, and load CUDA's libraries when they open a GPU.
#[derive(Args)]
#[command(after_help = "Example:
  $ eval \"$(cargo xtask cuda-toolkit)\"
  $ cargo check --release --features cuda")]
pub(crate) struct ToolkitArguments {}

/// Build the command `numformer` for NVIDIA GPUs, with the compiler of cuda-toolkit or an existing one.
///
/// The result is one stripped file. With the compiler of cuda-toolkit, it starts on every machine, and opens a GPU if a
/// driver for CUDA 13, cuBLAS and cuRAND are installed. An nvcc that CUDA_HOME, NVCC or PATH names is used if there is
/// one; the program is then linked to the libraries of that toolkit, and needs them to start.
#[derive(Args)]
#[command(after_help = "Example:
  $ cargo xtask cuda-build
  $ target/cuda-build/numformer train transpose-5x5 --device cuda:0")]
pub(crate) struct BuildArguments {
    /// The compute capability of the GPU, without the point: 90 for H100 and H200.
    #[arg(long, default_value = "90", value_parser = capability)]
    capability: String,
}

pub(crate) fn capability(text: &str) -> Result<String, String> {
    match text.parse::<u16>() {
        Ok(75..=999) => Ok(text.to_owned()),
        _ => Err("expected a compute capability from 75 on, as 90 for Hopper".to_owned()),
    }
}

pub(crate) fn toolkit(_: &ToolkitArguments) -> Result<()> {
    let environment = environment(&fetched(root()?)?);
    let exports = environment.iter().map(|(name, value)| format!("{name}='{value}'"));
    println!("export {}", exports.collect::<Vec<_>>().join(" "));
    Ok(())
}

pub(crate) fn build(arguments: &BuildArguments) -> Result<()> {
    let built = built(root()?, &arguments.capability)?;
    let size = fs::metadata(&built)?.len() as f64 / f64::from(1 << 20);
    println!("{}: {size:.1} MiB, for sm_{}", built.display(), arguments.capability);
    Ok(())
}

/// Builds the command, and returns the path of the stripped file.
pub(crate) fn built(root: &Path, capability: &str) -> Result<PathBuf> {
    let mut command = command(root, capability)?;
    command.args(["build", "--release", "--package", "numformer-cli", "--features", "cuda,nccl"]);
    let status = command.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("the command does not build: {status}");
    }
    let folder = target(root);
    let (built, stripped) = (folder.join("release/numformer"), folder.join("numformer"));
    strip(&built, &stripped)?;
    Ok(stripped)
}

/// Copies an executable without its symbols; with them, where there is no `strip`.
pub(crate) fn strip(built: &Path, stripped: &Path) -> Result<()> {
    let status = Command::new("strip").arg("-o").args([stripped, built]).status();
    if !status.is_ok_and(|status| status.success()) {
        fs::copy(built, stripped).with_context(|| format!("cannot write {}", stripped.display()))?;
    }
    Ok(())
}

/// Cargo, with the environment for building CUDA code. What it builds is kept apart from what is built for the CPU, as
/// the two have few crates in common.
pub(crate) fn command(root: &Path, capability: &str) -> Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).env("CUDA_COMPUTE_CAP", capability).env("CARGO_TARGET_DIR", target(root));
    if !has_compiler() {
        command.envs(environment(&fetched(root)?));
    }
    Ok(command)
}

fn target(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("cuda-build")
}

/// What tells the build scripts, ours and candle's, about a compiler.
fn environment(home: &Path) -> [(&'static str, String); 4] {
    let path = env::var("PATH").unwrap_or_default();
    [
        ("CUDA_HOME", home.display().to_string()),
        ("NVCC", home.join("bin/nvcc").display().to_string()),
        // Candle's kernels for quantised models, which nothing here uses, are a third of a program otherwise.
        ("NVCC_APPEND_FLAGS", "--compress-mode=size".to_owned()),
        ("PATH", format!("{}:{path}", home.join("bin").display())),
    ]
}

/// Whether there is an nvcc that the build will find.
fn has_compiler() -> bool {
    let named = env::var_os("NVCC").map(PathBuf::from);
    let at_home = env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin/nvcc"));
    let compiler = named.or(at_home).unwrap_or_else(|| "nvcc".into());
    Command::new(compiler).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// The home of the compiler, which is fetched if it is missing.
fn fetched(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target/cuda");
    let home = folder.join("site/nvidia/cu13");
    let done = folder.join("done");
    if done.exists() {
        return Ok(home);
    }
    eprintln!("fetching a CUDA compiler into {}", folder.display());
    let wheels = folder.join("wheels");
    fs::create_dir_all(&wheels).with_context(|| format!("cannot make {}", wheels.display()))?;
    let python = |arguments: &[&str]| -> Result<()> {
        let status =
            Command::new("python3").args(arguments).status().context("cannot run python3, whose pip fetches it")?;
        if !status.success() {
            bail!("python3 {} failed: {status}", arguments.join(" "));
        }
        Ok(())
    };
    let to = wheels.to_string_lossy();
    let fetch = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", &*to];
    python(&[&fetch[..], &WHEELS[..]].concat())?;
    for wheel in fs::read_dir(&wheels)? {
        let wheel = wheel?.path();
        python(&["-m", "zipfile", "-e", &wheel.to_string_lossy(), &folder.join("site").to_string_lossy()])?;
    }
    for folder in [home.join("bin"), home.join("nvvm/bin")] {
        make_executable(&folder)?;
    }
    lazy_libraries::make(root, &home.join("lib"))?;
    fs::write(&done, "")?;
    Ok(home)
}

/// Makes the files of a folder executable, because wheels are unpacked without permissions.
#[cfg(unix)]
fn make_executable(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;

    for file in fs::read_dir(folder).with_context(|| format!("expected {}", folder.display()))? {
        let path = file?.path();
        if path.is_file() {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> Result<()> {
    bail!("the wheels are for Linux: install the CUDA toolkit and set CUDA_HOME")
}
