//! Heat maps: a share for each pair of a row and a column.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::theme::{Ink, scale};

use super::DrawError;
use super::canvas::{Area, WIDTH, anchored, draw, fit, letters, letters_in, text_width};

/// The size of cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// With room for the share in per cent.
    Large,
    /// Without this room, for maps with many cells.
    Small,
}

impl Size {
    /// Width and height.
    fn cell(self) -> (i32, i32) {
        match self {
            Self::Large => (58, 26),
            Self::Small => (24, 18),
        }
    }
}

/// Width of the longest name that is written in full.
const LONGEST: u32 = 160;
/// Space between the names of the axes and their entries.
const NAME: i32 = 24;

/// A heat map of shares in per cent for pairs of a row and a column; a cell is empty if it has no share.
pub(crate) struct HeatMap {
    pub(crate) size: Size,
    pub(crate) row_name: String,
    pub(crate) column_name: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<(String, Vec<Option<f64>>)>,
}

impl HeatMap {
    pub(crate) fn to_svg(&self) -> Result<String, DrawError> {
        let cell = self.size.cell();
        let widest = |names: &mut dyn Iterator<Item = &String>| {
            names.map(|name| text_width(&fit(name, LONGEST))).max().unwrap_or(0) as i32
        };
        let left = NAME + widest(&mut self.rows.iter().map(|(name, _)| name)) + 12;
        // Names of columns are vertical if they are wider than a cell.
        let column = widest(&mut self.columns.iter());
        let (turned, head) = if column > cell.0 - 4 { (true, column) } else { (false, 14) };
        let top = NAME + head + 10;
        let right = left + cell.0 * self.columns.len() as i32;
        let bottom = top + cell.1 * self.rows.len() as i32;
        let width = WIDTH.max((right + 12).max(left + text_width(&self.column_name) as i32) as u32);
        draw((width, (bottom + 54) as u32), |area| {
            self.draw_cells(area, (left, top), turned).and_then(|()| draw_scale(area, left, bottom + 20))
        })
    }

    fn draw_cells(&self, area: &Area<'_>, (left, top): (i32, i32), turned: bool) -> Result<(), DrawError> {
        let cell = self.size.cell();
        let text = |horizontal, vertical| anchored(letters(Ink::Text), horizontal, vertical);
        let middle = left + cell.0 * self.columns.len() as i32 / 2;
        let column_name = if self.columns.len() > 3 {
            Text::new(self.column_name.clone(), (middle, 6), text(HPos::Center, VPos::Top))
        } else {
            Text::new(self.column_name.clone(), (left, 6), text(HPos::Left, VPos::Top))
        };
        area.draw(&column_name)?;
        let upright = |style: TextStyle<'static>| style.transform(FontTransform::Rotate270);
        let row_name = upright(text(HPos::Center, VPos::Top));
        let centre = top + cell.1 * self.rows.len() as i32 / 2;
        area.draw(&Text::new(self.row_name.clone(), (4, centre), row_name))?;
        for (index, name) in self.columns.iter().enumerate() {
            let x = left + cell.0 * index as i32 + cell.0 / 2;
            let (place, style) = if turned {
                ((x, top - 6), upright(text(HPos::Left, VPos::Center)))
            } else {
                ((x, top - 6), text(HPos::Center, VPos::Bottom))
            };
            area.draw(&Text::new(fit(name, LONGEST), place, style))?;
        }
        for (index, (name, shares)) in self.rows.iter().enumerate() {
            let y = top + cell.1 * index as i32;
            area.draw(&Text::new(fit(name, LONGEST), (left - 8, y + cell.1 / 2), text(HPos::Right, VPos::Center)))?;
            for (column, share) in shares.iter().enumerate() {
                let x = left + cell.0 * column as i32;
                let centre = (x + cell.0 / 2, y + cell.1 / 2);
                let Some(share) = share else {
                    area.draw(&Text::new("–", centre, text(HPos::Center, VPos::Center)))?;
                    continue;
                };
                let (fill, ink) = scale(*share);
                let corners = [(x + 1, y + 1), (x + cell.0 - 1, y + cell.1 - 1)];
                area.draw(&Rectangle::new(corners, fill.filled()))?;
                if self.size == Size::Small {
                    continue;
                }
                let style = anchored(letters_in(ink), HPos::Center, VPos::Center);
                area.draw(&Text::new(format!("{:.1}", 100.0 * share), centre, style))?;
            }
        }
        Ok(())
    }
}

/// The colours from 0 to 100%.
fn draw_scale(area: &Area<'_>, left: i32, y: i32) -> Result<(), DrawError> {
    const STEPS: i32 = 25;
    const STEP: i32 = 5;
    for step in 0..STEPS {
        let (fill, _) = scale(f64::from(step) / f64::from(STEPS - 1));
        let x = left + STEP * step;
        // Each colour extends to the end, so that no seam shows between two colours.
        area.draw(&Rectangle::new([(x, y), (left + STEPS * STEP, y + 10)], fill.filled()))?;
    }
    for (share, x) in [("0%", left), ("50%", left + STEPS * STEP / 2), ("100%", left + STEPS * STEP)] {
        let style = anchored(letters(Ink::Text), HPos::Center, VPos::Top);
        area.draw(&Text::new(share, (x, y + 14), style))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_hold_their_share_on_its_colour() {
        let mut map = HeatMap {
            size: Size::Large,
            row_name: "tested on".to_owned(),
            column_name: "trained on".to_owned(),
            columns: vec!["wigner".to_owned(), "a rather long name".to_owned()],
            rows: vec![
                ("laplace".to_owned(), vec![Some(1.0), Some(0.0)]),
                ("positive".to_owned(), vec![Some(0.5), None]),
            ],
        };
        let svg = map.to_svg().expect("drawn");
        for text in ["tested on", "trained on", "wigner", "a rather long name", "laplace", "100.0", "50.0", "–"] {
            assert!(svg.contains(text), "{text}");
        }
        let yellow = "height=\"24\" opacity=\"1\" fill=\"#FEE838\"";
        let blue = "height=\"24\" opacity=\"1\" fill=\"#00224E\"";
        assert!(svg.contains(yellow) && svg.contains(blue), "{svg}");
        assert_eq!(svg.matches("rotate(270").count(), 1 + 2, "names wider than a cell stand upright: {svg}");
        map.size = Size::Small;
        let small = map.to_svg().expect("drawn");
        assert!(!small.contains("100.0") && small.contains("height=\"16\" opacity=\"1\" fill=\"#FEE838\""), "{small}");
    }
}
