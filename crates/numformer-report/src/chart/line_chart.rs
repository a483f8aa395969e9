//! Line charts of one quantity against another.

use std::ops::Range;

use plotters::prelude::*;

use crate::theme::Ink;

use super::DrawError;
use super::canvas::{Area, WIDTH, draw, draw_legend, legend_height, letters};
use super::marker::draw_marker;

/// Number of markers along a line.
const MARKERS: usize = 8;

/// Lines over one horizontal axis.
pub(crate) struct LineChart {
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
    /// The positions of vertical lines, which separate stages.
    pub(crate) marks: Vec<f64>,
}

/// An axis: its name with its unit, its range, and the format of its numbers.
pub(crate) struct Axis {
    pub(crate) name: String,
    pub(crate) range: Range<f64>,
    pub(crate) format: fn(f64) -> String,
}

impl Axis {
    /// The number at a place, where 0 may be off by a rounding error because places are sums of steps.
    fn snapped(&self, x: f64) -> f64 {
        if x.abs() < 1e-9 * (self.range.end - self.range.start) { 0.0 } else { x }
    }
}

/// One line.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

impl LineChart {
    pub(crate) fn to_svg(&self) -> Result<String, DrawError> {
        let names: Vec<&str> = self.series.iter().map(|series| series.name.as_str()).collect();
        let legend = legend_height(&names);
        draw((WIDTH, 260 + legend), |area| {
            draw_legend(area, &names)?;
            let (_, below) = area.split_vertically(legend);
            self.draw_lines(&below)
        })
    }

    fn draw_lines(&self, area: &Area<'_>) -> Result<(), DrawError> {
        let mut builder = ChartBuilder::on(area);
        builder.margin_top(8).margin_right(20).margin_left(4).x_label_area_size(42).y_label_area_size(58);
        let mut chart = builder.build_cartesian_2d(self.x.range.clone(), self.y.range.clone())?;
        chart
            .configure_mesh()
            .x_desc(&self.x.name)
            .y_desc(&self.y.name)
            .x_labels(6)
            .y_labels(6)
            .x_label_formatter(&|x| (self.x.format)(*x))
            .y_label_formatter(&|y| (self.y.format)(self.y.snapped(*y)))
            .label_style(letters(Ink::Text))
            .axis_desc_style(letters(Ink::Text))
            .axis_style(Ink::Axis.light())
            .bold_line_style(Ink::Grid.light())
            .light_line_style(TRANSPARENT)
            .draw()?;
        for &x in &self.marks {
            let upright = [(x, self.y.range.start), (x, self.y.range.end)];
            chart.draw_series(DashedLineSeries::new(upright, 4, 4, Ink::Axis.light().stroke_width(1)))?;
        }
        for (index, series) in self.series.iter().enumerate() {
            let style = Ink::Series(index).light().stroke_width(2);
            chart.draw_series(LineSeries::new(series.points.iter().copied(), style))?;
        }
        // Markers are drawn above all lines. A single line has markers only at its ends, since a line of one point
        // would otherwise be invisible.
        let markers = if self.series.len() > 1 { MARKERS } else { 1 };
        let root = area.strip_coord_spec();
        let (left, top) = area.get_base_pixel();
        for (index, series) in self.series.iter().enumerate() {
            for place in 0..=markers {
                let Some(last) = series.points.len().checked_sub(1) else { continue };
                let (x, y) = chart.backend_coord(&series.points[last * place / markers]);
                draw_marker(&root, index, (x - left, y - top))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn two_lines() -> LineChart {
        let axis = |name: &str| Axis { name: name.to_owned(), range: 0.0..2.0, format: |x| x.to_string() };
        let series = |name: &str, points: &[(f64, f64)]| Series { name: name.to_owned(), points: points.to_vec() };
        LineChart {
            x: axis("time, seconds"),
            y: axis("loss, nats"),
            series: vec![series("first & last", &[(0.0, 1.0), (2.0, 0.0)]), series("second", &[(1.0, 2.0)])],
            marks: Vec::new(),
        }
    }

    #[test]
    fn axes_and_lines_have_names() {
        let svg = two_lines().to_svg().expect("drawn");
        for text in ["time, seconds", "loss, nats", "first &amp; last", "second"] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn zero_is_labelled_as_such() {
        let axis = Axis { name: String::new(), range: -1.0..1.0, format: |x| x.to_string() };
        assert_eq!([-1.0, 5.6e-17, -0.0, 0.2].map(|x| (axis.format)(axis.snapped(x))), ["-1", "0", "0", "0.2"]);
    }

    #[test]
    fn marks_are_upright_lines() {
        let lines =
            |marks: Vec<f64>| LineChart { marks, ..two_lines() }.to_svg().expect("drawn").matches("line").count();
        // A dashed line has one element for each dash.
        assert!(lines(vec![0.5]) > lines(Vec::new()) + 10);
    }

    #[test]
    fn lines_have_colours_and_markers_of_their_own() {
        let svg = two_lines().to_svg().expect("drawn");
        let first = "<polyline fill=\"none\" opacity=\"1\" stroke=\"#0072B2\" stroke-width=\"2\"";
        assert!(svg.matches(first).count() >= 2, "{svg}");
        assert!(svg.contains("<circle") && svg.matches("fill=\"#C84E00\"").count() >= 2, "{svg}");
        let empty = LineChart { series: Vec::new(), ..two_lines() };
        assert!(empty.to_svg().expect("drawn").ends_with("</svg>\n"));
    }
}
