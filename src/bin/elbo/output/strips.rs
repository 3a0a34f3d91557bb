//! LabeledSheet of decoded codes on their way out: a picture, an array or a table.

use super::images::{MOST_IMAGES, to_picture};
use super::path::{DecodedPath, FigurePath, TablePath};
use super::table::number;
use super::{npy, write_figure, write_file};
use crate::data::scaling::Scaling;
use crate::data::{DataDescription, ImageShape};
use crate::failure::{Failure, Result};
use crate::figure::image_grid;
use crate::figure::response_lines::{MOST as MOST_PANELS, ResponseLines, ResponsePanel};
use crate::figure::sheet::LabeledSheet;
use elbo::vae::Vae;
use ndarray::{Array2, ArrayView2, Axis, Slice, concatenate};
use std::io::Write;

/// Decoded codes, strip after strip.
pub struct DecodedGrid<'a> {
    pub vae: &'a Vae,
    pub data: &'a DataDescription,
    pub title: String,
    /// What the places are.
    pub along: &'static str,
    /// Where each code of a strip is.
    pub places: Vec<f64>,
    pub strips: Vec<Strip>,
    /// `[strips × places, D]`, as the model gives them.
    pub outputs: Array2<f32>,
    /// Names of the columns that tell a table's rows apart.
    pub keys: Vec<&'static str>,
}

pub struct Strip {
    pub name: String,
    /// A second line.
    pub detail: String,
    /// What a table has in the columns before the place.
    pub keys: Vec<String>,
    /// What a table has for each place.
    pub values: Vec<f32>,
    /// The rows of data that the strip goes between, `[2, D]`.
    pub ends: Option<Array2<f32>>,
}

impl DecodedGrid<'_> {
    /// Writes them; `image` is the shape of the rows, if they are images.
    pub fn write(mut self, out: &DecodedPath, image: Option<ImageShape>) -> Result<()> {
        match out {
            DecodedPath::Figure(picture) => match image {
                Some(image) => self.write_images(picture, image),
                None => self.write_lines(picture),
            },
            DecodedPath::Table(table) => {
                self.data.to_user_units(&mut self.outputs);
                match table {
                    TablePath::Npy(path) => {
                        write_file(path, |file| npy::write(file, self.outputs.view()))
                    }
                    TablePath::Csv(path) => write_file(path, |file| self.write_table(file)),
                }
            }
        }
    }

    fn write_images(self, picture: &FigurePath, shape: ImageShape) -> Result<()> {
        let ends = self.strips.iter().any(|strip| strip.ends.is_some());
        let columns = self.places.len() + if ends { 2 } else { 0 };
        if self.strips.len() * columns > MOST_IMAGES {
            return Err(Failure::Usage(format!(
                "{} strips of {columns} images: expected at most {MOST_IMAGES} images in a picture; write a \
                 .npy or a .csv instead, or choose fewer with --dimensions, --rows or --steps",
                self.strips.len()
            )));
        }
        let mut images = self.with_ends();
        to_picture(&mut images, self.vae, self.data);
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

    /// All images, each strip between its ends.
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
                "{} strips: expected at most {} panels in a picture; write a .npy or a .csv instead, or \
                 choose fewer with --dimensions or --rows (rows that are images are drawn with --size WxH)",
                self.strips.len(),
                MOST_PANELS
            )));
        }
        let names: Vec<String> =
            (0..self.vae.config().features()).map(|i| self.data.feature(i)).collect();
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

    fn write_table(&self, file: impl Write) -> csv::Result<()> {
        let mut table = csv::Writer::from_writer(file);
        let features = (0..self.vae.config().features()).map(|i| self.data.feature(i));
        table.write_record(self.keys.iter().map(|key| (*key).to_owned()).chain(features))?;
        for (i, strip) in self.strips.iter().enumerate() {
            for (&value, row) in strip.values.iter().zip(self.strip(i).rows()) {
                for key in &strip.keys {
                    table.write_field(key)?;
                }
                table.write_field(number(value))?;
                for &x in row {
                    table.write_field(number(x))?;
                }
                table.write_record(None::<&[u8]>)?;
            }
        }
        Ok(table.flush()?)
    }
}

/// `+1.2`, or without the sign.
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
    fn places_have_short_names() {
        let cases = [(3.0, "+3"), (-2.4, "−2.4"), (0.0, "0"), (-0.001, "0"), (0.6000001, "+0.6")];
        for (place, name) in cases {
            assert_eq!(signed(place, false), name);
        }
        assert_eq!(signed(1.0 / 3.0, true), "0.33");
    }
}
