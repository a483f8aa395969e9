//! `cargo xtask cuda-toolkit` and `cargo xtask cuda-build`: install a CUDA compiler without root, and build a binary
//! for GPUs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::root;

/// The wheels on PyPI that hold a CUDA 13.0 compiler. CUDA's libraries are not among them, because the program looks
/// for those when it opens a device.
const WHEELS: [&str; 5] = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cccl==13.0.85",
];

/// Fetch a CUDA 13 compiler from PyPI into target/cuda, and print the environment variables that select it.
///
/// Installs nothing elsewhere, and needs neither root nor a GPU. Files that exist are not fetched again.
#[derive(Args)]
#[command(after_help = "Example:
  $ eval \"$(cargo xtask cuda-toolkit)\"
  $ cargo check --features cuda")]
pub(crate) struct ToolkitArguments {}

/// Build the command `numformer` for NVIDIA GPUs, with the compiler of cuda-toolkit or an existing one.
///
/// The result is one stripped file. It starts on every machine, and opens a GPU if a driver for CUDA 13 and cuBLASLt
/// are installed. An nvcc that CUDA_HOME, NVCC or PATH names is used; otherwise a compiler is fetched.
#[derive(Args)]
#[command(after_help = "Example:
  $ cargo xtask cuda-build
  $ target/cuda-build/numformer train transpose-5x5 --device cuda:0")]
pub(crate) struct BuildArguments {
    /// The compute capability of the oldest GPU to support, without the point.
    #[arg(long, default_value = "90", value_parser = capability)]
    capability: String,
}

fn capability(text: &str) -> Result<String, String> {
    match text.parse::<u16>() {
        Ok(75..=999) => Ok(text.to_owned()),
        _ => Err("expected a compute capability from 75 on, as 90 for Hopper".to_owned()),
    }
}

pub(crate) fn toolkit(_: &ToolkitArguments) -> Result<()> {
    let home = fetched(root()?)?;
    println!("export CUDA_HOME='{0}' NVCC='{0}/bin/nvcc' PATH='{0}/bin':\"$PATH\"", home.display());
    Ok(())
}

pub(crate) fn build(arguments: &BuildArguments) -> Result<()> {
    let root = root()?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).env("CUDA_COMPUTE_CAP", &arguments.capability);
    // Only the binary is built, so that nothing else is built with other features.
    command.args(["build", "--release", "--package", "numformer-cli", "--features", "cuda"]);
    if !has_compiler() {
        let home = fetched(root)?;
        command.env("NVCC", home.join("bin/nvcc")).env("CUDA_HOME", home);
    }
    let status = command.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("the command does not build: {status}");
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let built = target.join("release/numformer");
    let folder = target.join("cuda-build");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let stripped = folder.join("numformer");
    // In a separate file, because the next build for the CPU replaces the original.
    let status = Command::new("strip").arg("-o").args([&stripped, &built]).status();
    if !status.is_ok_and(|status| status.success()) {
        fs::copy(&built, &stripped).with_context(|| format!("cannot write {}", stripped.display()))?;
    }
    let size = fs::metadata(&stripped)?.len();
    println!(
        "{}: {:.1} MiB, for sm_{} and newer",
        stripped.display(),
        size as f64 / f64::from(1 << 20),
        arguments.capability
    );
    Ok(())
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
