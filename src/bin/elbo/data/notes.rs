//! What the notes in a model file mean for data on their way out.

use crate::notes::{DataNotes, ImageShape};
use ndarray::Array2;

impl DataNotes {
    /// What a model gave, in the units of the data that it was trained on.
    pub fn to_user_units(&self, rows: &mut Array2<f32>) {
        if self.signed {
            rows.mapv_inplace(|x| 0.5 * (x + 1.0));
        }
        self.scaling.undo_all(rows);
    }

    /// What feature `i` is called.
    pub fn feature(&self, i: usize) -> String {
        self.columns.get(i).cloned().unwrap_or_else(|| format!("x{i}"))
    }

    /// What class `class` is called.
    pub fn class(&self, class: usize) -> String {
        self.classes.get(class).cloned().unwrap_or_else(|| class.to_string())
    }
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::Scaling;
    use ndarray::arr2;

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
    fn the_way_out_is_the_way_in_reversed() {
        let scaling = Scaling::MinMax { low: vec![10.0, 0.0], high: vec![20.0, 4.0], clip: false };
        let notes = DataNotes { signed: true, scaling, ..DataNotes::default() };
        let mut rows = arr2(&[[-1.0, 1.0], [0.0, 0.0]]);
        notes.to_user_units(&mut rows);
        assert_eq!(rows, arr2(&[[10.0, 4.0], [15.0, 2.0]]));
        let named = DataNotes { columns: vec!["a".into()], ..DataNotes::default() };
        assert_eq!((named.feature(0), named.feature(1)), ("a".into(), "x1".into()));
    }
}
