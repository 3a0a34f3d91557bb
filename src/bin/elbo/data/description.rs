//! How data became numbers, kept in the model file, and how numbers become data again.

use super::formats::image_shape::ImageShape;
use super::scaling::Scaling;
use ndarray::Array2;
use serde::{Deserialize, Serialize};

/// How the data became numbers, and become data again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataDescription {
    /// Names of the features (of a table without a header their numbers from 1 on); empty where they
    /// have none.
    pub columns: Vec<String>,
    /// Where a row is an image.
    pub image: Option<ImageShape>,
    /// Whether pictures were resized to that shape.
    pub resized: bool,
    /// What was done to each feature, before anything else.
    pub scaling: Scaling,
    /// Whether rows were mapped to 2x − 1.
    pub signed: bool,
    /// Names of the classes in their order; empty where they are numbers.
    pub classes: Vec<String>,
    /// The column of a table that the labels came from.
    pub label_column: Option<String>,
}

impl DataDescription {
    /// Whether rows have columns with names, and are no pictures.
    pub fn is_table(&self) -> bool {
        !self.columns.is_empty() && self.image.is_none()
    }

    /// What was done to the data before the model saw them.
    pub fn preparation(&self) -> Vec<&'static str> {
        let scaled = match &self.scaling {
            Scaling::None => None,
            Scaling::Standardize { .. } => Some("standardized"),
            Scaling::MinMax { clip: false, .. } => Some("scaled to [0, 1]"),
            Scaling::MinMax { clip: true, .. } => Some("scaled and clipped to [0, 1]"),
        };
        scaled.into_iter().chain(self.signed.then_some("mapped to [-1, 1]")).collect()
    }
}

impl DataDescription {
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

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    #[test]
    fn the_way_out_is_the_way_in_reversed() {
        let scaling = Scaling::MinMax { low: vec![10.0, 0.0], high: vec![20.0, 4.0], clip: false };
        let notes = DataDescription { signed: true, scaling, ..DataDescription::default() };
        let mut rows = arr2(&[[-1.0, 1.0], [0.0, 0.0]]);
        notes.to_user_units(&mut rows);
        assert_eq!(rows, arr2(&[[10.0, 4.0], [15.0, 2.0]]));
        let named = DataDescription { columns: vec!["a".into()], ..DataDescription::default() };
        assert_eq!((named.feature(0), named.feature(1)), ("a".into(), "x1".into()));
    }
}
