//! Compiles the kernels to PTX if the feature `cuda` is enabled; does nothing otherwise.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/cuda");
    for variable in ["NVCC", "CUDA_HOME", "CUDA_COMPUTE_CAP"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_some()
        && let Err(error) = compile()
    {
        println!("cargo::error={error}");
    }
}

fn compile() -> Result<(), String> {
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
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
    Err(format!("{} fails to compile the kernels: {said}", compiler.display()))
}
