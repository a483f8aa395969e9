//! Histograms of relative errors, on a logarithmic scale.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::format::percent_short;
use crate::theme::Ink;

use super::DrawError;
use super::canvas::{Area, WIDTH, anchored, draw, letters};

/// The powers of ten between which the bins lie; each power has four bins.
const DECADES: (i32, i32) = (-4, 1);
const PER_DECADE: i32 = 4;
const BINS: usize = ((DECADES.1 - DECADES.0) * PER_DECADE) as usize;

/// Numbers of answers by relative error.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ErrorHistogram {
    /// Answers whose error is exactly zero.
    pub(crate) zero: u64,
    /// Answers with an error, from the smallest. Errors beyond either end count in the bin at that end.
    pub(crate) bins: [u64; BINS],
    /// Answers whose error cannot be measured.
    pub(crate) none: u64,
}

impl ErrorHistogram {
    pub(crate) fn of(errors: impl Iterator<Item = f64>, none: u64) -> Self {
        let mut histogram = Self { zero: 0, bins: [0; BINS], none };
        for error in errors {
            if error <= 0.0 {
                histogram.zero += 1;
            } else {
                let place = (error.log10() - f64::from(DECADES.0)) * f64::from(PER_DECADE);
                histogram.bins[(place.max(0.0) as usize).min(BINS - 1)] += 1;
            }
        }
        histogram
    }

    /// The lower and the upper end of a bin, as relative errors.
    pub(crate) fn ends(bin: usize) -> (f64, f64) {
        let end = |i: usize| 10.0_f64.powf(f64::from(DECADES.0) + i as f64 / f64::from(PER_DECADE));
        (if bin == 0 { 0.0 } else { end(bin) }, if bin + 1 == BINS { f64::INFINITY } else { end(bin + 1) })
    }

    /// Number of answers.
    pub(crate) fn total(&self) -> u64 {
        self.zero + self.bins.iter().sum::<u64>() + self.none
    }

    pub(crate) fn to_svg(&self) -> Result<String, DrawError> {
        draw((WIDTH, 260), |area| self.draw_bars(area))
    }

    fn draw_bars(&self, area: &Area<'_>) -> Result<(), DrawError> {
        let (left, right, top, bottom) = (58, WIDTH as i32 - 16, 22, 208);
        let total = self.total().max(1) as f64;
        let highest = self.bins.iter().chain([&self.zero, &self.none]).max().copied().unwrap_or(0) as f64 / total;
        let tallest = round_up(highest);
        // Room at each end: for answers whose error is zero, and for answers whose error cannot be measured.
        let (first, last) = (f64::from(DECADES.0) - 1.5, f64::from(DECADES.1) + 1.5);
        let x_of = |power: f64| left + ((power - first) / (last - first) * f64::from(right - left)).round() as i32;
        let y_of = |share: f64| bottom - (share / tallest * f64::from(bottom - top)).round() as i32;
        let text = |horizontal, vertical| anchored(letters(Ink::Text), horizontal, vertical);

        for quarter in 0..=4 {
            let share = tallest * f64::from(quarter) / 4.0;
            let y = y_of(share);
            area.draw(&PathElement::new([(left, y), (right, y)], Ink::Grid.light()))?;
            area.draw(&Text::new(percent_short(share), (left - 6, y), text(HPos::Right, VPos::Center)))?;
        }
        let bar = |from: f64, to: f64, count: u64, series: usize| {
            let corners = [(x_of(from) + 1, y_of(count as f64 / total)), (x_of(to) - 1, bottom)];
            area.draw(&Rectangle::new(corners, Ink::Series(series).light().filled()))
        };
        bar(first + 0.15, first + 0.65, self.zero, 2)?;
        bar(last - 0.65, last - 0.15, self.none, 1)?;
        let step = 1.0 / f64::from(PER_DECADE);
        for (index, count) in self.bins.iter().enumerate() {
            let from = f64::from(DECADES.0) + index as f64 * step;
            bar(from, from + step, *count, 0)?;
        }
        area.draw(&PathElement::new([(left, bottom), (right, bottom)], Ink::Axis.light()))?;
        for power in DECADES.0..=DECADES.1 {
            let x = x_of(f64::from(power));
            area.draw(&PathElement::new([(x, bottom), (x, bottom + 4)], Ink::Axis.light()))?;
            // The last bin includes everything beyond it.
            if power < DECADES.1 {
                let label = percent_short(10.0_f64.powi(power));
                area.draw(&Text::new(label, (x, bottom + 7), text(HPos::Center, VPos::Top)))?;
            }
        }
        area.draw(&Text::new("0", (x_of(first + 0.4), bottom + 7), text(HPos::Center, VPos::Top)))?;
        area.draw(&Text::new("none", (x_of(last - 0.4), bottom + 7), text(HPos::Center, VPos::Top)))?;

        let tolerance = x_of(0.05_f64.log10());
        area.draw(&PathElement::new([(tolerance, top - 6), (tolerance, bottom)], Ink::Text.light()))?;
        area.draw(&Text::new("5%", (tolerance, top - 8), text(HPos::Center, VPos::Bottom)))?;
        let middle = ((left + right) / 2, bottom + 30);
        area.draw(&Text::new("relative error, l1 norm, logarithmic", middle, text(HPos::Center, VPos::Top)))?;
        let turned = letters(Ink::Text).transform(FontTransform::Rotate270);
        let turned = anchored(turned, HPos::Center, VPos::Top);
        area.draw(&Text::new("share of answers", (2, (top + bottom) / 2), turned))?;
        Ok(())
    }
}

/// The smallest of 1, 2, 4 and 8 times a power of ten that is not below the share. Its quarters are short numbers.
fn round_up(share: f64) -> f64 {
    let power = 10.0_f64.powf(share.max(1e-3).log10().floor());
    let steps = [1.0, 2.0, 4.0, 8.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= share).unwrap_or(1.0).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_fall_into_their_bins() {
        let errors = [0.0, 1e-9, 0.011, 0.05, 0.99, 1.01, 1e6];
        let histogram = ErrorHistogram::of(errors.into_iter(), 3);
        assert_eq!((histogram.zero, histogram.none, histogram.total()), (1, 3, 10));
        for (error, bin) in errors.into_iter().skip(1).zip([0, 8, 10, 15, 16, BINS - 1]) {
            let (lower, upper) = ErrorHistogram::ends(bin);
            assert!(histogram.bins[bin] == 1 && (lower..upper).contains(&error), "{error} not in {lower} to {upper}");
        }
    }

    #[test]
    fn bars_stand_on_the_axis_and_are_as_high_as_their_share() {
        let svg = ErrorHistogram::of([0.02; 3].into_iter(), 1).to_svg().expect("drawn");
        // 3 of 4 answers, on an axis of 186 units that ends at 80%.
        let height = (0.75 / 0.8 * 186.0_f64).round();
        assert!(svg.contains(&format!("height=\"{height}\" opacity=\"1\" fill=\"#0072B2\"")), "{svg}");
        for text in ["relative error, l1 norm, logarithmic", "share of answers", "none", "5%", "0.01%", "100%"] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn the_axis_ends_at_a_short_number() {
        for (share, end) in [(0.0, 0.001), (0.11, 0.2), (0.2, 0.2), (0.39, 0.4), (0.81, 1.0), (1.0, 1.0)] {
            assert!((round_up(share) - end).abs() < 1e-12, "{share} {}", round_up(share));
        }
    }
}
