//! Height, width and channels of images.

use serde::{Deserialize, Serialize};

/// The shape of an image: rows of pixels, a pixel's channels side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageShape {
    pub height: usize,
    pub width: usize,
    /// 1 for gray, 3 for red, green and blue.
    pub channels: usize,
}

impl ImageShape {
    pub fn elements(self) -> usize {
        self.height * self.width * self.channels
    }

    /// That of images in an array of `shape`: its axes beyond the first, without those of length 1, are
    /// height and width, or those and the three colors.
    pub fn of_array(shape: &[usize]) -> Option<Self> {
        let axes: Vec<usize> = shape[1..].iter().copied().filter(|&n| n != 1).collect();
        match axes[..] {
            [height, width] => Some(Self { height, width, channels: 1 }),
            [height, width, 3] => Some(Self { height, width, channels: 3 }),
            _ => None,
        }
    }

    /// Height and width of the most nearly square image of so many pixels: one row if it is prime.
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
    fn images_are_told_by_their_axes() {
        let shape = |height, width, channels| Some(ImageShape { height, width, channels });
        assert_eq!(ImageShape::of_array(&[9, 28, 20]), shape(28, 20, 1));
        assert_eq!(ImageShape::of_array(&[9, 28, 1, 20]), shape(28, 20, 1));
        assert_eq!(ImageShape::of_array(&[9, 28, 20, 3]), shape(28, 20, 3));
        assert_eq!(ImageShape::of_array(&[9, 28, 20, 4]), None);
        assert_eq!(ImageShape::of_array(&[9, 784]), None);
        assert_eq!(shape(28, 20, 3).unwrap().elements(), 1680);
    }

    #[test]
    fn the_most_nearly_square_shape() {
        let shapes = [(784, [28, 28]), (600, [24, 25]), (37, [1, 37]), (1, [1, 1]), (12, [3, 4])];
        for (elements, [height, width]) in shapes {
            let shape = ImageShape { height, width, channels: 1 };
            assert_eq!(ImageShape::nearly_square(elements), shape);
        }
    }
}
