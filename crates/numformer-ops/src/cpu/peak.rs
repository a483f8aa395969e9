//! Fused multiply-adds in registers: what no product can exceed.

use super::product::{Operand, multiply_add};
#[cfg(target_arch = "x86_64")]
use super::simd::Level;

/// Does independent fused multiply-adds in registers on the calling thread, as fast as the processor can for operands of
/// type `E`, and returns the number of floating-point operations, two for each: some 10⁵ or more a round. Timed, they are
/// a bound for all products.
///
/// # Examples
/// ```
/// use numformer_ops::kernels::multiply_adds;
///
/// let begin = std::time::Instant::now();
/// let operations = multiply_adds::<f32>(10);
/// assert!(operations / begin.elapsed().as_secs_f64() > 1e6);
/// ```
#[must_use]
pub fn multiply_adds<E: Operand>(rounds: usize) -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        use super::product::Type;
        let level = Level::detect();
        let steps = rounds * 1024;
        if E::TYPE == Type::Bf16 && level.has_bf16() {
            if level.has_amx() {
                return x86::amx(steps);
            }
            #[expect(unsafe_code, reason = "calls code for an instruction set")]
            // SAFETY: the level has the instructions for bf16.
            return unsafe { x86::avx512_bf16(steps) };
        }
        if level.has_avx512() {
            #[expect(unsafe_code, reason = "calls code for an instruction set")]
            // SAFETY: the level has AVX-512.
            return unsafe { x86::avx512(steps) };
        }
        if level.has_avx2() {
            #[expect(unsafe_code, reason = "calls code for an instruction set")]
            // SAFETY: the level has AVX2 and FMA.
            return unsafe { x86::avx2(steps) };
        }
    }
    plain(rounds * 1024)
}

/// For targets without instructions that are looked for: whatever the compiler makes of a loop.
fn plain(steps: usize) -> f64 {
    const SUMS: usize = 64;
    let mut sums = [1.0f32; SUMS];
    for _ in 0..16 * steps {
        for sum in &mut sums {
            *sum = multiply_add(*sum, 0.5, 0.5);
        }
    }
    std::hint::black_box(sums);
    (2 * SUMS * 16 * steps) as f64
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use crate::cpu::product::with_tiles;

    /// A function that repeats an instruction on as many registers as hide its latency, all operands from registers.
    macro_rules! repeated {
        ($name:ident, $features:literal, $sums:literal, $lanes:literal, $one:expr, $step:expr) => {
            /// # Safety
            /// The processor has these features.
            #[target_feature(enable = $features)]
            #[expect(unsafe_code, reason = "for an instruction set")]
            pub(super) unsafe fn $name(steps: usize) -> f64 {
                let one = $one;
                let mut sums = [one; $sums];
                for _ in 0..steps {
                    for sum in &mut sums {
                        *sum = $step(*sum, one);
                    }
                }
                black_box(sums);
                (2 * $lanes * $sums * steps) as f64
            }
        };
    }

    repeated!(avx2, "avx2,fma", 12, 8, _mm256_set1_ps(0.5), |x, one| _mm256_fmadd_ps(x, one, one));
    repeated!(avx512, "avx512f", 16, 16, _mm512_set1_ps(0.5), |x, one| _mm512_fmadd_ps(x, one, one));
    repeated!(avx512_bf16, "avx512f,avx512bf16", 16, 32, _mm512_set1_ps(0.5), |x, one| {
        let pairs = _mm512_cvtne2ps_pbh(one, one);
        _mm512_dpbf16_ps(x, pairs, pairs)
    });

    pub(super) fn amx(steps: usize) -> f64 {
        with_tiles(|| {
            #[expect(unsafe_code, reason = "there are no stable intrinsics for AMX")]
            // SAFETY: `with_tiles` has asked the level, and the registers have shapes. The instructions touch no memory.
            unsafe {
                asm!(
                    "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                    "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
                    "2:",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "dec {steps}",
                    "jnz 2b",
                    steps = inout(reg) steps.max(1) => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, nomem),
                );
            }
        });
        (4 * 2 * 16 * 16 * 32 * steps.max(1)) as f64
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::cpu::simd::tests::at_each_level;

    #[test]
    fn operations_grow_with_the_rounds() {
        for [few, more] in at_each_level(|| [multiply_adds::<f32>(1), multiply_adds::<f32>(3)])
            .into_iter()
            .chain(at_each_level(|| [multiply_adds::<bf16>(1), multiply_adds::<bf16>(3)]))
        {
            assert!(few > 1e5 && (more - 3.0 * few).abs() < 1.0);
        }
    }
}
