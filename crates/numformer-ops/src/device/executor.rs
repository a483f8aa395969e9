//! Where kernels run.

use std::fmt::Debug;

use candle_core::Result;

use super::region::Element;

/// Memory, copies, launches and products of one device, in the order in which they are given.
pub(super) trait Executor: Debug + Send {
    /// What it is, in words.
    fn name(&self) -> String;

    /// Memory of so many bytes, zeros, at an address that is a multiple of 256. It stays until the executor is dropped.
    fn allocate(&mut self, bytes: usize) -> Result<u64>;

    /// Copies to the device. The bytes may be changed afterwards, whether they have arrived or not.
    ///
    /// # Safety
    /// There are so many bytes at the address, in memory that was allocated here.
    unsafe fn upload(&mut self, to: u64, bytes: &[u8]) -> Result<()>;

    /// Copies from the device, when all work before it is done.
    ///
    /// # Safety
    /// As for [`upload`](Self::upload).
    unsafe fn download(&mut self, from: u64, bytes: &mut [u8]) -> Result<()>;

    /// Runs a kernel.
    ///
    /// # Safety
    /// The arguments are those of the kernel, in number, order and kind, and with them it stays within memory that was
    /// allocated here.
    unsafe fn launch(&mut self, launch: &Launch) -> Result<()>;

    /// A product of matrices.
    ///
    /// # Safety
    /// The matrices are in memory that was allocated here.
    unsafe fn multiply(&mut self, product: &RawProduct) -> Result<()>;

    /// From here on, launches and products are written down instead of run.
    fn begin_recording(&mut self) -> Result<()>;

    /// Returns what was written down, as a number.
    fn end_recording(&mut self) -> Result<usize>;

    /// Runs what was written down.
    fn replay(&mut self, recording: usize) -> Result<()>;
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

/// C = op(A)·op(B), all row-major and without gaps, with C `[m, n]` and a sum over `k`.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(any(test, feature = "cuda", feature = "emulation")), expect(dead_code, reason = "no device reads it"))]
pub(super) struct RawProduct {
    pub(super) sizes: [usize; 3],
    pub(super) a: u64,
    pub(super) b: u64,
    pub(super) c: u64,
    /// Of A and B.
    pub(super) input: Element,
    /// Of C and the bias.
    pub(super) output: Element,
    /// Whether A is stored as `[k, m]`, and B as `[n, k]`.
    pub(super) transposed: [bool; 2],
    /// Added to each row, `[n]`.
    pub(super) bias: Option<u64>,
    /// Whether what is negative is replaced by zero in the end.
    pub(super) relu: bool,
    /// Whether the product is added to what C holds.
    pub(super) accumulate: bool,
}
