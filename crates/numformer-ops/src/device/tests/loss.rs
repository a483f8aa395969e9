//! The loss and its gradient.

use candle_core::Result;

use super::{Guarded, assert_close, ids_on, on_all, random};
use crate::device::Element;

const SHARE: f32 = 0.25;

/// The losses of rows of logits, and their gradients times [`SHARE`], by their definition in double precision.
fn definition(logits: &[f32], targets: &[u32], smoothing: f32) -> [Vec<f32>; 2] {
    let v = logits.len() / targets.len();
    let smoothing = f64::from(smoothing);
    let (mut losses, mut gradients) = (Vec::new(), Vec::new());
    for (row, target) in logits.chunks(v).zip(targets) {
        let row: Vec<f64> = row.iter().copied().map(f64::from).collect();
        let log_total = row.iter().map(|x| x.exp()).sum::<f64>().ln();
        let weight = |class: usize| {
            let of_target = if class == *target as usize { 1.0 - smoothing } else { 0.0 };
            of_target + smoothing / v as f64
        };
        let counts = *target != u32::MAX;
        let score: f64 = row.iter().enumerate().map(|(class, x)| weight(class) * x).sum();
        losses.push(if counts { (log_total - score) as f32 } else { 0.0 });
        gradients.extend(
            row.iter()
                .enumerate()
                .map(|(class, x)| if counts { ((x - log_total).exp() - weight(class)) as f32 * SHARE } else { 0.0 }),
        );
    }
    [losses, gradients]
}

#[test]
fn cross_entropy_follows_the_definition() -> Result<()> {
    on_all(|device, element, tolerance| {
        for (rows, v) in [(1, 1), (3, 7), (5, 700)] {
            // Logits of up to 32, so that bf16 sums of plain exponentials would overflow.
            let logits: Vec<f32> = random(rows * v, 1).iter().map(|x| 32.0 * x).collect();
            let targets: Vec<u32> =
                (0..rows).map(|row| if row == 1 { u32::MAX } else { (row * 5 % v) as u32 }).collect();
            for smoothing in [0.0, 0.1, 1.0] {
                let [losses, gradients] = definition(&logits, &targets, smoothing);
                let logits_on = Guarded::new(device, element, rows * v)?;
                device.write(logits_on.inner, &logits)?;
                let losses_on = Guarded::new(device, Element::F32, rows)?;
                let (targets, share) = (ids_on(device, &targets)?, ids_on(device, &[SHARE.to_bits()])?);
                device.cross_entropy(losses_on.inner, logits_on.inner, targets, share, smoothing)?;
                assert_close(&losses_on.read(device)?, &losses, 1e-5);
                assert_close(&logits_on.read(device)?, &gradients, tolerance);
            }
        }
        Ok(())
    })
}

#[test]
fn smoothing_beyond_all_weight_is_an_error() -> Result<()> {
    let mut device = super::devices().swap_remove(0);
    let [losses, logits] = [device.reserve(Element::F32, 1)?, device.reserve(Element::F32, 3)?];
    let [targets, share] = [device.reserve(Element::U32, 1)?, device.reserve(Element::U32, 1)?];
    for smoothing in [-0.1, 1.1, f32::NAN] {
        let error = device.cross_entropy(losses, logits, targets, share, smoothing).expect_err("not a fraction");
        assert!(error.to_string().contains("between 0 and 1"), "{error}");
    }
    Ok(())
}
