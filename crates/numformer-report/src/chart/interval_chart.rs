//! Charts of shares with their confidence intervals, by group.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::format::percent_short;
use crate::theme::Ink;

use super::DrawError;
use super::canvas::{Area, WIDTH, anchored, draw, draw_legend, fit, legend_height, letters, text_width};
use super::marker::draw_marker;

/// Height of one interval, and space between groups.
const LINE: i32 = 14;
const GAP: i32 = 12;
const BELOW: i32 = 44;

/// A share and its interval.
pub(crate) type Interval = (f64, (f64, f64));

/// Groups, one below the other, each with the same series of shares.
pub(crate) struct IntervalChart {
    /// The name of the axis: what the shares count.
    pub(crate) name: String,
    pub(crate) series: Vec<String>,
    /// The name of each group, and its shares in the order of the series.
    pub(crate) groups: Vec<(String, Vec<Interval>)>,
}

impl IntervalChart {
    pub(crate) fn to_svg(&self) -> Result<String, DrawError> {
        let names: Vec<&str> = self.series.iter().map(String::as_str).collect();
        let top = legend_height(&names) as i32 + 8;
        let group = LINE * self.series.len() as i32 + GAP;
        let bottom = top + group * self.groups.len() as i32;
        draw((WIDTH, (bottom + BELOW) as u32), |area| {
            draw_legend(area, &names)?;
            self.draw_groups(area, top, bottom)
        })
    }

    /// Where the axis begins: at 0, unless all intervals are close to 100%.
    fn begin(&self) -> f64 {
        let ends = self.groups.iter().flat_map(|(_, intervals)| intervals).map(|(_, (lower, _))| *lower);
        let lowest = ends.fold(1.0, f64::min);
        [0.98, 0.96, 0.9, 0.8].into_iter().find(|begin| *begin <= lowest).unwrap_or(0.0)
    }

    fn draw_groups(&self, area: &Area<'_>, top: i32, bottom: i32) -> Result<(), DrawError> {
        const LONGEST: u32 = WIDTH / 3;
        let widest = self.groups.iter().map(|(name, _)| text_width(name)).max().unwrap_or(0);
        let left = widest.min(LONGEST) as i32 + 16;
        let right = WIDTH as i32 - 24;
        let begin = self.begin();
        let x_of = |share: f64| {
            left + ((share.clamp(begin, 1.0) - begin) / (1.0 - begin) * f64::from(right - left)).round() as i32
        };
        for quarter in 0..=4 {
            let share = begin + (1.0 - begin) * f64::from(quarter) / 4.0;
            let x = x_of(share);
            area.draw(&PathElement::new([(x, top), (x, bottom)], Ink::Grid.light()))?;
            let style = anchored(letters(Ink::Text), HPos::Center, VPos::Top);
            area.draw(&Text::new(percent_short(share), (x, bottom + 5), style))?;
        }
        area.draw(&PathElement::new([(left, bottom), (right, bottom)], Ink::Axis.light()))?;
        let style = anchored(letters(Ink::Text), HPos::Center, VPos::Top);
        area.draw(&Text::new(self.name.clone(), ((left + right) / 2, bottom + 24), style))?;

        let height = LINE * self.series.len() as i32 + GAP;
        for (index, (name, intervals)) in self.groups.iter().enumerate() {
            let group_top = top + height * index as i32;
            let style = anchored(letters(Ink::Text), HPos::Right, VPos::Center);
            area.draw(&Text::new(fit(name, LONGEST), (left - 10, group_top + height / 2), style))?;
            if index > 0 {
                area.draw(&PathElement::new([(left, group_top), (right, group_top)], Ink::Grid.light()))?;
            }
            for (series, (share, (lower, upper))) in intervals.iter().enumerate() {
                let y = group_top + GAP / 2 + LINE * series as i32 + LINE / 2;
                let style = Ink::Series(series).light().stroke_width(2);
                let (from, to) = (x_of(*lower), x_of(*upper));
                area.draw(&PathElement::new([(from, y), (to, y)], style))?;
                for end in [from, to] {
                    area.draw(&PathElement::new([(end, y - 3), (end, y + 3)], style))?;
                }
                draw_marker(area, series, (x_of(*share), y))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_begins_where_intervals_can_be_seen() {
        let begin = |lower| {
            let groups = vec![("all".to_owned(), vec![(1.0, (0.999, 1.0)), (0.995, (lower, 1.0))])];
            IntervalChart { name: String::new(), series: Vec::new(), groups }.begin() * 100.0
        };
        assert_eq!([0.99, 0.97, 0.85, 0.7, 0.0].map(|lower| begin(lower).round() as u32), [98, 96, 80, 0, 0]);
    }

    #[test]
    fn every_group_and_interval_is_drawn() {
        let shares = vec![(0.5, (0.25, 0.75)), (0.1, (0.0, 0.2))];
        let chart = IntervalChart {
            name: "share of answers".to_owned(),
            series: vec!["within 5%".to_owned(), "exact".to_owned()],
            groups: vec![("2x2".to_owned(), shares.clone()), ("3x3".to_owned(), shares)],
        };
        let svg = chart.to_svg().expect("drawn");
        for text in ["share of answers", "within 5%", "exact", "2x2", "3x3", "0%", "100%"] {
            assert!(svg.contains(&format!(">\n{text}\n<")), "{text}");
        }
        // Three strokes for each interval, one in the legend.
        assert_eq!(svg.matches("stroke=\"#C84E00\"").count(), 2 * 3 + 1, "{svg}");
        // An interval from one quarter to three, of an axis from 37 to 376.
        assert!(svg.contains("points=\"122,45 291,45 \""), "{svg}");
    }
}
