//! Sheets of images.

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

/// Largest number of images in a figure.
pub const MOST_IMAGES: usize = 10_000;

/// Writes a sheet: a PNG without labels, or an SVG with its title and labels.
pub fn write_sheet(figure: &LabeledSheet, to: &FigurePath) -> Result<()> {
    match to.format {
        FigureFormat::Png => write_bytes(&to.path, figure.sheet.png()),
        FigureFormat::Svg => write_figure(figure, to),
    }
}

/// Converts inputs or outputs of a model to gray or colors from 0 to 1.
pub fn to_pixels(rows: &mut Array2<f32>, vae: &Vae, data: &DataDescription) {
    if data.image.is_some() || data.scaling == Scaling::None {
        *rows = data.to_user_units(rows.view()).into_f32();
    }
    // The data were in [−1, 1] already in their file.
    if !data.signed && is_signed(vae.config().likelihood()) {
        image_grid::from_signed(rows);
    }
}

/// Checks the number of images in a figure.
pub fn check_images(count: usize) -> Result<()> {
    if count <= MOST_IMAGES {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "--count {count}: a figure has at most {MOST_IMAGES} images; write .npy or .csv instead"
    )))
}

/// Checks that the rows are images, by the data or by `--size`.
pub fn expect_images(to: &FigurePath, shape: Option<ImageShape>) -> Result<ImageShape> {
    shape.ok_or_else(|| Failure::Usage(format!(
        "--out {}: the rows of the training data are not images; write .csv or .npy, or give the size of an \
         image with --size WxH",
        to.path.display()
    )))
}
