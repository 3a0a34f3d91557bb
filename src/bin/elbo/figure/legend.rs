//! Legends: above the data in rows, or beside them in a column; never on top of them.

use super::style::{self, LABEL};
use super::{Area, DrawError};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Room for the mark before a name, and after a name for the next entry.
const MARK: i32 = 56;
const GAP: i32 = 16;
const BETWEEN: i32 = 44;
/// Height of a row.
pub const ROW: i32 = 46;

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

    /// Pixels from its mark to the end of its name.
    pub fn width<B: DrawingBackend>(&self, area: &Area<B>) -> i32 {
        // A name that cannot be measured is drawn nowhere.
        let name = area.estimate_text_size(&self.name, &style::text(LABEL)).unwrap_or_default();
        MARK + GAP + name.0 as i32
    }
}

/// Where each entry goes in rows of some width.
pub struct LegendRows(Vec<(i32, i32)>);

impl LegendRows {
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

    /// Draws the entries, the first one's upper left corner at `origin`.
    pub fn draw<B: DrawingBackend>(
        &self,
        area: &Area<B>,
        entries: &[Entry],
        origin: (i32, i32),
    ) -> Result<(), DrawError> {
        for (entry, (x, y)) in entries.iter().zip(&self.0) {
            draw_entry(area, entry, (origin.0 + x, origin.1 + y))?;
        }
        Ok(())
    }
}

/// Draws the entries one below the other.
pub fn draw_column<B: DrawingBackend>(
    area: &Area<B>,
    entries: &[Entry],
    (x, y): (i32, i32),
) -> Result<(), DrawError> {
    for (i, entry) in entries.iter().enumerate() {
        draw_entry(area, entry, (x, y + i as i32 * ROW))?;
    }
    Ok(())
}

fn draw_entry<B: DrawingBackend>(
    area: &Area<B>,
    entry: &Entry,
    (x, y): (i32, i32),
) -> Result<(), DrawError> {
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
    let left = style::text(LABEL).pos(Pos::new(HPos::Left, VPos::Center));
    area.draw(&Text::new(entry.name.clone(), (x + MARK + GAP, middle), left))?;
    Ok(())
}
