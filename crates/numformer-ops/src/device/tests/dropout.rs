//! Dropout, with the masks of the host.

use candle_core::Result;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Guarded, assert_close, ids_on, on, on_all, random};
use crate::device::{Accelerator, DropoutCall, Element, Region};

/// What decides a mask.
#[derive(Clone, Copy)]
struct Masked {
    seed: u64,
    step: u64,
    place: u64,
    rate: f64,
}

/// Seed, step and place use both their halves.
const MASKED: Masked = Masked { seed: 0x1234_5678_9abc_def0, step: (1 << 40) + 7, place: u64::MAX - 5, rate: 0.25 };

impl Masked {
    fn dropped_below(self) -> u32 {
        (self.rate * 2f64.powi(32)) as u32
    }

    fn kept(self) -> f32 {
        (1.0 / (1.0 - self.rate)) as f32
    }

    /// The mask of `len` adjacent entries, as the model makes it on the host.
    fn mask(self, len: usize) -> Vec<f32> {
        let purpose = b"dropout".iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mut key = [0; 32];
        for (part, value) in key.chunks_exact_mut(8).zip([self.seed, self.step, self.place, purpose]) {
            part.copy_from_slice(&value.to_le_bytes());
        }
        let mut rng = ChaCha8Rng::from_seed(key);
        (0..len).map(|_| if rng.next_u32() < self.dropped_below() { 0.0 } else { self.kept() }).collect()
    }

    fn call(self, device: &mut Accelerator, [batch, t, width, d]: [usize; 4]) -> Result<DropoutCall> {
        let numbers = ids_on(device, &DropoutCall::to_words(self.seed, self.step, t as u32))?;
        let (place, dropped_below, kept) = (self.place, self.dropped_below(), self.kept());
        Ok(DropoutCall { batch, width, d, place, dropped_below, kept, numbers })
    }

    /// What becomes of `x` `[batch, width, d]`.
    fn applied(self, x: &[f32], [batch, t, width, d]: [usize; 4]) -> Vec<f32> {
        let mask = self.mask(batch * t * d);
        let mut y = x.to_vec();
        for example in 0..batch {
            let masked = &mut y[example * width * d..][..t * d];
            masked.iter_mut().zip(&mask[example * t * d..]).for_each(|(y, mask)| *y *= mask);
        }
        y
    }
}

fn bits(entries: &[f32]) -> Vec<u32> {
    entries.iter().map(|x| x.to_bits()).collect()
}

/// The entries as the element type stores them.
fn rounded(entries: &[f32], element: Element) -> Vec<f32> {
    let round = |x: &f32| if element == Element::Bf16 { half::bf16::from_f32(*x).to_f32() } else { *x };
    entries.iter().map(round).collect()
}

/// Batch, t, width and d.
const SHAPES: [[usize; 4]; 7] =
    [[1, 1, 1, 1], [2, 3, 3, 5], [3, 4, 7, 5], [2, 7, 8, 17], [3, 9, 16, 32], [2, 0, 3, 5], [2, 50, 53, 65]];

#[test]
fn masks_are_those_of_the_host() -> Result<()> {
    on_all(|device, element, _| {
        for shape @ [batch, _, width, d] in SHAPES {
            for masked in [MASKED, Masked { rate: 0.5, ..MASKED }, Masked { rate: 0.0, ..MASKED }] {
                let x = random(batch * width * d, 1);
                let expected = bits(&rounded(&masked.applied(&x, shape), element));
                let call = masked.call(device, shape)?;
                let inner = Guarded::new(device, element, x.len())?;
                device.write(inner.inner, &x)?;
                device.dropout(inner.inner, &call)?;
                assert_eq!(bits(&inner.read(device)?), expected, "{shape:?}, in place");
                let (out, x_on) = (Guarded::new(device, element, x.len())?, on(device, element, &x)?);
                device.dropout_to(out.inner, x_on, &call)?;
                assert_eq!(bits(&out.read(device)?), expected, "{shape:?}, to another region");
                assert_close(&device.read(x_on)?, &x, 0.0);
            }
        }
        Ok(())
    })
}

#[test]
fn masks_depend_on_seed_step_and_place() -> Result<()> {
    on_all(|device, element, _| {
        let mut dropped = |masked: Masked| -> Result<Vec<u32>> {
            let x = on(device, element, &[1.0; 1000])?;
            let call = masked.call(device, [1, 10, 10, 100])?;
            device.dropout(x, &call)?;
            device.read(x).map(|x| bits(&x))
        };
        let half = Masked { rate: 0.5, ..MASKED };
        let mask = dropped(half)?;
        assert_eq!(mask, dropped(half)?);
        for flipped in [1, 1 << 33] {
            let others = [
                Masked { seed: half.seed ^ flipped, ..half },
                Masked { step: half.step ^ flipped, ..half },
                Masked { place: half.place ^ flipped, ..half },
            ];
            for other in others {
                let equal = mask.iter().zip(dropped(other)?).filter(|(a, b)| *a == b).count();
                // Half of 1,000, with a standard deviation of 16.
                assert!(equal.abs_diff(500) < 100, "{equal} equal");
            }
        }
        Ok(())
    })
}

#[test]
fn a_recorded_dropout_takes_the_numbers_of_its_time() -> Result<()> {
    on_all(|device, element, _| {
        let x = random(2 * 6 * 5, 1);
        let (x_on, out) = (on(device, element, &x)?, Guarded::new(device, element, x.len())?);
        let call = MASKED.call(device, [2, 6, 6, 5])?;
        let recording = device.record(|device| device.dropout_to(out.inner, x_on, &call))?;
        for (step, t) in [(1, 6), (2, 3), (2, 4)] {
            device.write_ids(call.numbers, &DropoutCall::to_words(MASKED.seed, step, t))?;
            device.replay(&recording)?;
            let expected = Masked { step, ..MASKED }.applied(&x, [2, t as usize, 6, 5]);
            assert_eq!(bits(&out.read(device)?), bits(&rounded(&expected, element)));
        }
        Ok(())
    })
}

#[test]
fn a_width_beyond_that_in_memory_counts_as_the_latter() -> Result<()> {
    on_all(|device, element, _| {
        let x = random(2 * 6 * 5, 1);
        let found = Guarded::new(device, element, x.len())?;
        device.write(found.inner, &x)?;
        let call = MASKED.call(device, [2, u32::MAX as usize, 6, 5])?;
        device.dropout(found.inner, &call)?;
        assert_eq!(bits(&found.read(device)?), bits(&rounded(&MASKED.applied(&x, [2, 6, 6, 5]), element)));
        Ok(())
    })
}

#[test]
fn dropouts_of_other_sizes_or_types_are_errors() -> Result<()> {
    let mut device = super::devices().swap_remove(0);
    let device = &mut device;
    let message = |result: Result<()>| result.expect_err("it does not fit").to_string();
    let call = MASKED.call(device, [1, 2, 2, 3])?;
    let mut region = |element, len| -> Result<Region> { device.reserve(element, len) };
    let (six, seven) = (region(Element::F32, 6)?, region(Element::F32, 7)?);
    let (half, counts) = (region(Element::Bf16, 6)?, region(Element::U32, 6)?);
    assert!(message(device.dropout(seven, &call)).contains("expected 6 entries of x, found 7"));
    assert!(message(device.dropout_to(seven, six, &call)).contains("expected 6 entries of out, found 7"));
    assert!(message(device.dropout_to(half, six, &call)).contains("expected out of F32, found Bf16"));
    assert!(message(device.dropout(counts, &call)).contains("expected regions of F32 or Bf16, found U32"));
    let fewer = DropoutCall { numbers: counts, ..call };
    assert!(message(device.dropout(six, &fewer)).contains("expected 5 entries of numbers, found 6"));
    let endless = DropoutCall { batch: 1 << 40, width: 1 << 40, ..call };
    assert!(message(device.dropout(six, &endless)).contains("larger than any memory"));
    Ok(())
}
