//! The interface through which kernels run on a device.

use std::fmt::Debug;

use candle_core::Result;

use super::region::Element;

/// Memory, copies, launches and products of one device, done in the order in which they are requested.
pub(super) trait Executor: Debug + Send {
    /// A description of the device in words.
    fn name(&self) -> String;

    /// Allocates `bytes` zero bytes at an address that is a multiple of 256. They stay valid until the executor is
    /// dropped.
    fn allocate(&mut self, bytes: usize) -> Result<u64>;

    /// Copies to the device. The caller may change the bytes afterwards, even if they have not yet arrived.
    ///
    /// # Safety
    /// The address has room for all bytes, in memory that was allocated here.
    unsafe fn upload(&mut self, to: u64, bytes: &[u8]) -> Result<()>;

    /// Copies from the device, after all earlier work is done.
    ///
    /// # Safety
    /// As for [`upload`](Self::upload).
    unsafe fn download(&mut self, from: u64, bytes: &mut [u8]) -> Result<()>;

    /// Copies within the device.
    ///
    /// # Safety
    /// Both addresses have this many bytes, in memory that was allocated here or in that of a tensor on the same device
    /// and stream, and do not overlap.
    unsafe fn copy(&mut self, to: u64, from: u64, bytes: usize) -> Result<()>;

    /// Runs a kernel.
    ///
    /// # Safety
    /// The arguments are those of the kernel, in number, order and kind, and with them it stays within memory that was
    /// allocated here.
    unsafe fn launch(&mut self, launch: &Launch) -> Result<()>;

    /// Multiplies two matrices.
    ///
    /// # Safety
    /// The matrices are in memory that was allocated here.
    unsafe fn multiply(&mut self, product: &RawProduct) -> Result<()>;

    /// From here on, launches and products are recorded instead of run.
    fn begin_recording(&mut self) -> Result<()>;

    /// Ends the recording and returns its number.
    fn end_recording(&mut self) -> Result<usize>;

    /// Runs a recording.
    fn replay(&mut self, recording: usize) -> Result<()>;
}

/// The error of a device that cannot do something.
#[cfg(feature = "cuda")]
pub(super) fn failed(what: &str, error: impl Debug) -> candle_core::Error {
    candle_core::Error::Msg(format!("the device cannot {what}: {error:?}"))
}

/// A kernel with its arguments.
#[derive(Clone, Debug)]
#[cfg_attr(not(any(test, feature = "cuda", feature = "emulation")), expect(dead_code, reason = "no device reads it"))]
pub(super) struct Launch {
    pub(super) kernel: String,
    pub(super) grid: [u32; 3],
    pub(super) block: [u32; 2],
    pub(super) arguments: Vec<Argument>,
}

/// An argument of a kernel, at the beginning of eight bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(super) struct Argument([u8; 8]);

impl Argument {
    pub(super) const NULL: Self = Self([0; 8]);
}

impl From<u64> for Argument {
    fn from(address: u64) -> Self {
        Self(address.to_ne_bytes())
    }
}

impl From<u32> for Argument {
    fn from(size: u32) -> Self {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&size.to_ne_bytes());
        Self(bytes)
    }
}

impl From<f32> for Argument {
    fn from(number: f32) -> Self {
        Self::from(number.to_bits())
    }
}

/// C = op(A)·op(B), all row-major and contiguous, with C `[m, n]` and a sum over `k`.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(any(test, feature = "cuda", feature = "emulation")), expect(dead_code, reason = "no device reads it"))]
pub(super) struct RawProduct {
    pub(super) sizes: [usize; 3],
    pub(super) a: u64,
    pub(super) b: u64,
    pub(super) c: u64,
    /// The element type of A and B.
    pub(super) input: Element,
    /// The element type of C and the bias.
    pub(super) output: Element,
    /// Whether A is stored as `[k, m]`, and B as `[n, k]`.
    pub(super) transposed: [bool; 2],
    /// A vector added to each row, `[n]`.
    pub(super) bias: Option<u64>,
    /// Whether negative entries of the result are replaced by zero.
    pub(super) relu: bool,
    /// Whether the product is added to the old entries of C.
    pub(super) accumulate: bool,
}
