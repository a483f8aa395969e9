//! Markers of different shapes, so that series can be distinguished without colours.

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::theme::Ink;

use super::DrawError;

pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws the marker of a series around a point of the drawing.
pub(super) fn draw_marker(area: &Area<'_>, series: usize, (x, y): (i32, i32)) -> Result<(), DrawError> {
    let colour = Ink::Series(series).light();
    let filled = colour.filled();
    let polygon = |points: &[(i32, i32)]| {
        area.draw(&Polygon::new(points.iter().map(|(dx, dy)| (x + dx, y + dy)).collect::<Vec<_>>(), filled))
    };
    let drawn = match series % Ink::SERIES {
        0 => area.draw(&Circle::new((x, y), 4, filled)),
        1 => area.draw(&Rectangle::new([(x - 4, y - 4), (x + 4, y + 4)], filled)),
        2 => polygon(&[(0, -5), (5, 4), (-5, 4)]),
        3 => polygon(&[(0, -5), (5, 0), (0, 5), (-5, 0)]),
        4 => polygon(&[(0, 5), (5, -4), (-5, -4)]),
        _ => area.draw(&Circle::new((x, y), 4, colour.stroke_width(2))),
    };
    Ok(drawn?)
}
