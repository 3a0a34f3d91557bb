//! A sheet of images with a name for each row and column.

use super::image_grid::Sheet;
use super::panel::{MARGIN, title};
use super::style::{self, AXIS, LABEL, TITLE, anchored, text_width};
use super::{Area, DrawResult, Figure, OVERSAMPLING};
use image::RgbImage;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

/// Approximate width of a letter of a label, in pixels of the finished figure.
const LETTER: u32 = 9;
/// Height of the title, the name of the column axis and the column names.
const HEAD: u32 = 96;
const EDGE: u32 = MARGIN as u32 / OVERSAMPLING;

pub struct LabeledSheet<'a> {
    pub title: &'a str,
    /// Name of the column axis.
    pub along: &'a str,
    pub columns: Vec<String>,
    /// The name of each row, and a second line of detail.
    pub rows: Vec<[String; 2]>,
    pub sheet: &'a Sheet,
}

impl LabeledSheet<'_> {
    /// The upper left corner of the sheet.
    fn origin(&self) -> [u32; 2] {
        let letters =
            self.rows.iter().flatten().map(|name| name.chars().count()).max().unwrap_or(0);
        [EDGE + LETTER * letters as u32 + 14, EDGE + HEAD]
    }
}

impl Figure for LabeledSheet<'_> {
    fn size(&self) -> [u32; 2] {
        let [left, top] = self.origin();
        let (width, height) = self.sheet.picture().dimensions();
        // Leaves room for the title above a narrow sheet.
        let least = LETTER * self.title.chars().count().max(self.along.chars().count()) as u32;
        [(left + width + EDGE).max(least + 2 * EDGE), top + height + EDGE]
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> DrawResult {
        let large = |n: u32| (n * OVERSAMPLING) as i32;
        let [left, top] = self.origin();
        let (width, _) = area.dim_in_pixel();
        title(area, self.title, (MARGIN, MARGIN), width as i32 - 2 * MARGIN)?;
        let label = |h| anchored(style::text(LABEL), h);
        let along = anchored(style::text(AXIS), HPos::Left);
        let below_title = MARGIN + TITLE as i32 + 44;
        area.draw(&Text::new(self.along, (MARGIN, below_title), along))?;

        let [height, wide] = self.sheet.tile();
        // Skips column names that would overlap.
        let widest =
            self.columns.iter().map(|name| text_width(area, name, LABEL)).max().unwrap_or(0);
        let every = ((widest + 16) as usize).div_ceil(large(wide).max(1) as usize).max(1);
        for (i, name) in self.columns.iter().enumerate().step_by(every) {
            let middle = large(left + self.sheet.corner(0, i)[0]) + large(wide) / 2;
            let place = (middle, large(top) - 24);
            area.draw(&Text::new(name.clone(), place, label(HPos::Center)))?;
        }
        for (i, [name, detail]) in self.rows.iter().enumerate() {
            let middle = large(top + self.sheet.corner(i, 0)[1]) + large(height) / 2;
            let right = large(left) - 18;
            // Shows the detail if the row is tall enough for two lines.
            let two = !detail.is_empty() && large(height) > 80;
            let first = if two { middle - 20 } else { middle };
            area.draw(&Text::new(name.clone(), (right, first), label(HPos::Right)))?;
            if two {
                let faint = label(HPos::Right).color(&style::FAINT_INK);
                area.draw(&Text::new(detail.clone(), (right, middle + 20), faint))?;
            }
        }
        Ok(())
    }

    fn image(&self) -> Option<([u32; 2], &RgbImage)> {
        Some((self.origin(), self.sheet.picture()))
    }
}
