//! A sheet of images with the name of each row and of each column.

use super::image_grid::Sheet;
use super::panel::{MARGIN, text_width, title};
use super::style::{self, AXIS, LABEL, TITLE};
use super::{Area, DrawError, Figure, OVERSAMPLING};
use image::RgbImage;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Rough width of a letter of a label, in pixels of the finished picture.
const LETTER: u32 = 9;
/// Room below the title for the names of the columns and what they are.
const HEAD: u32 = 96;
const EDGE: u32 = MARGIN as u32 / OVERSAMPLING;

pub struct LabeledSheet<'a> {
    pub title: &'a str,
    /// What the names of the columns are.
    pub along: &'a str,
    pub columns: Vec<String>,
    /// The name of each row, and a second line.
    pub rows: Vec<[String; 2]>,
    pub sheet: &'a Sheet,
}

impl LabeledSheet<'_> {
    /// Where the sheet begins.
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
        // The title has room also above a narrow sheet.
        let least = LETTER * self.title.chars().count().max(self.along.chars().count()) as u32;
        [(left + width + EDGE).max(least + 2 * EDGE), top + height + EDGE]
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>) -> Result<(), DrawError> {
        let large = |n: u32| (n * OVERSAMPLING) as i32;
        let [left, top] = self.origin();
        let (width, _) = area.dim_in_pixel();
        title(area, self.title, (MARGIN, MARGIN), width as i32 - 2 * MARGIN)?;
        let style = |h, v| style::text(LABEL).pos(Pos::new(h, v));
        let along = style::text(AXIS).pos(Pos::new(HPos::Left, VPos::Center));
        let below_title = MARGIN + TITLE as i32 + 44;
        area.draw(&Text::new(self.along, (MARGIN, below_title), along))?;

        let [height, wide] = self.sheet.tile();
        // As many of the names as have room beside each other.
        let widest =
            self.columns.iter().map(|name| text_width(area, name, LABEL)).max().unwrap_or(0);
        let every = ((widest + 16) as usize).div_ceil(large(wide).max(1) as usize).max(1);
        for (i, name) in self.columns.iter().enumerate().step_by(every) {
            let middle = large(left + self.sheet.corner(0, i)[0]) + large(wide) / 2;
            let place = (middle, large(top) - 24);
            area.draw(&Text::new(name.clone(), place, style(HPos::Center, VPos::Center)))?;
        }
        for (i, [name, detail]) in self.rows.iter().enumerate() {
            let middle = large(top + self.sheet.corner(i, 0)[1]) + large(height) / 2;
            let right = large(left) - 18;
            // Two lines where there is room for them.
            let two = !detail.is_empty() && large(height) > 80;
            let first = if two { middle - 20 } else { middle };
            area.draw(&Text::new(name.clone(), (right, first), style(HPos::Right, VPos::Center)))?;
            if two {
                let faint = style(HPos::Right, VPos::Center).color(&super::style::FAINT_INK);
                area.draw(&Text::new(detail.clone(), (right, middle + 20), faint))?;
            }
        }
        Ok(())
    }

    fn image(&self) -> Option<([u32; 2], &RgbImage)> {
        Some((self.origin(), self.sheet.picture()))
    }
}
