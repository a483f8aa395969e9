//! Compiles the kernels to PTX if the feature `cuda` is enabled; does nothing otherwise.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/cuda");
    for variable in ["NVCC", "CUDA_HOME", "CUDA_COMPUTE_CAP"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_some() {
        match compile() {
            Ok(major) => println!("cargo::rustc-env=NUMFORMER_CUDA_MAJOR={major}"),
            Err(error) => println!("cargo::error={error}"),
        }
    }
}

/// Compiles the kernels, and returns the major version of the compiler's CUDA.
fn compile() -> Result<u32, String> {
    let compiler = env::var_os("NVCC").map(PathBuf::from).unwrap_or_else(|| {
        env::var_os("CUDA_HOME").map_or_else(|| "nvcc".into(), |home| PathBuf::from(home).join("bin/nvcc"))
    });
    let capability = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| "90".to_owned());
    let folder = env::var_os("OUT_DIR").map(PathBuf::from).ok_or("cargo gives no OUT_DIR")?;
    let output = Command::new(&compiler)
        .args(["-ptx", "-O3", &format!("-arch=compute_{capability}"), "src/cuda/kernels.cu", "-o"])
        .arg(folder.join("kernels.ptx"))
        .output()
        .map_err(|error| format!("cannot run the CUDA compiler {}: {error}; see docs/gpu.md", compiler.display()))?;
    if output.status.success() {
        return version(&compiler);
    }
    let said = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
    Err(format!("{} fails to compile the kernels: {said}", compiler.display()))
}

/// The major version of CUDA, from a line like `Cuda compilation tools, release 13.0, V13.0.88`.
fn version(compiler: &Path) -> Result<u32, String> {
    let output = Command::new(compiler).arg("--version").output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let major = text.split_once("release ").and_then(|(_, rest)| rest.split_once('.')?.0.parse().ok());
    major.ok_or_else(|| format!("{} --version names no release", compiler.display()))
}
