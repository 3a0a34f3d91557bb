//! Pictures of examples: grids of grey images.

use image::{GrayImage, ImageFormat, Luma};
use ndarray::{Array2, ArrayView2};
use std::io::{self, Seek, Write};

/// Pixels between neighbouring images.
const GAP: u32 = 2;
/// Pixels between one pair of input and output rows and the next.
const BAND_GAP: u32 = 10;
/// Lighter than the black that most images begin with, darker than anything in them.
const GAP_GREY: u8 = 56;

/// `images` (one a row, values from 0 to 1) in a grid of so many columns, or one that is as square as
/// it can be.
pub fn grid(images: ArrayView2<f32>, shape: [usize; 2], columns: Option<usize>) -> GrayImage {
    let square = (images.nrows() as f64).sqrt().ceil() as usize;
    let columns = columns.map_or(square, |columns| columns.min(images.nrows()));
    let rows = images.nrows().div_ceil(columns.max(1));
    let mut sheet = Sheet::new(shape, columns, &vec![GAP; rows.saturating_sub(1)]);
    for (i, image) in images.rows().into_iter().enumerate() {
        sheet.place(i / columns, i % columns, image);
    }
    sheet.canvas
}

/// Each input above its output, in bands of at most ten.
pub fn pairs(inputs: ArrayView2<f32>, outputs: ArrayView2<f32>, shape: [usize; 2]) -> GrayImage {
    let columns = inputs.nrows().min(10);
    let bands = inputs.nrows().div_ceil(columns.max(1));
    let gaps: Vec<u32> =
        (1..2 * bands).map(|row| if row % 2 == 0 { BAND_GAP } else { GAP }).collect();
    let mut sheet = Sheet::new(shape, columns, &gaps);
    for (i, (input, output)) in inputs.rows().into_iter().zip(outputs.rows()).enumerate() {
        sheet.place(2 * (i / columns), i % columns, input);
        sheet.place(2 * (i / columns) + 1, i % columns, output);
    }
    sheet.canvas
}

/// Values from −1 to 1 as values from 0 to 1.
pub fn from_signed(images: &mut Array2<f32>) {
    images.mapv_inplace(|value| 0.5 * (value + 1.0));
}

/// Height and width of the most nearly square image of `width` pixels: one row if it is prime.
pub fn nearly_square(width: usize) -> [usize; 2] {
    let height = (1..=width.isqrt()).rev().find(|height| width.is_multiple_of(*height));
    let height = height.unwrap_or(1);
    [height, width / height]
}

/// Writes a picture as PNG.
pub fn write_png(image: &GrayImage, file: &mut (impl Write + Seek)) -> io::Result<()> {
    image.write_to(file, ImageFormat::Png).map_err(io::Error::other)
}

/// A canvas with places for images.
struct Sheet {
    canvas: GrayImage,
    shape: [usize; 2],
    /// Edge of the square that one element becomes.
    scale: u32,
    /// Where each row of images begins.
    tops: Vec<u32>,
}

impl Sheet {
    /// One more row of images than there are `gaps` between them.
    fn new(shape: [usize; 2], columns: usize, gaps: &[u32]) -> Self {
        let scale = scale(shape);
        let [height, width] = shape.map(|n| n as u32 * scale);
        let mut tops = vec![GAP];
        for gap in gaps {
            tops.push(tops.last().unwrap_or(&0) + height + gap);
        }
        let bottom = tops.last().unwrap_or(&0) + height + GAP;
        let right = GAP + columns as u32 * (width + GAP);
        let canvas = GrayImage::from_pixel(right, bottom, Luma([GAP_GREY]));
        Self { canvas, shape, scale, tops }
    }

    fn place(&mut self, row: usize, column: usize, image: ndarray::ArrayView1<f32>) {
        let width = self.shape[1];
        let left = GAP + column as u32 * (width as u32 * self.scale + GAP);
        for (i, &value) in image.iter().enumerate() {
            let x = left + (i % width) as u32 * self.scale;
            let y = self.tops[row] + (i / width) as u32 * self.scale;
            // The cast saturates, and makes NaN black.
            let grey = Luma([(value * 255.0).round() as u8]);
            for dy in 0..self.scale {
                for dx in 0..self.scale {
                    self.canvas.put_pixel(x + dx, y + dy, grey);
                }
            }
        }
    }
}

/// Twice the size; more for images too small to be seen, none for those that are large already.
fn scale(shape: [usize; 2]) -> u32 {
    match shape[0].max(shape[1]) {
        0..=28 => (56 / shape[0].max(shape[1]).max(1)).min(8) as u32,
        29..=128 => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    #[test]
    fn the_most_nearly_square_shape() {
        let shapes = [(784, [28, 28]), (600, [24, 25]), (37, [1, 37]), (1, [1, 1]), (12, [3, 4])];
        for (width, shape) in shapes {
            assert_eq!(nearly_square(width), shape);
        }
    }

    #[test]
    fn a_grid_has_every_image_in_its_place() {
        let images = Array2::from_shape_fn((5, 28 * 28), |(i, _)| i as f32 / 4.0);
        let picture = grid(images.view(), [28, 28], None);
        // 3 columns and 2 rows of 56 pixels, 2 between them and around.
        assert_eq!(picture.dimensions(), (3 * 58 + 2, 2 * 58 + 2));
        let at = |column: u32, row: u32| picture.get_pixel(2 + 58 * column, 2 + 58 * row).0[0];
        assert_eq!([at(0, 0), at(1, 0), at(2, 0), at(0, 1), at(1, 1)], [0, 64, 128, 191, 255]);
        assert_eq!(at(2, 1), GAP_GREY);
        assert_eq!(picture.get_pixel(0, 0).0[0], GAP_GREY);
    }

    #[test]
    fn columns_can_be_named_and_signed_values_become_grey() {
        let mut images = arr2(&[[-1.0], [0.0], [1.0], [-1.0], [1.0]]);
        from_signed(&mut images);
        assert_eq!(images, arr2(&[[0.0], [0.5], [1.0], [0.0], [1.0]]));
        let picture = grid(images.view(), [1, 1], Some(3));
        assert_eq!(picture.dimensions(), (3 * 10 + 2, 2 * 10 + 2));
        assert_eq!(grid(images.view(), [1, 1], Some(9)).dimensions(), (5 * 10 + 2, 10 + 2));
    }

    #[test]
    fn inputs_are_above_outputs() {
        let inputs = Array2::from_elem((12, 4), 1.0);
        let outputs = Array2::from_elem((12, 4), 0.5);
        let picture = pairs(inputs.view(), outputs.view(), [2, 2]);
        let side = 16;
        assert_eq!(picture.dimensions(), (10 * (side + 2) + 2, 4 * side + 2 + 2 + 10 + 2 + 2));
        assert_eq!(picture.get_pixel(2, 2).0[0], 255);
        assert_eq!(picture.get_pixel(2, 2 + side + 2).0[0], 128);
        assert_eq!(picture.get_pixel(2, 2 + 2 * side + 2 + 10).0[0], 255);
    }

    #[test]
    fn values_beyond_the_unit_interval_are_clamped() {
        let picture = grid(arr2(&[[-1.0, 2.0, f32::NAN]]).view(), [1, 3], None);
        let grey: Vec<u8> = (0..3).map(|x| picture.get_pixel(2 + 8 * x, 2).0[0]).collect();
        assert_eq!(grey, [0, 255, 0]);
    }
}
