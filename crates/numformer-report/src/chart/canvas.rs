//! The canvas and the text shared by all drawings.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::theme::Ink;

use super::DrawError;
pub(crate) use super::marker::Area;
use super::marker::draw_marker;

/// Width of a drawing, in the unit of its coordinates. It is small, so that text is legible on a phone.
pub(crate) const WIDTH: u32 = 400;
/// Height of one line of a legend.
const LEGEND_LINE: u32 = 20;
/// Widths in a legend: of the marker of an entry, of both margins, and of the longest name.
const MARK: u32 = 22;
const MARGINS: u32 = 24;
const LONGEST: u32 = WIDTH - MARGINS - MARK;
/// Width of a letter.
const LETTER: f64 = 6.8;
/// The backend draws letters smaller than requested, by this factor.
const BACKEND: f64 = 1.24;

/// Draws on a canvas of this size.
pub(crate) fn draw(size: (u32, u32), on: impl FnOnce(&Area<'_>) -> Result<(), DrawError>) -> Result<String, DrawError> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    on(&area)?;
    area.present()?;
    drop(area);
    Ok(svg)
}

/// Text of 12 units in height.
pub(crate) fn letters(ink: Ink) -> TextStyle<'static> {
    letters_in(ink.light())
}

/// Text of 12 units in height, in a colour that is the same on every page.
pub(crate) fn letters_in(colour: RGBColor) -> TextStyle<'static> {
    ("sans-serif", 12.0 * BACKEND).into_font().color(&colour)
}

pub(crate) fn anchored(style: TextStyle<'static>, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    style.pos(Pos::new(horizontal, vertical))
}

/// The approximate width of a text. The reader's font is unknown.
pub(crate) fn text_width(text: &str) -> u32 {
    (LETTER * text.chars().count() as f64).ceil() as u32
}

/// The text, or as much of its beginning and end as fits.
pub(crate) fn fit(text: &str, width: u32) -> String {
    if text_width(text) <= width {
        return text.to_owned();
    }
    let room = (f64::from(width) / LETTER) as usize;
    let characters: Vec<char> = text.chars().collect();
    let begin = room.saturating_sub(1).div_ceil(2);
    let end = room.saturating_sub(1) / 2;
    characters[..begin].iter().chain(&['…']).chain(&characters[characters.len() - end..]).collect()
}

/// The places of the entries of a legend, with a new line whenever one is full: offsets and the number of lines.
fn places(names: &[&str]) -> (Vec<(i32, i32)>, u32) {
    const GAP: u32 = 14;
    let (mut x, mut line) = (0, 0);
    let places = names.iter().map(|name| {
        let width = MARK + text_width(&fit(name, LONGEST));
        if x > 0 && x + width > WIDTH - MARGINS {
            (x, line) = (0, line + 1);
        }
        let place = (x as i32, (line * LEGEND_LINE) as i32);
        x += width + GAP;
        place
    });
    let places = places.collect();
    (places, line + 1)
}

/// The height of a legend. A single entry needs no legend, because the title names it.
pub(crate) fn legend_height(names: &[&str]) -> u32 {
    if names.len() < 2 { 0 } else { places(names).1 * LEGEND_LINE + 4 }
}

/// A legend of markers and names at the top of a drawing.
pub(crate) fn draw_legend(area: &Area<'_>, names: &[&str]) -> Result<(), DrawError> {
    if names.len() < 2 {
        return Ok(());
    }
    for (index, (name, (x, y))) in names.iter().zip(places(names).0).enumerate() {
        let (x, y) = (12 + x, 12 + y);
        area.draw(&PathElement::new([(x, y), (x + 16, y)], Ink::Series(index).light().stroke_width(2)))?;
        draw_marker(area, index, (x + 8, y))?;
        let style = anchored(letters(Ink::Text), HPos::Left, VPos::Center);
        area.draw(&Text::new(fit(name, LONGEST), (x + MARK as i32, y), style))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_lose_their_middle() {
        let long = "a-name-longer-than-there-is-room-for";
        assert_eq!((fit(long, 1000).as_str(), fit(long, 100).as_str()), (long, "a-name-…om-for"));
        assert!(text_width(&fit(long, 100)) <= 100);
        assert_eq!(fit("äöü", 7), "…");
    }

    #[test]
    fn legends_break_into_lines() {
        assert_eq!(places(&["a", "b"]).1, 1);
        let long = "a name of some length";
        let (places, lines) = places(&[long; 4]);
        assert_eq!((places[0], places[2], lines), ((0, 0), (0, 20), 2));
        assert_eq!((legend_height(&[long]), legend_height(&[long; 4])), (0, 44));
    }
}
