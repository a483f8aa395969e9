//! Sums over the batches of a step.

use candle_core::Result;

use super::{Guarded, assert_close, devices, on, random};
use crate::device::Element;

#[test]
fn gradients_of_batches_add_up() -> Result<()> {
    for mut device in devices() {
        let device = &mut device;
        for n in [0, 1, 700] {
            let (sum, x) = (random(n, 1), random(n, 2));
            let (sum_on, x_on) = (Guarded::new(device, Element::F32, n)?, Guarded::new(device, Element::F32, n)?);
            device.write(sum_on.inner, &sum)?;
            device.write(x_on.inner, &x)?;
            device.add_scaled(sum_on.inner, x_on.inner, 0.75)?;
            device.add_scaled(sum_on.inner, x_on.inner, 2.0)?;
            let expected: Vec<f32> = sum.iter().zip(&x).map(|(sum, x)| sum + 2.75 * x).collect();
            assert_close(&sum_on.read(device)?, &expected, 1e-6);
            assert_close(&x_on.read(device)?, &x, 0.0);
        }
    }
    Ok(())
}

#[test]
fn sums_are_divided_by_a_number_of_the_device() -> Result<()> {
    for mut device in devices() {
        let device = &mut device;
        for n in [0, 1, 700] {
            let x = random(n, 1);
            let (x_on, divisor) = (Guarded::new(device, Element::F32, n)?, Guarded::new(device, Element::F32, 1)?);
            for by in [3.0, 0.0] {
                device.write(x_on.inner, &x)?;
                device.write(divisor.inner, &[by])?;
                device.divide(x_on.inner, divisor.inner)?;
                let expected: Vec<f32> = x.iter().map(|x| if by == 0.0 { 0.0 } else { x / by }).collect();
                assert_close(&x_on.read(device)?, &expected, 1e-7);
                assert_close(&divisor.read(device)?, &[by], 0.0);
            }
        }
    }
    Ok(())
}

#[test]
fn losses_of_batches_add_up_in_double_precision() -> Result<()> {
    for mut device in devices() {
        let device = &mut device;
        let total = Guarded::new(device, Element::F32, 1)?;
        device.write(total.inner, &[0.5])?;
        let losses = on(device, Element::F32, &random(3000, 1))?;
        let sum: f32 = device.read(losses)?.iter().sum();
        device.add_losses(total.inner, losses, 0.25)?;
        assert_close(&total.read(device)?, &[0.5 + 0.25 * sum], 1e-5);
        // In single precision, the ones would be lost beside the large number.
        let mut large = vec![1.0; 2000];
        large[0] = 3e8;
        large[1999] = -3e8;
        let large = on(device, Element::F32, &large)?;
        device.write(total.inner, &[0.5])?;
        device.add_losses(total.inner, large, 0.5)?;
        assert_close(&total.read(device)?, &[999.5], 0.0);
        device.add_losses(total.inner, losses.slice(0..0)?, 1.0)?;
        assert_close(&total.read(device)?, &[999.5], 0.0);
    }
    Ok(())
}

#[test]
fn sums_of_other_sizes_or_types_are_errors() -> Result<()> {
    let mut device = super::devices().swap_remove(0);
    let [two, three] = [device.reserve(Element::F32, 2)?, device.reserve(Element::F32, 3)?];
    let half = device.reserve(Element::Bf16, 2)?;
    let message = |result: Result<()>| result.expect_err("it does not fit").to_string();
    assert!(message(device.add_scaled(two, three, 1.0)).contains("expected 2 entries of x, found 3"));
    assert!(message(device.add_scaled(two, half, 1.0)).contains("expected x of F32, found Bf16"));
    assert!(message(device.divide(two, three)).contains("expected 1 entries of divisor, found 3"));
    assert!(message(device.divide(half, two.slice(0..1)?)).contains("expected x of F32, found Bf16"));
    assert!(message(device.add_losses(two, three, 1.0)).contains("expected 1 entries of total, found 2"));
    assert!(message(device.add_losses(two.slice(0..1)?, half, 1.0)).contains("expected losses of F32, found Bf16"));
    Ok(())
}
