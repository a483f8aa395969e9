//! Gradients beside finite differences of the loss.

use candle_core::Result;
use numformer_fused::FusedStep;
use numformer_model::{Mode, TokenRows, TrainingStep};

/// Fails unless, along the gradient of each parameter, the loss rises as the gradient says, to tolerances that are absolute
/// and relative. Changes along the gradient itself are large enough to stand out from rounding.
#[track_caller]
pub(crate) fn check_finite_differences(
    step: &mut FusedStep,
    weights: &[f32],
    [src, tgt]: [TokenRows<'_>; 2],
    gradients: &[f32],
    [absolute, relative]: [f64; 2],
) -> Result<()> {
    const DISTANCE: f64 = 1e-2;
    let slots: Vec<_> = step.layout().slots().iter().map(|slot| (slot.name().to_owned(), slot.range())).collect();
    let mut unused = vec![0.0; weights.len()];
    for (name, range) in slots {
        let norm = gradients[range.clone()].iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let mut at = |distance: f64| {
            let mut moved = weights.to_vec();
            for (w, g) in moved[range.clone()].iter_mut().zip(&gradients[range.clone()]) {
                *w += (distance * f64::from(*g) / norm.max(1e-9)) as f32;
            }
            step.loss_and_gradients(&moved, src, tgt, Mode::Evaluate, &mut unused)
        };
        let difference = (at(DISTANCE)? - at(-DISTANCE)?) / (2.0 * DISTANCE);
        let tolerance = absolute + relative * norm;
        assert!((difference - norm).abs() <= tolerance, "{name}: gradient {norm}, difference {difference}");
    }
    Ok(())
}
