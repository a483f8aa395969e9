//! Colours for light and dark pages.

use std::fmt::Write as _;

use plotters::style::RGBColor;

/// The colour of a part of a drawing. Figures are drawn in the light colours. On a page, a variable of the style sheet
/// replaces each colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Text, and everything that must be visible.
    Text,
    /// Axes.
    Axis,
    /// Lines behind the figure.
    Grid,
    /// One of several series; after the last, the colours repeat.
    Series(usize),
}

/// Name, light colour, dark colour. All light colours differ, so that each can be found in a figure.
///
/// The series colours are those of Okabe and Ito (2008), which any colour vision can distinguish. They are darkened or
/// lightened until each has a contrast of at least 3 to 1 against its page (WCAG 2.2, 1.4.11). Series also differ in
/// their markers.
const PALETTE: [(&str, u32, u32); 9] = [
    ("text", 0x1F_2328, 0xE6_E8EB),
    ("axis", 0x6E_7681, 0x8B_949E),
    ("grid", 0xDD_E1E6, 0x30_363D),
    ("series-0", 0x00_72B2, 0x56_B4E9),
    ("series-1", 0xC8_4E00, 0xF2_8E4B),
    ("series-2", 0x00_8560, 0x2E_C79A),
    ("series-3", 0xB0_508C, 0xE2_9AC4),
    ("series-4", 0x5C_5F66, 0xB9_BEC5),
    ("series-5", 0x8F_6B00, 0xF0_D24A),
];
const FIRST_SERIES: usize = 3;
/// Page, raised surface and link: light and dark.
const SURFACES: [(&str, u32, u32); 3] =
    [("page", 0xFF_FFFF, 0x0F_1317), ("surface", 0xF4_F6F8, 0x1A_2027), ("link", 0x00_5A9C, 0x6C_B6FF)];

impl Ink {
    /// Number of series before colours repeat.
    pub(crate) const SERIES: usize = PALETTE.len() - FIRST_SERIES;

    /// The colour in a separate figure.
    pub(crate) fn light(self) -> RGBColor {
        let index = match self {
            Self::Text => 0,
            Self::Axis => 1,
            Self::Grid => 2,
            Self::Series(index) => FIRST_SERIES + index % Self::SERIES,
        };
        let [_, r, g, b] = PALETTE[index].1.to_be_bytes();
        RGBColor(r, g, b)
    }
}

/// Makes a figure use the colours of the page around it.
pub(crate) fn follow_page(svg: &str) -> String {
    PALETTE.iter().fold(svg.to_owned(), |svg, (name, light, _)| {
        svg.replace(&format!("\"#{light:06X}\""), &format!("\"var(--{name})\""))
    })
}

/// The variables of the style sheet: light, and dark for readers who prefer it.
pub(crate) fn variables() -> String {
    let all = || PALETTE.iter().chain(&SURFACES);
    let mut css = String::from(":root{color-scheme:light dark;");
    all().for_each(|(name, light, _)| write!(css, "--{name}:#{light:06x};").expect("strings grow"));
    css.push_str("}\n@media (prefers-color-scheme:dark){:root{");
    all().for_each(|(name, _, dark)| write!(css, "--{name}:#{dark:06x};").expect("strings grow"));
    css.push_str("}}\n");
    css
}

/// The colour of a share, and the colour of text on it. The scale runs from dark blue to light yellow, and its
/// lightness rises evenly for any colour vision.
///
/// It interpolates linearly between a few colours of Cividis (Nuñez, Anderton and Renslow, 2018).
pub(crate) fn scale(share: f64) -> (RGBColor, RGBColor) {
    const CIVIDIS: [[f64; 3]; 5] =
        [[0.0, 34.0, 78.0], [65.0, 77.0, 107.0], [124.0, 123.0, 120.0], [188.0, 175.0, 111.0], [254.0, 232.0, 56.0]];
    let place = share.clamp(0.0, 1.0) * (CIVIDIS.len() - 1) as f64;
    let index = (place as usize).min(CIVIDIS.len() - 2);
    let weight = place - index as f64;
    let [r, g, b] = [0, 1, 2].map(|i| (CIVIDIS[index][i] * (1.0 - weight) + CIVIDIS[index + 1][i] * weight) as u8);
    let colour = RGBColor(r, g, b);
    // Black or white, whichever has more contrast.
    let is_light = luminance(colour) > 0.179;
    (colour, if is_light { RGBColor(0, 0, 0) } else { RGBColor(255, 255, 255) })
}

/// Relative luminance (WCAG 2.2).
fn luminance(RGBColor(r, g, b): RGBColor) -> f64 {
    let [r, g, b] = [r, g, b].map(|channel| {
        let x = f64::from(channel) / 255.0;
        if x <= 0.040_45 { x / 12.92 } else { ((x + 0.055) / 1.055).powf(2.4) }
    });
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contrast(a: RGBColor, b: RGBColor) -> f64 {
        let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
        a.max(b) / a.min(b)
    }

    fn colour(rgb: u32) -> RGBColor {
        let [_, r, g, b] = rgb.to_be_bytes();
        RGBColor(r, g, b)
    }

    #[test]
    fn everything_but_the_grid_stands_out_in_both_themes() {
        for (name, light, dark) in PALETTE.iter().filter(|(name, ..)| *name != "grid") {
            let least = if *name == "text" { 7.0 } else { 3.0 };
            for (found, page) in [(light, SURFACES[0].1), (dark, SURFACES[0].2)] {
                let contrast = contrast(colour(*found), colour(page));
                assert!(contrast >= least, "{name}: {contrast}");
            }
        }
        for (text, page) in [(SURFACES[2].1, SURFACES[1].1), (SURFACES[2].2, SURFACES[1].2)] {
            assert!(contrast(colour(text), colour(page)) >= 4.5);
        }
    }

    #[test]
    fn text_can_be_read_on_every_colour_of_the_scale() {
        for hundredths in 0..=100 {
            let (colour, text) = scale(f64::from(hundredths) / 100.0);
            assert!(contrast(colour, text) >= 4.5, "{hundredths}");
        }
    }

    #[test]
    fn figures_follow_the_page() {
        let svg = "<path stroke=\"#0072B2\" fill=\"#1F2328\"/>";
        assert_eq!(follow_page(svg), "<path stroke=\"var(--series-0)\" fill=\"var(--text)\"/>");
        assert!(variables().contains("dark){:root{--text:#e6e8eb;"));
    }
}
