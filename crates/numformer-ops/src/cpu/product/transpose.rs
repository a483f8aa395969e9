//! Transposing units.

#[cfg(target_arch = "x86_64")]
use crate::cpu::simd::Level;

/// Stores the transpose of `lines` rows of `units` entries: entry (i, u) of `src` becomes entry (u, i) of `dst`. Rows are
/// as far apart as the strides say.
pub(super) fn transpose(
    dst: &mut [u32],
    dst_stride: usize,
    src: &[u32],
    src_stride: usize,
    [lines, units]: [usize; 2],
) {
    if lines == 0 || units == 0 {
        return;
    }
    // Unsafe code relies on these.
    assert!((lines - 1) * src_stride + units <= src.len() && (units - 1) * dst_stride + lines <= dst.len());
    #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "there are no blocks"))]
    let mut done = [0; 2];
    #[cfg(target_arch = "x86_64")]
    {
        let level = Level::detect();
        let side = if level.has_avx512() { 16 } else { 8 };
        if level.has_avx2() {
            done = [lines / side * side, units / side * side];
        }
        for i in (0..done[0]).step_by(side) {
            for u in (0..done[1]).step_by(side) {
                let (src, dst) = (&src[i * src_stride + u..], &mut dst[u * dst_stride + i..]);
                #[expect(unsafe_code, reason = "calls code for an instruction set, which works on pointers")]
                // SAFETY: the level says that the instructions are there. The block lies within the rows and columns, which
                // lie within the slices, as asserted above.
                unsafe {
                    if side == 16 {
                        x86::transpose_16(dst.as_mut_ptr(), dst_stride, src.as_ptr(), src_stride);
                    } else {
                        x86::transpose_8(dst.as_mut_ptr(), dst_stride, src.as_ptr(), src_stride);
                    }
                }
            }
        }
    }
    for i in 0..lines {
        // The rest of the rows that have blocks, then whole rows.
        for u in if i < done[0] { done[1] } else { 0 }..units {
            dst[u * dst_stride + i] = src[i * src_stride + u];
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "reads and writes through pointers")]
mod x86 {
    use std::arch::x86_64::*;

    /// # Safety
    /// 16 rows of 16 entries can be read at `src`, and written at `dst`, as far apart as the strides say.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn transpose_16(dst: *mut u32, dst_stride: usize, src: *const u32, src_stride: usize) {
        // Pairs of rows, then pairs of pairs, are interleaved within each quarter of a vector; then quarters change places.
        let rows: [__m512i; 16] = std::array::from_fn(|i| {
            // SAFETY: by the contract of this function.
            unsafe { _mm512_loadu_si512(src.add(i * src_stride).cast()) }
        });
        let pairs: [__m512i; 16] = std::array::from_fn(|i| {
            let [a, b] = [rows[i / 2 * 2], rows[i / 2 * 2 + 1]];
            if i % 2 == 0 { _mm512_unpacklo_epi32(a, b) } else { _mm512_unpackhi_epi32(a, b) }
        });
        let fours: [__m512i; 16] = std::array::from_fn(|i| {
            let first = i / 4 * 4 + i % 4 / 2;
            let [a, b] = [pairs[first], pairs[first + 2]];
            if i % 2 == 0 { _mm512_unpacklo_epi64(a, b) } else { _mm512_unpackhi_epi64(a, b) }
        });
        for i in 0..4 {
            let [a, b, c, d] = [fours[i], fours[i + 4], fours[i + 8], fours[i + 12]];
            let even = [_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0x88>(c, d)];
            let odd = [_mm512_shuffle_i32x4::<0xdd>(a, b), _mm512_shuffle_i32x4::<0xdd>(c, d)];
            let columns = [
                _mm512_shuffle_i32x4::<0x88>(even[0], even[1]),
                _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]),
                _mm512_shuffle_i32x4::<0xdd>(even[0], even[1]),
                _mm512_shuffle_i32x4::<0xdd>(odd[0], odd[1]),
            ];
            for (quarter, column) in columns.into_iter().enumerate() {
                // SAFETY: by the contract of this function.
                unsafe { _mm512_storeu_si512(dst.add((4 * quarter + i) * dst_stride).cast(), column) };
            }
        }
    }

    /// # Safety
    /// 8 rows of 8 entries can be read at `src`, and written at `dst`, as far apart as the strides say.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn transpose_8(dst: *mut u32, dst_stride: usize, src: *const u32, src_stride: usize) {
        let rows: [__m256i; 8] = std::array::from_fn(|i| {
            // SAFETY: by the contract of this function.
            unsafe { _mm256_loadu_si256(src.add(i * src_stride).cast()) }
        });
        let pairs: [__m256i; 8] = std::array::from_fn(|i| {
            let [a, b] = [rows[i / 2 * 2], rows[i / 2 * 2 + 1]];
            if i % 2 == 0 { _mm256_unpacklo_epi32(a, b) } else { _mm256_unpackhi_epi32(a, b) }
        });
        let fours: [__m256i; 8] = std::array::from_fn(|i| {
            let first = i / 4 * 4 + i % 4 / 2;
            let [a, b] = [pairs[first], pairs[first + 2]];
            if i % 2 == 0 { _mm256_unpacklo_epi64(a, b) } else { _mm256_unpackhi_epi64(a, b) }
        });
        for i in 0..4 {
            let [a, b] = [fours[i], fours[i + 4]];
            let columns = [_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b)];
            for (half, column) in columns.into_iter().enumerate() {
                // SAFETY: by the contract of this function.
                unsafe { _mm256_storeu_si256(dst.add((4 * half + i) * dst_stride).cast(), column) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd::tests::at_each_level;

    #[test]
    fn every_entry_changes_places_and_no_other_is_touched() {
        for (lines, units) in [(1, 1), (7, 33), (16, 16), (33, 65), (13, 8), (64, 1), (0, 5), (5, 0)] {
            let src: Vec<u32> = (0..lines as u32 * 70).collect();
            for dst in at_each_level(|| {
                let mut dst = vec![u32::MAX; units * 67];
                transpose(&mut dst, 67, &src, 70, [lines, units]);
                dst
            }) {
                for (at, found) in dst.iter().enumerate() {
                    let (u, i) = (at / 67, at % 67);
                    let expected = if i < lines { src[i * 70 + u] } else { u32::MAX };
                    assert_eq!(*found, expected, "{lines}×{units} at {u}, {i}");
                }
            }
        }
    }
}
