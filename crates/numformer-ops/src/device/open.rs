//! Opening a GPU.

use candle_core::{Device, Result, bail};

/// The NVIDIA GPU with this number, as a device of candle with a stream of its own, on which an
/// [`Accelerator`](super::Accelerator) can work as well. Tensors of this device must stay on it: uses are not tracked
/// across streams.
///
/// # Errors
/// When this program was built without the feature `cuda`, a library is missing, or there is no such GPU.
pub fn cuda(ordinal: usize) -> Result<Device> {
    #[cfg(feature = "cuda")]
    match open(ordinal) {
        Ok(device) => Ok(device),
        Err(why) => bail!("cuda:{ordinal} cannot be opened: {why}"),
    }
    #[cfg(not(feature = "cuda"))]
    bail!("cuda:{ordinal} cannot be opened: this program was built for the CPU only (see docs/gpu.md)")
}

/// The libraries that are called, with the files that hold them.
#[cfg(feature = "cuda")]
const LIBRARIES: [(&str, &[&str]); 4] = [
    ("NVIDIA driver", &["libcuda.so.1", "libcuda.so"]),
    ("cuBLAS", &["libcublas.so.13", "libcublas.so.12"]),
    ("cuBLASLt", &["libcublasLt.so.13", "libcublasLt.so.12"]),
    ("cuRAND", &["libcurand.so.10"]),
];

#[cfg(feature = "cuda")]
fn open(ordinal: usize) -> std::result::Result<Device, String> {
    use std::error::Error;

    use cudarc::driver::{CudaContext, DriverError, sys};

    if cfg!(target_os = "linux") {
        for (library, files) in LIBRARIES {
            // The reason is in the cause, if there is one.
            let said = |error: libloading::Error| error.source().map_or_else(|| error.to_string(), ToString::to_string);
            // SAFETY: loading a library of NVIDIA's runs only its initialisers.
            let failed = files.iter().map(|file| unsafe { libloading::Library::new(*file) }.err().map(said));
            let Some(reasons) = failed.collect::<Option<Vec<_>>>() else { continue };
            if let Some(reason) = reasons.iter().find(|reason| !reason.contains("No such file")) {
                return Err(format!("the {library} cannot be loaded: {reason}"));
            }
            let remedy = if library == "NVIDIA driver" { "" } else { "; put its folder on LD_LIBRARY_PATH" };
            return Err(format!("there is no {library} ({}) on this machine{remedy}", files[0]));
        }
    }
    // The version of CUDA whose compiler made the kernels. An older driver cannot read them, and says so in strange ways.
    let needed = env!("NUMFORMER_CUDA_MAJOR").parse::<i32>().map_or(0, |major| 1000 * major);
    let mut version = 0;
    // SAFETY: the version is written to a variable of this type.
    let known = unsafe { sys::cuDriverGetVersion(&mut version) }.result().is_ok();
    if known && version < needed {
        let [found, needed] = [version, needed].map(|version| format!("{}.{}", version / 1000, version % 1000 / 10));
        return Err(format!(
            "the NVIDIA driver is for CUDA {found}: this program needs one for CUDA {needed} or newer"
        ));
    }
    // candle's own errors say less. The context is held until the device exists, so that it is made only once.
    let context = CudaContext::new(ordinal).map_err(|DriverError(error)| match error {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => "there is no GPU on this machine".to_owned(),
        sys::CUresult::CUDA_ERROR_INVALID_DEVICE => "there is no GPU with this number".to_owned(),
        sys::CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => {
            "the driver does not match the rest of the system".to_owned()
        }
        other => format!("{other:?}"),
    })?;
    let device = Device::new_cuda_with_stream(ordinal).map_err(|error| error.to_string())?;
    if let Device::Cuda(cuda) = &device {
        // SAFETY: tensors stay on the one stream of the device, and an accelerator orders its own copies by events.
        unsafe { cuda.disable_event_tracking() };
    }
    keep_memory(&context)?;
    Ok(device)
}

/// Lets the device keep the memory that tensors no longer need. It would go back to the system at every wait otherwise,
/// and come from there for the next step.
#[cfg(feature = "cuda")]
fn keep_memory(context: &cudarc::driver::CudaContext) -> std::result::Result<(), String> {
    use cudarc::driver::sys;

    if !context.has_async_alloc() {
        return Ok(());
    }
    let mut pool = std::ptr::null_mut();
    let mut all = u64::MAX;
    // SAFETY: the pool is written to a variable of this type; the attribute is a number of 64 bits.
    unsafe {
        sys::cuDeviceGetDefaultMemPool(&mut pool, context.cu_device()).result().and_then(|()| {
            let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            sys::cuMemPoolSetAttribute(pool, attribute, std::ptr::from_mut(&mut all).cast()).result()
        })
    }
    .map_err(|error| format!("its memory cannot be set up: {error:?}"))
}

#[cfg(all(test, not(feature = "cuda")))]
mod tests {
    #[test]
    fn a_device_that_cannot_be_had_is_named() {
        let error = super::cuda(1).expect_err("not in this build").to_string();
        assert!(error.starts_with("cuda:1 cannot be opened: ") && error.contains("docs/gpu.md"), "{error}");
    }
}
