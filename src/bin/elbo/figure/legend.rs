//! Legends: in rows above the data or in a column beside them.

use super::style::{self, LABEL, LINE, text_width};
use super::{Area, DrawResult};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

/// Width of a mark, its distance from the name, and the distance to the next entry.
const MARK: i32 = 56;
const GAP: i32 = 16;
const BETWEEN: i32 = 44;
/// Height of a row.
const ROW: i32 = 46;

#[derive(Clone)]
pub enum Mark {
    Line(ShapeStyle),
    Dashed(ShapeStyle),
    Dot(RGBColor),
    Bar(RGBColor),
}

#[derive(Clone)]
pub struct Entry {
    pub mark: Mark,
    pub name: String,
}

impl Entry {
    pub fn new(mark: Mark, name: impl Into<String>) -> Self {
        Self { mark, name: name.into() }
    }

    /// The entry of a curve.
    pub fn line(color: RGBColor, name: impl Into<String>) -> Self {
        Self::new(Mark::Line(color.stroke_width(LINE)), name)
    }

    /// Pixels from the start of the mark to the end of the name.
    fn width<B: DrawingBackend>(&self, area: &Area<B>) -> i32 {
        MARK + GAP + text_width(area, &self.name, LABEL)
    }
}

/// The upper left corner of each entry, relative to the first.
pub struct LegendRows(Vec<(i32, i32)>);

impl LegendRows {
    /// Arranges the entries in rows of at most `width` pixels.
    pub fn arranged<B: DrawingBackend>(area: &Area<B>, entries: &[Entry], width: i32) -> Self {
        let (mut x, mut y) = (0, 0);
        let place = |entry: &Entry| {
            let wide = entry.width(area);
            if x > 0 && x + wide > width {
                (x, y) = (0, y + ROW);
            }
            let at = (x, y);
            x += wide + BETWEEN;
            at
        };
        Self(entries.iter().map(place).collect())
    }

    pub fn height(&self) -> i32 {
        self.0.last().map_or(0, |(_, y)| y + ROW)
    }

    /// Draws the entries, the first at `origin`.
    pub fn draw<B: DrawingBackend>(
        &self,
        area: &Area<B>,
        entries: &[Entry],
        origin: (i32, i32),
    ) -> DrawResult {
        for (entry, (x, y)) in entries.iter().zip(&self.0) {
            draw_entry(area, entry, (origin.0 + x, origin.1 + y))?;
        }
        Ok(())
    }
}

/// Draws the entries below each other.
pub fn draw_column<B: DrawingBackend>(
    area: &Area<B>,
    entries: &[Entry],
    (x, y): (i32, i32),
) -> DrawResult {
    for (i, entry) in entries.iter().enumerate() {
        draw_entry(area, entry, (x, y + i as i32 * ROW))?;
    }
    Ok(())
}

fn draw_entry<B: DrawingBackend>(area: &Area<B>, entry: &Entry, (x, y): (i32, i32)) -> DrawResult {
    let middle = y + ROW / 2;
    match entry.mark {
        Mark::Line(line) => {
            area.draw(&PathElement::new([(x, middle), (x + MARK, middle)], line))?
        }
        Mark::Dashed(line) => {
            for dash in 0..3 {
                let from = x + dash * MARK * 2 / 5;
                area.draw(&PathElement::new([(from, middle), (from + MARK / 5, middle)], line))?;
            }
        }
        Mark::Dot(color) => area.draw(&Circle::new((x + MARK / 2, middle), 10, color.filled()))?,
        Mark::Bar(color) => {
            area.draw(&Rectangle::new(
                [(x, middle - 12), (x + MARK, middle + 12)],
                color.filled(),
            ))?;
        }
    }
    let left = style::anchored(style::text(LABEL), HPos::Left);
    area.draw(&Text::new(entry.name.clone(), (x + MARK + GAP, middle), left))?;
    Ok(())
}
