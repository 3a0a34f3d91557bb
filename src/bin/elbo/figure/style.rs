//! The style of all figures: font, sizes, colors.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, TextStyle, register_font};
use std::borrow::Cow;

/// The embedded font, and the fallback for an SVG that is opened where that font is not installed.
pub const FONT: &str = "DejaVu Sans, sans-serif";

/// Font sizes, in pixels of the larger drawing.
pub const TITLE: u32 = 44;
pub const AXIS: u32 = 36;
pub const LABEL: u32 = 32;

/// Width of a curve, in pixels of the larger drawing.
pub const LINE: u32 = 5;

pub const INK: RGBColor = RGBColor(38, 38, 38);
pub const FAINT: RGBColor = RGBColor(150, 150, 150);
/// Color of secondary text.
pub const FAINT_INK: RGBColor = RGBColor(110, 110, 110);
pub const GRID: RGBColor = RGBColor(225, 225, 225);

pub const ORANGE: RGBColor = RGBColor(230, 159, 0);
pub const SKY: RGBColor = RGBColor(86, 180, 233);
pub const GREEN: RGBColor = RGBColor(0, 158, 115);
pub const BLUE: RGBColor = RGBColor(0, 114, 178);
pub const VERMILION: RGBColor = RGBColor(213, 94, 0);
pub const PURPLE: RGBColor = RGBColor(204, 121, 167);
const YELLOW: RGBColor = RGBColor(240, 228, 66);
const BROWN: RGBColor = RGBColor(118, 66, 20);
const SLATE: RGBColor = RGBColor(128, 128, 140);

/// Okabe and Ito's colorblind-safe palette, and two colors that differ from it in lightness.
pub const PALETTE: [RGBColor; 10] =
    [BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, RGBColor(0, 0, 0), YELLOW, BROWN, SLATE];

/// Viridis (matplotlib, CC0) at 0, ¼, ½, ¾ and 1.
const SEQUENCE: [[f64; 3]; 5] = [
    [68.0, 1.0, 84.0],
    [59.0, 82.0, 139.0],
    [33.0, 145.0, 140.0],
    [94.0, 201.0, 98.0],
    [253.0, 231.0, 37.0],
];

/// The color at a position from 0 to 1 on a scale from dark to light.
pub fn sequential(place: f64) -> RGBColor {
    let place = place.clamp(0.0, 1.0) * (SEQUENCE.len() - 1) as f64;
    let below = (place as usize).min(SEQUENCE.len() - 2);
    let part = place - below as f64;
    let [r, g, b] = std::array::from_fn(|channel| {
        let [low, high] = [SEQUENCE[below][channel], SEQUENCE[below + 1][channel]];
        (low + part * (high - low)).round() as u8
    });
    RGBColor(r, g, b)
}

pub fn text(size: u32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&INK)
}

pub fn bold(size: u32) -> TextStyle<'static> {
    (FONT, size, FontStyle::Bold).into_font().color(&INK)
}

/// Text at the left end, the center or the right end of its position, centered vertically.
pub fn anchored(text: TextStyle<'static>, h: HPos) -> TextStyle<'static> {
    text.pos(Pos::new(h, VPos::Center))
}

/// The width of a text of a size, in pixels.
pub fn text_width<B: DrawingBackend>(area: &DrawingArea<B, Shift>, text: &str, size: u32) -> i32 {
    width_in(area, text, &self::text(size))
}

/// The width of a text in a style, in pixels; 0 if it cannot be measured (nor, then, drawn).
pub fn width_in<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    text: &str,
    style: &TextStyle,
) -> i32 {
    area.estimate_text_size(text, style).map_or(0, |size| size.0 as i32)
}

/// Registers the embedded font with plotters.
pub fn register_fonts() -> Result<(), &'static str> {
    let fonts: [(_, &'static [u8]); 2] = [
        (FontStyle::Normal, include_bytes!("../font/DejaVuSans.ttf")),
        (FontStyle::Bold, include_bytes!("../font/DejaVuSans-Bold.ttf")),
    ];
    for (style, bytes) in fonts {
        register_font(FONT, style, bytes).map_err(|_| "the embedded font cannot be read")?;
    }
    Ok(())
}

/// Replaces each character that the embedded font lacks by a question mark.
pub fn with_known_glyphs(text: &str) -> Cow<'_, str> {
    // The characters of font/make.py.
    let known =
        |c: char| matches!(c, ' '..='~' | '\u{a0}'..'\u{180}') || "βεμσ−×·–…→≤≥∞‖".contains(c);
    if text.chars().all(known) {
        return text.into();
    }
    text.chars().map(|c| if known(c) { c } else { '?' }).collect::<String>().into()
}

/// A name cut to `most` characters, the last one an ellipsis.
pub fn shortened(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    let kept: String = name.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequential_colors_interpolate_between_their_anchors() {
        assert_eq!(sequential(0.0), RGBColor(68, 1, 84));
        assert_eq!(sequential(0.5), RGBColor(33, 145, 140));
        assert_eq!(sequential(7.0), RGBColor(253, 231, 37));
        assert_eq!(sequential(0.125), RGBColor(64, 42, 112));
    }

    #[test]
    fn shortens_long_names() {
        assert_eq!(shortened("mean radius", 11), "mean radius");
        assert_eq!(shortened("mean radius of", 6), "mean…");
        assert_eq!(shortened("äöüäöü", 4), "äöü…");
    }

    #[test]
    fn marks_characters_without_a_glyph() {
        assert_eq!(with_known_glyphs("σ² ≤ Länge"), "σ² ≤ Länge");
        assert_eq!(with_known_glyphs("b🙂 長さ"), "b? ??");
    }
}
