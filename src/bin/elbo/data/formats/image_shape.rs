//! Shape of images.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Height, width and channels of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageShape {
    pub height: usize,
    pub width: usize,
    /// 1 for gray, 3 for red, green and blue.
    pub channels: usize,
    /// True if a row holds all of red, then green, then blue; false if the channels of a pixel are adjacent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub channels_first: bool,
}

/// Smallest side of a square image that is recognized by the number of elements alone.
const SMALLEST_SIDE: usize = 8;

impl ImageShape {
    /// Shape of an image whose channels, if there are several, are adjacent.
    pub fn new(height: usize, width: usize, channels: usize) -> Self {
        Self { height, width, channels, channels_first: false }
    }

    /// Position of a channel of a pixel in a row; pixels are numbered from left to right and from top to bottom.
    pub fn position(self, pixel: usize, channel: usize) -> usize {
        if self.channels_first {
            channel * self.height * self.width + pixel
        } else {
            pixel * self.channels + channel
        }
    }

    /// Number of elements of an image.
    pub fn elements(self) -> usize {
        self.height * self.width * self.channels
    }

    /// Shape of the images in an array, or `None` if its rows are not images: apart from the first axis and
    /// axes of length 1, it must have height and width, followed by 3 channels or, as in PyTorch, after them.
    pub fn of_array(shape: &[usize]) -> Option<Self> {
        let red_first =
            |height, width| Some(Self { channels_first: true, ..Self::new(height, width, 3) });
        if let [_, 3, height, width] = *shape
            && ![1, 3].contains(&width)
        {
            return red_first(height, width);
        }
        let axes: Vec<usize> = shape[1..].iter().copied().filter(|&n| n != 1).collect();
        match axes[..] {
            [height, width] => Some(Self::new(height, width, 1)),
            [height, width, 3] => Some(Self::new(height, width, 3)),
            [3, height, width] => red_first(height, width),
            _ => None,
        }
    }

    /// Returns true if rows of which only the number of elements is known are taken for square gray images: from
    /// 8 x 8 on. Other rows without a shape are those of a table.
    pub fn is_square(elements: usize) -> bool {
        let side = elements.isqrt();
        side >= SMALLEST_SIDE && side * side == elements
    }

    /// Shape of the most nearly square gray image of `elements` pixels: a single row if it is prime.
    pub fn nearly_square(elements: usize) -> Self {
        let height = (1..=elements.isqrt()).rev().find(|height| elements.is_multiple_of(*height));
        let height = height.unwrap_or(1);
        Self::new(height, elements / height, 1)
    }
}

/// Size of a file's images in messages.
impl fmt::Display for ImageShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match (self.channels, self.channels_first) {
            (1, _) => "gray",
            (_, false) => "in color, with the channels of a pixel adjacent",
            (_, true) => "in color, with the channels one after the other",
        };
        write!(f, "{}x{} pixels (width x height), {kind}", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_images_by_their_axes() {
        let shape = |height, width, channels| Some(ImageShape::new(height, width, channels));
        assert_eq!(ImageShape::of_array(&[9, 28, 20]), shape(28, 20, 1));
        assert_eq!(ImageShape::of_array(&[9, 28, 1, 20]), shape(28, 20, 1));
        assert_eq!(ImageShape::of_array(&[9, 28, 20, 3]), shape(28, 20, 3));
        let red_first = ImageShape { channels_first: true, ..ImageShape::new(28, 20, 3) };
        assert_eq!(ImageShape::of_array(&[9, 3, 28, 20]), Some(red_first));
        assert_eq!(ImageShape::of_array(&[9, 1, 28, 20]), shape(28, 20, 1));
        assert_eq!(ImageShape::of_array(&[9, 28, 20, 1]), shape(28, 20, 1));
        // Both could be the channels: the last axis is.
        assert_eq!(ImageShape::of_array(&[9, 3, 20, 3]), shape(3, 20, 3));
        assert_eq!(ImageShape::of_array(&[9, 28, 20, 4]), None);
        assert_eq!(ImageShape::of_array(&[9, 4, 28, 20]), None);
        assert!(ImageShape::of_array(&[9, 3, 1, 20]).unwrap().channels_first);
        assert_eq!(ImageShape::of_array(&[9, 784]), None);
        assert_eq!(shape(28, 20, 3).unwrap().elements(), 1680);
    }

    #[test]
    fn finds_the_channels_of_a_pixel() {
        let last = ImageShape::new(4, 5, 3);
        let first = ImageShape { channels_first: true, ..last };
        assert_eq!([0, 1, 2].map(|channel| last.position(7, channel)), [21, 22, 23]);
        assert_eq!([0, 1, 2].map(|channel| first.position(7, channel)), [7, 27, 47]);
        let gray = ImageShape::new(4, 5, 1);
        assert_eq!(gray.position(7, 0), 7);
    }

    #[test]
    fn takes_only_larger_squares_for_images() {
        let images: Vec<usize> = (1..900).filter(|&n| ImageShape::is_square(n)).collect();
        assert_eq!(images[..4], [64, 81, 100, 121]);
        assert!(images.contains(&784) && !images.contains(&783));
    }

    #[test]
    fn model_files_of_other_images_keep_their_bytes() {
        let text = |shape| serde_json::to_string(&shape).unwrap();
        let shape = ImageShape::new(2, 4, 3);
        assert_eq!(text(shape), r#"{"height":2,"width":4,"channels":3}"#);
        let first = ImageShape { channels_first: true, ..shape };
        for shape in [shape, first] {
            assert_eq!(serde_json::from_str::<ImageShape>(&text(shape)).unwrap(), shape);
        }
    }

    #[test]
    fn finds_the_most_nearly_square_shape() {
        let shapes = [(784, [28, 28]), (600, [24, 25]), (37, [1, 37]), (1, [1, 1]), (12, [3, 4])];
        for (elements, [height, width]) in shapes {
            let shape = ImageShape::new(height, width, 1);
            assert_eq!(ImageShape::nearly_square(elements), shape);
        }
    }
}
