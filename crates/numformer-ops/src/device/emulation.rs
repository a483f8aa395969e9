//! The kernels compiled for the host.

use std::env;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::{Error, Result, bail};
use half::bf16;
use libloading::Library;

use super::executor::{Executor, Launch, RawProduct};
use super::region::Element;

/// The sources of the kernels, and of the code that runs them on the host.
const SOURCES: [(&str, &str); 15] = [
    ("kernels.cu", include_str!("../cuda/kernels.cu")),
    ("emulation.h", include_str!("../cuda/emulation.h")),
    ("common.cuh", include_str!("../cuda/common.cuh")),
    ("accumulation.cuh", include_str!("../cuda/accumulation.cuh")),
    ("adam.cuh", include_str!("../cuda/adam.cuh")),
    ("attention.cuh", include_str!("../cuda/attention.cuh")),
    ("attention_widths.cuh", include_str!("../cuda/attention_widths.cuh")),
    ("chacha.cuh", include_str!("../cuda/chacha.cuh")),
    ("cross_entropy.cuh", include_str!("../cuda/cross_entropy.cuh")),
    ("dropout.cuh", include_str!("../cuda/dropout.cuh")),
    ("elementwise.cuh", include_str!("../cuda/elementwise.cuh")),
    ("embedding.cuh", include_str!("../cuda/embedding.cuh")),
    ("gradients.cuh", include_str!("../cuda/gradients.cuh")),
    ("greedy.cuh", include_str!("../cuda/greedy.cuh")),
    ("layer_norm.cuh", include_str!("../cuda/layer_norm.cuh")),
];

/// The function `emulate` of emulation.h.
type Emulate = unsafe extern "C" fn(*const c_char, *const c_uint, *const c_uint, *const *const c_void) -> c_int;

/// A device in host memory.
#[derive(Debug)]
pub(super) struct Emulation {
    kernels: Arc<Mutex<Library>>,
    /// Blocks of 256 bytes, so that addresses are multiples of 256.
    memory: Vec<Vec<Block>>,
    recording: Option<Vec<Work>>,
    recordings: Vec<Vec<Work>>,
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(256))]
struct Block([u8; 256]);

#[derive(Clone, Debug)]
enum Work {
    Launch(Launch),
    Multiply(RawProduct),
}

impl Emulation {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { kernels: library()?, memory: Vec::new(), recording: None, recordings: Vec::new() })
    }

    fn run(&self, work: &Work) -> Result<()> {
        match work {
            Work::Launch(launch) => self.run_kernel(launch),
            // SAFETY: the caller of `multiply` has promised that the matrices are in memory of this device.
            Work::Multiply(product) => unsafe { multiply(product) },
        }
    }

    fn run_kernel(&self, launch: &Launch) -> Result<()> {
        // One kernel at a time: the threads of a kernel are fibers that share variables.
        let library = self.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        let name = CString::new(launch.kernel.as_str()).map_err(Error::wrap)?;
        let block = [launch.block[0], launch.block[1], 1];
        let arguments: Vec<*const c_void> = launch.arguments.iter().map(|a| std::ptr::from_ref(a).cast()).collect();
        // SAFETY: the function has this type, and the caller of `launch` has promised that the arguments fit the
        // kernel.
        let status = unsafe {
            let emulate = library.get::<Emulate>(b"emulate").map_err(Error::wrap)?;
            emulate(name.as_ptr(), launch.grid.as_ptr(), block.as_ptr(), arguments.as_ptr())
        };
        if status != 0 {
            bail!("there is no kernel `{}`", launch.kernel);
        }
        Ok(())
    }

    fn take(&mut self, work: Work) -> Result<()> {
        match &mut self.recording {
            Some(recording) => recording.push(work),
            None => self.run(&work)?,
        }
        Ok(())
    }
}

impl Executor for Emulation {
    fn name(&self) -> String {
        "the kernels on the host, emulated".to_owned()
    }

    fn allocate(&mut self, bytes: usize) -> Result<u64> {
        let block = vec![Block([0; 256]); bytes.div_ceil(256)];
        let address = block.as_ptr() as u64;
        self.memory.push(block);
        Ok(address)
    }

    unsafe fn upload(&mut self, to: u64, bytes: &[u8]) -> Result<()> {
        // SAFETY: the caller has promised this many bytes at the address; they do not belong to a slice of the host.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
        Ok(())
    }

    unsafe fn download(&mut self, from: u64, bytes: &mut [u8]) -> Result<()> {
        // SAFETY: as for `upload`.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    unsafe fn copy(&mut self, to: u64, from: u64, bytes: usize) -> Result<()> {
        // SAFETY: as for `upload`.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes) };
        Ok(())
    }

    unsafe fn launch(&mut self, launch: &Launch) -> Result<()> {
        self.take(Work::Launch(launch.clone()))
    }

    unsafe fn multiply(&mut self, product: &RawProduct) -> Result<()> {
        self.take(Work::Multiply(*product))
    }

    fn begin_recording(&mut self) -> Result<()> {
        self.recording = Some(Vec::new());
        Ok(())
    }

    fn end_recording(&mut self) -> Result<usize> {
        self.recordings.push(self.recording.take().unwrap_or_default());
        Ok(self.recordings.len() - 1)
    }

    fn replay(&mut self, recording: usize) -> Result<()> {
        self.recordings[recording].iter().try_for_each(|work| self.run(work))
    }
}

/// The product by its definition, with sums in `f32`.
///
/// # Safety
/// As for [`Executor::multiply`].
unsafe fn multiply(product: &RawProduct) -> Result<()> {
    let RawProduct { sizes: [m, n, k], a, b, c, input, output, transposed, bias, relu, accumulate } = *product;
    // SAFETY: the caller has promised that the matrices are there, with these sizes.
    let load = |address: u64, element: Element, at: usize| unsafe {
        match element {
            Element::Bf16 => (address as *const bf16).add(at).read().to_f32(),
            _ => (address as *const f32).add(at).read(),
        }
    };
    let [a_step, b_step] = [if transposed[0] { (1, m) } else { (k, 1) }, if transposed[1] { (1, k) } else { (n, 1) }];
    for i in 0..m {
        for j in 0..n {
            let term = |l| load(a, input, i * a_step.0 + l * a_step.1) * load(b, input, l * b_step.0 + j * b_step.1);
            let mut sum: f32 = (0..k).map(term).sum();
            let at = i * n + j;
            if let Some(bias) = bias {
                sum += load(bias, output, j);
            }
            if accumulate {
                sum += load(c, output, at);
            }
            if relu {
                sum = sum.max(0.0);
            }
            // SAFETY: as above.
            unsafe {
                match output {
                    Element::Bf16 => (c as *mut bf16).add(at).write(bf16::from_f32(sum)),
                    _ => (c as *mut f32).add(at).write(sum),
                }
            }
        }
    }
    Ok(())
}

/// The kernels as a library, compiled once per process.
fn library() -> Result<Arc<Mutex<Library>>> {
    static LIBRARY: OnceLock<std::result::Result<Arc<Mutex<Library>>, String>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| compile().map(|library| Arc::new(Mutex::new(library))));
    library.clone().map_err(Error::Msg)
}

fn compile() -> std::result::Result<Library, String> {
    let folder = env::temp_dir().join(format!("numformer-kernels-{}", std::process::id()));
    let compiled = compile_in(&folder);
    // A loaded library remains usable after its file is deleted.
    let _ = fs::remove_dir_all(&folder);
    compiled
}

fn compile_in(folder: &Path) -> std::result::Result<Library, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("cannot {what} {}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(|error| failed("make", &error))?;
    for (name, text) in SOURCES {
        fs::write(folder.join(name), text).map_err(|error| failed("write to", &error))?;
    }
    let compiler = env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let library = folder.join("kernels.so");
    let output = Command::new(&compiler)
        .current_dir(folder)
        .args(["-std=c++17", "-O2", "-fPIC", "-shared", "-x", "c++", "-include", "emulation.h", "kernels.cu", "-o"])
        .arg(&library)
        .output()
        .map_err(|error| format!("cannot run the C++ compiler `{compiler}`: {error}; set CXX to one"))?;
    if !output.status.success() {
        return Err(format!("`{compiler}` fails to compile the kernels: {}", String::from_utf8_lossy(&output.stderr)));
    }
    // SAFETY: the code that runs on loading only fills a table of the kernels.
    unsafe { Library::new(&library) }.map_err(|error| failed("load the kernels from", &error))
}
