//! Sheets of images, gray or in color.

use super::DrawResult;
use crate::data::ImageShape;
use image::{GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use ndarray::{Array2, ArrayView1, ArrayView2};
use std::io::Cursor;

/// Pixels between neighboring images.
const GAP: u32 = 2;
/// Pixels between two bands, each a row of inputs above a row of outputs.
const BAND_GAP: u32 = 10;
/// Gray of the gaps: lighter than a black background, darker than the foreground.
const GAP_GRAY: u8 = 56;

/// Arranges images (one per row, values from 0 to 1) in a grid with the given columns, or in a square.
pub fn grid(images: ArrayView2<f32>, shape: ImageShape, columns: Option<usize>) -> Sheet {
    let square = (images.nrows() as f64).sqrt().ceil() as usize;
    let columns = columns.map_or(square, |columns| columns.min(images.nrows()));
    let rows = images.nrows().div_ceil(columns.max(1));
    let mut sheet = Sheet::new(shape, columns, &vec![GAP; rows.saturating_sub(1)]);
    for (i, image) in images.rows().into_iter().enumerate() {
        sheet.place(i / columns, i % columns, image);
    }
    sheet
}

/// Arranges each input above its output, in bands of at most ten.
pub fn pairs(inputs: ArrayView2<f32>, outputs: ArrayView2<f32>, shape: ImageShape) -> Sheet {
    let columns = inputs.nrows().min(10);
    let bands = inputs.nrows().div_ceil(columns.max(1));
    let gaps: Vec<u32> =
        (1..2 * bands).map(|row| if row % 2 == 0 { BAND_GAP } else { GAP }).collect();
    let mut sheet = Sheet::new(shape, columns, &gaps);
    for (i, (input, output)) in inputs.rows().into_iter().zip(outputs.rows()).enumerate() {
        sheet.place(2 * (i / columns), i % columns, input);
        sheet.place(2 * (i / columns) + 1, i % columns, output);
    }
    sheet
}

/// Maps values from [−1, 1] to [0, 1].
pub fn from_signed(images: &mut Array2<f32>) {
    images.mapv_inplace(|value| 0.5 * (value + 1.0));
}

/// Images of one shape in rows and columns.
pub struct Sheet {
    canvas: RgbImage,
    shape: ImageShape,
    /// Magnification: the side of the square that shows one pixel.
    scale: u32,
    /// The top of each row of images.
    tops: Vec<u32>,
}

impl Sheet {
    /// An empty sheet with `gaps.len() + 1` rows, `gaps[i]` pixels between rows i and i + 1.
    fn new(shape: ImageShape, columns: usize, gaps: &[u32]) -> Self {
        let scale = scale(shape);
        let mut sheet = Self { canvas: RgbImage::default(), shape, scale, tops: vec![GAP] };
        let [height, width] = sheet.tile();
        for gap in gaps {
            let top = sheet.tops.last().unwrap_or(&0) + height + gap;
            sheet.tops.push(top);
        }
        let bottom = sheet.tops.last().unwrap_or(&0) + height + GAP;
        let right = GAP + columns as u32 * (width + GAP);
        sheet.canvas = RgbImage::from_pixel(right, bottom, Rgb([GAP_GRAY; 3]));
        sheet
    }

    /// Height and width of an image, in pixels of the sheet.
    pub fn tile(&self) -> [u32; 2] {
        [self.shape.height, self.shape.width].map(|n| n as u32 * self.scale)
    }

    /// Upper left corner of an image, in pixels of the sheet.
    pub fn corner(&self, row: usize, column: usize) -> [u32; 2] {
        [GAP + column as u32 * (self.tile()[1] + GAP), self.tops[row]]
    }

    /// Number of rows of images.
    pub fn rows(&self) -> usize {
        self.tops.len()
    }

    pub fn picture(&self) -> &RgbImage {
        &self.canvas
    }

    /// Encodes the sheet as PNG; gray images as grayscale.
    pub fn png(&self) -> DrawResult<Vec<u8>> {
        let Self { canvas, shape, .. } = self;
        let mut bytes = Cursor::new(Vec::new());
        if shape.channels == 3 {
            canvas.write_to(&mut bytes, ImageFormat::Png)?;
        } else {
            let gray = |x, y| Luma([canvas.get_pixel(x, y).0[0]]);
            GrayImage::from_fn(canvas.width(), canvas.height(), gray)
                .write_to(&mut bytes, ImageFormat::Png)?;
        }
        Ok(bytes.into_inner())
    }

    fn place(&mut self, row: usize, column: usize, image: ArrayView1<f32>) {
        let [left, top] = self.corner(row, column);
        let (shape, ImageShape { width, channels, .. }) = (self.shape, self.shape);
        for pixel in 0..image.len() / channels {
            let x = left + (pixel % width) as u32 * self.scale;
            let y = top + (pixel / width) as u32 * self.scale;
            // The cast saturates and turns NaN into black. A gray value serves as all three channels.
            let channel =
                |c: usize| (image[shape.position(pixel, c.min(channels - 1))] * 255.0).round();
            let color = Rgb([0, 1, 2].map(|c| channel(c) as u8));
            for dy in 0..self.scale {
                for dx in 0..self.scale {
                    self.canvas.put_pixel(x + dx, y + dy, color);
                }
            }
        }
    }
}

/// The magnification: 2, more for images below 28 pixels, none for those above 128.
fn scale(shape: ImageShape) -> u32 {
    match shape.height.max(shape.width) {
        side @ 0..=28 => (56 / side.max(1)).min(8) as u32,
        29..=128 => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    fn gray(height: usize, width: usize) -> ImageShape {
        ImageShape::new(height, width, 1)
    }

    #[test]
    fn grid_places_images_row_by_row() {
        let images = Array2::from_shape_fn((5, 28 * 28), |(i, _)| i as f32 / 4.0);
        let picture = grid(images.view(), gray(28, 28), None).canvas;
        // 3 columns and 2 rows of 56 pixels, with gaps of 2 between and around them.
        assert_eq!(picture.dimensions(), (3 * 58 + 2, 2 * 58 + 2));
        let at = |column: u32, row: u32| picture.get_pixel(2 + 58 * column, 2 + 58 * row).0[0];
        assert_eq!([at(0, 0), at(1, 0), at(2, 0), at(0, 1), at(1, 1)], [0, 64, 128, 191, 255]);
        assert_eq!(at(2, 1), GAP_GRAY);
        assert_eq!(picture.get_pixel(0, 0).0[0], GAP_GRAY);
    }

    #[test]
    fn grid_has_the_requested_columns_and_signed_values_become_gray() {
        let mut images = arr2(&[[-1.0], [0.0], [1.0], [-1.0], [1.0]]);
        from_signed(&mut images);
        assert_eq!(images, arr2(&[[0.0], [0.5], [1.0], [0.0], [1.0]]));
        let picture = grid(images.view(), gray(1, 1), Some(3)).canvas;
        assert_eq!(picture.dimensions(), (3 * 10 + 2, 2 * 10 + 2));
        assert_eq!(
            grid(images.view(), gray(1, 1), Some(9)).canvas.dimensions(),
            (5 * 10 + 2, 10 + 2)
        );
    }

    #[test]
    fn pairs_place_inputs_above_outputs() {
        let inputs = Array2::from_elem((12, 4), 1.0);
        let outputs = Array2::from_elem((12, 4), 0.5);
        let picture = pairs(inputs.view(), outputs.view(), gray(2, 2)).canvas;
        let side = 16;
        assert_eq!(picture.dimensions(), (10 * (side + 2) + 2, 4 * side + 2 + 2 + 10 + 2 + 2));
        assert_eq!(picture.get_pixel(2, 2).0[0], 255);
        assert_eq!(picture.get_pixel(2, 2 + side + 2).0[0], 128);
        assert_eq!(picture.get_pixel(2, 2 + 2 * side + 2 + 10).0[0], 255);
    }

    #[test]
    fn clamps_values_outside_the_unit_interval() {
        let picture = grid(arr2(&[[-1.0, 2.0, f32::NAN]]).view(), gray(1, 3), None).canvas;
        let gray: Vec<u8> = (0..3).map(|x| picture.get_pixel(2 + 8 * x, 2).0[0]).collect();
        assert_eq!(gray, [0, 255, 0]);
    }

    #[test]
    fn reads_interleaved_channels_and_writes_gray_as_grayscale() {
        let image = arr2(&[[1.0, 0.0, 0.0, 0.0, 0.5, 1.0]]);
        let shape = ImageShape::new(1, 2, 3);
        let sheet = grid(image.view(), shape, None);
        assert_eq!(sheet.canvas.dimensions(), (2 * 8 + 4, 8 + 4));
        assert_eq!(sheet.canvas.get_pixel(2, 2), &Rgb([255, 0, 0]));
        assert_eq!(sheet.canvas.get_pixel(17, 9), &Rgb([0, 128, 255]));
        for (sheet, color) in [(sheet, true), (grid(image.view(), gray(2, 3), None), false)] {
            let read = image::load_from_memory(&sheet.png().unwrap()).unwrap();
            assert_eq!(read.color().has_color(), color);
            assert_eq!(read.to_rgb8(), sheet.canvas);
        }
    }
}
