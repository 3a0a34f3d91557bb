//! Shape of images.

use serde::{Deserialize, Serialize};

/// Height, width and channels of an image; the channels of a pixel are adjacent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageShape {
    pub height: usize,
    pub width: usize,
    /// 1 for gray, 3 for red, green and blue.
    pub channels: usize,
}

impl ImageShape {
    /// Number of elements of an image.
    pub fn elements(self) -> usize {
        self.height * self.width * self.channels
    }

    /// Shape of the images in an array, or `None` if its rows are not images: apart from the first axis and
    /// axes of length 1, it must have height and width, optionally followed by 3 channels.
    pub fn of_array(shape: &[usize]) -> Option<Self> {
        let axes: Vec<usize> = shape[1..].iter().copied().filter(|&n| n != 1).collect();
        match axes[..] {
            [height, width] => Some(Self { height, width, channels: 1 }),
            [height, width, 3] => Some(Self { height, width, channels: 3 }),
            _ => None,
        }
    }

    /// Shape of the most nearly square gray image of `elements` pixels: a single row if it is prime.
    pub fn nearly_square(elements: usize) -> Self {
        let height = (1..=elements.isqrt()).rev().find(|height| elements.is_multiple_of(*height));
        let height = height.unwrap_or(1);
        Self { height, width: elements / height, channels: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognizes_images_by_their_axes() {
        let shape = |height, width, channels| Some(ImageShape { height, width, channels });
        assert_eq!(ImageShape::of_array(&[9, 28, 20]), shape(28, 20, 1));
        assert_eq!(ImageShape::of_array(&[9, 28, 1, 20]), shape(28, 20, 1));
        assert_eq!(ImageShape::of_array(&[9, 28, 20, 3]), shape(28, 20, 3));
        assert_eq!(ImageShape::of_array(&[9, 28, 20, 4]), None);
        assert_eq!(ImageShape::of_array(&[9, 784]), None);
        assert_eq!(shape(28, 20, 3).unwrap().elements(), 1680);
    }

    #[test]
    fn finds_the_most_nearly_square_shape() {
        let shapes = [(784, [28, 28]), (600, [24, 25]), (37, [1, 37]), (1, [1, 1]), (12, [3, 4])];
        for (elements, [height, width]) in shapes {
            let shape = ImageShape { height, width, channels: 1 };
            assert_eq!(ImageShape::nearly_square(elements), shape);
        }
    }
}
