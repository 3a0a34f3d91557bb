//! Decoded codes as a figure, an array or a table.

use super::images::{MOST_IMAGES, to_pixels};
use super::path::{DecodedPath, FigurePath, TablePath};
use super::table::{cells, features, unique, write_csv, write_npy};
use super::{write_figure, write_file};
use crate::data::scaling::Scaling;
use crate::data::{DataDescription, ImageShape, UserRows};
use crate::failure::{Failure, Result};
use crate::figure::image_grid;
use crate::figure::response_lines::{MOST as MOST_PANELS, ResponseLines, ResponsePanel};
use crate::figure::sheet::LabeledSheet;
use crate::text::number;
use elbo::vae::Vae;
use ndarray::{Array2, ArrayView2, Axis, Slice, concatenate};
use std::io::Write;

/// Outputs of a model for a grid of codes: strips of one code per step.
pub struct DecodedGrid<'a> {
    pub vae: &'a Vae,
    pub data: &'a DataDescription,
    pub title: String,
    /// Label of the axis along a strip.
    pub along: &'static str,
    /// Position of each code of a strip.
    pub places: Vec<f64>,
    pub strips: Vec<Strip>,
    /// Outputs of the model, `[strips × places, D]`.
    pub outputs: Array2<f32>,
    /// Names of the columns of a table before the features.
    pub keys: Vec<&'static str>,
}

/// A strip of codes, such as a latent dimension or a pair of rows.
pub struct Strip {
    pub name: String,
    /// Second line of the label.
    pub detail: String,
    /// Cells of the columns of a table before the position.
    pub keys: Vec<String>,
    /// Position of each code in a table.
    pub values: Vec<f32>,
    /// Rows of data at both ends of the strip, `[2, D]`.
    pub ends: Option<Array2<f32>>,
}

impl DecodedGrid<'_> {
    /// Writes the outputs; `image` is the shape of the rows if they are images.
    pub fn write(self, out: &DecodedPath, image: Option<ImageShape>) -> Result<()> {
        match out {
            DecodedPath::Figure(picture) => match image {
                Some(image) => self.write_images(picture, image),
                None => self.write_lines(picture),
            },
            DecodedPath::Table(table) => {
                let outputs = self.data.to_user_units(self.outputs.view());
                match table {
                    TablePath::Npy(path) => write_file(path, |file| write_npy(file, &outputs)),
                    TablePath::Csv(path) => {
                        write_file(path, |file| self.write_table(file, &outputs))
                    }
                }
            }
        }
    }

    fn write_images(self, picture: &FigurePath, shape: ImageShape) -> Result<()> {
        let ends = self.strips.iter().any(|strip| strip.ends.is_some());
        let columns = self.places.len() + if ends { 2 } else { 0 };
        if self.strips.len() * columns > MOST_IMAGES {
            return Err(Failure::Usage(format!(
                "a figure has at most {MOST_IMAGES} images, found {} strips of {columns}; write .npy or .csv \
                 instead, or reduce --dimensions, --rows or --steps",
                self.strips.len()
            )));
        }
        let mut images = self.with_ends();
        to_pixels(&mut images, self.vae, self.data);
        let sheet = image_grid::grid(images.view(), shape, Some(columns));
        let mut names: Vec<String> = self.places.iter().map(|&place| signed(place, ends)).collect();
        if ends {
            names.insert(0, "from".to_owned());
            names.push("to".to_owned());
        }
        let rows = self.strips.into_iter().map(|strip| [strip.name, strip.detail]).collect();
        let figure = LabeledSheet {
            title: &self.title,
            along: self.along,
            columns: names,
            rows,
            sheet: &sheet,
        };
        write_figure(&figure, picture)
    }

    /// All images, with each strip between its ends.
    fn with_ends(&self) -> Array2<f32> {
        let mut parts: Vec<ArrayView2<f32>> = Vec::new();
        for (i, strip) in self.strips.iter().enumerate() {
            match &strip.ends {
                Some(ends) => {
                    let (from, to) = ends.view().split_at(Axis(0), 1);
                    parts.extend([from, self.strip(i), to]);
                }
                None => parts.push(self.strip(i)),
            }
        }
        concatenate(Axis(0), &parts).expect("rows of one width")
    }

    fn strip(&self, i: usize) -> ArrayView2<'_, f32> {
        let places = self.places.len();
        self.outputs.slice_axis(Axis(0), Slice::from(i * places..(i + 1) * places))
    }

    fn write_lines(self, picture: &FigurePath) -> Result<()> {
        if self.strips.len() > MOST_PANELS {
            return Err(Failure::Usage(format!(
                "a figure has at most {MOST_PANELS} panels, found {} strips; write .npy or .csv instead, or \
                 reduce --dimensions or --rows (use --size WxH if the rows are images)",
                self.strips.len()
            )));
        }
        let names = features(self.data, self.vae);
        let panel = |(i, strip): (usize, &Strip)| {
            let title = match &strip.detail[..] {
                "" => strip.name.clone(),
                detail => format!("{} ({detail})", strip.name),
            };
            ResponsePanel { title, rows: self.strip(i) }
        };
        let figure = ResponseLines {
            title: &self.title,
            panels: self.strips.iter().enumerate().map(panel).collect(),
            names: &names,
            along: self.along,
            outputs: match self.data.scaling {
                Scaling::None => "output",
                Scaling::Standardize { .. } => "output (standard deviations)",
                Scaling::MinMax { .. } => "output (share of the range)",
            },
            values: &self.places,
        };
        write_figure(&figure, picture)
    }

    fn write_table(&self, file: impl Write, outputs: &UserRows) -> csv::Result<()> {
        let names = features(self.data, self.vae);
        let keys = self.keys.iter().map(|key| unique(key, &names));
        let places = self.places.len();
        let records = (0..outputs.len()).map(|i| {
            let strip = &self.strips[i / places];
            let value = number(strip.values[i % places]);
            strip.keys.iter().cloned().chain([value]).chain(cells(outputs, i))
        });
        write_csv(file, keys.chain(names.iter().cloned()), records)
    }
}

/// Formats a position such as `+1.2`; `plain` omits the plus sign.
fn signed(place: f64, plain: bool) -> String {
    let text = format!("{place:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.').replace('-', "−");
    match text.as_str() {
        "−0" => "0".to_owned(),
        _ if plain || place <= 0.0 || text == "0" => text,
        _ => format!("+{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_positions_briefly() {
        let cases = [(3.0, "+3"), (-2.4, "−2.4"), (0.0, "0"), (-0.001, "0"), (0.6000001, "+0.6")];
        for (place, name) in cases {
            assert_eq!(signed(place, false), name);
        }
        assert_eq!(signed(1.0 / 3.0, true), "0.33");
    }
}
