//! Every kernel against a sum in double precision, at odd sizes.

use half::bf16;

use super::*;
use crate::cpu::simd::tests::at_each_level;

const SIZES: [usize; 6] = [1, 7, 13, 33, 65, 100];

/// Numbers between -1 and 1.
fn numbers<T: Operand>(len: usize, seed: u32) -> Vec<T> {
    let mut state = seed.wrapping_mul(2_654_435_769).wrapping_add(1);
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        T::round((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
    };
    (0..len).map(next).collect()
}

fn widened<T: Operand>(x: &[T]) -> Vec<f64> {
    x.iter().map(|x| f64::from(x.widen())).collect()
}

/// Entry (i, j) of A·B and the sum of the magnitudes of its terms, where `a` is `[m, k]` and `b` `[k, n]`.
fn entry(a: &[f64], b: &[f64], [n, k]: [usize; 2], i: usize, j: usize) -> [f64; 2] {
    let terms = (0..k).map(|l| a[i * k + l] * b[l * n + j]);
    [terms.clone().sum(), terms.map(f64::abs).sum()]
}

fn packed<S: Operand, E: Operand>(right: MatRef<'_, S>) -> Panels<E> {
    let mut panels = Panels::default();
    panels.pack(right);
    panels
}

fn transposed<T: Copy>(x: &[T], columns: usize) -> Vec<T> {
    (0..x.len()).map(|at| x[at % (x.len() / columns) * columns + at / (x.len() / columns)]).collect()
}

/// The product of operands stored in every order, at each level; all orders give the same bits.
fn products<S: Operand, E: Operand>(a: &[S], b: &[S], [m, n, k]: [usize; 3]) -> Vec<Vec<f32>> {
    let (a_t, b_t) = (transposed(a, k), transposed(b, n));
    let gap = [S::round(f32::NAN); 5];
    let apart: Vec<S> = a.chunks_exact(k).flat_map(|row| gap.iter().chain(row)).copied().collect();
    at_each_level(|| {
        let with_gaps = MatRef::new(&apart, m, k + 5, k + 5).columns(5..k + 5);
        let lefts = [MatRef::new(a, m, k, k), MatRef::new(&a_t, k, m, m).t(), with_gaps];
        let rights = [MatRef::new(b, k, n, n), MatRef::new(&b_t, n, k, k).t()];
        let mut found = lefts.iter().flat_map(|left| {
            rights.map(|right| {
                let mut dst = vec![f32::NAN; m * n];
                let epilogue = Epilogue::<f32>::Replace(1.0);
                multiply_packed(MatMut::filling(&mut dst, n), *left, &packed::<S, E>(right), &epilogue);
                dst
            })
        });
        let first = found.next().expect("there are six orders");
        assert!(found.all(|other| bits(&other) == bits(&first)), "{m}×{n}×{k}");
        first
    })
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// All combinations of sizes.
fn cross(m: &[usize], n: &[usize], k: &[usize]) -> Vec<[usize; 3]> {
    m.iter().flat_map(|m| n.iter().flat_map(|n| k.iter().map(|k| [*m, *n, *k]))).collect()
}

#[test]
fn every_kernel_gives_the_product() {
    fn check<S: Operand, E: Operand>(sizes: [usize; 3]) {
        let [m, n, k] = sizes;
        let (a, b) = (numbers::<S>(m * k, 1), numbers::<S>(k * n, 2));
        let round = |x: &[S]| widened(&x.iter().map(|x| E::round(x.widen())).collect::<Vec<_>>());
        let (exact_a, exact_b) = (round(&a), round(&b));
        for found in products::<S, E>(&a, &b, sizes) {
            for (at, found) in found.iter().enumerate() {
                let [expected, magnitude] = entry(&exact_a, &exact_b, [n, k], at / n, at % n);
                let error = (f64::from(*found) - expected).abs();
                assert!(error <= 1e-6 * magnitude, "{m}×{n}×{k}: expected {expected}, found {found}");
            }
        }
    }
    let mut sizes = cross(&SIZES, &SIZES, &SIZES);
    // Every number of rows of a kernel, with every number of vectors and of steps that are not written out.
    sizes.extend(cross(&(1..=13).collect::<Vec<_>>(), &[1, 17, 64, 80, 129], &[2, 3, 5]));
    for sizes in sizes {
        check::<f32, f32>(sizes);
        check::<f32, bf16>(sizes);
        check::<bf16, bf16>(sizes);
    }
    // Long lines, lines far apart, and more rows than are copied at once.
    check::<f32, f32>([3, 33, 1100]);
    check::<bf16, bf16>([3, 33, 2100]);
    check::<f32, f32>([500, 2, 3]);
    check::<f32, f32>([30, 33, 512]);
    check::<f32, f32>([150, 130, 20]);
    check::<f32, f32>([2100, 130, 96]);
    check::<f32, bf16>([60, 2, 9000]);
    check::<bf16, bf16>([4200, 2, 96]);
}

/// Fused multiply-adds in the order of the shared axis leave no choice of rounding, and neither do exact products.
#[test]
fn kernels_agree_in_every_bit_where_the_order_of_sums_allows() {
    let sizes = [33, 65, 131];
    let [m, n, k] = sizes;
    let fused = products::<f32, f32>(&numbers(m * k, 1), &numbers(k * n, 2), sizes);
    for (found, level) in fused.iter().zip(Level::available()) {
        assert!(!level.has_fma() || bits(found) == bits(&fused[fused.len() - 1]), "{level:?}");
    }
    // A product that is rounded to −0 is added to 0.
    let vanishing = products::<f32, f32>(&[1e-30; 2], &[-1e-30; 33], [2, 33, 1]);
    for (found, level) in vanishing.iter().zip(Level::available()) {
        assert!(!level.has_fma() || bits(found) == [0; 66], "{level:?}");
    }
    let rounded = products::<bf16, bf16>(&numbers(m * k, 1), &numbers(k * n, 2), sizes);
    for (found, level) in rounded.iter().zip(Level::available()) {
        assert!(level.has_bf16() || bits(found) == bits(&rounded[0]), "{level:?}");
    }
}

/// The rows of a product do not depend on the rows beside them, nor on where they lie in memory.
#[test]
fn rows_are_independent() {
    fn check<E: Operand>() {
        let (m, n, k) = (100, 40, 64);
        let b = numbers::<E>(k * n, 2);
        // With room, so that the rows can begin at the beginning of a line of the cache, where a kernel may read them.
        let memory = numbers::<E>(m * k + 64, 1);
        at_each_level(|| {
            let b = packed::<E, E>(MatRef::new(&b, k, n, n));
            let product = |begin: usize, rows: usize| {
                let mut dst = vec![f32::NAN; rows * n];
                let left = MatRef::new(&memory[begin..], rows, k, k);
                multiply_packed(MatMut::filling(&mut dst, n), left, &b, &Epilogue::<f32>::Replace(1.0));
                bits(&dst)
            };
            let aligned = memory.as_ptr().align_offset(64);
            for begin in [aligned, aligned + 1] {
                let whole = product(begin, m);
                for (first, rows) in [(0, 1), (0, 32), (5, 33), (40, 60), (99, 1)] {
                    assert_eq!(product(begin + first * k, rows), whole[first * n..(first + rows) * n]);
                }
            }
        });
    }
    check::<f32>();
    check::<bf16>();
}

/// Threads of a pool may have a level of their own.
#[test]
fn panels_can_be_multiplied_at_another_level() {
    fn check<E: Operand>() {
        let (m, n, k) = (7, 33, 13);
        let (a, b) = (numbers::<f32>(m * k, 1), numbers::<f32>(k * n, 2));
        let a_t = transposed(&a, k);
        let rounded = |x: &[f32]| widened(&x.iter().map(|x| E::round(*x)).collect::<Vec<_>>());
        let (exact_a, exact_b) = (rounded(&a), rounded(&b));
        for panels in at_each_level(|| packed::<f32, E>(MatRef::new(&b, k, n, n))) {
            let product = |left: MatRef<'_>| {
                let mut dst = vec![f32::NAN; m * n];
                multiply_packed(MatMut::filling(&mut dst, n), left, &panels, &Epilogue::<f32>::Replace(1.0));
                dst
            };
            let lefts = [MatRef::new(&a, m, k, k), MatRef::new(&a_t, k, m, m).t()];
            for found in at_each_level(|| lefts.map(product).concat()) {
                for (at, found) in found.iter().enumerate() {
                    let [expected, magnitude] = entry(&exact_a, &exact_b, [n, k], at / n % m, at % n);
                    assert!((f64::from(*found) - expected).abs() <= 1e-6 * magnitude);
                }
            }
        }
    }
    check::<f32>();
    check::<bf16>();
}

#[test]
fn what_is_not_finite_stays_in_its_row_and_column() {
    fn check<E: Operand>() {
        // In a whole panel, and in the last.
        let (m, n, k, touched) = (33, 147, 13, [20, 146]);
        for special in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let (mut a, mut b) = (numbers::<f32>(m * k, 1), numbers::<f32>(k * n, 2));
            a[7 * k + 3] = special;
            touched.iter().for_each(|column| b[12 * n + column] = special);
            for found in products::<f32, E>(&a, &b, [m, n, k]) {
                for (at, found) in found.iter().enumerate() {
                    let is_touched = at / n == 7 || touched.contains(&(at % n));
                    assert_eq!(found.is_finite(), !is_touched, "{special} at {}, {}", at / n, at % n);
                }
            }
        }
    }
    check::<f32>();
    check::<bf16>();
}

/// Instructions for bf16 take denormal numbers as 0; all others count them.
#[test]
fn denormal_numbers_are_numbers_or_zero() {
    let (m, n, k) = (7, 33, 33);
    let tiny = f32::MIN_POSITIVE / 4.0;
    let a: Vec<f32> = vec![tiny; m * k];
    let b: Vec<f32> = vec![1.0; k * n];
    for found in products::<f32, f32>(&a, &b, [m, n, k]) {
        assert!(found.iter().all(|x| *x == k as f32 * tiny));
    }
    for (found, level) in products::<f32, bf16>(&a, &b, [m, n, k]).into_iter().zip(Level::available()) {
        assert!(found.iter().all(|x| *x == if level.has_bf16() { 0.0 } else { k as f32 * tiny }), "{level:?}");
    }
}

#[test]
fn epilogues_do_what_they_say() {
    fn check<E: Operand>([m, n, k]: [usize; 3]) {
        let (a, b) = (numbers::<E>(m * k, 1), numbers::<E>(k * n, 2));
        let (bias, other) = (numbers::<f32>(n, 3), numbers::<f32>(m * n, 4));
        let (exact_a, exact_b) = (widened(&a), widened(&b));
        let sums: Vec<_> = (0..m * n).map(|at| entry(&exact_a, &exact_b, [n, k], at / n, at % n)).collect();
        let sum = |at: usize| sums[at][0];
        let residual = MatRef::filling(&other, n);
        type Expected<'a> = Box<dyn Fn(usize) -> f64 + 'a>;
        let wide = |x: &f32| f64::from(*x);
        let cases: [(Epilogue<'_>, Expected<'_>); 6] = [
            (Epilogue::Replace(-0.5), Box::new(|at| -0.5 * sum(at))),
            (Epilogue::Add, Box::new(|at| wide(&other[at]) + sum(at))),
            (Epilogue::Bias(&bias), Box::new(|at| sum(at) + wide(&bias[at % n]))),
            (Epilogue::BiasRelu(&bias), Box::new(|at| (sum(at) + wide(&bias[at % n])).max(0.0))),
            (Epilogue::BiasResidual(&bias, residual), Box::new(|at| sum(at) + wide(&bias[at % n]) + wide(&other[at]))),
            (Epilogue::Mask(residual), Box::new(|at| if other[at] > 0.0 { sum(at) } else { 0.0 })),
        ];
        for (epilogue, expected) in cases {
            let all = at_each_level(|| {
                // Rows that are longer than the product keep their ends.
                let mut dst = vec![9.0; m * (n + 3)];
                for (row, other) in dst.chunks_exact_mut(n + 3).zip(other.chunks_exact(n)) {
                    row[..n].copy_from_slice(other);
                }
                let right = packed::<E, E>(MatRef::new(&b, k, n, n));
                multiply_packed(MatMut::new(&mut dst, m, n, n + 3), MatRef::new(&a, m, k, k), &right, &epilogue);
                dst
            });
            // Levels that take sums in the same order agree in every bit.
            let has_order = |level: Level| level.has_fma() && (E::TYPE == Type::F32 || !level.has_bf16());
            let in_order = || all.iter().zip(Level::available()).filter(|(_, level)| has_order(*level));
            for ((found, level), (other, _)) in in_order().zip(in_order().skip(1)) {
                assert!(bits(found) == bits(other), "{level:?}: {epilogue:?}");
            }
            for found in &all {
                for (i, row) in found.chunks_exact(n + 3).enumerate() {
                    assert_eq!(row[n..], [9.0; 3]);
                    for (j, found) in row[..n].iter().enumerate() {
                        let (expected, tolerance) = (expected(i * n + j), 5e-7 * (1.0 + sums[i * n + j][1]));
                        assert!((wide(found) - expected).abs() < tolerance, "{epilogue:?}: {expected}, found {found}");
                    }
                }
            }
        }
    }
    let mut sizes = vec![[5, 7, 3], [13, 16, 5], [33, 64, 16], [40, 65, 1], [13, 48, 7], [20, 176, 33]];
    // These take several calls for the columns of a row, the last with a tile in the last call.
    sizes.extend([[13, 176, 600], [13, 176, 3200], [7, 147, 600]]);
    for sizes in sizes {
        check::<f32>(sizes);
        check::<bf16>(sizes);
    }
}

#[test]
fn results_are_rounded_on_their_way_to_bf16() {
    let (m, n, k) = (33, 65, 13);
    let (a, b) = (numbers::<f32>(m * k, 1), numbers::<f32>(k * n, 2));
    for (rounded, exact) in at_each_level(|| {
        let right = packed::<f32, bf16>(MatRef::new(&b, k, n, n));
        let (mut rounded, mut exact) = (vec![bf16::NAN; m * n], vec![f32::NAN; m * n]);
        let (left, epilogue) = (MatRef::new(&a, m, k, k), Epilogue::<f32>::Replace(1.0));
        multiply_packed(MatMut::filling(&mut rounded, n), left, &right, &epilogue);
        multiply_packed(MatMut::filling(&mut exact, n), left, &right, &epilogue);
        (rounded, exact)
    }) {
        assert!(rounded.iter().zip(exact).all(|(rounded, exact)| *rounded == bf16::from_f32(exact)));
    }
}

#[test]
fn nothing_along_the_shared_axis_leaves_what_is_added() {
    for (m, n) in [(2, 3), (13, 40), (7, 64), (0, 3)] {
        let (bias, other) = (numbers::<f32>(n, 1), numbers::<f32>(m * n, 2));
        let residual = MatRef::new(&other, m, n, n);
        let right = packed::<f32, f32>(MatRef::new(&[], 0, n, n));
        let biased: Vec<f32> = (0..m * n).map(|at| bias[at % n] + other[at]).collect();
        let cases = [
            (Epilogue::<f32>::Replace(1.0), vec![0.0; m * n]),
            (Epilogue::Add, other.clone()),
            (Epilogue::BiasResidual(&bias, residual), biased),
        ];
        for (epilogue, expected) in cases {
            for dst in at_each_level(|| {
                // Old entries are not read but to add to them.
                let mut dst = if matches!(epilogue, Epilogue::Add) { other.clone() } else { vec![f32::NAN; m * n] };
                let (to, left) = (MatMut::new(&mut dst, m, n, n), MatRef::<f32>::new(&[], m, 0, 0));
                multiply_packed(to, left, &right, &epilogue);
                dst
            }) {
                assert_eq!(dst, expected, "{m}×{n}: {epilogue:?}");
            }
        }
    }
}

/// The right operand where it lies, packed on the way, or packed before: part of a wider matrix that ends with it.
#[test]
fn it_does_not_matter_where_the_right_operand_lies() {
    fn check<O: Operand>([m, n, k]: [usize; 3]) {
        let (a, b) = (numbers::<f32>(m * k, 1), numbers::<f32>(k * (n + 5), 2));
        let a_t = transposed(&a, k);
        let right = MatRef::new(&b, k, n + 5, n + 5).columns(5..n + 5);
        for left in [MatRef::new(&a, m, k, k), MatRef::new(&a_t, k, m, m).t()] {
            for [found, expected] in at_each_level(|| {
                let [mut found, mut expected] = [(); 2].map(|()| vec![O::round(f32::NAN); m * n]);
                let epilogue = Epilogue::Replace(0.5);
                multiply::<f32, _, _, _>(MatMut::filling(&mut found, n), left, right, &epilogue);
                multiply_packed(MatMut::filling(&mut expected, n), left, &packed::<f32, f32>(right), &epilogue);
                [found, expected].map(|x| x.iter().map(|x| x.widen().to_bits()).collect::<Vec<_>>())
            }) {
                assert_eq!(found, expected, "{m}×{n}×{k}");
            }
        }
    }
    for sizes in cross(&[1, 13, 64, 65], &[16, 32, 48, 64, 80, 176], &[21, 600]) {
        check::<f32>(sizes);
        check::<bf16>(sizes);
    }
}

/// In registers (64 columns) as elsewhere (33), and for masks of both types.
#[test]
fn what_is_not_a_number_passes_a_relu_and_no_mask() {
    let (m, k) = (13, 3);
    for n in [33, 64] {
        let (mut a, b) = (numbers::<f32>(m * k, 1), numbers::<f32>(k * n, 2));
        a[7 * k] = f32::NAN;
        let mut mask = numbers::<f32>(m * n, 3);
        mask[2 * n + 5] = f32::NAN;
        let rounded: Vec<bf16> = mask.iter().map(|x| bf16::round(*x)).collect();
        let right = packed::<f32, f32>(MatRef::new(&b, k, n, n));
        let bias = vec![0.0; n];
        for [relu, masked, masked_by_bf16] in at_each_level(|| {
            let mut all = [(); 3].map(|()| vec![9.0f32; m * n]);
            let left = MatRef::filling(&a, k);
            let [relu, masked, masked_by_bf16] = all.each_mut().map(|dst| MatMut::filling(dst, n));
            multiply_packed(relu, left, &right, &Epilogue::<f32>::BiasRelu(&bias));
            multiply_packed(masked, left, &right, &Epilogue::Mask(MatRef::filling(&mask, n)));
            multiply_packed(masked_by_bf16, left, &right, &Epilogue::Mask(MatRef::filling(&rounded, n)));
            all
        }) {
            for (at, x) in relu.iter().enumerate() {
                assert_eq!(x.is_nan(), at / n == 7, "{n} columns, {at}");
            }
            for (at, x) in masked.iter().enumerate() {
                assert_eq!(x.is_nan(), at / n == 7 && mask[at] > 0.0, "{n} columns, {at}");
                assert!(mask[at] > 0.0 || *x == 0.0, "{n} columns, {at}");
            }
            assert_eq!(bits(&masked), bits(&masked_by_bf16), "{n} columns");
        }
    }
}

/// What was packed before, at whatever level.
#[test]
fn panels_forget_what_they_held() {
    fn check<E: Operand>(before: Level, level: Level) {
        let mut panels = before.run(|| packed::<f32, E>(MatRef::new(&[f32::NAN; 70 * 40], 70, 40, 40)));
        for (rows, columns) in [(3, 50), (65, 2)] {
            let dst = level.run(|| {
                panels.pack(MatRef::new(&vec![1.0; rows * columns], rows, columns, columns));
                let mut dst = vec![0.0; columns];
                let (left, epilogue) = (vec![1.0; rows], Epilogue::<f32>::Replace(1.0));
                multiply_packed(MatMut::filling(&mut dst, columns), MatRef::filling(&left, rows), &panels, &epilogue);
                dst
            });
            assert!(dst.iter().all(|x| *x == rows as f32), "{before:?}, {level:?}: {dst:?}");
        }
    }
    for before in Level::available() {
        for level in Level::available() {
            check::<f32>(before, level);
            check::<bf16>(before, level);
        }
    }
}

#[test]
#[should_panic(expected = "2×2 product of 2×3 and 2×3")]
fn disagreeing_shapes_are_refused() {
    let a = MatRef::filling(&[0.0; 6], 3);
    multiply::<f32, _, _, _>(MatMut::filling(&mut [0.0; 4], 2), a, a, &Epilogue::Replace(1.0));
}
