//! Description of a data set in a model file, with which later data are read the same way.

use super::formats::image_shape::ImageShape;
use super::formats::table::{is_count, name_of_number};
use super::scaling::Scaling;
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};

/// Names, shape and scaling of the data that a model was trained on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataDescription {
    /// Names of the features, or numbers from 1 on in a table without a header; empty for other files.
    pub columns: Vec<String>,
    /// True if a header had these numbers as names.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub number_names: bool,
    /// Number of columns in the table, if the features have only numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_width: Option<usize>,
    /// Shape of the images, if the rows are images.
    pub image: Option<ImageShape>,
    /// True if images were resized to that shape.
    pub resized: bool,
    /// Value of bytes or pixels that is read as 1, if it is not the largest possible one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub white: Option<u16>,
    /// Scaling of each feature, which comes first.
    pub scaling: Scaling,
    /// True if rows were then mapped to 2x − 1.
    pub signed: bool,
    /// Names of the classes in order; empty if they are numbers.
    pub classes: Vec<String>,
    /// Column of a table that held the labels.
    pub label_column: Option<String>,
}

/// Rows in the units of the data.
#[derive(Debug, PartialEq)]
pub enum UserRows {
    /// Outputs of a model without scaling.
    F32(Array2<f32>),
    /// Unscaled outputs, with the digits of numbers that are large compared to their spread.
    F64(Array2<f64>),
}

impl UserRows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(rows) => rows.nrows(),
            Self::F64(rows) => rows.nrows(),
        }
    }

    /// The rows in float32, for figures.
    pub fn into_f32(self) -> Array2<f32> {
        match self {
            Self::F32(rows) => rows,
            Self::F64(rows) => rows.mapv(|x| x as f32),
        }
    }
}

impl DataDescription {
    /// Returns true if the rows, of so many features, are those of a table and not images: of an array `[N, D]`,
    /// D decides.
    pub fn is_table(&self, features: usize) -> bool {
        self.image.is_none() && (!self.columns.is_empty() || !ImageShape::is_square(features))
    }

    /// Returns true if the columns have names, and not only numbers.
    pub fn has_names(&self) -> bool {
        self.number_names || !self.columns.iter().all(|name| is_count(name))
    }

    /// Lists the transformations of the rows before the model reads them.
    pub fn preparation(&self) -> Vec<&'static str> {
        let scaled = match &self.scaling {
            Scaling::None => None,
            Scaling::Standardize { .. } => Some("standardized"),
            Scaling::MinMax { clip: false, .. } => Some("scaled to [0, 1]"),
            Scaling::MinMax { clip: true, .. } => Some("scaled and clipped to [0, 1]"),
        };
        scaled.into_iter().chain(self.signed.then_some("mapped to [-1, 1]")).collect()
    }

    /// Converts outputs of a model to the units of its training data.
    pub fn to_user_units(&self, rows: ArrayView2<f32>) -> UserRows {
        if self.scaling == Scaling::None {
            return UserRows::F32(match self.signed {
                true => rows.mapv(|x| 0.5 * (x + 1.0)),
                false => rows.to_owned(),
            });
        }
        let wide = rows.mapv(|x| match self.signed {
            true => 0.5 * (f64::from(x) + 1.0),
            false => f64::from(x),
        });
        UserRows::F64(self.scaling.undo(wide))
    }

    /// Name of feature `i` in tables and figures.
    pub fn feature(&self, i: usize) -> String {
        self.columns.get(i).map_or_else(|| format!("x{i}"), |name| self.written(name))
    }

    /// Name of the column of the labels in tables and figures.
    pub fn class_column(&self) -> String {
        self.label_column.as_ref().map_or_else(|| "class".to_owned(), |name| self.written(name))
    }

    /// A column that has only a number gets a word, so that a header of these is none of numbers.
    fn written(&self, name: &str) -> String {
        if self.has_names() { name.to_owned() } else { name_of_number(name) }
    }

    /// Name of a class.
    pub fn class(&self, class: usize) -> String {
        self.classes.get(class).cloned().unwrap_or_else(|| class.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr2;

    #[test]
    fn to_user_units_inverts_scaling_and_mapping() {
        let scaling = Scaling::MinMax { low: vec![10.0, 0.0], high: vec![20.0, 4.0], clip: false };
        let data = DataDescription { signed: true, scaling, ..DataDescription::default() };
        let rows = arr2(&[[-1.0, 1.0], [0.0, 0.0]]);
        let units = data.to_user_units(rows.view());
        assert_eq!(units, UserRows::F64(arr2(&[[10.0, 4.0], [15.0, 2.0]])));
        assert_eq!(units.len(), 2);
        let unscaled = DataDescription { signed: true, ..DataDescription::default() };
        let units = unscaled.to_user_units(rows.view());
        assert_eq!(units, UserRows::F32(arr2(&[[0.0, 1.0], [0.5, 0.5]])));
        let named = DataDescription { columns: vec!["a".into()], ..DataDescription::default() };
        assert_eq!((named.feature(0), named.feature(1)), ("a".into(), "x1".into()));
    }
}
