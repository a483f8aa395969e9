//! Loops that are compiled once per instruction set; the widest set is chosen at run time.

use std::array;
use std::cell::Cell;
use std::fmt;
use std::ops::Range;
#[cfg(target_arch = "x86_64")]
use std::sync::LazyLock;

/// Number of partial results that a reduction keeps: one AVX-512 register of `f32`.
///
/// It is part of the definition of every sum below, so it does not depend on the processor.
pub(crate) const LANES: usize = 16;

thread_local! {
    /// The level set by [`Level::run`] or [`Level::choose`].
    static CHOSEN: Cell<Option<Level>> = const { Cell::new(None) };
}

/// An instruction set that this processor is known to support.
///
/// The loops of this crate run at the widest level and give the same bits at each level. Only products of matrices differ
/// between levels: without fused multiply-adds they round once more, and instructions for bf16 sum in their own order.
///
/// # Examples
/// ```
/// use numformer_ops::kernels::{Level, layer_norm_rows};
///
/// let normalized = || {
///     let mut y = [0.0; 3];
///     layer_norm_rows::<f32>(&mut y, &mut [], &[1.0, 2.5, 4.0], &mut [[0.0; 2]], &[1.0; 3], &[0.0; 3], 1e-12);
///     y
/// };
/// for level in Level::available() {
///     assert_eq!(level.run(normalized), normalized(), "{level:?}");
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(Set);

/// Each set has all instructions of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Set {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512 with its instruction for products of bf16.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    /// The tile registers of AMX, for products of bf16.
    #[cfg(target_arch = "x86_64")]
    Amx,
}

impl Level {
    /// All levels of this processor: the plain code of the target first, the widest level last.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let widest = Self::widest();
        #[cfg(target_arch = "x86_64")]
        let sets = [Set::Plain, Set::Avx2, Set::Avx512, Set::Avx512Bf16, Set::Amx];
        #[cfg(not(target_arch = "x86_64"))]
        let sets = [Set::Plain];
        sets.into_iter().map(Self).filter(|level| level.0 <= widest.0).collect()
    }

    /// Runs `f` with the loops of this thread at this level, to compare levels. Work that `f` hands to other threads
    /// runs at the widest level, so call this in a pool of one thread.
    pub fn run<T>(self, f: impl FnOnce() -> T) -> T {
        /// Restores the level, even when `f` panics.
        struct Restored(Option<Level>);
        impl Drop for Restored {
            fn drop(&mut self) {
                CHOSEN.set(self.0);
            }
        }
        let _restored = Restored(CHOSEN.replace(Some(self)));
        f()
    }

    /// Keeps the loops of this thread at this level from now on. Threads of a pool may call it when they start.
    pub fn choose(self) {
        CHOSEN.set(Some(self));
    }

    /// The level chosen for this thread, or else the widest of this processor.
    #[must_use]
    pub fn detect() -> Self {
        CHOSEN.get().unwrap_or_else(Self::widest)
    }

    /// Whether this level has instructions for products of bf16.
    #[must_use]
    pub fn has_bf16(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            self.0 >= Set::Avx512Bf16
        }
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Whether products of `f32` have fused multiply-adds at this level. All levels that do give the same bits.
    #[must_use]
    pub fn has_fma(self) -> bool {
        self.0 != Set::Plain || cfg!(any(target_feature = "fma", target_arch = "aarch64"))
    }

    /// The widest level of this processor.
    #[must_use]
    pub fn widest() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            static WIDEST: LazyLock<Set> = LazyLock::new(detected);
            Self(*WIDEST)
        }
        #[cfg(not(target_arch = "x86_64"))]
        Self(Set::Plain)
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn has_avx2(self) -> bool {
        self.0 >= Set::Avx2
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn has_avx512(self) -> bool {
        self.0 >= Set::Avx512
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn has_avx512_bf16(self) -> bool {
        self.0 >= Set::Avx512Bf16
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn has_amx(self) -> bool {
        self.0 >= Set::Amx
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Set::Plain => "plain",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Bf16 => "avx512-bf16",
            #[cfg(target_arch = "x86_64")]
            Set::Amx => "amx",
        })
    }
}

/// The widest set of this processor and system.
#[cfg(target_arch = "x86_64")]
fn detected() -> Set {
    if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("fma") {
        return Set::Plain;
    }
    if !is_x86_feature_detected!("avx512f")
        || !is_x86_feature_detected!("avx512vl")
        || !is_x86_feature_detected!("avx512dq")
        || !is_x86_feature_detected!("avx512bw")
    {
        return Set::Avx2;
    }
    match is_x86_feature_detected!("avx512bf16") {
        false => Set::Avx512,
        true if amx::is_granted() => Set::Amx,
        true => Set::Avx512Bf16,
    }
}

#[cfg(target_arch = "x86_64")]
mod amx {
    //! Whether there are tile registers, and the system lets this process use them.

    use std::arch::x86_64::__cpuid_count;

    pub(super) fn is_granted() -> bool {
        // Bits of the processor's structured extended features: tiles, and their products of bf16.
        const TILES: u32 = 1 << 24;
        const BF16: u32 = 1 << 22;
        let features = __cpuid_count(7, 0).edx;
        features & TILES != 0 && features & BF16 != 0 && request()
    }

    /// Linux keeps the tile registers back until a process asks for them, because they make its stack of signals larger.
    #[cfg(target_os = "linux")]
    fn request() -> bool {
        const ARCH_PRCTL: i64 = 158;
        const REQUEST_COMPONENT: u64 = 0x1023;
        const TILE_DATA: u64 = 18;
        let result: i64;
        #[expect(unsafe_code, reason = "the standard library has no function for this system call")]
        // SAFETY: the call takes two numbers and touches no memory; it changes the registers that are declared.
        unsafe {
            std::arch::asm!(
                "syscall",
                inlateout("rax") ARCH_PRCTL => result,
                in("rdi") REQUEST_COMPONENT,
                in("rsi") TILE_DATA,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        result == 0
    }

    #[cfg(not(target_os = "linux"))]
    fn request() -> bool {
        false
    }
}

/// Defines a function whose body is compiled for each [`Level`] and runs at the widest.
///
/// The body is a plain loop, so there is only one source. The functions that it calls must be `#[inline(always)]`;
/// otherwise they are compiled for the baseline. All levels give the same bits, because reductions use a fixed number
/// of [`LANES`] and `mul_add` rounds once everywhere. Type parameters are written in brackets, and follow from the
/// arguments.
macro_rules! vectorized {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident $([$($generic:ident: $bound:path),*])? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?
        $body:block
    ) => {
        $(#[$meta])*
        $vis fn $name $(<$($generic: $bound),*>)? ($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn plain $(<$($generic: $bound),*>)? ($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2 $(<$($generic: $bound),*>)? ($($arg: $ty),*) $(-> $ret)? {
                    plain($($arg),*)
                }

                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                fn avx512 $(<$($generic: $bound),*>)? ($($arg: $ty),*) $(-> $ret)? {
                    plain($($arg),*)
                }

                let level = $crate::cpu::simd::Level::detect();
                if level.has_avx512() {
                    #[expect(unsafe_code, reason = "calls code for an instruction set")]
                    // SAFETY: a `Level` with AVX-512 exists only where the features were detected.
                    return unsafe { avx512($($arg),*) };
                }
                if level.has_avx2() {
                    #[expect(unsafe_code, reason = "calls code for an instruction set")]
                    // SAFETY: a `Level` with AVX2 exists only where the features were detected.
                    return unsafe { avx2($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    };
}
pub(crate) use vectorized;

/// Asks for the lines of the cache that hold the entries in `range`, as far as these exist: they are to be read soon.
#[inline(always)]
pub(crate) fn fetch<T>(entries: &[T], range: Range<usize>) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

        let Some(entries) = entries.get(range.start..entries.len().min(range.end)) else { return };
        let of_line = (64 / size_of::<T>().max(1)).max(1);
        for entry in entries.iter().step_by(of_line).chain(entries.last()) {
            #[expect(unsafe_code, reason = "takes a pointer")]
            // SAFETY: fetching reads nothing that the program could see.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>((&raw const *entry).cast());
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (entries, range);
}

/// Adds `x` to `y`, entry by entry.
#[inline(always)]
pub(crate) fn accumulate(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

vectorized! {
    /// [`accumulate`] for callers that are not themselves compiled for each level.
    pub(crate) fn add(y: &mut [f32], x: &[f32]) {
        accumulate(y, x);
    }
}

/// Σ xᵢ in [`LANES`] interleaved partial sums.
#[inline(always)]
pub(crate) fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for x in chunks {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane += x;
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x;
    }
    join_lanes(lanes, |a, b| a + b)
}

/// Σ xᵢ·yᵢ in [`LANES`] interleaved partial sums. The slices have the same length.
#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (x_chunks, x_rest) = x.as_chunks::<LANES>();
    let (y_chunks, y_rest) = y.as_chunks::<LANES>();
    for (x, y) in x_chunks.iter().zip(y_chunks) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane = x.mul_add(*y, *lane);
        }
    }
    for ((lane, x), y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *lane = x.mul_add(*y, *lane);
    }
    join_lanes(lanes, |a, b| a + b)
}

/// Σ xᵢ·yᵢ·zᵢ in [`LANES`] interleaved partial sums. The slices have the same length.
#[inline(always)]
pub(crate) fn triple_dot(x: &[f32], y: &[f32], z: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (x_chunks, x_rest) = x.as_chunks::<LANES>();
    let (y_chunks, y_rest) = y.as_chunks::<LANES>();
    let (z_chunks, z_rest) = z.as_chunks::<LANES>();
    for ((x, y), z) in x_chunks.iter().zip(y_chunks).zip(z_chunks) {
        for (((lane, x), y), z) in lanes.iter_mut().zip(x).zip(y).zip(z) {
            *lane = (x * y).mul_add(*z, *lane);
        }
    }
    for (((lane, x), y), z) in lanes.iter_mut().zip(x_rest).zip(y_rest).zip(z_rest) {
        *lane = (x * y).mul_add(*z, *lane);
    }
    join_lanes(lanes, |a, b| a + b)
}

/// Joins the lanes pairwise, as a tree. Each round halves the width of the array and so of the vectors.
#[inline(always)]
pub(crate) fn join_lanes(lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let eight: [f32; 8] = array::from_fn(|i| join(lanes[i], lanes[i + 8]));
    let four: [f32; 4] = array::from_fn(|i| join(eight[i], eight[i + 4]));
    join(join(four[0], four[2]), join(four[1], four[3]))
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "sums of small integers are exact")]
pub(crate) mod tests {
    use super::*;

    /// Runs `f` once at each level this processor has, on this thread.
    pub(crate) fn at_each_level<T>(f: impl Fn() -> T) -> Vec<T> {
        Level::available().into_iter().map(|level| level.run(&f)).collect()
    }

    #[test]
    fn a_level_holds_until_its_run_ends() {
        let widest = Level::detect();
        let levels = Level::available();
        assert_eq!((levels[0], levels[levels.len() - 1]), (Level(Set::Plain), widest));
        for level in levels {
            assert_eq!(level.run(Level::detect), level);
            assert_eq!(level.run(|| widest.run(Level::detect)), widest);
            let in_thread = move || {
                level.choose();
                Level::detect()
            };
            assert_eq!(std::thread::spawn(in_thread).join().expect("a level"), level);
            assert!(std::panic::catch_unwind(|| level.run(|| panic!("on purpose"))).is_err());
            assert_eq!(Level::detect(), widest);
        }
    }

    vectorized! {
        fn reductions(x: &[f32], y: &[f32]) -> [f32; 3] {
            [sum(x), dot(x, y), triple_dot(x, y, x)]
        }
    }

    #[test]
    fn reductions_match_their_definitions() {
        for n in [0, 1, 7, 16, 33, 100] {
            let x: Vec<f32> = (0..n).map(|i| ((i * 37 % 19) as f32) - 9.0).collect();
            let y: Vec<f32> = (0..n).map(|i| ((i * 11 % 7) as f32) - 3.0).collect();
            // Small integers: every order of additions is exact.
            let expected = [
                x.iter().sum::<f32>(),
                x.iter().zip(&y).map(|(x, y)| x * y).sum(),
                x.iter().zip(&y).map(|(x, y)| x * y * x).sum(),
            ];
            assert_eq!(reductions(&x, &y), expected, "n = {n}");
        }
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        let x: Vec<f32> = (0..101).map(|i| (i as f32 * 0.7).sin()).collect();
        let y: Vec<f32> = (0..101).map(|i| (i as f32 * 1.3).cos()).collect();
        let results = at_each_level(|| reductions(&x, &y).map(f32::to_bits));
        assert!(results.iter().all(|r| *r == results[0]), "{results:?}");
    }
}
