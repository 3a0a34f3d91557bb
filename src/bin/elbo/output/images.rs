//! Sheets of images on their way out.

use super::path::FigurePath;
use super::{write_bytes, write_figure};
use crate::data::scaling::Scaling;
use crate::data::{DataDescription, ImageShape};
use crate::failure::{Failure, Result};
use crate::figure::FigureFormat;
use crate::figure::image_grid;
use crate::figure::sheet::LabeledSheet;
use crate::model::is_signed;
use elbo::vae::Vae;
use ndarray::Array2;

/// A picture of more images would be too large to look at.
pub const MOST_IMAGES: usize = 10_000;

/// As PNG the sheet alone, as SVG with its title and names.
pub fn write_sheet(figure: &LabeledSheet, picture: &FigurePath) -> Result<()> {
    match picture.format {
        FigureFormat::Png => write_bytes(&picture.path, figure.sheet.png()),
        FigureFormat::Svg => write_figure(figure, picture),
    }
}

/// Rows as a model gave or saw them, as gray or colors from 0 to 1.
pub fn to_picture(rows: &mut Array2<f32>, vae: &Vae, notes: &DataDescription) {
    if notes.image.is_some() || notes.scaling == Scaling::None {
        notes.to_user_units(rows);
    }
    // Of data that were from −1 to 1 as they came.
    if !notes.signed && is_signed(vae.config().likelihood()) {
        image_grid::from_signed(rows);
    }
}

pub fn check_images(count: usize) -> Result<()> {
    if count <= MOST_IMAGES {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "--count {count}: expected at most {MOST_IMAGES} in a picture; write a .npy or .csv instead"
    )))
}

/// That rows are pictures, or are said to be.
pub fn expect_images(picture: &FigurePath, shape: Option<ImageShape>) -> Result<ImageShape> {
    shape.ok_or_else(|| Failure::Usage(format!(
        "--out {}: the model is of a table, whose rows are no pictures; write a .csv or .npy, or say what \
         they look like with --size WxH",
        picture.path.display()
    )))
}
